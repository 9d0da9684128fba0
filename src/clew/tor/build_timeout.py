"""How long tor waits for a circuit, as one table: (what is known, what tor said) -> what is known from then on.

tor learns from the circuits that it built how long it should wait for the next one. The attributes here go on every
build span that begins while they hold, so that a build that timed out can be seen beside the limit that it ran into.

Source: control-spec 4.1.16 (BUILDTIMEOUT_SET).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from clew.tor.machines import Machine, Transition

if TYPE_CHECKING:
    from clew.tor.event_types import BuildTimeoutEvent

__all__ = ["MACHINE", "TABLE", "Action", "BuildTimeout", "State", "Trigger"]


class State(StrEnum):
    """Where the timeout in force comes from. The values are what the documentation shows."""

    UNSEEN = "unseen"  # tor has said nothing about it so far
    LEARNED = "learned"  # from circuits that were built
    DEFAULT = "default"  # from tor's configuration or the consensus: there are too few circuits to learn from
    SUSPENDED = "suspended"  # for the time that the network is down


class Trigger(StrEnum):
    """What tor may say. The upper-case ones are its own words."""

    COMPUTED = "COMPUTED"
    RESET = "RESET"
    SUSPENDED = "SUSPENDED"
    DISCARD = "DISCARD"
    RESUME = "RESUME"
    # Ours: neither is what tor sends, whatever it sends.
    UNKNOWN = "(unknown)"
    LOST = "(lost)"


# The words that tor may send.
KINDS = {trigger.value: trigger for trigger in Trigger if trigger not in (Trigger.UNKNOWN, Trigger.LOST)}


class Action(StrEnum):
    """What becomes of what is known. The values are what the documentation shows."""

    TAKE = "timeout, quantile and rate are those of the event"
    TAKE_TIMEOUT = "the timeout is that of the event, quantile and rate are not known"
    FORGET = "nothing is known"


_S, _T, _A = State, Trigger, Action

_COMPUTED = Transition(_S.LEARNED, (_A.TAKE,))
_RESET = Transition(_S.DEFAULT, (_A.TAKE_TIMEOUT,), "tor forgot what it had learned: the timeout is no quantile")
_SUSPENDED = Transition(_S.SUSPENDED, (_A.TAKE_TIMEOUT,), "the network seems to be down, tor waits longer for a while")
_RESUME = Transition(_S.LEARNED, (_A.TAKE,), "the network is back")
_FORGOTTEN = Transition(_S.UNSEEN, (_A.FORGET,), "another tor has learned something else")

# fmt: off
TABLE: dict[tuple[State, Trigger], Transition[State, Action]] = {
    (_S.UNSEEN, _T.COMPUTED): _COMPUTED,
    (_S.UNSEEN, _T.RESET): _RESET,
    (_S.UNSEEN, _T.SUSPENDED): _SUSPENDED,
    (_S.UNSEEN, _T.DISCARD): Transition(_S.UNSEEN, (_A.TAKE_TIMEOUT,), "where the timeout comes from was not seen"),
    (_S.UNSEEN, _T.RESUME): _RESUME,
    (_S.UNSEEN, _T.UNKNOWN): Transition(_S.UNSEEN, (_A.TAKE,), "whatever the kind, it says what tor waits"),
    (_S.UNSEEN, _T.LOST): Transition(_S.UNSEEN),
    (_S.LEARNED, _T.COMPUTED): _COMPUTED,
    (_S.LEARNED, _T.RESET): _RESET,
    (_S.LEARNED, _T.SUSPENDED): _SUSPENDED,
    (_S.LEARNED, _T.DISCARD): Transition(_S.LEARNED, (),
        "tor drops times of circuits that ran into the network's failure; the timeout stays until it is computed"),
    (_S.LEARNED, _T.RESUME): _RESUME,
    (_S.LEARNED, _T.UNKNOWN): Transition(_S.LEARNED, (_A.TAKE,), "whatever the kind, it says what tor waits"),
    (_S.LEARNED, _T.LOST): _FORGOTTEN,
    (_S.DEFAULT, _T.COMPUTED): _COMPUTED,
    (_S.DEFAULT, _T.RESET): _RESET,
    (_S.DEFAULT, _T.SUSPENDED): _SUSPENDED,
    (_S.DEFAULT, _T.DISCARD): Transition(_S.DEFAULT, (_A.TAKE_TIMEOUT,)),
    (_S.DEFAULT, _T.RESUME): _RESUME,
    (_S.DEFAULT, _T.UNKNOWN): Transition(_S.DEFAULT, (_A.TAKE,), "whatever the kind, it says what tor waits"),
    (_S.DEFAULT, _T.LOST): _FORGOTTEN,
    (_S.SUSPENDED, _T.COMPUTED): _COMPUTED,
    (_S.SUSPENDED, _T.RESET): _RESET,
    (_S.SUSPENDED, _T.SUSPENDED): _SUSPENDED,
    (_S.SUSPENDED, _T.DISCARD): Transition(_S.SUSPENDED, (_A.TAKE_TIMEOUT,)),
    (_S.SUSPENDED, _T.RESUME): _RESUME,
    (_S.SUSPENDED, _T.UNKNOWN): Transition(_S.SUSPENDED, (_A.TAKE,), "whatever the kind, it says what tor waits"),
    (_S.SUSPENDED, _T.LOST): _FORGOTTEN,
}
# fmt: on

MACHINE = Machine(
    title="Build timeouts",
    introduction="""\
What tor waits for a circuit before it gives it up: `tor.cbt.timeout_ms`, the quantile of its circuits' build times that
this is (`tor.cbt.quantile`), and the part of circuits that ran into it (`tor.cbt.timeout_rate`, 0 to 1). No span comes
of it: every `tor.circuit.build` has what was known when it began.
""",
    spans=(),
    table=TABLE,
    initial=State.UNSEEN,
)


class BuildTimeout:
    """What is known of tor's build timeout.

    Thread: one at a time, in the order of the events. Never blocks, never raises for what tor sends.
    """

    def __init__(self) -> None:
        self._state = State.UNSEEN
        self._attributes: dict[str, object] = {}

    def handle(self, event: BuildTimeoutEvent) -> None:
        """Take one event."""
        self._step(KINDS.get(event.kind, Trigger.UNKNOWN), event)

    def forget(self) -> None:
        """tor or the connection to it has gone away: what comes next is another run."""
        self._step(Trigger.LOST, None)

    def attributes(self) -> dict[str, object]:
        """Those of a build that begins now: tor.cbt.timeout_ms, .quantile, .timeout_rate, as far as they are known."""
        return dict(self._attributes)

    def _step(self, trigger: Trigger, event: BuildTimeoutEvent | None) -> None:
        step = TABLE[self._state, trigger]
        for action in step.actions:
            self._attributes = _known(action, event)
        self._state = step.state


def _known(action: Action, event: BuildTimeoutEvent | None) -> dict[str, object]:
    if action is Action.FORGET or event is None:
        return {}
    known: dict[str, object] = {"tor.cbt.timeout_ms": event.timeout_ms}
    if action is Action.TAKE:
        known |= {"tor.cbt.quantile": event.quantile, "tor.cbt.timeout_rate": event.timeout_rate}
    return {name: value for name, value in known.items() if value is not None}
