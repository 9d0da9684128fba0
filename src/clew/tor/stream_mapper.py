"""Drives the table of streams, owns what is open, and decides which circuits streams waited for.

A circuit that was built while streams waited for one waits too, until one of them takes it (its spans go below that
stream) or all of them have got another (it is a trace of its own). Times are those of the events, so nothing is lost by
waiting.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clew import limits
from clew.tor.events import StreamEvent
from clew.tor.stream_spans import Stream, StreamSpans
from clew.tor.streams import STATUSES, TABLE, Action, State, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.circuit_mapper import CircuitMapper
    from clew.tor.circuit_spans import AnyCircuitEvent, Circuit
    from clew.tor.events import StreamBandwidthEvent
    from clew.tor.privacy import PrivacyFilter

__all__ = ["StreamCounts", "StreamMapper", "StreamObserver"]


# Compared at every event. To look a member up in its class takes ten times as long as a global.
_ATTACH, _RESTART, _UNKNOWN = Action.ATTACH, Action.RESTART, Trigger.UNKNOWN
_UNSEEN, _WAITING, _ANSWERED, _GONE = State.UNSEEN, State.WAITING, State.ANSWERED, State.GONE
_BEGINS = (Trigger.NEW, Trigger.NEWRESOLVE)


class StreamCounts(NamedTuple):
    """What a mapper has seen of streams so far."""

    events: int  # STREAM
    unknown: int  # of them: with a status that is not in the table
    opened: int  # = done + failed + cancelled + lost + open
    done: int
    failed: int
    cancelled: int  # given up by the program before they were connected
    lost: int  # ended by `close`, by eviction, or because another run of tor took the id
    open: int
    partial: int  # their beginning was not seen
    evicted: int  # forgotten because more than limits.STREAMS_OPEN were open
    directory: int  # of those opened: tor's own, for directories


class StreamObserver(Protocol):
    """Who needs to know which onion services streams wait for."""

    def onion_waits(self, stream: Stream) -> None:
        """A stream to an onion service waits, and has no span yet."""

    def onion_attached(self, stream: Stream, attach: Span, time_ns: int) -> None:
        """It got its circuit; `attach` is the span of the wait, which is about to end at that time."""

    def onion_failed(self, stream: Stream, event: StreamEvent) -> None:
        """It waits no more, and has no circuit."""


class _Kind(Enum):
    """What a stream waits for."""

    USER = 1
    DIRECTORY = 2


# Which streams a circuit of this purpose can be for; any other serves none of those that wait here.
_SERVES = {
    "GENERAL": (_Kind.USER, _Kind.DIRECTORY),
    "CONFLUX_UNLINKED": (_Kind.USER,),
    "CONFLUX_LINKED": (_Kind.USER,),
    "HS_CLIENT_HSDIR": (_Kind.DIRECTORY,),
    "HS_SERVICE_HSDIR": (_Kind.DIRECTORY,),
    None: (_Kind.USER, _Kind.DIRECTORY),
}


_ON_A_CIRCUIT = frozenset({State.CONNECTING, State.RESOLVING, State.OPEN})


class _Held(NamedTuple):
    """A build that has ended and may be one that a stream waits for."""

    circuit: Circuit
    newest: int  # the number of the stream that began to wait last before the build ended


class StreamMapper:
    """Turns stream events into spans.

    Args:
        owner: asked when a stream begins: the application's span that it belongs to.

    Thread: one at a time (the lock of the mapper that this is a part of).
    """

    def __init__(
        self,
        tracer: TracerCore,
        privacy: PrivacyFilter,
        circuits: CircuitMapper,
        observer: StreamObserver,
        owner: Callable[[StreamEvent], Span | SpanContext | None] | None,
    ) -> None:
        self._filter = privacy
        self._spans = StreamSpans(tracer, privacy)
        self._circuits = circuits
        self._observer = observer
        self._owner = owner
        self._streams: dict[str, Stream] = {}  # the oldest first
        self._sources: dict[str, Stream] = {}  # by the client's own address
        self._first_bytes: dict[str, int] = {}  # of streams that are not there yet: another thread was quicker
        self._number = 0
        self._waiting: dict[_Kind, dict[str, Stream]] = {kind: {} for kind in _Kind}  # the longest wait first
        self._held: dict[str, _Held] = {}  # by the circuit's id
        self._newest_directory: Stream | None = None
        self._events = self._unknown = self._evicted = self._directory = 0

    @property
    def counts(self) -> StreamCounts:
        """What was seen so far."""
        spans = self._spans
        return StreamCounts(
            events=self._events,
            unknown=self._unknown,
            opened=spans.opened,
            done=spans.done,
            failed=spans.failed,
            cancelled=spans.cancelled,
            lost=spans.lost,
            open=spans.opened - spans.done - spans.failed - spans.cancelled - spans.lost,
            partial=spans.partial,
            evicted=self._evicted,
            directory=self._directory,
        )

    # --- what happens ------------------------------------------------------------------------------------------------

    def handle(self, event: StreamEvent) -> None:
        """Take a STREAM event."""
        self._events += 1
        trigger = STATUSES.get(event.status, _UNKNOWN)
        if trigger is _UNKNOWN:
            self._unknown += 1
        self._step(trigger, event)

    def count_bytes(self, event: StreamBandwidthEvent) -> None:
        """Take a STREAM_BW event."""
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.read += event.read
            stream.written += event.written

    def first_byte(self, source: str, time_ns: int) -> None:
        """The first byte from the destination arrived at the program that connected from this address."""
        stream = self._sources.get(source)
        if stream is not None and time_ns >= stream.start_ns:
            self._spans.first_byte(stream, time_ns)
            return
        self._first_bytes[source] = time_ns
        if len(self._first_bytes) > limits.FIRST_BYTES_WAITING:
            del self._first_bytes[next(iter(self._first_bytes))]

    def close(self, reason: str, time_ns: int) -> None:
        """Lose every stream."""
        for stream_id in list(self._streams):
            self._lose(stream_id, reason, time_ns)
        self._first_bytes.clear()
        self._newest_directory = None
        self._release()

    def take_directory(self, fingerprint: str) -> Stream | None:
        """The directory stream that began last, if it is one to this relay and may still get a parent.

        tor tells of the stream, and in the next event what it is for.
        """
        stream, self._newest_directory = self._newest_directory, None
        return stream if stream is not None and stream.relay == fingerprint and stream.span is None else None

    def waiting_span(self, stream: Stream) -> Span:
        """The span of a stream's wait for a circuit."""
        return self._spans.attach_span(stream)

    # --- circuits ----------------------------------------------------------------------------------------------------

    def hold(self, circuit: Circuit) -> bool:
        """Keep a build that ended well for the streams that wait now; whether there are any."""
        newest = 0
        for kind in _SERVES.get(circuit.purpose, ()):
            waiting = self._waiting[kind]
            if waiting:
                newest = max(newest, waiting[next(reversed(waiting))].number)
        if not newest:
            return False
        self._held[circuit.id] = _Held(circuit, newest)
        return True

    def let_go(self, circuit: Circuit) -> None:
        """Whoever it was for, a held circuit must get its spans now."""
        if self._held.pop(circuit.id, None) is not None:
            self._circuits.emit(circuit, None)

    def circuit_failed(self, circuit: Circuit, event: AnyCircuitEvent) -> None:
        """Tell the streams that wait now that a circuit of a kind they can use could not be built."""
        kept = self._filter.attributes(
            {**_reasons(event), "tor.circuit.failed_hop": circuit.failed_hop, "tor.circuit.id": circuit.id}
        )
        for kind in _failed_for(circuit):
            for stream in self._waiting[kind].values():
                self._spans.circuit_failed(stream, kept, circuit)

    def circuit_closed(self, circuit: Circuit, event: AnyCircuitEvent) -> None:
        """Tell the streams on a circuit that it is gone: tor's next events say that they are, and not why."""
        kept = self._filter.attributes({**_reasons(event), "tor.circuit.id": circuit.id})
        for stream in self._streams.values():
            # It names one leg of a conflux set, and has all of them.
            is_its_set = circuit.conflux_id is not None and stream.conflux_id == circuit.conflux_id
            if (is_its_set or stream.circuit_id == circuit.id) and stream.state in _ON_A_CIRCUIT:
                span = self._spans.span(stream)
                if span.is_recording:
                    span.add_event("circuit_closed", kept, circuit.time_ns)

    # --- the table's driver ------------------------------------------------------------------------------------------

    def _step(self, trigger: Trigger, event: StreamEvent) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            stream = Stream(event)
            if self._owner is not None and trigger in _BEGINS:
                stream.parent = self._owner(event)
        step = TABLE[stream.state, trigger]
        if _RESTART in step.actions:  # the event is about another stream
            self._lose(stream.id, "TOR_RESTARTED", event.time_ns)
            self._step(trigger, event)
            return
        if _ATTACH in step.actions:
            self._attach(stream, event)
        elif stream.onion is not None and stream.number and step.state is not _WAITING:
            if step.state is _ANSWERED:
                self._observer.onion_attached(stream, self._spans.attach_span(stream), event.time_ns)
            else:
                self._observer.onion_failed(stream, event)
        self._spans.apply(step.actions, stream, trigger, event)
        stream.state = step.state
        if step.state is _WAITING:
            if not stream.number:
                self._wait(stream)
        elif stream.number:
            self._stop_waiting(stream)
        if step.state is _GONE:
            self._forget(stream)
        elif step.state is not _UNSEEN and stream.id not in self._streams:
            self._keep(stream)

    def _keep(self, stream: Stream) -> None:
        self._streams[stream.id] = stream
        if stream.is_directory:
            self._directory += 1
            self._newest_directory = stream
        if stream.source is not None:
            self._sources[stream.source] = stream
            first_byte_ns = self._first_bytes.pop(stream.source, None)
            if first_byte_ns is not None and first_byte_ns >= stream.start_ns:
                self._spans.first_byte(stream, first_byte_ns)
        if len(self._streams) > limits.STREAMS_OPEN:
            self._evicted += 1
            self._lose(next(iter(self._streams)), "EVICTED", stream.time_ns)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        if stream.source is not None and self._sources.get(stream.source) is stream:
            del self._sources[stream.source]
        if self._newest_directory is stream:
            self._newest_directory = None

    def _lose(self, stream_id: str, reason: str, time_ns: int) -> None:
        self._step(Trigger.LOST, StreamEvent(time_ns, stream_id, Trigger.LOST, "0", "", reason=reason))

    def _wait(self, stream: Stream) -> None:
        self._number += 1
        stream.number = self._number
        if stream.onion is not None:
            self._observer.onion_waits(stream)
        else:
            self._waiting[_Kind.DIRECTORY if stream.is_directory else _Kind.USER][stream.id] = stream

    def _stop_waiting(self, stream: Stream) -> None:
        stream.number = 0
        if stream.onion is None:
            del self._waiting[_Kind.DIRECTORY if stream.is_directory else _Kind.USER][stream.id]
            if self._held:
                self._release()

    def _release(self) -> None:
        """Let the builds go that nobody waits for any more who waited when they ended."""
        for circuit_id, held in list(self._held.items()):
            kinds = _SERVES.get(held.circuit.purpose, ())
            oldest = min(
                (waiting[next(iter(waiting))].number for kind in kinds if (waiting := self._waiting[kind])),
                default=held.newest + 1,
            )
            if oldest > held.newest:
                del self._held[circuit_id]
                self._circuits.emit(held.circuit, None)

    def _attach(self, stream: Stream, event: StreamEvent) -> None:
        """The stream takes a circuit: one that it waited for goes below the wait, one that was there is linked."""
        stream.circuit_id, stream.conflux_id = event.circuit_id, None
        span = self._spans.span(stream)
        attach = None if stream.state is State.UNSEEN else self._spans.attach_span(stream)
        if attach is not None and stream.onion is not None and stream.number:
            self._observer.onion_attached(stream, attach, event.time_ns)
        circuit = self._circuits.circuit(event.circuit_id)
        attributes: dict[str, object] = {"tor.circuit.id": event.circuit_id}
        if circuit is not None:
            held = self._held.get(circuit.id)
            was_waited_for = held is not None and 0 < stream.number <= held.newest
            if was_waited_for and attach is not None:
                self._emit_below(circuit, attach)
            else:
                self.let_go(circuit)
                if circuit.context is not None and span.is_recording:
                    span.add_link(circuit.context)
            since_ns = circuit.built_ns if circuit.built_ns is not None else circuit.created_ns
            if since_ns is not None and not was_waited_for:
                attributes["tor.circuit.age_ms"] = max(0, event.time_ns - since_ns) // 1_000_000
            attributes["tor.circuit.reused"] = None if circuit.streams is None else circuit.streams > 0
            attributes["tor.conflux.id"] = stream.conflux_id = circuit.conflux_id
            circuit.streams = (circuit.streams or 0) + 1
        if span.is_recording:
            kept = self._filter.attributes(attributes)
            span.set_attributes(kept)
            if attach is not None:
                attach.set_attributes(kept)

    def _emit_below(self, circuit: Circuit, attach: Span) -> None:
        del self._held[circuit.id]
        self._circuits.emit(circuit, attach)
        if circuit.conflux_id is not None:
            for other in [held.circuit for held in self._held.values()]:
                if other.conflux_id == circuit.conflux_id:
                    del self._held[other.id]
                    self._circuits.emit(other, attach)


def _failed_for(circuit: Circuit) -> tuple[_Kind, ...]:
    """Which streams may have waited for a circuit that failed: tor's own go to a directory directly."""
    if circuit.purpose not in (None, "GENERAL"):
        return _SERVES.get(circuit.purpose, ())
    return (_Kind.DIRECTORY,) if "ONEHOP_TUNNEL" in circuit.build_flags else (_Kind.USER,)


def _reasons(event: AnyCircuitEvent) -> dict[str, object]:
    return {"tor.circuit.reason": event.reason, "tor.circuit.remote_reason": event.remote_reason}
