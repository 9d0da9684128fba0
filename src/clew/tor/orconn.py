"""A connection to a relay while it is made, as one table and the spans that come of it.

Once a connection is there, or is not, it is forgotten: what goes over it belongs to circuits. Connections that others
make to this tor have no span; when they began is not known here.

Source: control-spec 4.1.3 (ORCONN).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from clew import limits
from clew.model import SpanKind
from clew.tor.circuits import status_of
from clew.tor.describing import error_type, extra_attributes
from clew.tor.events import OrConnEvent, parse_relay
from clew.tor.machines import Machine, SpanDescription, Transition
from clew.tor.privacy import LEVEL_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew._hot import Span, TracerCore
    from clew.tor.privacy import PrivacyFilter

__all__ = ["MACHINE", "ORCONN_SPAN", "TABLE", "Action", "OrConnCounts", "OrConnSpans", "State", "Trigger"]

ORCONN_SPAN = "tor.orconn"


class State(StrEnum):
    """Where a connection is. The values are what the documentation shows."""

    UNSEEN = "unseen"  # nothing of it was seen, or nothing that matters
    CONNECTING = "connecting"  # TCP, TLS and tor's own handshake are under way
    GONE = "gone"  # forgotten: it is there, or it is not


class Trigger(StrEnum):
    """What can happen to a connection. The upper-case ones are tor's own words."""

    NEW = "NEW"
    LAUNCHED = "LAUNCHED"
    CONNECTED = "CONNECTED"
    FAILED = "FAILED"
    CLOSED = "CLOSED"
    # Ours: none of them is what tor sends, whatever it sends.
    UNKNOWN = "(unknown)"
    LOST = "(lost)"


# The words that tor may send: ORStatus.
STATUSES = {trigger.value: trigger for trigger in Trigger if trigger not in (Trigger.UNKNOWN, Trigger.LOST)}


class Action(StrEnum):
    """What is done with spans, in the order of a transition's tuple. The values are what the documentation shows."""

    OPEN = "the span begins"
    OPEN_LATE = "the span begins here, marked `tor.orconn.partial`: its real start was not seen"
    SUCCEED = "the span ends"
    FAIL = "the span ends with tor's reason"
    LOSE = "the span ends with the reason of the loss, marked `clew.unfinished`"
    RESTART = "what was known is (lost), reason TOR_RESTARTED; then the event is taken as that of an unseen connection"
    NOTE = "an event on the span"


_S, _T, _A = State, Trigger, Action

# fmt: off
TABLE: dict[tuple[State, Trigger], Transition[State, Action]] = {
    (_S.UNSEEN, _T.NEW): Transition(_S.GONE, (), "it came in: another tor has made it"),
    (_S.UNSEEN, _T.LAUNCHED): Transition(_S.CONNECTING, (_A.OPEN,)),
    (_S.UNSEEN, _T.CONNECTED): Transition(_S.GONE, (), "it came in, or was launched before we came"),
    (_S.UNSEEN, _T.FAILED): Transition(_S.GONE, (_A.OPEN_LATE, _A.FAIL),
        "launched before we came: tor says FAILED only of connections that it launched"),
    (_S.UNSEEN, _T.CLOSED): Transition(_S.GONE, (), "closing is not part of connecting"),
    (_S.UNSEEN, _T.UNKNOWN): Transition(_S.GONE),
    (_S.UNSEEN, _T.LOST): Transition(_S.GONE),
    (_S.CONNECTING, _T.NEW): Transition(_S.UNSEEN, (_A.RESTART,),
        "ids are unique within one run of tor: this is another run"),
    (_S.CONNECTING, _T.LAUNCHED): Transition(_S.UNSEEN, (_A.RESTART,), "another run of tor"),
    (_S.CONNECTING, _T.CONNECTED): Transition(_S.GONE, (_A.SUCCEED,)),
    (_S.CONNECTING, _T.FAILED): Transition(_S.GONE, (_A.FAIL,)),
    (_S.CONNECTING, _T.CLOSED): Transition(_S.GONE, (_A.FAIL,), "before it was there"),
    (_S.CONNECTING, _T.UNKNOWN): Transition(_S.CONNECTING, (_A.NOTE,)),
    (_S.CONNECTING, _T.LOST): Transition(_S.GONE, (_A.LOSE,)),
}
# fmt: on

NOTES = {Trigger.UNKNOWN: "unknown_status"}

MACHINE = Machine(
    title="Connections to relays",
    introduction="""\
The connection under the circuits: TCP, TLS, and tor's own handshake. A client's go to its guards.
""",
    spans=(
        SpanDescription(
            ORCONN_SPAN,
            SpanKind.INTERNAL,
            "ORCONN LAUNCHED",
            "ORCONN CONNECTED; FAILED, or CLOSED before it was there",
            "none: it is a trace of its own, several circuits may wait for it",
        ),
    ),
    remarks="`tor.orconn.reason` says why a connection failed; `error.type` is the same in lower case.\n",
    table=TABLE,
    initial=State.UNSEEN,
    final=State.GONE,
    notes=NOTES,
    noted_on=ORCONN_SPAN,
)


class OrConnCounts(NamedTuple):
    """What was seen so far. launched = connected + failed + lost + open."""

    launched: int
    connected: int
    failed: int
    lost: int  # ended by `close`, by eviction, or because another run of tor took the id
    evicted: int  # of those: because more than limits.OR_CONNECTIONS_OPEN were on their way


class _Connection:
    """A connection that is being made."""

    __slots__ = ("key", "span", "state", "time_ns")

    def __init__(self, key: str) -> None:
        self.key = key
        self.state = State.UNSEEN
        self.time_ns = 0  # of the last event; it does not go back when a clock does
        self.span: Span | None = None


