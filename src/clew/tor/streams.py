"""The life of a stream, as one table: (state, what happened) -> next state and what to do with spans.

A stream waits for a circuit (attach), then for the destination at the circuit's end (connect), then carries bytes
(transfer). `stream_spans.py` carries the actions out; neither reads a clock nor touches a socket.

Source: control-spec 4.1.2 (STREAM).
"""

from __future__ import annotations

from enum import StrEnum

from clew import limits
from clew.model import SpanKind, Status
from clew.tor.machines import Machine, SpanDescription, Transition

__all__ = [
    "ATTACH_SPAN",
    "CONNECT_SPAN",
    "MACHINE",
    "NOTES",
    "RESOLVE_SPAN",
    "SPANS",
    "STATUSES",
    "STREAM_SPAN",
    "TABLE",
    "TRANSFER_SPAN",
    "Action",
    "State",
    "Trigger",
    "cause_of",
    "status_of",
]


class State(StrEnum):
    """Where a stream is. The values are what the documentation shows."""

    UNSEEN = "unseen"  # no event of it so far
    WAITING = "waiting"  # for a circuit
    CONNECTING = "connecting"  # the circuit's last relay was told to connect
    RESOLVING = "resolving"  # the circuit's last relay was told to look a name up
    OPEN = "open"  # it is connected
    ANSWERED = "answered"  # the name was looked up
    FAILED = "failed"  # CLOSED follows
    GONE = "gone"  # forgotten


class Trigger(StrEnum):
    """What can happen to a stream. The upper-case ones are tor's own words."""

    NEW = "NEW"
    NEWRESOLVE = "NEWRESOLVE"
    SENTCONNECT = "SENTCONNECT"
    SENTRESOLVE = "SENTRESOLVE"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CLOSED = "CLOSED"
    DETACHED = "DETACHED"
    REMAP = "REMAP"
    CONTROLLER_WAIT = "CONTROLLER_WAIT"
    XOFF_SENT = "XOFF_SENT"
    XOFF_RECV = "XOFF_RECV"
    XON_SENT = "XON_SENT"
    XON_RECV = "XON_RECV"
    # Ours: none of them is what tor sends, whatever it sends.
    UNKNOWN = "(unknown)"  # a status that is not listed above
    LOST = "(lost)"  # tor or the connection went away, we detached, or the stream was evicted


# The words that tor may send.
STATUSES = {trigger.value: trigger for trigger in Trigger if trigger not in (Trigger.UNKNOWN, Trigger.LOST)}


class Action(StrEnum):
    """What is done with spans, in the order of a transition's tuple. The values are what the documentation shows."""

    OPEN = "the stream's span begins, and the attach span"
    OPEN_LATE = "the stream's span begins here, marked `tor.stream.partial`: its real start was not seen"
    ATTACH = "the attach span ends, the connect span begins (the resolve span where a name is looked up)"
    DETACH = "the span in progress ends with tor's reason; event `detached`; an attach span begins"
    CONNECT = "the connect span ends, the transfer span begins"
    ANSWER = "the span in progress ends"
    FAIL = "the span in progress ends with tor's reason"
    END = "the span in progress and the stream's span end; without FAILED before, tor's reason says how"
    LOSE = "all end with the reason of the loss, or of FAILED before, marked `clew.unfinished`"
    RESTART = "what was known is (lost), reason TOR_RESTARTED; then the event is taken as that of an unseen stream"
    NOTE = "an event on the stream's span"


_S, _T, _A = State, Trigger, Action

# What changes nothing but is worth an event, whatever the state.
_NOTED = (_T.REMAP, _T.CONTROLLER_WAIT, _T.XOFF_SENT, _T.XOFF_RECV, _T.XON_SENT, _T.XON_RECV, _T.UNKNOWN)
_BEGINS = (_T.NEW, _T.NEWRESOLVE)
_SENT = {_T.SENTCONNECT: _S.CONNECTING, _T.SENTRESOLVE: _S.RESOLVING}
_PROGRESS = {_S.CONNECTING: (_S.OPEN, _A.CONNECT), _S.RESOLVING: (_S.ANSWERED, _A.ANSWER)}
_KNOWN = (_S.WAITING, _S.CONNECTING, _S.RESOLVING, _S.OPEN, _S.ANSWERED, _S.FAILED)
_ANOTHER_RUN = Transition(_S.UNSEEN, (_A.RESTART,), "ids are unique within one run of tor: this is another run")
_LATE = "we came in the middle"

