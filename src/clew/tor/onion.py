"""What tor says of onion services, as tables: which phase a word belongs to, and the life of a phase.

A connection to an onion service is made of phases that overlap: the descriptor is fetched, a rendezvous point is
established while an introduction point is reached, then both ends meet. So the table is that of one phase, and the
words of tor say which phase they are about. `onion_mapper.py` carries the actions out.

Source: control-spec 4.1.1 and 4.1.19 (PURPOSE, HS_STATE), 4.1.25 (HS_DESC); rend-spec-v3.
"""

from __future__ import annotations

from enum import StrEnum

from clew.model import SpanKind
from clew.tor.machines import Machine, SpanDescription, Transition

__all__ = [
    "CLIENT_PHASES",
    "CONNECT_SPAN",
    "DESCRIPTOR_ACTIONS",
    "HS_STATES",
    "MACHINE",
    "NOTES",
    "PHASES_OF_PURPOSES",
    "SPANS",
    "TABLE",
    "Action",
    "Phase",
    "State",
    "Trigger",
]


class Phase(StrEnum):
    """The phases. The values are the names of their spans."""

    # of the client
    FETCH = "tor.hs.connect.descriptor.fetch"
    ESTABLISH = "tor.hs.connect.rendezvous.establish"
    INTRODUCE = "tor.hs.connect.introduce"
    JOIN = "tor.hs.connect.rendezvous.join"
    # of the service
    PUBLISH = "tor.hs.publish"
    INTRO_ESTABLISH = "tor.hs.intro.establish"
    RENDEZVOUS = "tor.hs.rendezvous"


CLIENT_PHASES = frozenset({Phase.FETCH, Phase.ESTABLISH, Phase.INTRODUCE, Phase.JOIN})


class State(StrEnum):
    """Where a phase is. The values are what the documentation shows."""

    IDLE = "idle"  # it has not begun, or has ended
    OPEN = "open"


class Trigger(StrEnum):
    """What can happen to a phase. All are clew's own; tor's words for them are in the tables below."""

    BEGIN = "(begin)"
    SUCCEED = "(succeed)"
    FAIL = "(fail)"
    GIVE_UP = "(give up)"  # tor uses the circuit for something else, or closed it without a fault
    NOTE = "(note)"
    LOST = "(lost)"


class Action(StrEnum):
    """What is done with spans. The values are what the documentation shows."""

    OPEN = "the phase's span begins"
    END = "it ends"
    FAIL = "it ends with tor's reason"
    CANCEL = "it ends, CANCELLED"
    LOSE = "it ends with the reason of the loss, marked `clew.unfinished`"
    NOTE = "an event on it"


_S, _T, _A = State, Trigger, Action

TABLE: dict[tuple[State, Trigger], Transition[State, Action]] = {
    (_S.IDLE, _T.BEGIN): Transition(_S.OPEN, (_A.OPEN,), "a retry has a span of its own"),
    (_S.IDLE, _T.SUCCEED): Transition(_S.IDLE, (), "its beginning was not seen"),
    (_S.IDLE, _T.FAIL): Transition(_S.IDLE),
    (_S.IDLE, _T.GIVE_UP): Transition(_S.IDLE),
    (_S.IDLE, _T.NOTE): Transition(_S.IDLE),
    (_S.IDLE, _T.LOST): Transition(_S.IDLE),
    (_S.OPEN, _T.BEGIN): Transition(_S.OPEN, (), "it goes on"),
    (_S.OPEN, _T.SUCCEED): Transition(_S.IDLE, (_A.END,)),
    (_S.OPEN, _T.FAIL): Transition(_S.IDLE, (_A.FAIL,)),
    (_S.OPEN, _T.GIVE_UP): Transition(_S.IDLE, (_A.CANCEL,)),
    (_S.OPEN, _T.NOTE): Transition(_S.OPEN, (_A.NOTE,)),
    (_S.OPEN, _T.LOST): Transition(_S.IDLE, (_A.LOSE,)),
}

# --- tor's words ----------------------------------------------------------------------------------------------------

# A circuit that gets one of these purposes begins the first phase; one that gets another purpose gives them up.
PHASES_OF_PURPOSES: dict[str, tuple[Phase, ...]] = {
    "HS_CLIENT_REND": (Phase.ESTABLISH, Phase.JOIN),
    "HS_CLIENT_INTRO": (Phase.INTRODUCE,),
    "HS_SERVICE_INTRO": (Phase.INTRO_ESTABLISH,),
    "HS_SERVICE_REND": (Phase.RENDEZVOUS,),
}

