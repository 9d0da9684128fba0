"""tor's way into the network, as one table and the spans that come of it.

A bootstrap has no id: there is one at a time. tor tells how far it is in percent and in which phase (the tag), and what
is in the way. It never says that it gave up; a bootstrap ends at 100 or with tor.

Source: control-spec 4.1.10 (STATUS_CLIENT BOOTSTRAP) and 5.5 (the phases).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from clew.model import SpanKind
from clew.tor.circuits import status_of
from clew.tor.describing import error_type, extra_attributes
from clew.tor.machines import Machine, SpanDescription, Transition
from clew.tor.privacy import LEVEL_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew._hot import Span, TracerCore
    from clew.tor.event_types import BootstrapEvent
    from clew.tor.privacy import PrivacyFilter

__all__ = ["BOOTSTRAP_SPAN", "MACHINE", "TABLE", "Action", "BootstrapCounts", "BootstrapSpans", "State", "Trigger"]

BOOTSTRAP_SPAN = "tor.bootstrap"

_DONE_PERCENT = 100
# Up to here (the tag `conn`, and those of proxies and pluggable transports before it) no relay has been reached.
_BEGIN_PERCENT = 5


class State(StrEnum):
    """Where tor is. The values are what the documentation shows."""

    UNSEEN = "unseen"  # no bootstrap was seen in this run of tor
    RUNNING = "running"
    DONE = "done"


class Trigger(StrEnum):
    """What can happen. All are ours: `BootstrapSpans.handle` tells them from progress, tag and severity."""

    BEGIN = "(begin)"
    PHASE = "(phase)"
    PROGRESS = "(progress)"
    PROBLEM = "(problem)"
    DONE = "(done)"
    BACK = "(back)"
    LOST = "(lost)"


class Action(StrEnum):
    """What is done with spans, in the order of a transition's tuple. The values are what the documentation shows."""

    OPEN = "the span begins"
    OPEN_LATE = "the span begins here, marked `tor.bootstrap.partial`: its real start was not seen"
    NOTE = "an event on the span"
    SUCCEED = "the span ends"
    LOSE = "the span ends with the reason of the loss, marked `clew.unfinished`"
    RESTART = "what was known is (lost), reason TOR_RESTARTED; then the event is taken as that of another run"


_S, _T, _A = State, Trigger, Action

# fmt: off
TABLE: dict[tuple[State, Trigger], Transition[State, Action]] = {
    # --- nothing was seen in this run ----------------------------------------------------------------------------
    (_S.UNSEEN, _T.BEGIN): Transition(_S.RUNNING, (_A.OPEN, _A.NOTE)),
    (_S.UNSEEN, _T.PHASE): Transition(_S.RUNNING, (_A.OPEN_LATE, _A.NOTE), "attached in the middle"),
    (_S.UNSEEN, _T.PROGRESS): Transition(_S.RUNNING, (_A.OPEN_LATE, _A.NOTE), "attached in the middle"),
    (_S.UNSEEN, _T.PROBLEM): Transition(_S.RUNNING, (_A.OPEN_LATE, _A.NOTE),
        "attached in the middle: a problem comes after the start of its phase"),
    (_S.UNSEEN, _T.DONE): Transition(_S.DONE, (_A.OPEN_LATE, _A.NOTE, _A.SUCCEED), "attached at the end"),
    (_S.UNSEEN, _T.BACK): Transition(_S.RUNNING, (_A.OPEN_LATE, _A.NOTE)),
    (_S.UNSEEN, _T.LOST): Transition(_S.UNSEEN),
    # --- on the way ----------------------------------------------------------------------------------------------
    (_S.RUNNING, _T.BEGIN): Transition(_S.RUNNING, (_A.NOTE,), "no relay was reached so far"),
    (_S.RUNNING, _T.PHASE): Transition(_S.RUNNING, (_A.NOTE,)),
    (_S.RUNNING, _T.PROGRESS): Transition(_S.RUNNING, (), "the phase has its event"),
    (_S.RUNNING, _T.PROBLEM): Transition(_S.RUNNING, (_A.NOTE,), "tor tries again"),
    (_S.RUNNING, _T.DONE): Transition(_S.DONE, (_A.NOTE, _A.SUCCEED)),
    (_S.RUNNING, _T.BACK): Transition(_S.UNSEEN, (_A.RESTART,),
        "progress only grows in one run of tor, while its network stays enabled: this is another"),
    (_S.RUNNING, _T.LOST): Transition(_S.UNSEEN, (_A.LOSE,)),
    # --- tor reached the network ---------------------------------------------------------------------------------
    (_S.DONE, _T.BEGIN): Transition(_S.DONE),
    (_S.DONE, _T.PHASE): Transition(_S.DONE),
    (_S.DONE, _T.PROGRESS): Transition(_S.DONE),
    (_S.DONE, _T.PROBLEM): Transition(_S.DONE),
    (_S.DONE, _T.DONE): Transition(_S.DONE),
    (_S.DONE, _T.BACK): Transition(_S.UNSEEN, (_A.RESTART,), "another run of tor"),
    (_S.DONE, _T.LOST): Transition(_S.UNSEEN),
}
# fmt: on

