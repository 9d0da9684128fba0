"""Drives the table of onion-service phases: which phase an event is about, which connection it belongs to, its span.

A connection (`tor.hs.connect`) is that of the oldest stream that waits for the service. Phases belong to circuits, or
to directories, and find their connection by the service's address; tor does not give a circuit's address at its first
event, so the span of a phase begins when it is needed, with the time at which the phase did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew import limits
from clew.model import Status
from clew.tor.circuits import Trigger as CircuitTrigger
from clew.tor.circuits import status_of
from clew.tor.describing import error_type, extra_attributes
from clew.tor.onion import (
    CLIENT_PHASES,
    CONNECT_SPAN,
    DESCRIPTOR_ACTIONS,
    HS_STATES,
    NOTES,
    PHASES_OF_PURPOSES,
    TABLE,
    Action,
    Phase,
    State,
    Trigger,
)
from clew.tor.privacy import LEVEL_ATTRIBUTE
from clew.tor.streams import cause_of
from clew.tor.streams import status_of as stream_status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.circuit_spans import Circuit
    from clew.tor.events import HsDescEvent, StreamEvent
    from clew.tor.privacy import PrivacyFilter
    from clew.tor.stream_mapper import StreamMapper
    from clew.tor.stream_spans import Stream

__all__ = ["OnionMapper"]


class _Connection:
    """A stream's way to an onion service."""

    __slots__ = ("address", "span", "stream")

    def __init__(self, address: str, stream: Stream, span: Span) -> None:
        self.address = address
        self.stream = stream
        self.span = span


class _Running:
    """A phase that is open."""

    __slots__ = ("address", "attributes", "circuit", "directories", "phase", "refused", "span", "start_ns", "uploads")

    def __init__(
        self,
        phase: Phase,
        start_ns: int,
        attributes: dict[str, object],
        address: str | None = None,
        circuit: Circuit | None = None,
    ) -> None:
        self.phase = phase
        self.start_ns = start_ns
        self.attributes = attributes
        self.address = address
        self.circuit = circuit  # knows the address, sooner or later
        self.span: Span | None = None
        # Of a publication:
        self.directories: list[str] = []  # fingerprints of those that have not answered
        self.uploads = 0
        self.refused = 0