# fmt: off
TABLE: dict[tuple[State, Trigger], Transition[State, Action]] = {
    # --- nothing is known of the stream --------------------------------------------------------------------------
    **{(_S.UNSEEN, begin): Transition(_S.WAITING, (_A.OPEN,)) for begin in _BEGINS},
    **{(_S.UNSEEN, sent): Transition(state, (_A.OPEN_LATE, _A.ATTACH), _LATE + ": there is no attach span")
        for sent, state in _SENT.items()},
    (_S.UNSEEN, _T.SUCCEEDED): Transition(_S.OPEN, (_A.OPEN_LATE, _A.CONNECT), _LATE),
    (_S.UNSEEN, _T.DETACHED): Transition(_S.WAITING, (_A.OPEN_LATE, _A.NOTE), _LATE),
    (_S.UNSEEN, _T.FAILED): Transition(_S.FAILED, (_A.OPEN_LATE, _A.FAIL), _LATE),
    (_S.UNSEEN, _T.CLOSED): Transition(_S.GONE, (), "it began before we came"),
    (_S.UNSEEN, _T.LOST): Transition(_S.GONE),
    **{(_S.UNSEEN, noted): Transition(_S.UNSEEN) for noted in _NOTED},
    # --- it waits for a circuit ----------------------------------------------------------------------------------
    **{(_S.WAITING, sent): Transition(state, (_A.ATTACH,)) for sent, state in _SENT.items()},
    (_S.WAITING, _T.SUCCEEDED): Transition(_S.ANSWERED, (_A.ANSWER,), "answered by tor itself, from its cache"),
    (_S.WAITING, _T.DETACHED): Transition(_S.WAITING, (_A.NOTE,)),
    # --- the destination is being connected to, or looked up -----------------------------------------------------
    **{(now, sent): Transition(state, (_A.DETACH, _A.ATTACH), "a DETACHED was not seen")
        for now in _PROGRESS for sent, state in _SENT.items()},
    **{(now, _T.SUCCEEDED): Transition(state, (action,)) for now, (state, action) in _PROGRESS.items()},
    **{(now, _T.DETACHED): Transition(_S.WAITING, (_A.DETACH,), "tor tries again, perhaps with another circuit")
        for now in _PROGRESS},
    # --- it is connected, or answered, or has failed: what belongs to the way there comes too late ----------------
    **{(now, late): Transition(now, (_A.NOTE,))
        for now in (_S.OPEN, _S.ANSWERED, _S.FAILED) for late in (*_SENT, _T.SUCCEEDED, _T.DETACHED)},
    # --- the same in all of them ---------------------------------------------------------------------------------
    **{(now, _T.FAILED): Transition(_S.FAILED, (_A.FAIL,)) for now in _KNOWN if now is not _S.FAILED},
    (_S.FAILED, _T.FAILED): Transition(_S.FAILED),
    **{(now, _T.CLOSED): Transition(_S.GONE, (_A.END,)) for now in _KNOWN},
    **{(now, begin): _ANOTHER_RUN for now in _KNOWN for begin in _BEGINS},
    **{(now, noted): Transition(now, (_A.NOTE,)) for now in _KNOWN for noted in _NOTED},
    **{(now, _T.LOST): Transition(_S.GONE, (_A.LOSE,)) for now in _KNOWN},
}
# fmt: on


# --- what an end means ----------------------------------------------------------------------------------------------

# Somebody did not want the stream any more; ours: DETACHED (tracing was ended), EVICTED (too many open).
_CANCELLING_REASONS = frozenset({"DONE", "DETACHED", "EVICTED"})


def cause_of(reason: str | None, remote_reason: str | None) -> str | None:
    """What tor gave as the reason. END is none: it stands for what the other end of the circuit said."""
    return remote_reason if reason == "END" and remote_reason is not None else reason


def status_of(state: State, cause: str | None) -> Status:
    """The status of a stream that is closed in this state, and of what was in progress.

    An open one that is done has ended well, whoever ended it; one that was not connected yet was given up.
    """
    if state in (State.OPEN, State.ANSWERED) and cause in ("DONE", None):
        return Status.UNSET
    return Status.CANCELLED if cause in _CANCELLING_REASONS else Status.ERROR


# --- the spans ------------------------------------------------------------------------------------------------------

