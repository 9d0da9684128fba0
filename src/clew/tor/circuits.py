"""The life of a circuit, as one table: (state, what happened) -> next state and what to do with spans.

The rule: whatever decides about the state of a circuit, or about what a span of it means, stands in this file, and the
file neither reads a clock nor touches a socket. `circuit_spans.py` carries the actions out. `docs/tor-mapping.md` is
generated from the tables below, and a test compares the two.

Source: control-spec 4.1.1 (CIRC) and 4.1.19 (CIRC_MINOR).
"""

from __future__ import annotations

from enum import StrEnum

from clew.model import SpanKind, Status
from clew.tor.machines import Machine, SpanDescription, Transition

__all__ = [
    "BUILD_SPAN",
    "CANCELLING_REASONS",
    "CHANGES",
    "EXTEND_SPAN",
    "MACHINE",
    "NOTES",
    "SPANS",
    "STATUSES",
    "TABLE",
    "Action",
    "State",
    "Trigger",
    "role_of",
    "status_of",
]


class State(StrEnum):
    """Where a circuit is. The values are what the documentation shows."""

    UNSEEN = "unseen"  # no event of it so far
    BUILDING = "building"  # hops are being added
    WAITING = "waiting"  # all hops are there, tor waits whether a better guard comes
    BUILT = "built"  # nothing is open; more hops may come
    GONE = "gone"  # forgotten


class Trigger(StrEnum):
    """What can happen to a circuit. The upper-case ones are tor's own words."""

    LAUNCHED = "LAUNCHED"
    EXTENDED = "EXTENDED"
    GUARD_WAIT = "GUARD_WAIT"
    BUILT = "BUILT"
    FAILED = "FAILED"
    CLOSED = "CLOSED"
    CANNIBALIZED = "CANNIBALIZED"
    PURPOSE_CHANGED = "PURPOSE_CHANGED"
    # These three are ours: none of them is what tor sends, whatever it sends.
    UNKNOWN = "(unknown)"  # a status that is not listed above: "clients MUST tolerate" it
    EXTEND = "(extend)"  # this program told tor to extend the circuit, and tor agreed
    LOST = "(lost)"  # tor or the connection went away, we detached, or the circuit was evicted


# The words that tor may send, by event: CircStatus of CIRC, and the kind of a CIRC_MINOR.
STATUSES = {
    trigger.value: trigger
    for trigger in (
        Trigger.LAUNCHED,
        Trigger.EXTENDED,
        Trigger.GUARD_WAIT,
        Trigger.BUILT,
        Trigger.FAILED,
        Trigger.CLOSED,
    )
}
CHANGES = {trigger.value: trigger for trigger in (Trigger.CANNIBALIZED, Trigger.PURPOSE_CHANGED)}


class Action(StrEnum):
    """What is done with spans, in the order of a transition's tuple. The values are what the documentation shows."""

    OPEN = "the build span begins"
    OPEN_LATE = "the build span begins here, marked `tor.circuit.partial`: its real start was not seen"
    REOPEN = "a further build span begins, marked `tor.circuit.reused`"
    HOP = "an extend span: from the hop before (or the start) to here"
    HOP_FAIL = "the hop in progress ends here as an error"
    SUCCEED = "the build span ends"
    FAIL = "the build span ends with tor's reason"
    LOSE = "the build span ends with the reason of the loss, marked `clew.unfinished`"
    RESTART = "what was known is (lost), reason TOR_RESTARTED; then the event is taken as that of an unseen circuit"
    NOTE = "an event on the build span"


_S, _T, _A = State, Trigger, Action

