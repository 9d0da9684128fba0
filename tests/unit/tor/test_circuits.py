"""The table of circuits: complete, consistent, and what its documentation says."""

from __future__ import annotations

import pytest

from clew.model import Status
from clew.tor.circuits import CHANGES, NOTES, STATUSES, TABLE, Action, State, Trigger, role_of, status_of

OPENS = {Action.OPEN, Action.OPEN_LATE, Action.REOPEN}
ENDS = {Action.SUCCEED, Action.FAIL, Action.LOSE}
NEEDS_OPEN = {Action.HOP, Action.HOP_FAIL, Action.NOTE} | ENDS
STATES = [state for state in State if state is not State.GONE]


def test_no_cell_leaves_a_span_open_or_ends_it_twice() -> None:
    """A build span is open in BUILDING and WAITING and nowhere else, whatever happens."""
    for (state, trigger), step in TABLE.items():
        if Action.RESTART in step.actions:
            assert (step.state, step.actions) == (State.UNSEEN, (Action.RESTART,)), (state, trigger)
            continue
        is_open = state in (State.BUILDING, State.WAITING)
        for action in step.actions:
            assert is_open != (action in OPENS), (state, trigger, action)
            assert is_open or action not in NEEDS_OPEN, (state, trigger, action)
            is_open = action not in ENDS
        assert is_open == (step.state in (State.BUILDING, State.WAITING)), (state, trigger)


def test_a_loss_ends_everything() -> None:
    """When tor goes away, no circuit stays."""
    assert {TABLE[state, Trigger.LOST].state for state in STATES} == {State.GONE}


def test_our_own_triggers_cannot_be_sent_by_tor() -> None:
    """tor's words are looked up among tor's words: a status "(lost)" from the wire is an unknown one."""
    theirs = set(STATUSES.values()) | set(CHANGES.values())
    assert set(Trigger) - theirs == {Trigger.UNKNOWN, Trigger.EXTEND, Trigger.LOST}


def test_every_note_has_a_name() -> None:
    """Whatever is noted on a span has a name for it."""
    noted = {trigger for (_, trigger), step in TABLE.items() if Action.NOTE in step.actions}
    assert noted == set(NOTES)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("TIMEOUT", Status.ERROR),
        ("DESTROYED", Status.ERROR),
        ("SOMETHING_NEW", Status.ERROR),
        ("CONNECTION_LOST", Status.ERROR),
        (None, Status.ERROR),
        ("REQUESTED", Status.CANCELLED),
        ("FINISHED", Status.CANCELLED),
        ("DETACHED", Status.CANCELLED),
    ],
)
def test_status_of_an_end(reason: str | None, status: Status) -> None:
    """What somebody asked for is a cancellation; the rest, known or not, is an error."""
    assert status_of(reason) is status


@pytest.mark.parametrize(
    ("index", "last", "purpose", "flags", "role"),
    [
        (1, False, "GENERAL", (), "guard"),
        (1, True, "GENERAL", ("ONEHOP_TUNNEL", "IS_INTERNAL"), "directory"),
        (2, False, "GENERAL", (), "middle"),
        (2, None, "GENERAL", (), None),
        (3, True, "GENERAL", ("NEED_CAPACITY",), "exit"),
        (3, True, "HS_VANGUARDS", ("IS_INTERNAL",), "end"),
        (3, True, None, (), "exit"),
        (4, True, "HS_CLIENT_INTRO", ("IS_INTERNAL",), "introduction"),
        (3, True, "HS_CLIENT_REND", ("IS_INTERNAL",), "rendezvous"),
        (3, False, "HS_CLIENT_REND", ("IS_INTERNAL",), "middle"),
    ],
)
def test_role(index: int, last: bool | None, purpose: str | None, flags: tuple[str, ...], role: str | None) -> None:
    """A hop's role follows from where it stands and what the circuit is for; what cannot be told is not told."""
    assert role_of(index, last, purpose, flags) == role
