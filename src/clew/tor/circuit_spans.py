"""Carries out the actions of the table of circuits: what is known of one circuit, and the spans of its builds.

A build is kept as values until it has ended, and becomes spans then: only afterwards is it known whose it was (an
operation of this program, a stream that waited for it, an onion service's rendezvous, nobody), and a span has its
parent from the beginning. A hop's role is known only then, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from clew.tor.circuits import BUILD_SPAN, EXTEND_SPAN, NOTES, Action, State, Trigger, role_of, status_of
from clew.tor.describing import error_type, extra_attributes
from clew.tor.events import CircuitEvent, CircuitMinorEvent
from clew.tor.privacy import LEVEL_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.events import Relay
    from clew.tor.privacy import PrivacyFilter

__all__ = ["AnyCircuitEvent", "Build", "Circuit", "CircuitSpans"]

AnyCircuitEvent: TypeAlias = CircuitEvent | CircuitMinorEvent


class _Hop(NamedTuple):
    number: int  # 1 for the first
    relay: Relay | None
    start_time_ns: int
    end_time_ns: int


class _Note(NamedTuple):
    name: str
    attributes: dict[str, object]
    time_ns: int


class Build:
    """A build, from its start to its end. What is not filtered yet must not leave `CircuitSpans`."""

    __slots__ = ("attributes", "end_ns", "failure", "hops", "is_last", "notes", "start_ns")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = start_ns
        self.attributes: dict[str, object] = {}
        self.hops: list[_Hop] = []
        self.notes: list[_Note] = []
        self.failure: AnyCircuitEvent | None = None  # of an end without BUILT
        self.is_last: bool | None = True  # whether the last of `hops` is, or would have been, the circuit's last one

    @property
    def purpose(self) -> str | None:
        """The circuit's purpose when the build ended."""
        purpose = self.attributes.get("tor.circuit.purpose")
        return purpose if isinstance(purpose, str) else None

    def describe(self, attributes: Mapping[str, object]) -> None:
        """Add attributes; None changes nothing."""
        for name, value in attributes.items():
            if value is not None:
                self.attributes[name] = value


class Circuit:
    """What is known of a circuit: its state in the table, and what the actions need."""

    __slots__ = (
        "build",
        "build_flags",
        "built_ns",
        "conflux_id",
        "context",
        "created_ns",
        "ended",
        "failed_hop",
        "hop_start_ns",
        "hops",
        "hs_state",
        "id",
        "parent",
        "path",
        "planned",
        "planned_after",
        "purpose",
        "purpose_ns",
        "rend_query",
        "state",
        "streams",
        "time_ns",
    )

    def __init__(self, circuit_id: str) -> None:
        self.id = circuit_id
        self.state = State.UNSEEN
        self.time_ns = 0  # of the last event; it does not go back when a clock does, so that no duration is negative
        self.path: tuple[Relay, ...] = ()
        self.purpose: str | None = None
        self.purpose_ns = 0  # since when it has this one
        self.build_flags: tuple[str, ...] = ()
        self.hs_state: str | None = None
        self.rend_query: str | None = None  # the onion service it is for
        self.conflux_id: str | None = None
        self.created_ns: int | None = None  # by tor's clock
        self.built_ns: int | None = None  # when the last build succeeded
        self.streams: int | None = 0  # how many were attached to it; None if that is not known
        self.parent: Span | None = None  # of the next build span; None makes it a trace of its own
        self.planned: tuple[Relay, ...] = ()  # the hops that this program asked for
        self.planned_after = 0  # how many were there before them
        self.build: Build | None = None  # the one in progress
        self.ended: Build | None = None  # one that has ended and has no spans yet
        self.context: SpanContext | None = None  # of the last build that has spans, if they are recorded
        self.hops: int | None = 0  # how many are done; None if that was not seen
        self.hop_start_ns = 0  # when the hop in progress began
        self.failed_hop: int | None = None  # the index of the hop in progress when the build ended