# fmt: off
TABLE: dict[tuple[State, Trigger], Transition[State, Action]] = {
    # --- nothing is known of the circuit -------------------------------------------------------------------------
    (_S.UNSEEN, _T.LAUNCHED): Transition(_S.BUILDING, (_A.OPEN,)),
    (_S.UNSEEN, _T.EXTENDED): Transition(_S.BUILDING, (_A.OPEN_LATE,),
        "attached in the middle: the hops so far have no times, the next one has"),
    (_S.UNSEEN, _T.GUARD_WAIT): Transition(_S.WAITING, (_A.OPEN_LATE,), "attached in the middle"),
    (_S.UNSEEN, _T.BUILT): Transition(_S.BUILT, (_A.OPEN_LATE, _A.SUCCEED), "attached at the end of a build"),
    (_S.UNSEEN, _T.FAILED): Transition(_S.GONE, (_A.OPEN_LATE, _A.FAIL),
        "attached in the middle, or tor could not even start"),
    (_S.UNSEEN, _T.CLOSED): Transition(_S.GONE, (), "it was built before we came"),
    (_S.UNSEEN, _T.CANNIBALIZED): Transition(_S.BUILDING, (_A.REOPEN,)),
    (_S.UNSEEN, _T.PURPOSE_CHANGED): Transition(_S.UNSEEN, (), "it does not tell whether the circuit is built"),
    (_S.UNSEEN, _T.EXTEND): Transition(_S.BUILDING, (_A.REOPEN,)),
    (_S.UNSEEN, _T.LOST): Transition(_S.GONE),
    (_S.UNSEEN, _T.UNKNOWN): Transition(_S.UNSEEN),
    # --- hops are being added ------------------------------------------------------------------------------------
    (_S.BUILDING, _T.LAUNCHED): Transition(_S.UNSEEN, (_A.RESTART,),
        "ids are unique within one run of tor: this is another run"),
    (_S.BUILDING, _T.EXTENDED): Transition(_S.BUILDING, (_A.HOP,)),
    (_S.BUILDING, _T.GUARD_WAIT): Transition(_S.WAITING, (_A.NOTE,)),
    (_S.BUILDING, _T.BUILT): Transition(_S.BUILT, (_A.SUCCEED,)),
    (_S.BUILDING, _T.FAILED): Transition(_S.GONE, (_A.HOP_FAIL, _A.FAIL)),
    (_S.BUILDING, _T.CLOSED): Transition(_S.GONE, (_A.FAIL,),
        "tor says CLOSED, not FAILED, where all hops were there"),
    (_S.BUILDING, _T.CANNIBALIZED): Transition(_S.BUILDING, (_A.NOTE,)),
    (_S.BUILDING, _T.PURPOSE_CHANGED): Transition(_S.BUILDING, (_A.NOTE,),
        "to MEASURE_TIMEOUT: tor gave the circuit up for use and goes on only to measure"),
    (_S.BUILDING, _T.EXTEND): Transition(_S.BUILDING, (), "the further hops belong to the same build"),
    (_S.BUILDING, _T.LOST): Transition(_S.GONE, (_A.HOP_FAIL, _A.LOSE)),
    (_S.BUILDING, _T.UNKNOWN): Transition(_S.BUILDING, (_A.NOTE,)),
    # --- all hops are there, tor waits for a better guard --------------------------------------------------------
    (_S.WAITING, _T.LAUNCHED): Transition(_S.UNSEEN, (_A.RESTART,), "another run of tor"),
    (_S.WAITING, _T.EXTENDED): Transition(_S.BUILDING, (_A.HOP,)),
    (_S.WAITING, _T.GUARD_WAIT): Transition(_S.WAITING),
    (_S.WAITING, _T.BUILT): Transition(_S.BUILT, (_A.SUCCEED,)),
    (_S.WAITING, _T.FAILED): Transition(_S.GONE, (_A.FAIL,)),
    (_S.WAITING, _T.CLOSED): Transition(_S.GONE, (_A.FAIL,), "the better guard was usable"),
    (_S.WAITING, _T.CANNIBALIZED): Transition(_S.WAITING, (_A.NOTE,)),
    (_S.WAITING, _T.PURPOSE_CHANGED): Transition(_S.WAITING, (_A.NOTE,)),
    (_S.WAITING, _T.EXTEND): Transition(_S.BUILDING, (), "the further hops belong to the same build"),
    (_S.WAITING, _T.LOST): Transition(_S.GONE, (_A.LOSE,)),
    (_S.WAITING, _T.UNKNOWN): Transition(_S.WAITING, (_A.NOTE,)),
    # --- built: no span is open ----------------------------------------------------------------------------------
    (_S.BUILT, _T.LAUNCHED): Transition(_S.UNSEEN, (_A.RESTART,), "another run of tor"),
    (_S.BUILT, _T.EXTENDED): Transition(_S.BUILDING, (_A.OPEN_LATE,),
        "somebody else extended it: when that began was not seen"),
    (_S.BUILT, _T.GUARD_WAIT): Transition(_S.BUILT),
    (_S.BUILT, _T.BUILT): Transition(_S.BUILT),
    (_S.BUILT, _T.FAILED): Transition(_S.GONE),
    (_S.BUILT, _T.CLOSED): Transition(_S.GONE, (), "closing is not part of building"),
    (_S.BUILT, _T.CANNIBALIZED): Transition(_S.BUILDING, (_A.REOPEN,),
        "the same id, another purpose, perhaps a further hop; BUILT follows"),
    (_S.BUILT, _T.PURPOSE_CHANGED): Transition(_S.BUILT),
    (_S.BUILT, _T.EXTEND): Transition(_S.BUILDING, (_A.REOPEN,)),
    (_S.BUILT, _T.LOST): Transition(_S.GONE),
    (_S.BUILT, _T.UNKNOWN): Transition(_S.BUILT),
}
# fmt: on