# HS_STATE of a circuit.
HS_STATES: dict[str, tuple[tuple[Phase, Trigger], ...]] = {
    "HSCR_ESTABLISHED_IDLE": ((Phase.ESTABLISH, _T.SUCCEED),),
    "HSCR_ESTABLISHED_WAITING": ((Phase.ESTABLISH, _T.SUCCEED), (Phase.JOIN, _T.BEGIN)),
    "HSCR_JOINED": ((Phase.ESTABLISH, _T.SUCCEED), (Phase.JOIN, _T.SUCCEED)),
    "HSCI_INTRO_SENT": ((Phase.INTRODUCE, _T.NOTE),),
    "HSCI_DONE": ((Phase.INTRODUCE, _T.SUCCEED),),
    "HSSI_ESTABLISHED": ((Phase.INTRO_ESTABLISH, _T.SUCCEED),),
    "HSSR_JOINED": ((Phase.RENDEZVOUS, _T.SUCCEED),),
}

# Action of HS_DESC. FAILED is of an upload where one to that directory is under way.
DESCRIPTOR_ACTIONS: dict[str, tuple[Phase, Trigger]] = {
    "REQUESTED": (Phase.FETCH, _T.BEGIN),
    "RECEIVED": (Phase.FETCH, _T.SUCCEED),
    "IGNORE": (Phase.FETCH, _T.NOTE),
    "FAILED": (Phase.FETCH, _T.FAIL),
    "UPLOAD": (Phase.PUBLISH, _T.BEGIN),
    "UPLOADED": (Phase.PUBLISH, _T.SUCCEED),
}

# --- the spans ------------------------------------------------------------------------------------------------------

CONNECT_SPAN = "tor.hs.connect"
# What Action.NOTE is called.
NOTES = {Trigger.NOTE: "introduce_sent"}

_OF_CONNECT = f"`{CONNECT_SPAN}`; without a stream that waits for it, a trace of its own"
_OWN_TRACE = "a trace of its own"

SPANS = (
    SpanDescription(
        CONNECT_SPAN,
        SpanKind.INTERNAL,
        "NEW of the stream to the onion service (DETACHED on a retry), if tor then does any of the phases for it",
        "SENTCONNECT of that stream; its FAILED or CLOSED",
        "`tor.stream.attach` of the stream whose rendezvous it is; others that took the same one have a link to it",
    ),
    SpanDescription(
        Phase.FETCH, SpanKind.INTERNAL, "HS_DESC REQUESTED", "HS_DESC RECEIVED or FAILED of that directory", _OF_CONNECT
    ),
    SpanDescription(
        Phase.ESTABLISH,
        SpanKind.INTERNAL,
        "a circuit gets the purpose HS_CLIENT_REND",
        "its HS_STATE HSCR_ESTABLISHED_IDLE",
        _OF_CONNECT,
    ),
    SpanDescription(
        Phase.INTRODUCE,
        SpanKind.INTERNAL,
        "a circuit gets the purpose HS_CLIENT_INTRO",
        "its HS_STATE HSCI_DONE: the introduction point has passed it on",
        _OF_CONNECT,
    ),
    SpanDescription(
        Phase.JOIN, SpanKind.INTERNAL, "HS_STATE HSCR_ESTABLISHED_WAITING", "HS_STATE HSCR_JOINED", _OF_CONNECT
    ),
    SpanDescription(
        Phase.PUBLISH,
        SpanKind.INTERNAL,
        "the first HS_DESC UPLOAD of a descriptor",
        "UPLOADED or FAILED for all its directories; it is an error if none took it",
        _OWN_TRACE,
    ),
    SpanDescription(
        Phase.INTRO_ESTABLISH,
        SpanKind.INTERNAL,
        "a circuit gets the purpose HS_SERVICE_INTRO",
        "its HS_STATE HSSI_ESTABLISHED",
        _OWN_TRACE,
    ),
    SpanDescription(
        Phase.RENDEZVOUS,
        SpanKind.INTERNAL,
        "a circuit gets the purpose HS_SERVICE_REND",
        "its HS_STATE HSSR_JOINED",
        _OWN_TRACE,
    ),
)

MACHINE = Machine(
    title="Onion services",
    introduction="""\
The phases of a connection overlap, so each has its own state; the table is that of one phase. The circuits that a phase
uses lie below it (`tor.circuit.build`), and so does the stream to a directory (`tor.stream`). What a phase waits for
and has no span is tor's own work, or a circuit that was there already.
""",
    spans=SPANS,
    remarks=f"""\
A phase also ends when its circuit does: with tor's reason, or CANCELLED where nothing went wrong. A circuit that is
used for something else gives its phase up: a service opens more circuits to introduction points than it needs.

Where several streams wait for one service, tor makes a rendezvous for all of them, or for each one if they must not
share circuits (they have different SOCKS credentials, say). A phase is that of the stream that takes the rendezvous
circuit it led to; the descriptor, and what tor tells of no stream (a phase that failed), is that of the one that waits
longest. A phase may end after its connection: what tor began for a stream that has failed or was given up may go on,
and an introduction may be acknowledged when the service has already come to the rendezvous.

HS_STATE: {"; ".join(f"`{word}`: " + ", ".join(f"`{p}` {t}" for p, t in steps) for word, steps in HS_STATES.items())}.
""",
    table=TABLE,
    initial=State.IDLE,
    notes=NOTES,
    noted_on=Phase.INTRODUCE,
)