STREAM_SPAN = "tor.stream"
ATTACH_SPAN = "tor.stream.attach"
CONNECT_SPAN = "tor.stream.connect"
RESOLVE_SPAN = "tor.stream.resolve"
TRANSFER_SPAN = "tor.stream.transfer"

# What Action.NOTE is called.
NOTES = {
    Trigger.REMAP: "remap",
    Trigger.CONTROLLER_WAIT: "controller_wait",
    Trigger.XOFF_SENT: "xoff_sent",
    Trigger.XOFF_RECV: "xoff_received",
    Trigger.XON_SENT: "xon_sent",
    Trigger.XON_RECV: "xon_received",
    Trigger.DETACHED: "detached",
    Trigger.SENTCONNECT: "connect_sent",
    Trigger.SENTRESOLVE: "resolve_sent",
    Trigger.SUCCEEDED: "succeeded",
    Trigger.UNKNOWN: "unknown_status",
}

SPANS = (
    SpanDescription(
        STREAM_SPAN,
        SpanKind.CLIENT,
        "STREAM NEW or NEWRESOLVE",
        "STREAM CLOSED",
        "the application's span that opened the connection to tor, if it is known; of tor's own directory streams "
        "(INTERNAL) the onion-service span that they serve; otherwise it is a trace of its own",
    ),
    SpanDescription(
        ATTACH_SPAN,
        SpanKind.INTERNAL,
        "NEW; after a retry, DETACHED",
        "SENTCONNECT or SENTRESOLVE, the end of the stream",
        f"`{STREAM_SPAN}`. Below it: circuits that were built while it waited, and `tor.hs.connect`",
    ),
    SpanDescription(
        CONNECT_SPAN, SpanKind.INTERNAL, "SENTCONNECT", "SUCCEEDED; DETACHED, FAILED or CLOSED", f"`{STREAM_SPAN}`"
    ),
    SpanDescription(
        RESOLVE_SPAN, SpanKind.INTERNAL, "SENTRESOLVE", "SUCCEEDED; DETACHED, FAILED or CLOSED", f"`{STREAM_SPAN}`"
    ),
    SpanDescription(TRANSFER_SPAN, SpanKind.INTERNAL, "SUCCEEDED", "FAILED or CLOSED", f"`{STREAM_SPAN}`"),
)

MACHINE = Machine(
    title="Streams",
    introduction="""\
A stream waits for a circuit, then for the destination, then carries bytes; each is a span of its own, so that they add
up to the stream. A user's streams are of kind CLIENT; tor's own, which fetch and publish directories, are INTERNAL, and
`tor.stream.purpose` tells what they are for.
""",
    spans=SPANS,
    remarks=f"""\
`error.type` is tor's REASON in lower case, or REMOTE_REASON where REASON is END: what the other end of the circuit
said. A stream that was open and is DONE has ended well, whoever ended it. Otherwise a stream that ended is an ERROR, or
CANCELLED where the program gave it up ({", ".join(f"`{reason}`" for reason in sorted(_CANCELLING_REASONS))}).

A stream and its circuit:

- A circuit that was built while the stream waited for one, and that it then took, lies below the attach span
  (`tor.circuit.build`); it may have been begun before the stream came. So do both legs of a conflux set.
- A circuit that was there already is linked from the stream's span, which has `tor.circuit.age_ms` (since it was
  built) and `tor.circuit.reused` (whether another stream had used it before). One from before clew came has no span
  that could be linked; its age counts from when it was made.
- A circuit that failed while the stream waited, of a kind that the stream can use, is an event `circuit_failed` on the
  attach span, with a link: tor does not say for which stream it was. The first {limits.CIRCUITS_FAILED_TOLD} are
  told of, all are counted in `tor.stream.circuits_failed`.
- A stream whose circuit is closed under it ends with DESTROY, which tells little: why the circuit was closed is in an
  event `circuit_closed` on the stream's span. One on a conflux set lives as long as one of its legs does; of those, the
  first to be closed tells why.
- `misc` is also what an exit of tor 0.4.9 says of a destination that refused the connection.
- `first_byte` is an event on the stream's span where clew saw, in the program, the destination's first byte arrive.
- Bytes are counted from STREAM_BW; those of the SOCKS handshake with the program are among them.
""",
    table=TABLE,
    initial=State.UNSEEN,
    final=State.GONE,
    notes=NOTES,
    noted_on=STREAM_SPAN,
)