class OnionMapper:
    """Turns what tor says of onion services into spans.

    Thread: one at a time (the lock of the mapper that this is a part of).
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._tracer = tracer
        self._filter = privacy
        self._streams: StreamMapper | None = None
        self._waiting: dict[str, dict[str, Stream]] = {}  # by address, then by stream's id, the longest wait first
        self._connections: dict[str, _Connection] = {}  # by address
        self._recent: dict[str, tuple[SpanContext, int]] = {}  # the last connection by address, and its end
        self._running: dict[tuple[Phase, str], _Running] = {}  # by what identifies it, the oldest first
        self._seen: dict[str, tuple[str, str | None]] = {}  # purpose and state of circuits with phases, by id
        self.connections = 0  # that began
        self.evicted = 0
        self._actions: dict[Action, Callable[[_Running, int, str | None], None]] = {
            Action.END: self._end,
            Action.FAIL: self._fail,
            Action.CANCEL: self._cancel,
            Action.LOSE: self._lose,
            Action.NOTE: self._note,
        }

    def serve(self, streams: StreamMapper) -> None:
        """Streams wait for services; these are they."""
        self._streams = streams

    @property
    def open(self) -> int:
        """Spans that are open, or will be: connections and phases."""
        return len(self._connections) + len(self._running)

    def close(self, reason: str, time_ns: int) -> None:
        """Lose all phases. Connections end with their streams; `forget` comes after those."""
        for key in list(self._running):
            self._step(key, Trigger.LOST, time_ns, reason=reason)
        self._seen.clear()

    def forget(self) -> None:
        """What comes next is another run of tor."""
        self._recent.clear()

    # --- streams -----------------------------------------------------------------------------------------------------

    def onion_waits(self, stream: Stream) -> None:
        """A stream to an onion service waits for a circuit."""
        assert stream.onion is not None
        self._waiting.setdefault(stream.onion, {})[stream.id] = stream

    def onion_attached(self, stream: Stream, attach: Span, time_ns: int) -> None:
        """It got one."""
        connection = self._stop_waiting(stream)
        assert stream.onion is not None
        if connection is None:
            recent = self._recent.get(stream.onion)
            if recent is not None and recent[1] >= stream.step_ns and attach.is_recording:
                attach.add_link(recent[0])  # it waited along with the stream whose connection that was
            return
        self._close(connection, max(time_ns, stream.time_ns))

    def onion_failed(self, stream: Stream, event: StreamEvent) -> None:
        """It gave up."""
        connection = self._stop_waiting(stream)
        if connection is not None:
            span = connection.span
            if span.is_recording:
                cause = cause_of(event.reason, event.remote_reason)
                span.set_attributes(self._filter.attributes({"error.type": error_type(cause)}))
                span.set_status(stream_status_of(stream.state, cause), self._explain(cause))
            self._close(connection, max(event.time_ns, stream.time_ns))

    def _stop_waiting(self, stream: Stream) -> _Connection | None:
        """Returns: the connection that is this stream's."""
        assert stream.onion is not None
        waiting = self._waiting.get(stream.onion)
        if waiting is not None:
            waiting.pop(stream.id, None)
            if not waiting:
                del self._waiting[stream.onion]
        connection = self._connections.get(stream.onion)
        return connection if connection is not None and connection.stream is stream else None

    def _close(self, connection: _Connection, time_ns: int) -> None:
        span = connection.span
        span.end(time_ns)
        address = connection.address
        del self._connections[address]
        self._recent.pop(address, None)
        self._recent[address] = (span.context, time_ns)
        if len(self._recent) > limits.ONION_CONNECTIONS_KEPT:
            del self._recent[next(iter(self._recent))]

    def _connection(self, address: str | None) -> _Connection | None:
        """The connection to a service; it begins now if a stream waits for it."""
        if address is None:
            return None
        connection = self._connections.get(address)
        if connection is None and address in self._waiting:
            stream = next(iter(self._waiting[address].values()))
            assert self._streams is not None
            span = self._tracer.start_span(
                CONNECT_SPAN,
                attributes=self._filter.attributes({"tor.hs.address": address}),
                parent=self._streams.waiting_span(stream),
                start_time_ns=stream.step_ns,
            )
            connection = self._connections[address] = _Connection(address, stream, span)
            self.connections += 1
        return connection

    # --- descriptors -------------------------------------------------------------------------------------------------

    def handle(self, event: HsDescEvent) -> None:
        """Take an HS_DESC event."""
        known = DESCRIPTOR_ACTIONS.get(event.action)
        if known is None:
            return  # CREATED, and what is not known: nothing begins or ends with it
        phase, trigger = known
        address = _lower(event.address)
        directory = event.hs_dir.fingerprint or event.hs_dir.nickname if event.hs_dir is not None else ""
        if phase is Phase.PUBLISH or trigger is Trigger.FAIL:
            key = self._publication(event, address, directory)
            if key is not None:
                self._publish(key, trigger, event, directory)
                return
            if phase is Phase.PUBLISH:
                return
        key = (phase, f"{address} {directory}")
        self._step(key, trigger, event.time_ns, address=address, attributes=self._describe(event), reason=event.reason)
        if trigger is Trigger.BEGIN and self._streams is not None:
            self._streams.adopt_directory(directory, self._span(self._running[key]))

    def _publication(self, event: HsDescEvent, address: str | None, directory: str) -> tuple[Phase, str] | None:
        """Which publication an event is about. UPLOADED and FAILED do not always name the descriptor."""
        if event.action == "UPLOAD":
            return Phase.PUBLISH, f"{address} {event.descriptor_id}"
        for key, running in self._running.items():
            if key[0] is Phase.PUBLISH and running.address == address and directory in running.directories:
                return key
        return None

    def _publish(self, key: tuple[Phase, str], trigger: Trigger, event: HsDescEvent, directory: str) -> None:
        if trigger is Trigger.BEGIN:
            attributes: dict[str, object] = {"tor.hs.descriptor_id": event.descriptor_id}
            self._step(key, trigger, event.time_ns, address=_lower(event.address), attributes=attributes)
            running = self._running[key]
            running.directories.append(directory)
            running.uploads += 1
            if self._streams is not None:
                self._streams.adopt_directory(directory, self._span(running))
            return
        running = self._running[key]
        running.directories.remove(directory)
        span = self._span(running)
        if trigger is Trigger.FAIL:
            running.refused += 1
        if span.is_recording:
            name = "upload_failed" if trigger is Trigger.FAIL else "uploaded"
            span.add_event(name, self._filter.attributes(self._describe(event)), event.time_ns)
        if not running.directories:
            if span.is_recording:
                counts = {"tor.hs.uploads": running.uploads, "tor.hs.uploads_failed": running.refused}
                span.set_attributes(self._filter.attributes(counts))
            is_refused = running.refused == running.uploads
            self._step(key, Trigger.FAIL if is_refused else Trigger.SUCCEED, event.time_ns, reason=event.reason)

    # --- circuits ----------------------------------------------------------------------------------------------------

    def enter(self, circuit: Circuit) -> None:
        """Take a circuit's purpose and state, as they are after an event of it."""
        seen = self._seen.get(circuit.id)
        purpose, state = circuit.purpose, circuit.hs_state
        phases = PHASES_OF_PURPOSES.get(purpose, ()) if purpose is not None else ()
        if seen is None and not phases:
            return
        if seen is not None and seen[0] != purpose:
            for phase in PHASES_OF_PURPOSES[seen[0]]:
                self._step((phase, circuit.id), Trigger.GIVE_UP, circuit.time_ns)
            del self._seen[circuit.id]
            seen = None
        if phases and purpose is not None:
            if seen is None:
                self._step((phases[0], circuit.id), Trigger.BEGIN, circuit.purpose_ns, circuit=circuit)
            if state is not None and (seen is None or seen[1] != state):
                for phase, trigger in HS_STATES.get(state, ()):
                    self._step((phase, circuit.id), trigger, circuit.time_ns, circuit=circuit)
            self._seen[circuit.id] = (purpose, state)
            if circuit.rend_query is not None:
                for phase in phases:
                    running = self._running.get((phase, circuit.id))
                    if running is not None and running.span is None:
                        running.circuit = circuit  # of one whose beginning nobody saw, each event makes another object
                        self._span(running)

    def leave(self, circuit: Circuit, trigger: CircuitTrigger, reason: str | None) -> None:
        """The circuit is gone, and with it whatever it was used for."""
        seen = self._seen.pop(circuit.id, None)
        if seen is None:
            return
        if trigger is CircuitTrigger.LOST:
            how = Trigger.LOST
        else:
            how = Trigger.GIVE_UP if status_of(reason) is Status.CANCELLED else Trigger.FAIL
        for phase in PHASES_OF_PURPOSES[seen[0]]:
            self._step((phase, circuit.id), how, circuit.time_ns, reason=reason)

    def parent_of(self, circuit: Circuit) -> Span | None:
        """The span of the phase that a circuit is built for, if it is for one."""
        for phase in PHASES_OF_PURPOSES.get(circuit.purpose or "", ()):
            running = self._running.get((phase, circuit.id))
            if running is not None:
                return self._span(running)
        return None

    # --- the table's driver ------------------------------------------------------------------------------------------

    def _step(
        self,
        key: tuple[Phase, str],
        trigger: Trigger,
        time_ns: int,
        *,
        address: str | None = None,
        circuit: Circuit | None = None,
        attributes: dict[str, object] | None = None,
        reason: str | None = None,
    ) -> None:
        running = self._running.get(key)
        step = TABLE[State.IDLE if running is None else State.OPEN, trigger]
        if running is not None:
            for action in step.actions:
                self._actions[action](running, max(time_ns, running.start_ns), reason)
        elif step.actions:
            self._running[key] = _Running(key[0], time_ns, attributes or {}, address, circuit)
            if len(self._running) > limits.ONION_PHASES_OPEN:
                self.evicted += 1
                self._step(next(iter(self._running)), Trigger.LOST, time_ns, reason="EVICTED")
        if step.state is State.IDLE:
            self._running.pop(key, None)

    def _span(self, running: _Running) -> Span:
        """A phase's span, which begins now at the latest."""
        if running.span is None:
            circuit = running.circuit
            attributes = dict(running.attributes)
            if circuit is not None:
                running.address = _lower(circuit.rend_query)
                attributes["tor.circuit.id"] = circuit.id
            attributes["tor.hs.address"] = running.address
            connection = self._connection(running.address) if running.phase in CLIENT_PHASES else None
            if connection is None:
                attributes[LEVEL_ATTRIBUTE] = self._filter.level_name
            running.span = self._tracer.start_span(
                running.phase,
                attributes=self._filter.attributes(attributes),
                parent=None if connection is None else connection.span,
                start_time_ns=running.start_ns,
            )
        return running.span

    def _end(self, running: _Running, time_ns: int, _: str | None) -> None:
        self._span(running).end(time_ns)

    def _fail(self, running: _Running, time_ns: int, reason: str | None) -> None:
        self._end_badly(running, time_ns, reason, Status.ERROR)

    def _cancel(self, running: _Running, time_ns: int, reason: str | None) -> None:
        self._end_badly(running, time_ns, reason or "NOT_NEEDED", Status.CANCELLED)

    def _lose(self, running: _Running, time_ns: int, reason: str | None) -> None:
        self._span(running).set_attribute("clew.unfinished", True)
        self._end_badly(running, time_ns, reason, status_of(reason))

    def _note(self, running: _Running, time_ns: int, _: str | None) -> None:
        self._span(running).add_event(NOTES[Trigger.NOTE], None, time_ns)

    def _end_badly(self, running: _Running, time_ns: int, reason: str | None, status: Status) -> None:
        span = self._span(running)
        if span.is_recording:
            attributes = {"error.type": error_type(reason), "tor.hs.reason": reason}
            span.set_attributes(self._filter.attributes(attributes))
            span.set_status(status, self._explain(reason))
        span.end(time_ns)

    def _explain(self, reason: str | None) -> str:
        return (self._filter.keyword(reason) or "no reason given").lower()

    def _describe(self, event: HsDescEvent) -> dict[str, object]:
        directory = event.hs_dir
        return {
            "tor.hs.directory.fingerprint": (directory.fingerprint or None) if directory is not None else None,
            "tor.hs.directory.nickname": (directory.nickname or None) if directory is not None else None,
            "tor.hs.descriptor_id": event.descriptor_id,
            "tor.hs.descriptor_index": event.index,
            "tor.hs.replica": event.replica,
            "tor.hs.auth_type": event.auth_type,
            "tor.hs.reason": event.reason,
            **(extra_attributes(self._filter, "tor.hs.extra", event.extra) if event.extra else {}),
        }


def _lower(address: str | None) -> str | None:
    return None if address is None else address.lower()