class OrConnSpans:
    """Carries the table's actions out.

    Connections are told apart by tor's id, by their target where an old tor gives none.

    Args:
        privacy: what all attributes pass through.

    Thread: one at a time, in the order of the events. Never blocks, never raises for what tor sends.
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._tracer = tracer
        self._filter = privacy
        self._connections: dict[str, _Connection] = {}  # those on their way, the oldest first
        self._launched = self._connected = self._failed = self._lost = self._evicted = 0
        self._actions: dict[Action, Callable[[_Connection, OrConnEvent], None]] = {
            Action.OPEN: self._open,
            Action.OPEN_LATE: self._open_late,
            Action.SUCCEED: self._succeed,
            Action.FAIL: self._fail,
            Action.LOSE: self._lose,
            Action.NOTE: self._note,
        }

    @property
    def open(self) -> int:
        """How many spans are open."""
        return len(self._connections)

    @property
    def evicted(self) -> int:
        """How many were ended because there were too many."""
        return self._evicted

    @property
    def counts(self) -> OrConnCounts:
        """What was seen so far."""
        return OrConnCounts(self._launched, self._connected, self._failed, self._lost, self._evicted)

    def handle(self, event: OrConnEvent) -> None:
        """Take one event."""
        # An id has no "$" and no ":", a target has one of them: they cannot be taken for each other.
        self._step(event.connection_id or event.target, STATUSES.get(event.status, Trigger.UNKNOWN), event)

    def close(self, reason: str, time_ns: int) -> None:
        """tor or the connection to it has gone away, or we go: end all that is open.

        Args:
            reason: in capitals, as tor writes its own.
            time_ns: when that happened.
        """
        for key in list(self._connections):
            self._end_early(key, reason, time_ns)

    def _step(self, key: str, trigger: Trigger, event: OrConnEvent) -> None:
        connection = self._connections.get(key)
        if connection is None:
            connection = _Connection(key)
        step = TABLE[connection.state, trigger]
        if Action.RESTART in step.actions:
            self._end_early(key, "TOR_RESTARTED", event.time_ns)
            self._step(key, trigger, event)
            return
        connection.time_ns = max(connection.time_ns, event.time_ns)
        for action in step.actions:
            self._actions[action](connection, event)
        connection.state = step.state
        if step.state is State.GONE:
            self._connections.pop(key, None)
        elif key not in self._connections:
            self._connections[key] = connection
            if len(self._connections) > limits.OR_CONNECTIONS_OPEN:
                self._evicted += 1
                self._end_early(next(iter(self._connections)), "EVICTED", event.time_ns)

    def _end_early(self, key: str, reason: str, time_ns: int) -> None:
        self._step(key, Trigger.LOST, OrConnEvent(time_ns, "", Trigger.LOST, reason))

    # --- the actions ------------------------------------------------------------------------------------------------

    def _open(self, connection: _Connection, event: OrConnEvent) -> None:
        self._start(connection, event, {})

    def _open_late(self, connection: _Connection, event: OrConnEvent) -> None:
        self._start(connection, event, {"tor.orconn.partial": True})

    def _start(self, connection: _Connection, event: OrConnEvent, attributes: dict[str, object]) -> None:
        self._launched += 1
        connection.span = self._tracer.start_span(ORCONN_SPAN, parent=None, start_time_ns=connection.time_ns)
        attributes |= {LEVEL_ATTRIBUTE: self._filter.level_name, "tor.orconn.id": event.connection_id}
        self._describe(connection.span, event, attributes)

    def _succeed(self, connection: _Connection, event: OrConnEvent) -> None:
        self._connected += 1
        self._end(connection, event, {})

    def _fail(self, connection: _Connection, event: OrConnEvent) -> None:
        self._failed += 1
        self._end_badly(connection, event, {})

    def _lose(self, connection: _Connection, event: OrConnEvent) -> None:
        self._lost += 1
        self._end_badly(connection, event, {"clew.unfinished": True})

    def _note(self, connection: _Connection, event: OrConnEvent) -> None:
        assert connection.span is not None
        attributes: dict[str, object] = {"tor.orconn.status": event.status, "tor.orconn.reason": event.reason}
        connection.span.add_event(NOTES[Trigger.UNKNOWN], self._filter.attributes(attributes), connection.time_ns)

    def _end_badly(self, connection: _Connection, event: OrConnEvent, attributes: dict[str, object]) -> None:
        assert connection.span is not None
        reason = self._filter.keyword(event.reason) or "no reason given"
        connection.span.set_status(status_of(event.reason), reason.lower())
        self._end(connection, event, {"error.type": error_type(event.reason), **attributes})

    def _end(self, connection: _Connection, event: OrConnEvent, attributes: dict[str, object]) -> None:
        assert connection.span is not None
        self._describe(connection.span, event, attributes)
        connection.span.end(connection.time_ns)

    def _describe(self, span: Span, event: OrConnEvent, attributes: dict[str, object]) -> None:
        attributes |= {
            **_relay_attributes(event.target),
            "tor.orconn.reason": event.reason,
            "tor.orconn.circuits": event.circuits,
            **extra_attributes(self._filter, "tor.orconn.extra", event.extra),
        }
        span.set_attributes(self._filter.attributes(attributes))


def _relay_attributes(target: str) -> dict[str, object]:
    relay = parse_relay(target)
    if relay.fingerprint:
        return {"tor.relay.nickname": relay.nickname or None, "tor.relay.fingerprint": relay.fingerprint}
    return {"tor.orconn.address": target or None}  # a bridge
