"""All of tor's events to spans: one mapper for each kind of thing, and what they must know of each other.

Circuits may be built for streams or for onion services, streams may be an onion service's, and only all of it together
tells whose a circuit was. Everything here runs under one lock, in the order of tor's events.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, cast

from clew.errors import ControlProtocolError
from clew.tor.bootstrap import BootstrapSpans
from clew.tor.build_timeout import BuildTimeout
from clew.tor.circuit_mapper import CircuitCounts, CircuitMapper
from clew.tor.circuits import Trigger
from clew.tor.events import (
    BootstrapEvent,
    BuildTimeoutEvent,
    CircuitEvent,
    CircuitMinorEvent,
    HsDescEvent,
    OrConnEvent,
    StreamBandwidthEvent,
    StreamEvent,
    parse_event,
)
from clew.tor.onion_mapper import OnionMapper
from clew.tor.orconn import OrConnSpans
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.stream_mapper import StreamCounts, StreamMapper
from clew.tor.wire import Reply, ReplyLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.circuit_spans import AnyCircuitEvent, Circuit
    from clew.tor.events import Event

__all__ = ["EVENTS", "MapperCounts", "TorMapper"]

# What to ask tor for, as far as it knows them (GETINFO events/names).
EVENTS = (
    "CIRC",
    "CIRC_MINOR",
    "STREAM",
    "STREAM_BW",
    "HS_DESC",
    "ORCONN",
    "BUILDTIMEOUT_SET",
    "STATUS_CLIENT",
)

_ENDS = frozenset({Trigger.FAILED, Trigger.CLOSED, Trigger.LOST})


class MapperCounts(NamedTuple):
    """What a mapper has seen so far."""

    events: int  # all that were handed in
    ignored: int  # of them: of a type that means nothing here
    circuits: CircuitCounts
    streams: StreamCounts
    onion_connections: int  # that began
    open: int  # spans that are open, or will be, of whatever kind
    evicted: int  # things forgotten because too many were open


class TorMapper:
    """Turns tor's events into spans.

    Args:
        tracer: makes the spans.
        privacy: the level, or a filter that is shared with others whose hashes shall agree.
        owner: asked at each stream's beginning: the application's span that it belongs to, or None.

    Thread: `handle` is called by one thread at a time, in the order of the events; everything else by any. Nothing
        blocks but for the time that another thread needs for one event. `owner` is called under the lock.
    """

    def __init__(
        self,
        tracer: TracerCore,
        privacy: Privacy | PrivacyFilter = Privacy.PSEUDONYMOUS,
        *,
        owner: Callable[[StreamEvent], Span | SpanContext | None] | None = None,
    ) -> None:
        self._filter = privacy if isinstance(privacy, PrivacyFilter) else PrivacyFilter(privacy)
        self._lock = Lock()
        self._build_timeout = BuildTimeout()
        self._bootstrap = BootstrapSpans(tracer, self._filter)
        self._orconns = OrConnSpans(tracer, self._filter)
        self._onions = OnionMapper(tracer, self._filter)
        self._circuits = CircuitMapper(
            tracer,
            self._filter,
            observer=self,
            of_all_builds=self._build_timeout.attributes,
            lock=self._lock,
        )
        self._streams = StreamMapper(tracer, self._filter, self._circuits, self._onions, owner)
        self._onions.serve(self._streams, self._circuits)
        self._events = self._ignored = 0
        self._handlers: dict[type[Event], Callable[..., None]] = {
            CircuitEvent: self._circuits.take,
            CircuitMinorEvent: self._circuits.take,
            StreamEvent: self._streams.handle,
            StreamBandwidthEvent: self._streams.count_bytes,
            HsDescEvent: self._onions.handle,
            BuildTimeoutEvent: self._build_timeout.handle,
            BootstrapEvent: self._bootstrap.handle,
            OrConnEvent: self._orconns.handle,
        }

    @property
    def privacy(self) -> PrivacyFilter:
        """The filter that all attributes pass through."""
        return self._filter

    @property
    def circuits(self) -> CircuitMapper:
        """The part for circuits: give it to a `CircuitManager`, and operations claim the circuits that they make."""
        return self._circuits

    @property
    def counts(self) -> MapperCounts:
        """What was seen so far."""
        circuits = self._circuits.counts
        with self._lock:
            streams = self._streams.counts
            onions, orconns, bootstrap = self._onions, self._orconns, self._bootstrap
            return MapperCounts(
                events=self._events,
                ignored=self._ignored,
                circuits=circuits,
                streams=streams,
                onion_connections=onions.connections,
                open=circuits.building + streams.open + onions.open + orconns.open + bootstrap.open,
                evicted=circuits.evicted + streams.evicted + onions.evicted + orconns.evicted,
            )

    def handle(self, event: Event) -> None:
        """Take one event of tor's. Never raises for what tor sends."""
        with self._lock:
            self._events += 1
            handler = self._handlers.get(type(event))
            if handler is None:
                self._ignored += 1
            else:
                handler(event)
        self._circuits.tell()

    def preload(self, circuit_status: str) -> int:
        """Learn of circuits that were built before anybody listened, so that streams that take one tell its age.

        They have no spans. tor is asked for its events first, and then for this.

        Args:
            circuit_status: tor's answer to GETINFO circuit-status (control-spec 3.9).

        Returns: how many were new.
        """
        count = 0
        for line in circuit_status.splitlines():
            try:
                event = parse_event(Reply(650, (ReplyLine(f"CIRC {line}"),)), 0)
            except ControlProtocolError:
                continue
            with self._lock:
                circuit = self._circuits.learn(cast("CircuitEvent", event))
                if circuit is not None:
                    self._onions.skip(circuit)
                    count += 1
        return count

    def first_byte(self, source_addr: str, time_ns: int) -> None:
        """The program that connected to tor's SOCKS port from this address got the destination's first byte.

        Args:
            source_addr: "host:port", as SOURCE_ADDR has it.
            time_ns: wall-clock nanoseconds since 1970.
        """
        with self._lock:
            self._streams.first_byte(source_addr, time_ns)

    def close(self, reason: str, time_ns: int | None = None) -> None:
        """tor or the connection has gone away, or we go: end all that is open, and forget everything.

        The mapper can be used again; ids then belong to another run of tor.

        Args:
            reason: in capitals, as tor writes its own: CONNECTION_LOST, TOR_EXITED, DETACHED, ...
            time_ns: when that happened; None for now. A replay gives the time of its last event.
        """
        if time_ns is None:
            time_ns = time.time_ns()
        with self._lock:
            self._circuits.lose_all(reason, time_ns)
            self._onions.close(reason, time_ns)
            self._streams.close(reason, time_ns)
            self._onions.forget()
            self._orconns.close(reason, time_ns)
            self._bootstrap.close(reason, time_ns)
            self._build_timeout.forget()
        self._circuits.tell()

    # --- what circuits do, told by their mapper under the lock -------------------------------------------------------

    def circuit_changed(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent, *, is_ended: bool) -> None:
        """See `CircuitObserver`."""
        onions, streams = self._onions, self._streams
        onions.enter(circuit)
        if is_ended and not self._adopt(circuit, trigger):
            self._circuits.emit(circuit, None)
            if trigger is not Trigger.BUILT:
                streams.circuit_failed(circuit, event)
        if trigger in _ENDS:
            onions.leave(circuit, trigger, event.reason)
            streams.let_go(circuit)
            if trigger is not Trigger.LOST:
                streams.circuit_closed(circuit, event)

    def circuit_reopens(self, circuit: Circuit) -> None:
        """See `CircuitObserver`."""
        self._onions.let_go(circuit)
        self._streams.let_go(circuit)

    def _adopt(self, circuit: Circuit, trigger: Trigger) -> bool:
        """Find out whose a build is; whether it may be somebody's."""
        return self._onions.adopt(circuit) or (trigger is Trigger.BUILT and self._streams.hold(circuit))