NOTES = {
    Trigger.BEGIN: "phase",
    Trigger.PHASE: "phase",
    Trigger.PROGRESS: "phase",
    Trigger.BACK: "phase",
    Trigger.PROBLEM: "problem",
    Trigger.DONE: "phase",
}

MACHINE = Machine(
    title="Bootstrap",
    introduction="""\
tor's way into the network. `(begin)`: progress of 5 % at most, no relay has been reached; `(phase)`: another tag than
before; `(progress)`: further in the same phase; `(problem)`: a severity of WARN or ERR, or a WARNING; `(done)`: 100 %;
`(back)`: less progress than before.
""",
    spans=(
        SpanDescription(
            BOOTSTRAP_SPAN,
            SpanKind.INTERNAL,
            "the first STATUS_CLIENT BOOTSTRAP of a run of tor",
            "progress of 100 %; tor never says that it gave up",
            "none: it is a trace of its own",
        ),
    ),
    remarks="""\
The time between an event `phase` and the next is what that phase took. A bootstrap that ended with tor, or with the
connection to it, says in `tor.bootstrap.reason` what was in the way last, and in `error.type` how it ended.
""",
    table=TABLE,
    initial=State.UNSEEN,
    notes=NOTES,
    noted_on=BOOTSTRAP_SPAN,
)


class BootstrapCounts(NamedTuple):
    """What was seen so far. started = done + lost + open."""

    started: int
    done: int
    lost: int  # ended by `close`, or because another run of tor began
    problems: int