class CircuitSpans:
    """The actions.

    Args:
        tracer: makes the spans.
        privacy: what all attributes pass through.
        of_all_builds: further attributes of a build that begins now: what tor as a whole is like at that moment.

    Thread: one at a time (the mapper's lock).
    """

    def __init__(
        self,
        tracer: TracerCore,
        privacy: PrivacyFilter,
        of_all_builds: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._tracer = tracer
        self._filter = privacy
        self._of_all_builds = of_all_builds
        self.launched = self.built = self.failed = self.lost = self.partial = 0
        self._actions: dict[Action, Callable[[Circuit, Trigger, AnyCircuitEvent], None]] = {
            Action.OPEN: self._open,
            Action.OPEN_LATE: self._open_late,
            Action.REOPEN: self._reopen,
            Action.HOP: self._end_hop,
            Action.HOP_FAIL: self._fail_hop,
            Action.SUCCEED: self._succeed,
            Action.FAIL: self._fail,
            Action.LOSE: self._lose,
            Action.NOTE: self._note,
        }

    def apply(self, actions: tuple[Action, ...], circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        """Take in what the event says about the circuit, and carry the actions out."""
        circuit.time_ns = max(circuit.time_ns, event.time_ns)
        if event.purpose is not None and event.purpose != circuit.purpose:
            circuit.purpose = event.purpose
            circuit.purpose_ns = circuit.time_ns
        circuit.hs_state = event.hs_state
        circuit.build_flags = event.build_flags or circuit.build_flags
        circuit.path = event.path or circuit.path
        circuit.rend_query = event.rend_query or circuit.rend_query
        circuit.conflux_id = event.conflux_id or circuit.conflux_id
        for action in actions:
            self._actions[action](circuit, trigger, event)
        if event.time_created_ns is not None:  # only now: the actions ask how old the circuit was
            circuit.created_ns = event.time_created_ns

    def explain(self, circuit: Circuit, event: AnyCircuitEvent) -> str:
        """Why a build ended, for people: "hop 2: destroyed, and the relay said connectfailed"."""
        where = "" if circuit.failed_hop is None else f"hop {circuit.failed_hop}: "
        return where + self._reasons(event)

    def emit(self, circuit: Circuit, parent: Span | SpanContext | None) -> None:
        """Make the spans of the build that ended.

        Args:
            parent: what they go under; None makes them a trace of their own.
        """
        build, circuit.ended = circuit.ended, None
        assert build is not None
        attributes = self._filter.attributes(build.attributes)
        span = self._tracer.start_span(BUILD_SPAN, attributes=attributes, parent=parent, start_time_ns=build.start_ns)
        circuit.context = span.context if span.is_recording else None
        if span.is_recording:
            for note in build.notes:
                span.add_event(note.name, self._filter.attributes(note.attributes), note.time_ns)
            for hop in build.hops:
                self._emit_hop(circuit, build, span, hop)
            if build.failure is not None:
                span.set_status(status_of(build.failure.reason), self.explain(circuit, build.failure))
        span.end(build.end_ns)

    # --- the build --------------------------------------------------------------------------------------------------

    def _open(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        circuit.hops = 0
        self._start(circuit, event, {})

    def _open_late(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        circuit.hops = len(event.path)
        self.partial += 1
        created_ns = circuit.created_ns if circuit.created_ns is not None else event.time_created_ns
        age_ms = _age_ms(circuit, created_ns)
        self._start(circuit, event, {"tor.circuit.partial": True, "tor.circuit.age_ms": age_ms}, planned_after=0)

    def _reopen(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        # With neither a path nor a past, the first EXTENDED will tell how many hops there were. TIME_CREATED of this
        # event is no age: it moves when a circuit is cannibalized.
        circuit.hops = len(circuit.path) or None
        age_ms = _age_ms(circuit, circuit.created_ns)
        self._start(circuit, event, {"tor.circuit.reused": True, "tor.circuit.age_ms": age_ms})

    def _start(
        self,
        circuit: Circuit,
        event: AnyCircuitEvent,
        attributes: dict[str, object],
        *,
        planned_after: int | None = None,
    ) -> None:
        circuit.planned_after = (circuit.hops or 0) if planned_after is None else planned_after
        circuit.failed_hop = None
        circuit.hop_start_ns = circuit.time_ns
        circuit.build = build = Build(circuit.time_ns)
        self.launched += 1
        build.describe(attributes)
        build.describe({LEVEL_ATTRIBUTE: self._filter.level_name, "tor.circuit.id": circuit.id})
        self._describe(circuit, build, event)
        build.describe(self._of_all_builds())

    def _succeed(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        if len(event.path) > (circuit.hops or 0):
            self._mark_partial(circuit)
            circuit.hops = len(event.path)
        self.built += 1
        circuit.built_ns = circuit.time_ns
        self._end(circuit, event, {})

    def _fail(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        self.failed += 1
        assert circuit.build is not None
        circuit.build.failure = event
        self._end(circuit, event, {"error.type": error_type(event.reason)})

    def _lose(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        self.lost += 1
        assert circuit.build is not None
        circuit.build.failure = event
        self._end(circuit, event, {"error.type": error_type(event.reason), "clew.unfinished": True})

    def _end(self, circuit: Circuit, event: AnyCircuitEvent, attributes: dict[str, object]) -> None:
        build = circuit.build
        assert build is not None
        build.describe(attributes)
        build.describe({"tor.circuit.hops": circuit.hops, "tor.circuit.failed_hop": circuit.failed_hop})
        self._describe(circuit, build, event)
        build.end_ns = circuit.time_ns
        circuit.ended, circuit.build = build, None
        circuit.planned = ()

    def _note(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        assert circuit.build is not None
        attributes: dict[str, object] = {"tor.circuit.purpose": event.purpose, "tor.circuit.hs_state": event.hs_state}
        if isinstance(event, CircuitMinorEvent):
            attributes["tor.circuit.old_purpose"] = event.old_purpose
        if trigger is Trigger.UNKNOWN:
            attributes["tor.circuit.status"] = event.status if isinstance(event, CircuitEvent) else event.change
        circuit.build.notes.append(_Note(NOTES[trigger], attributes, circuit.time_ns))

    def _describe(self, circuit: Circuit, build: Build, event: AnyCircuitEvent) -> None:
        """Keep what the event says about the circuit."""
        build.describe(
            {
                "tor.circuit.purpose": circuit.purpose,
                "tor.circuit.build_flags": circuit.build_flags or None,
                "tor.circuit.hs_state": event.hs_state,
                "tor.circuit.reason": event.reason,
                "tor.circuit.remote_reason": event.remote_reason,
                "tor.conflux.id": event.conflux_id,
                "tor.conflux.rtt_us": event.conflux_rtt_us,
                "tor.hs.address": event.rend_query,
            }
        )
        if event.extra:
            build.describe(extra_attributes(self._filter, "tor.circuit.extra", event.extra))

    def _mark_partial(self, circuit: Circuit) -> None:
        """Events are missing: there are hops without times of their own."""
        self.partial += 1
        if circuit.build is not None:
            circuit.build.attributes["tor.circuit.partial"] = True

    # --- its hops ---------------------------------------------------------------------------------------------------

    def _end_hop(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        assert circuit.build is not None
        done = len(event.path) or (circuit.hops or 0) + 1
        if circuit.hops is None:
            circuit.hops = circuit.planned_after = done - 1
        if done == circuit.hops + 1:
            relay = event.path[-1] if event.path else None
            circuit.build.hops.append(_Hop(done, relay, circuit.hop_start_ns, circuit.time_ns))
        else:
            self._mark_partial(circuit)
        circuit.hops = done
        circuit.hop_start_ns = circuit.time_ns

    def _fail_hop(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        assert circuit.build is not None
        if circuit.hops is None:
            circuit.hops = circuit.planned_after = len(event.path)
        # tor does not say which relay it was extending to; we know it where this program named the path.
        at = circuit.hops - circuit.planned_after
        relay = circuit.planned[at] if 0 <= at < len(circuit.planned) else None
        circuit.build.is_last = at + 1 == len(circuit.planned) if relay is not None else None
        circuit.failed_hop = circuit.hops + 1
        circuit.build.hops.append(_Hop(circuit.failed_hop, relay, circuit.hop_start_ns, circuit.time_ns))

    def _emit_hop(self, circuit: Circuit, build: Build, parent: Span, hop: _Hop) -> None:
        is_last = build.is_last if hop is build.hops[-1] else False
        failure = build.failure if hop.number == circuit.failed_hop else None
        # What a reader looks for first stands first: a picture has room for two or three.
        attributes: dict[str, object] = {"tor.hop.index": hop.number}
        if hop.relay is not None:
            attributes["tor.relay.nickname"] = hop.relay.nickname or None
            attributes["tor.relay.fingerprint"] = hop.relay.fingerprint or None
        attributes["tor.hop.role"] = role_of(hop.number, is_last, build.purpose, circuit.build_flags)
        attributes["tor.circuit.id"] = circuit.id
        if failure is not None:
            attributes["error.type"] = error_type(failure.reason)
            attributes["tor.circuit.reason"] = failure.reason
            attributes["tor.circuit.remote_reason"] = failure.remote_reason
        span = self._tracer.start_span(
            EXTEND_SPAN,
            attributes=self._filter.attributes(attributes),
            parent=parent,
            start_time_ns=hop.start_time_ns,
        )
        if failure is not None:
            span.set_status(status_of(failure.reason), self._reasons(failure))
        span.end(hop.end_time_ns)

    def _reasons(self, event: AnyCircuitEvent) -> str:
        reason = (self._filter.keyword(event.reason) or "no reason given").lower()
        remote = self._filter.keyword(event.remote_reason)
        return reason if remote is None else f"{reason}, and the relay said {remote.lower()}"


def _age_ms(circuit: Circuit, created_ns: int | None) -> int | None:
    return None if created_ns is None else max(0, circuit.time_ns - created_ns) // 1_000_000