# --- what an end means ----------------------------------------------------------------------------------------------

# Somebody did not want the circuit any more, nothing went wrong: REQUESTED (a controller closed it), FINISHED (unused
# or too old), IP_NOW_REDUNDANT (another was quicker); ours: DETACHED (tracing was ended), EVICTED (too many open).
CANCELLING_REASONS = frozenset({"REQUESTED", "FINISHED", "IP_NOW_REDUNDANT", "DETACHED", "EVICTED"})


def status_of(reason: str | None) -> Status:
    """The status of a build that ended without BUILT.

    Args:
        reason: tor's REASON, or ours for a loss; None where tor gave none.
    """
    return Status.CANCELLED if reason is not None and reason.upper() in CANCELLING_REASONS else Status.ERROR


# --- what a hop is for ----------------------------------------------------------------------------------------------

# Where a circuit of this purpose ends; any other ends at an exit, or, with IS_INTERNAL, at an "end".
_LAST_ROLES = {
    "HS_CLIENT_HSDIR": "directory",
    "HS_SERVICE_HSDIR": "directory",
    "HS_CLIENT_INTRO": "introduction",
    "HS_SERVICE_INTRO": "introduction",
    "HS_CLIENT_REND": "rendezvous",
    "HS_SERVICE_REND": "rendezvous",
}


def role_of(index: int, last: bool | None, purpose: str | None, build_flags: tuple[str, ...]) -> str | None:
    """What the relay at a hop is there for, or None if that cannot be told.

    Args:
        index: 1 for the first hop.
        last: whether it is the last one; None if that is not known (a hop that failed in a path of unknown length).
    """
    if "ONEHOP_TUNNEL" in build_flags:
        return "directory"
    if index == 1:
        return "guard"
    if last is None:
        return None
    if not last:
        return "middle"
    role = _LAST_ROLES.get(purpose or "")
    if role is None:
        role = "end" if "IS_INTERNAL" in build_flags else "exit"
    return role


# --- the spans ------------------------------------------------------------------------------------------------------

BUILD_SPAN = "tor.circuit.build"
EXTEND_SPAN = "tor.circuit.extend"

# What Action.NOTE is called.
NOTES = {
    Trigger.GUARD_WAIT: "guard_wait",
    Trigger.CANNIBALIZED: "cannibalized",
    Trigger.PURPOSE_CHANGED: "purpose_changed",
    Trigger.UNKNOWN: "unknown_status",
}


SPANS = (
    SpanDescription(
        BUILD_SPAN,
        SpanKind.INTERNAL,
        "CIRC LAUNCHED; CIRC_MINOR CANNIBALIZED or our own EXTENDCIRCUIT for a circuit that was built before",
        "CIRC BUILT, FAILED or CLOSED",
        "the span of the operation that asked for the circuit (`build-circuit`, `extend-circuit`); "
        "otherwise it is a trace of its own",
    ),
    SpanDescription(
        EXTEND_SPAN,
        SpanKind.INTERNAL,
        "the EXTENDED of the hop before; for the first one, the start of the build",
        "its own EXTENDED; where it failed, CIRC FAILED",
        f"`{BUILD_SPAN}`",
    ),
)

_CANCELLING = ", ".join(f"`{reason}`" for reason in sorted(CANCELLING_REASONS))

MACHINE = Machine(
    title="Circuits",
    introduction="""\
tor writes an event when a hop is there, so a hop's span has everything in it that had to happen for it. The first hop's
has the connection to the guard (TCP, TLS) too, if there was none. A circuit that was half built when clew came has
spans for the hops that it got from then on, and says `tor.circuit.partial`.
""",
    spans=SPANS,
    remarks=f"""\
A build that ended without BUILT is an ERROR, or CANCELLED where the reason is one of {_CANCELLING}.

A slow or failed circuit:

- *Which hop?* The extend span that takes the time; `tor.hop.index` and, at the levels that allow it, the relay. A build
  that failed says `tor.circuit.failed_hop`, and that hop's span has the error.
- *How long?* The hops follow each other without gaps. Time between the last hop and the end of the build is tor's own:
  an event `guard_wait` tells that it waited for a better guard.
- *Why?* `tor.circuit.reason` is what this tor says, `tor.circuit.remote_reason` what the relay said that ended the
  circuit: the last one before the hop that failed. tor does not tell which relay it was extending to; the failed hop
  names it only where this program chose the path. An event `purpose_changed` to MEASURE_TIMEOUT tells when tor's own
  build timeout was over.

`(extend)`: this program told tor to extend the circuit.
""",
    table=TABLE,
    initial=State.UNSEEN,
    final=State.GONE,
    notes=NOTES,
    noted_on=BUILD_SPAN,
)