class BootstrapSpans:
    """Carries the table's actions out.

    Args:
        privacy: what all attributes pass through.

    Thread: one at a time, in the order of the events. Never blocks, never raises for what tor sends.
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._tracer = tracer
        self._filter = privacy
        self._state = State.UNSEEN
        self._span: Span | None = None
        self._time_ns = 0  # of the last event; it does not go back when a clock does
        self._last: BootstrapEvent | None = None  # of this run of tor
        self._problem: str | None = None  # the last problem's REASON
        self._started = self._done = self._lost = self._problems = 0
        self._actions: dict[Action, Callable[[Trigger, BootstrapEvent], None]] = {
            Action.OPEN: self._open,
            Action.OPEN_LATE: self._open_late,
            Action.NOTE: self._note,
            Action.SUCCEED: self._succeed,
        }

    @property
    def open(self) -> int:
        """How many spans are open: 0 or 1."""
        return self._started - self._done - self._lost

    @property
    def counts(self) -> BootstrapCounts:
        """What was seen so far."""
        return BootstrapCounts(self._started, self._done, self._lost, self._problems)

    def handle(self, event: BootstrapEvent) -> None:
        """Take one event."""
        trigger = self._trigger_of(event)
        step = TABLE[self._state, trigger]
        if Action.RESTART in step.actions:
            self.close("TOR_RESTARTED", event.time_ns)
            self.handle(event)
            return
        self._time_ns = max(self._time_ns, event.time_ns)
        if trigger is Trigger.PROBLEM:
            self._problems += 1
            self._problem = event.reason
        for action in step.actions:
            self._actions[action](trigger, event)
        self._state = step.state
        self._last = event

    def close(self, reason: str, time_ns: int) -> None:
        """tor or the connection has gone away, or we go: what comes next is another run.

        Args:
            reason: in capitals, as tor writes its own.
            time_ns: when that happened.
        """
        step = TABLE[self._state, Trigger.LOST]
        if Action.LOSE in step.actions:
            self._lose(reason, max(self._time_ns, time_ns))
        self._state = step.state
        self._time_ns = 0
        self._last = self._problem = None

    def _trigger_of(self, event: BootstrapEvent) -> Trigger:
        last = self._last
        if last is not None and event.progress < last.progress:
            return Trigger.BACK
        if event.severity in ("WARN", "ERR") or event.warning is not None:
            return Trigger.PROBLEM
        if event.progress >= _DONE_PERCENT:
            return Trigger.DONE
        if last is not None and event.tag == last.tag:
            return Trigger.PROGRESS
        return Trigger.BEGIN if event.progress <= _BEGIN_PERCENT else Trigger.PHASE

    # --- the actions ------------------------------------------------------------------------------------------------

    def _open(self, _: Trigger, __: BootstrapEvent) -> None:
        self._start({})

    def _open_late(self, _: Trigger, __: BootstrapEvent) -> None:
        self._start({"tor.bootstrap.partial": True})

    def _start(self, attributes: dict[str, object]) -> None:
        self._started += 1
        attributes[LEVEL_ATTRIBUTE] = self._filter.level_name
        self._span = self._tracer.start_span(
            BOOTSTRAP_SPAN, attributes=self._filter.attributes(attributes), parent=None, start_time_ns=self._time_ns
        )

    def _note(self, trigger: Trigger, event: BootstrapEvent) -> None:
        assert self._span is not None
        attributes: dict[str, object] = {
            "tor.bootstrap.tag": event.tag or None,
            "tor.bootstrap.progress": event.progress,
            "tor.bootstrap.summary": event.summary or None,
            "tor.bootstrap.warning": event.warning,
            "tor.bootstrap.reason": event.reason,
            "tor.bootstrap.count": event.count,
            "tor.bootstrap.recommendation": event.recommendation,
            "tor.bootstrap.host": event.host,
            "tor.bootstrap.host_address": event.host_address,
            **extra_attributes(self._filter, "tor.bootstrap.extra", event.extra),
        }
        self._span.add_event(NOTES[trigger], self._filter.attributes(attributes), self._time_ns)

    def _succeed(self, _: Trigger, event: BootstrapEvent) -> None:
        self._done += 1
        self._end(event, {}, self._time_ns)

    def _lose(self, reason: str, time_ns: int) -> None:
        assert self._span is not None
        assert self._last is not None
        self._lost += 1
        why = [(self._filter.keyword(each) or "").lower() for each in (reason, self._problem)]
        self._span.set_status(status_of(reason), ", last problem: ".join(filter(None, why)))
        attributes: dict[str, object] = {
            "error.type": error_type(reason),
            "clew.unfinished": True,
            "tor.bootstrap.reason": self._problem,
        }
        self._end(self._last, attributes, time_ns)

    def _end(self, last: BootstrapEvent, attributes: dict[str, object], time_ns: int) -> None:
        assert self._span is not None
        attributes |= {"tor.bootstrap.tag": last.tag or None, "tor.bootstrap.progress": last.progress}
        self._span.set_attributes(self._filter.attributes(attributes))
        self._span.end(time_ns)
        self._span = None
