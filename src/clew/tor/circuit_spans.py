"""Carries out the actions of the table of circuits: the spans of one circuit, with their times and attributes.

A hop's span is made when the event after it is there: only then is it known whether it was the last one, and a span for
a hop that turns out to have been none could not be unmade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from clew.tor.circuits import BUILD_SPAN, EXTEND_SPAN, NOTES, Action, State, Trigger, role_of, status_of
from clew.tor.events import CircuitEvent, CircuitMinorEvent
from clew.tor.privacy import LEVEL_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew._hot import Span, TracerCore
    from clew.tor.events import Relay
    from clew.tor.privacy import PrivacyFilter

__all__ = ["AnyCircuitEvent", "Circuit", "CircuitSpans"]

AnyCircuitEvent: TypeAlias = CircuitEvent | CircuitMinorEvent


class _Hop(NamedTuple):
    number: int  # 1 for the first
    relay: Relay | None
    start_time_ns: int
    end_time_ns: int


class Circuit:
    """What is known of a circuit: its state in the table, and what the actions need."""

    __slots__ = (
        "build_flags",
        "created_ns",
        "failed_hop",
        "hop",
        "hop_start_ns",
        "hops",
        "id",
        "parent",
        "path",
        "planned",
        "planned_after",
        "purpose",
        "span",
        "state",
        "time_ns",
    )

    def __init__(self, circuit_id: str) -> None:
        self.id = circuit_id
        self.state = State.UNSEEN
        self.time_ns = 0  # of the last event; it does not go back when a clock does, so that no duration is negative
        self.path: tuple[Relay, ...] = ()
        self.purpose: str | None = None
        self.build_flags: tuple[str, ...] = ()
        self.created_ns: int | None = None  # by tor's clock
        self.parent: Span | None = None  # of the next build span; None makes it a trace of its own
        self.planned: tuple[Relay, ...] = ()  # the hops that this program asked for
        self.planned_after = 0  # how many were there before them
        self.span: Span | None = None  # the build span, while it is open
        self.hops: int | None = 0  # how many are done; None if that was not seen
        self.hop_start_ns = 0  # when the hop in progress began
        self.hop: _Hop | None = None  # the last one that is done, until its role is known
        self.failed_hop: int | None = None  # the index of the hop in progress when the build ended


class CircuitSpans:
    """The actions.

    Thread: one at a time (the mapper's lock).
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._tracer = tracer
        self._filter = privacy
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
        circuit.purpose = event.purpose or circuit.purpose
        circuit.build_flags = event.build_flags or circuit.build_flags
        circuit.path = event.path or circuit.path
        for action in actions:
            self._actions[action](circuit, trigger, event)
        if event.time_created_ns is not None:  # only now: the actions ask how old the circuit was
            circuit.created_ns = event.time_created_ns

    def explain(self, circuit: Circuit, event: AnyCircuitEvent) -> str:
        """Why a build ended, for people: "hop 2: destroyed, and the relay said connectfailed"."""
        where = "" if circuit.failed_hop is None else f"hop {circuit.failed_hop}: "
        return where + self._reasons(event)

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
        circuit.span = self._tracer.start_span(BUILD_SPAN, parent=circuit.parent, start_time_ns=circuit.time_ns)
        self.launched += 1
        if circuit.span.is_recording:
            attributes |= {LEVEL_ATTRIBUTE: self._filter.level_name, "tor.circuit.id": circuit.id}
            self._describe(circuit, event, attributes)

    def _succeed(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        if len(event.path) > (circuit.hops or 0):
            self._mark_partial(circuit)
            circuit.hops = len(event.path)
        self.built += 1
        self._end(circuit, trigger, event, {})

    def _fail(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        self.failed += 1
        self._end(circuit, trigger, event, {"error.type": _error_type(event)})

    def _lose(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        self.lost += 1
        self._end(circuit, trigger, event, {"error.type": _error_type(event), "clew.unfinished": True})

    def _end(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent, attributes: dict[str, object]) -> None:
        self._emit_last_hop(circuit, last=True)
        span = circuit.span
        assert span is not None
        if span.is_recording:
            attributes |= {"tor.circuit.hops": circuit.hops, "tor.circuit.failed_hop": circuit.failed_hop}
            self._describe(circuit, event, attributes)
            if trigger is not Trigger.BUILT:
                span.set_status(status_of(event.reason), self.explain(circuit, event))
        span.end(circuit.time_ns)
        circuit.span = circuit.parent = None
        circuit.planned = ()

    def _note(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        assert circuit.span is not None
        if not circuit.span.is_recording:
            return
        attributes: dict[str, object] = {"tor.circuit.purpose": event.purpose, "tor.circuit.hs_state": event.hs_state}
        if isinstance(event, CircuitMinorEvent):
            attributes["tor.circuit.old_purpose"] = event.old_purpose
        if trigger is Trigger.UNKNOWN:
            attributes["tor.circuit.status"] = event.status if isinstance(event, CircuitEvent) else event.change
        circuit.span.add_event(NOTES[trigger], self._filter.attributes(attributes), circuit.time_ns)

    def _describe(self, circuit: Circuit, event: AnyCircuitEvent, attributes: dict[str, object]) -> None:
        """Set attributes on the build span, and with them what the event says about the circuit."""
        attributes |= {
            "tor.circuit.purpose": circuit.purpose,
            "tor.circuit.build_flags": circuit.build_flags or None,
            "tor.circuit.hs_state": event.hs_state,
            "tor.circuit.reason": event.reason,
            "tor.circuit.remote_reason": event.remote_reason,
            "tor.conflux.id": event.conflux_id,
            "tor.conflux.rtt_us": event.conflux_rtt_us,
            "tor.hs.address": event.rend_query,
        }
        for key, value in event.extra.items():
            # A word without a value, or one that is no keyword, is telling in itself: it goes where values go.
            if value and self._filter.keyword(key) is not None:
                attributes[f"tor.circuit.extra.{key.lower()}"] = value
            else:
                attributes["tor.circuit.extra.words"] = f"{key}={value}" if value else key
        assert circuit.span is not None
        circuit.span.set_attributes(self._filter.attributes(attributes))

    def _mark_partial(self, circuit: Circuit) -> None:
        """Events are missing: there are hops without times of their own."""
        self.partial += 1
        if circuit.span is not None and circuit.span.is_recording:
            circuit.span.set_attribute("tor.circuit.partial", True)

    # --- its hops ---------------------------------------------------------------------------------------------------

    def _end_hop(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        self._emit_last_hop(circuit, last=False)
        done = len(event.path) or (circuit.hops or 0) + 1
        if circuit.hops is None:
            circuit.hops = circuit.planned_after = done - 1
        if done == circuit.hops + 1:
            relay = event.path[-1] if event.path else None
            circuit.hop = _Hop(done, relay, circuit.hop_start_ns, circuit.time_ns)
        else:
            self._mark_partial(circuit)
        circuit.hops = done
        circuit.hop_start_ns = circuit.time_ns

    def _fail_hop(self, circuit: Circuit, _: Trigger, event: AnyCircuitEvent) -> None:
        self._emit_last_hop(circuit, last=False)
        if circuit.hops is None:
            circuit.hops = circuit.planned_after = len(event.path)
        # tor does not say which relay it was extending to; we know it where this program named the path.
        at = circuit.hops - circuit.planned_after
        relay = circuit.planned[at] if 0 <= at < len(circuit.planned) else None
        last = at + 1 == len(circuit.planned) if relay is not None else None
        circuit.failed_hop = circuit.hops + 1
        hop = _Hop(circuit.failed_hop, relay, circuit.hop_start_ns, circuit.time_ns)
        self._emit_hop(circuit, hop, last=last, failure=event)

    def _emit_last_hop(self, circuit: Circuit, *, last: bool) -> None:
        if circuit.hop is not None:
            hop, circuit.hop = circuit.hop, None
            self._emit_hop(circuit, hop, last=last)

    def _emit_hop(
        self, circuit: Circuit, hop: _Hop, *, last: bool | None, failure: AnyCircuitEvent | None = None
    ) -> None:
        assert circuit.span is not None
        if not circuit.span.is_recording:
            return
        # What a reader looks for first stands first: a picture has room for two or three.
        attributes: dict[str, object] = {"tor.hop.index": hop.number}
        if hop.relay is not None:
            attributes["tor.relay.nickname"] = hop.relay.nickname or None
            attributes["tor.relay.fingerprint"] = hop.relay.fingerprint or None
        attributes["tor.hop.role"] = role_of(hop.number, last, circuit.purpose, circuit.build_flags)
        attributes["tor.circuit.id"] = circuit.id
        if failure is not None:
            attributes["error.type"] = _error_type(failure)
            attributes["tor.circuit.reason"] = failure.reason
            attributes["tor.circuit.remote_reason"] = failure.remote_reason
        span = self._tracer.start_span(
            EXTEND_SPAN,
            attributes=self._filter.attributes(attributes),
            parent=circuit.span,
            start_time_ns=hop.start_time_ns,
        )
        if failure is not None:
            span.set_status(status_of(failure.reason), self._reasons(failure))
        span.end(hop.end_time_ns)

    def _reasons(self, event: AnyCircuitEvent) -> str:
        reason = (self._filter.keyword(event.reason) or "no reason given").lower()
        remote = self._filter.keyword(event.remote_reason)
        return reason if remote is None else f"{reason}, and the relay said {remote.lower()}"


def _error_type(event: AnyCircuitEvent) -> str:
    """`error.type`: tor's reason in lower case; "failed" where it gave none."""
    return (event.reason or "failed").lower()


def _age_ms(circuit: Circuit, created_ns: int | None) -> int | None:
    return None if created_ns is None else max(0, circuit.time_ns - created_ns) // 1_000_000
