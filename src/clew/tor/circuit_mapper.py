"""Drives the table of circuits with tor's events, owns what is open, and joins circuits to the operations that asked.

Operations of this program (`manager.py`) claim the circuits that they asked tor for. tor's reply, which has the
circuit's id, and the circuit's first events reach us on different threads, in any order. So while a command is under
way, the events of circuits that nobody knows yet wait; they go on with the claim, or without one when every command
that can have made the circuit has been answered. Their times are those of their arrival, so nothing is lost by waiting,
and a circuit is joined to an operation by its id alone.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clew import limits
from clew.tor.circuit_spans import AnyCircuitEvent, Circuit, CircuitSpans
from clew.tor.circuits import CHANGES, STATUSES, TABLE, Action, State, Trigger
from clew.tor.events import CircuitEvent, CircuitMinorEvent
from clew.tor.privacy import Privacy, PrivacyFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.events import Event, Relay

__all__ = ["CircuitCounts", "CircuitMapper", "CircuitObserver", "Claim", "Outcome"]

# Compared at every event. To look a member up in its class takes ten times as long as a global.
_RESTART, _UNKNOWN = Action.RESTART, Trigger.UNKNOWN
_UNSEEN, _BUILDING, _BUILT, _GONE = State.UNSEEN, State.BUILDING, State.BUILT, State.GONE


class CircuitCounts(NamedTuple):
    """What a mapper has seen of circuits so far."""

    events: int  # CIRC and CIRC_MINOR
    unknown: int  # of them: with a status that is not in the table
    launched: int  # builds that began; = built + failed + lost + building
    built: int
    failed: int  # ended without BUILT
    lost: int  # ended by `close`, by eviction, or because another run of tor took the id
    building: int  # open now
    partial: int  # builds of which a part was not seen
    evicted: int  # circuits forgotten because more than limits.CIRCUITS_OPEN were known
    known: int  # circuits known now, built ones included


class Outcome(NamedTuple):
    """How the build of a claimed circuit ended."""

    circuit_id: str
    trigger: Trigger  # BUILT, FAILED, CLOSED or LOST
    path: tuple[Relay, ...]
    purpose: str | None
    reason: str | None  # as tor writes it, or ours for LOST
    remote_reason: str | None
    failed_hop: int | None  # the hop that was in progress, if any; 1 for the first
    explanation: str  # of an end without BUILT, for people; it has nothing that privacy forbids


class Claim(NamedTuple):
    """An operation of this program that waits for a circuit."""

    parent: Span  # the build span goes under it
    on_end: Callable[[Outcome], None]  # called once, when the spans have ended; on any thread, must not block
    path: tuple[Relay, ...] = ()  # the hops asked for, if they were named
    extend_time_ns: int | None = None  # for a circuit that was there before: when it was asked to be extended


class CircuitObserver(Protocol):
    """Who needs to know what circuits do, and whose builds they are. Called under the mapper's lock."""

    def circuit_changed(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent, *, is_ended: bool) -> None:
        """A step of the table was taken.

        Args:
            is_ended: a build has ended with it that no operation claimed; it becomes spans by `CircuitMapper.emit`,
                now or later.
        """

    def circuit_reopens(self, circuit: Circuit) -> None:
        """A further build is about to begin: one that has ended and has no spans yet must get them now."""


class _Held(NamedTuple):
    """Events of a circuit that a command under way may have made."""

    ticket: int  # the newest command when they began to wait
    steps: list[tuple[Trigger, AnyCircuitEvent]]


