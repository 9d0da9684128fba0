"""Drives the table of onion-service phases: which phase an event is about, and which connection it belongs to.

A connection (`tor.hs.connect`) is that of a stream that waits for the service. Phases belong to circuits, or to
directories, and find their connection by the service's address. Where several streams wait for one service, tor may
make a rendezvous for each (they have different SOCKS credentials, say) or one for all: a phase that ended well then
waits until a stream takes the rendezvous circuit that it led to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew import limits
from clew.model import Status
from clew.tor.circuits import Trigger as CircuitTrigger
from clew.tor.circuits import status_of
from clew.tor.describing import extra_attributes
from clew.tor.onion import (
    CLIENT_PHASES,
    DESCRIPTOR_ACTIONS,
    HS_STATES,
    PHASES_OF_PURPOSES,
    TABLE,
    Action,
    Phase,
    State,
    Trigger,
)
from clew.tor.onion_spans import Connection, Key, OnionSpans, Running
from clew.tor.streams import cause_of
from clew.tor.streams import status_of as stream_status_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.circuit_mapper import CircuitMapper
    from clew.tor.circuit_spans import Circuit
    from clew.tor.events import HsDescEvent, StreamEvent
    from clew.tor.privacy import PrivacyFilter
    from clew.tor.stream_mapper import StreamMapper
    from clew.tor.stream_spans import Stream

__all__ = ["OnionMapper"]


class OnionMapper:
    """Turns what tor says of onion services into spans.

    Thread: one at a time (the lock of the mapper that this is a part of).
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._filter = privacy
        self._spans = OnionSpans(tracer, privacy)
        self._streams: StreamMapper | None = None
        self._circuits: CircuitMapper | None = None
        self._waiting: dict[str, dict[str, Stream]] = {}  # by address, then by stream's id, the longest wait first
        self._connections: dict[str, Connection] = {}  # by stream's id
        self._recent: dict[str, tuple[SpanContext, int]] = {}  # the last connection by address, and its end
        self._running: dict[Key, Running] = {}  # the oldest first
        self._ended: dict[Key, Running] = {}  # well, and it is not known yet for which stream
        self._seen: dict[str, tuple[str, str | None]] = {}  # purpose and state of circuits with phases, by id
        self._acknowledged: Circuit | None = None  # a rendezvous circuit, in the event before this one
        self.connections = 0  # that began
        self.evicted = 0

    def serve(self, streams: StreamMapper, circuits: CircuitMapper) -> None:
        """Streams wait for services, and circuits lead to them; these are they."""
        self._streams = streams
        self._circuits = circuits

    @property
    def open(self) -> int:
        """Spans that are open, or will be: connections and phases."""
        return len(self._connections) + len(self._running) + len(self._ended)

    def close(self, reason: str, time_ns: int) -> None:
        """Lose all phases. Connections end with their streams; `forget` comes after those."""
        for key in list(self._running):
            self._step(key, Trigger.LOST, time_ns, reason=reason)
        self._give_to_oldest(list(self._ended.values()))
        self._seen.clear()
        self._acknowledged = None

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
        assert stream.onion is not None
        self._stop_waiting(stream)
        are_all = stream.onion not in self._waiting
        for running in self._undecided(stream.onion):
            if are_all or (running.met_by is not None and running.met_by == stream.circuit_id):
                self._give(running, stream)
        recent = self._recent.get(stream.onion)
        if recent is not None and recent[1] >= stream.step_ns and attach.is_recording:
            attach.add_link(recent[0])  # it waited along with the stream whose connection that was
        self._end_connection(stream, time_ns)

    def onion_failed(self, stream: Stream, event: StreamEvent) -> None:
        """It gave up."""
        assert stream.onion is not None
        is_oldest = self._oldest(stream.onion) is stream
        self._stop_waiting(stream)
        status = stream_status_of(stream.state, cause_of(event.reason, event.remote_reason))
        undecided = self._undecided(stream.onion)
        if stream.onion in self._waiting:
            # tor does not tell which rendezvous of several was for it. It made one for the longest wait first.
            first = undecided[0].met_by if undecided and is_oldest and status is Status.ERROR else None
            undecided = [running for running in undecided if first is not None and running.met_by in (first, None)]
        for running in undecided:
            self._give(running, stream)
        connection = self._connections.get(stream.id)
        if connection is not None:
            self._spans.fail(connection, stream, event)
            self._end_connection(stream, event.time_ns)

    def _stop_waiting(self, stream: Stream) -> None:
        assert stream.onion is not None
        waiting = self._waiting[stream.onion]
        del waiting[stream.id]
        if not waiting:
            del self._waiting[stream.onion]

    def _oldest(self, address: str | None) -> Stream | None:
        """Who waits longest for a service."""
        waiting = self._waiting.get(address or "")
        return next(iter(waiting.values())) if waiting else None

    def _connection(self, stream: Stream) -> Connection:
        """A stream's connection, which begins now at the latest."""
        connection = self._connections.get(stream.id)
        if connection is None:
            assert self._streams is not None
            assert stream.onion is not None
            connection = self._spans.connect(stream.onion, stream, self._streams.waiting_span(stream))
            self._connections[stream.id] = connection
            self.connections += 1
        return connection

    def _end_connection(self, stream: Stream, time_ns: int) -> None:
        connection = self._connections.pop(stream.id, None)
        if connection is None:
            return
        time_ns = max(time_ns, stream.time_ns)
        connection.span.end(time_ns)
        self._recent.pop(connection.address, None)
        self._recent[connection.address] = (connection.span.context, time_ns)
        if len(self._recent) > limits.ONION_CONNECTIONS_KEPT:
            del self._recent[next(iter(self._recent))]

    # --- whose a phase is --------------------------------------------------------------------------------------------

    def _undecided(self, address: str) -> list[Running]:
        """Phases of connections to this service that nobody has yet, the oldest first."""
        phases = (*self._ended.values(), *self._running.values())
        undecided = [running for running in phases if running.span is None and running.address == address]
        return sorted(undecided, key=lambda running: (running.start_ns, running.met_by is None))

    def _is_certain(self, running: Running) -> bool:
        """Whether it is known for which stream a phase is, or that it is for none."""
        if running.phase not in CLIENT_PHASES or running.phase is Phase.FETCH:
            return True  # one descriptor serves all: it is fetched for the one that waits longest
        return running.address is not None and len(self._waiting.get(running.address, ())) <= 1

    def _give_to_oldest(self, phases: Iterable[Running]) -> None:
        for running in phases:
            self._give(running, self._oldest(running.address) if running.phase in CLIENT_PHASES else None)

    def _give(self, running: Running, stream: Stream | None) -> Span:
        """Make the span of a phase below a stream's connection, then those of the circuit that was built for it."""
        if stream is not None and running.end_ns is not None and running.end_ns <= stream.step_ns:
            stream = None  # it was over when that began to wait
        span = self._spans.open(running, None if stream is None else self._connection(stream))
        if self._ended.get(running.key) is running:
            del self._ended[running.key]
        built, running.built = running.built, None
        if built is not None:
            assert self._circuits is not None
            self._circuits.emit(built, span)
        return span

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
        if trigger is Trigger.BEGIN:
            self._ask(key, event, directory, self._describe(event))
        else:
            self._step(key, trigger, event.time_ns, reason=event.reason)

    def _ask(self, key: Key, event: HsDescEvent, directory: str, attributes: dict[str, object]) -> Running:
        """A directory is asked, by the stream that tor told of before: it belongs to this phase."""
        assert self._streams is not None
        stream = self._streams.take_directory(directory)
        since_ns = event.time_ns if stream is None else min(event.time_ns, stream.start_ns)
        self._step(key, Trigger.BEGIN, since_ns, address=_lower(event.address), attributes=attributes)
        running = self._running[key]
        span = self._span(running)
        if stream is not None:
            stream.parent = span
        return running

    def _publication(self, event: HsDescEvent, address: str | None, directory: str) -> Key | None:
        """Which publication an event is about. UPLOADED and FAILED do not always name the descriptor."""
        if event.action == "UPLOAD":
            return Phase.PUBLISH, f"{address} {event.descriptor_id}"
        for key, running in self._running.items():
            if key[0] is Phase.PUBLISH and running.address == address and directory in running.directories:
                return key
        return None

    def _publish(self, key: Key, trigger: Trigger, event: HsDescEvent, directory: str) -> None:
        if trigger is Trigger.BEGIN:
            running = self._ask(key, event, directory, {"tor.hs.descriptor_id": event.descriptor_id})
            running.directories.append(directory)
            running.uploads += 1
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
        acknowledged, self._acknowledged = self._acknowledged, None
        if seen is not None and seen[0] != purpose:
            for phase in PHASES_OF_PURPOSES[seen[0]]:
                self._step((phase, circuit.id), Trigger.GIVE_UP, circuit.time_ns)
            del self._seen[circuit.id]
            seen = None
        if purpose is None or not phases:
            return
        self._seen[circuit.id] = (purpose, state)
        if seen is None:
            if state in HS_STATES:
                return  # its beginning was not seen, and would look as if it had taken no time
            self._step((phases[0], circuit.id), Trigger.BEGIN, circuit.purpose_ns, circuit=circuit)
        elif state is not None and state != seen[1]:
            self._learn(circuit, phases)
            self._proceed(circuit, state, acknowledged)
        self._learn(circuit, phases)

    def skip(self, circuit: Circuit) -> None:
        """A circuit from before: it is what it is, and what it comes to from now on counts."""
        if circuit.purpose in PHASES_OF_PURPOSES:
            self._seen[circuit.id] = (circuit.purpose, circuit.hs_state)

    def _proceed(self, circuit: Circuit, state: str, acknowledged: Circuit | None) -> None:
        """A circuit has come to another state."""
        if state == "HSCR_ESTABLISHED_WAITING":
            self._acknowledged = circuit
        elif state == "HSCI_DONE" and acknowledged is not None:
            self._pair(circuit, acknowledged)
        for phase, trigger in HS_STATES.get(state, ()):
            self._step((phase, circuit.id), trigger, circuit.time_ns, circuit=circuit)

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

    def adopt(self, circuit: Circuit) -> bool:
        """Take a build that has ended, if it is for a phase; its spans are made when it is known whose that is."""
        for phase in PHASES_OF_PURPOSES.get(circuit.purpose or "", ()):
            running = self._running.get((phase, circuit.id))
            if running is None:
                continue
            if running.span is not None or self._is_certain(running):
                assert self._circuits is not None
                self._circuits.emit(circuit, self._span(running))
            else:
                running.built = circuit
            return True
        return False

    def let_go(self, circuit: Circuit) -> None:
        """Whoever it was for, a build that ended must get its spans now."""
        for phase in PHASES_OF_PURPOSES.get(circuit.purpose or "", ()):
            for phases in (self._ended, self._running):
                running = phases.get((phase, circuit.id))
                if running is not None and running.span is None:
                    self._give_to_oldest([running])

    def _learn(self, circuit: Circuit, phases: tuple[Phase, ...]) -> None:
        """What tor says of the circuit by now may tell for whom its phases are."""
        if circuit.rend_query is None:
            return
        for phase in phases:
            running = self._running.get((phase, circuit.id))
            if running is not None and running.span is None:
                running.circuit = circuit  # of one whose beginning nobody saw, each event makes another object
                running.address = _lower(circuit.rend_query)
                if self._is_certain(running):
                    self._span(running)

    def _pair(self, introduction: Circuit, rendezvous: Circuit) -> None:
        """tor writes in a row of both when the introduction is done that names this rendezvous."""
        running = self._running.get((Phase.INTRODUCE, introduction.id))
        if running is not None and rendezvous.rend_query == introduction.rend_query:
            running.met_by = rendezvous.id

    # --- the table's driver ------------------------------------------------------------------------------------------

    def _step(
        self,
        key: Key,
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
        if running is None:
            if step.state is State.OPEN:
                self._begin(Running(key, time_ns, attributes or {}, address, circuit))
            return
        self._spans.apply(step.actions, running, time_ns, reason)
        if step.state is State.IDLE:
            del self._running[key]
            if running.span is None:
                if Action.END in step.actions and running.address is not None and not self._is_certain(running):
                    self._keep(running)
                else:
                    self._give_to_oldest([running])

    def _begin(self, running: Running) -> None:
        self._running[running.key] = running
        if running.phase in (Phase.ESTABLISH, Phase.JOIN):
            running.met_by = running.key[1]
        if len(self._running) > limits.ONION_PHASES_OPEN:
            self.evicted += 1
            self._step(next(iter(self._running)), Trigger.LOST, running.start_ns, reason="EVICTED")

    def _keep(self, running: Running) -> None:
        """A phase has ended well; the stream that takes the rendezvous will tell whose it was."""
        before = self._ended.get(running.key)
        if before is not None:
            self._give_to_oldest([before])
        self._ended[running.key] = running
        if len(self._ended) > limits.ONION_PHASES_OPEN:
            self._give_to_oldest([next(iter(self._ended.values()))])

    def _span(self, running: Running) -> Span:
        """The span of a phase whose connection is known."""
        if running.span is None:
            self._give_to_oldest([running])
        assert running.span is not None
        return running.span

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