class CircuitMapper:
    """Turns circuit events into spans.

    Args:
        tracer: makes the spans.
        privacy: the level, or a filter that is shared with others whose hashes shall agree.
        unclaimed: whether circuits that no operation of this program asked for are traced too, each as a trace of its
            own.
        observer: is told of every step, and finds parents for builds that no operation claimed.
        of_all_builds: further attributes of a build that begins now.
        lock: guards everything here; the observer's own.

    Thread: `handle` is called by one thread at a time, in the order of the events; everything else by any. Nothing
        blocks but for the time that another thread needs for one event.
    """

    def __init__(
        self,
        tracer: TracerCore,
        privacy: Privacy | PrivacyFilter = Privacy.PSEUDONYMOUS,
        *,
        unclaimed: bool = True,
        observer: CircuitObserver | None = None,
        of_all_builds: Callable[[], Mapping[str, object]] = dict,
        lock: Lock | None = None,
    ) -> None:
        self._filter = privacy if isinstance(privacy, PrivacyFilter) else PrivacyFilter(privacy)
        self._spans = CircuitSpans(tracer, self._filter, of_all_builds)
        self._unclaimed = unclaimed
        self._observer = observer
        self._lock = Lock() if lock is None else lock
        self._circuits: dict[str, Circuit] = {}  # the oldest first
        self._claims: dict[str, list[Claim]] = {}  # of circuits in _circuits
        self._tickets = count(1)
        self._closed: tuple[int, str] = (0, "")  # the newest command when `close` was called last, and why it was
        self._open_tickets: dict[int, None] = {}  # commands under way, the oldest first
        self._held: dict[str, _Held] = {}
        self._missed: set[str] = set()  # circuits of which only the end was seen
        self._ended: deque[tuple[Claim, Outcome]] = deque()  # to be told when the lock is free
        self._events = self._unknown = self._evicted = 0

    @property
    def privacy(self) -> PrivacyFilter:
        """The filter that all attributes pass through."""
        return self._filter

    @property
    def counts(self) -> CircuitCounts:
        """What was seen so far."""
        with self._lock:
            spans = self._spans
            return CircuitCounts(
                events=self._events,
                unknown=self._unknown,
                launched=spans.launched,
                built=spans.built,
                failed=spans.failed,
                lost=spans.lost,
                building=spans.launched - spans.built - spans.failed - spans.lost,
                partial=spans.partial,
                evicted=self._evicted,
                known=len(self._circuits),
            )

    def handle(self, event: Event) -> None:
        """Take one event of tor's; those that are not about circuits are ignored. Never raises for what tor sends."""
        if isinstance(event, (CircuitEvent, CircuitMinorEvent)):
            with self._lock:
                self.take(event)
            self.tell()

    def take(self, event: AnyCircuitEvent) -> None:
        """`handle` for who holds the lock, and calls `tell` after it."""
        if isinstance(event, CircuitEvent):
            trigger = STATUSES.get(event.status, _UNKNOWN)
        else:
            trigger = CHANGES.get(event.change, _UNKNOWN)
        self._events += 1
        if trigger is _UNKNOWN:
            self._unknown += 1
        held = self._held.get(event.circuit_id)
        if held is None and self._open_tickets and event.circuit_id not in self._circuits:
            held = self._hold(event.circuit_id)
        if held is not None:
            held.steps.append((trigger, event))
        else:
            self._step(trigger, event)

    def close(self, reason: str, time_ns: int | None = None) -> None:
        """tor or the connection has gone away, or we go: end all that is open, and forget every circuit.

        The mapper can be used again; circuit ids then belong to another run of tor.

        Args:
            reason: in capitals, as tor writes its own: CONNECTION_LOST, TOR_EXITED, DETACHED, ...
            time_ns: when that happened; None for now. A replay gives the time of its last event.
        """
        with self._lock:
            self.lose_all(reason, time.time_ns() if time_ns is None else time_ns)
        self.tell()

    def lose_all(self, reason: str, time_ns: int) -> None:
        """`close` for who holds the lock, and calls `tell` after it."""
        self._closed = (next(self._tickets), reason)
        for circuit_id in list(self._held):
            self._release(circuit_id)
        for circuit_id in list(self._circuits):
            self._lose(circuit_id, reason, time_ns)
        self._missed.clear()

    def learn(self, event: CircuitEvent) -> Circuit | None:
        """Keep a circuit that was built before its events came, for who holds the lock.

        Args:
            event: what it is like now.

        Returns: the circuit; None if it is known, gone or not built.
        """
        known = event.circuit_id in self._circuits or event.circuit_id in self._held
        if known or event.circuit_id in self._missed or event.status != Trigger.BUILT or not self._unclaimed:
            return None
        circuit = Circuit(event.circuit_id)
        self._spans.apply((), circuit, Trigger.BUILT, event)
        circuit.state = State.BUILT
        circuit.streams = None
        return self._keep(circuit)

    def circuit(self, circuit_id: str) -> Circuit | None:
        """What is known of a circuit that is there now, for who holds the lock."""
        return self._circuits.get(circuit_id)

    def emit(self, circuit: Circuit, parent: Span | SpanContext | None) -> None:
        """Make the spans of a build that ended, for who holds the lock (see `CircuitObserver`)."""
        self._spans.emit(circuit, parent)

    # --- claims -----------------------------------------------------------------------------------------------------

    def expect(self, circuit_id: str | None = None) -> int:
        """A command is about to be sent that makes a circuit, or that extends the one with this id.

        Returns: a ticket, to be given back with `claim` or `withdraw`, whatever comes of the command.
        """
        with self._lock:
            ticket = next(self._tickets)
            self._open_tickets[ticket] = None
            if circuit_id is not None:
                self._hold(circuit_id)
            return ticket

    def claim(self, ticket: int, circuit_id: str, claim: Claim) -> None:
        """tor agreed to the command and gave the circuit this id: its build belongs to the operation."""
        with self._lock:
            self._open_tickets.pop(ticket, None)
            closed, reason = self._closed
            if ticket > closed:
                self._join(circuit_id, claim)
            else:  # tor is gone since: no event will come
                outcome = Outcome(circuit_id, Trigger.LOST, (), None, reason, None, None, reason.lower())
                self._ended.append((claim, outcome))
            self._release_answered()
        self.tell()

    def withdraw(self, ticket: int) -> None:
        """The command failed, or its outcome will not be known: it claims nothing."""
        with self._lock:
            self._open_tickets.pop(ticket, None)
            self._release_answered()
        self.tell()

    def _join(self, circuit_id: str, claim: Claim) -> None:
        circuit = self._circuits.get(circuit_id)
        if circuit is None:
            circuit = self._keep(Circuit(circuit_id))
        self._claims.setdefault(circuit_id, []).append(claim)
        circuit.parent = claim.parent
        circuit.planned = claim.path
        if claim.extend_time_ns is not None:
            self._step(Trigger.EXTEND, CircuitEvent(claim.extend_time_ns, circuit_id, Trigger.EXTEND))
        if circuit_id in self._held:
            self._release(circuit_id)

    def _hold(self, circuit_id: str) -> _Held:
        """Have the events of a circuit wait for all commands that are under way."""
        known = self._held.get(circuit_id)
        held = _Held(next(reversed(self._open_tickets)), [] if known is None else known.steps)
        self._held[circuit_id] = held
        return held

    def _release_answered(self) -> None:
        """Let go what no command under way can have made: what began to wait before the oldest of them was sent."""
        oldest = next(iter(self._open_tickets), None)
        for circuit_id in [i for i, held in self._held.items() if oldest is None or held.ticket < oldest]:
            self._release(circuit_id)

    def _release(self, circuit_id: str) -> None:
        for trigger, event in self._held.pop(circuit_id).steps:
            self._step(trigger, event)

    def tell(self) -> None:
        """Tell operations how their circuits ended. Outside the lock: they may call us."""
        while self._ended:
            try:
                claim, outcome = self._ended.popleft()
            except IndexError:  # another thread was quicker
                return
            claim.on_end(outcome)

    # --- the table's driver -----------------------------------------------------------------------------------------

    def _step(self, trigger: Trigger, event: AnyCircuitEvent) -> None:
        circuit = self._circuits.get(event.circuit_id)
        if circuit is None:
            if not self._unclaimed:
                return
            circuit = Circuit(event.circuit_id)
        step = TABLE[circuit.state, trigger]
        if _RESTART in step.actions:  # the event is about another circuit
            self._lose(circuit.id, "TOR_RESTARTED", event.time_ns)
            self._step(trigger, event)
            return
        before = circuit.ended
        if before is not None and self._observer is not None and step.state is _BUILDING:
            self._observer.circuit_reopens(circuit)
        self._spans.apply(step.actions, circuit, trigger, event)
        if circuit.state is _UNSEEN and step.state is _GONE and len(self._missed) < limits.CIRCUITS_OPEN:
            self._missed.add(circuit.id)
        circuit.state = step.state
        if step.state is _GONE:
            self._circuits.pop(circuit.id, None)
        elif step.state is not _UNSEEN:
            self._keep(circuit)
        if circuit.ended is not None and (circuit.parent is not None or self._observer is None):
            self._spans.emit(circuit, circuit.parent)
            circuit.parent = None
        if self._observer is not None:
            is_ended = circuit.ended is not None and circuit.ended is not before
            self._observer.circuit_changed(circuit, trigger, event, is_ended=is_ended)
        if circuit.build is None and step.state in (_BUILT, _GONE):
            self._report(circuit, trigger, event)

    def _lose(self, circuit_id: str, reason: str, time_ns: int) -> None:
        self._step(Trigger.LOST, CircuitEvent(time_ns, circuit_id, Trigger.LOST, reason=reason))

    def _keep(self, circuit: Circuit) -> Circuit:
        if circuit.id not in self._circuits:
            self._circuits[circuit.id] = circuit
            if len(self._circuits) > limits.CIRCUITS_OPEN:
                self._evicted += 1
                self._lose(next(iter(self._circuits)), "EVICTED", circuit.time_ns)
        return circuit

    def _report(self, circuit: Circuit, trigger: Trigger, event: AnyCircuitEvent) -> None:
        claims = self._claims.pop(circuit.id, None)
        if claims is None:
            return
        outcome = Outcome(
            circuit.id,
            trigger,
            circuit.path,
            circuit.purpose,
            event.reason,
            event.remote_reason,
            circuit.failed_hop,
            self._spans.explain(circuit, event),
        )
        self._ended.extend((claim, outcome) for claim in claims)
