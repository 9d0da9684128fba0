"""Connections to relays: whole traces, compared as text."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import NeverSample, limits
from clew.pretty import format_tree
from clew.testing import capture_spans
from clew.tor.events import OrConnEvent
from clew.tor.orconn import STATUSES, TABLE, Action, OrConnSpans, State, Trigger
from clew.tor.privacy import Privacy, PrivacyFilter

MS = 1_000_000
T0 = 1_767_225_600_000_000_000
BARE = "$" + "A" * 40
NAMED = BARE + "~anna"


def orconn(
    at_ms: float, status: str, target: str = NAMED, connection_id: str | None = "7", **fields: Any
) -> OrConnEvent:
    return OrConnEvent(T0 + round(at_ms * MS), target, status, connection_id=connection_id, **fields)


def traced(*events: OrConnEvent, level: Privacy = Privacy.ANONYMOUS, close: tuple[str, float] | None = None) -> str:
    """The traces of these events, as text."""
    with capture_spans("tor") as captured:
        spans = OrConnSpans(captured.tracer, PrivacyFilter(level))
        for event in events:
            spans.handle(event)
        if close is not None:
            spans.close(close[0], T0 + round(close[1] * MS))
        return format_tree(captured.records, ids=False)


def tree(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_a_connection_that_is_made() -> None:
    """From LAUNCHED to CONNECTED; closing later changes nothing. The relay's name may come only with CONNECTED."""
    events = (orconn(0, "LAUNCHED", BARE), orconn(40, "CONNECTED", circuits=2), orconn(900, "CLOSED", reason="DONE"))
    assert traced(*events, level=Privacy.LAB) == tree("""
        trace  tor  40.0 ms
          tor.orconn  40.0 ms
            - clew.privacy.level = "lab"
            - tor.orconn.id = "7"
            - tor.relay.fingerprint = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            - tor.relay.nickname = "anna"
            - tor.orconn.circuits = 2
        """)
    assert traced(*events) == tree("""
        trace  tor  40.0 ms
          tor.orconn  40.0 ms
            - clew.privacy.level = "anonymous"
            - tor.orconn.circuits = 2
        """)


def test_a_connection_that_fails() -> None:
    """FAILED, with tor's reason and what it says that clew does not know."""
    events = (
        orconn(0, "LAUNCHED"),
        orconn(5, "FAILED", reason="CONNECTREFUSED", circuits=1, extra={"TRIES": "3", "word": "", "1": "x"}),
    )
    assert traced(*events, level=Privacy.LAB) == tree("""
        trace  tor  5.00 ms
          tor.orconn  5.00 ms  ERROR: connectrefused
            - clew.privacy.level = "lab"
            - tor.orconn.id = "7"
            - tor.relay.nickname = "anna"
            - tor.relay.fingerprint = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            - error.type = "connectrefused"
            - tor.orconn.reason = "CONNECTREFUSED"
            - tor.orconn.circuits = 1
            - tor.orconn.extra.tries = "3"
            - tor.orconn.extra.words = "1=x"
        """)


def test_closed_before_it_was_there() -> None:
    """CLOSED in the place of CONNECTED is a failure; without a reason it says so."""
    assert traced(orconn(0, "LAUNCHED"), orconn(5, "CLOSED")) == tree("""
        trace  tor  5.00 ms
          tor.orconn  5.00 ms  ERROR: no reason given
            - clew.privacy.level = "anonymous"
            - error.type = "failed"
        """)


def test_a_bridge() -> None:
    """Where tor knows no fingerprint yet it names an address, which tells what it tells."""
    assert traced(orconn(0, "LAUNCHED", "192.0.2.1:9001"), orconn(1, "CONNECTED"), level=Privacy.LAB) == tree("""
        trace  tor  1.00 ms
          tor.orconn  1.00 ms
            - clew.privacy.level = "lab"
            - tor.orconn.id = "7"
            - tor.orconn.address = "192.0.2.1:9001"
            - tor.relay.nickname = "anna"
            - tor.relay.fingerprint = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        """)


@pytest.mark.parametrize("status", ["NEW", "CONNECTED", "CLOSED", "SOMETHING_NEW", "(lost)"])
def test_no_span(status: str) -> None:
    """What came in, or what was there before, has no span."""
    assert traced(orconn(0, status)) == ""


def test_launched_before_we_came() -> None:
    """A failure is told, with what is known of it."""
    assert traced(orconn(0, "FAILED", reason="NOROUTE")) == tree("""
        trace  tor  0 ns
          tor.orconn  0 ns  ERROR: noroute
            - tor.orconn.partial = true
            - clew.privacy.level = "anonymous"
            - tor.orconn.reason = "NOROUTE"
            - error.type = "noroute"
        """)


def test_several_at_once_and_a_status_of_a_newer_tor() -> None:
    """Connections are told apart by their id, even to one relay; an unknown status is noted."""
    events = (
        orconn(0, "LAUNCHED", connection_id="1"),
        orconn(1, "LAUNCHED", connection_id="2"),
        orconn(2, "PAUSED", connection_id="2", reason="WHY"),
        orconn(3, "CONNECTED", connection_id="1"),
        orconn(5, "CONNECTED", connection_id="2"),
    )
    assert traced(*events) == tree("""
        trace  tor  3.00 ms
          tor.orconn  3.00 ms
            - clew.privacy.level = "anonymous"
        trace  tor  4.00 ms
          tor.orconn  4.00 ms
            - clew.privacy.level = "anonymous"
            * unknown_status  +1.00 ms
              - tor.orconn.status = "PAUSED"
              - tor.orconn.reason = "WHY"
        """)


def test_a_tor_that_gives_no_ids() -> None:
    """Then the target tells connections apart."""
    with capture_spans("tor") as captured:
        spans = OrConnSpans(captured.tracer, PrivacyFilter())
        for target in ("192.0.2.1:1", "192.0.2.1:2"):
            spans.handle(orconn(0, "LAUNCHED", target, None))
        assert spans.open == 2
        spans.handle(orconn(9, "CONNECTED", "192.0.2.1:1", None))
        spans.handle(orconn(9, "FAILED", "192.0.2.1:2", None))
        assert (spans.counts, spans.open) == ((2, 1, 1, 0, 0), 0)


@pytest.mark.parametrize(
    ("reason", "status"),
    [("CONNECTION_LOST", "ERROR: connection_lost"), ("DETACHED", "CANCELLED: detached")],
)
def test_the_end_of_everything(reason: str, status: str) -> None:
    """What is open when tor or the connection goes away ends with that reason."""
    assert traced(orconn(0, "LAUNCHED"), close=(reason, 8)) == tree(f"""
        trace  tor  8.00 ms
          tor.orconn  8.00 ms  {status}
            - clew.privacy.level = "anonymous"
            - error.type = "{reason.lower()}"
            - clew.unfinished = true
            - tor.orconn.reason = "{reason}"
        """)


@pytest.mark.parametrize("status", ["LAUNCHED", "NEW"])
def test_another_run_of_tor(status: str) -> None:
    """An id that begins anew belongs to another run: the connection before is lost."""
    with capture_spans("tor") as captured:
        spans = OrConnSpans(captured.tracer, PrivacyFilter())
        spans.handle(orconn(0, "LAUNCHED"))
        spans.handle(orconn(5, status))
        assert spans.open == (status == "LAUNCHED")
        (record,) = captured.records
    assert (record.status_description, record.attributes["error.type"]) == ("tor_restarted", "tor_restarted")


def test_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is ended and counted."""
    monkeypatch.setattr(limits, "OR_CONNECTIONS_OPEN", 3)
    with capture_spans("tor") as captured:
        spans = OrConnSpans(captured.tracer, PrivacyFilter())
        for number in range(5):
            spans.handle(orconn(number, "LAUNCHED", connection_id=str(number)))
        assert (spans.open, spans.evicted, spans.counts) == (3, 2, (5, 0, 0, 2, 2))
        assert [record.attributes["error.type"] for record in captured.records] == ["evicted"] * 2


def test_clocks_that_go_back() -> None:
    """No duration is negative."""
    assert traced(orconn(50, "LAUNCHED"), orconn(10, "CONNECTED")).startswith("trace  tor  0 ns\n")


def test_a_tracer_that_records_nothing() -> None:
    """An unsampled connection is counted like any other."""
    with capture_spans("tor", sampler=NeverSample()) as captured:
        spans = OrConnSpans(captured.tracer, PrivacyFilter())
        spans.handle(orconn(0, "LAUNCHED"))
        spans.handle(orconn(1, "FAILED"))
        assert (spans.counts, captured.records) == ((1, 0, 1, 0, 0), [])


def test_a_span_is_open_in_connecting_only() -> None:
    """No cell leaves a span open, ends one twice, or notes something where there is none."""
    for (state, trigger), step in TABLE.items():
        if Action.RESTART in step.actions:
            assert step == (State.UNSEEN, (Action.RESTART,), step.why)
            continue
        is_open = state is State.CONNECTING
        for action in step.actions:
            assert is_open != (action in (Action.OPEN, Action.OPEN_LATE)), (state, trigger)
            is_open = action in (Action.OPEN, Action.OPEN_LATE, Action.NOTE)
        assert is_open == (step.state is State.CONNECTING), (state, trigger)


@given(
    st.lists(
        st.builds(
            OrConnEvent,
            time_ns=st.integers(0, 2**62),
            target=st.sampled_from([NAMED, BARE, "192.0.2.1:1", "", "\ud800"]),
            status=st.sampled_from([*STATUSES, Trigger.UNKNOWN, Trigger.LOST, "odd"]),
            reason=st.none() | st.sampled_from(["DONE", "\ud800", ""]),
            circuits=st.none() | st.integers(0, 10**17),
            connection_id=st.sampled_from([None, "1", "2"]),
            extra=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        )
    )
)
def test_any_events_in_any_order(events: list[OrConnEvent]) -> None:
    """Nothing raises, nothing is left open, everything is counted."""
    with capture_spans("tor") as captured:
        spans = OrConnSpans(captured.tracer, PrivacyFilter(Privacy.LAB))
        for event in events:
            spans.handle(event)
            counts = spans.counts
            assert counts.launched == counts.connected + counts.failed + counts.lost + spans.open
        spans.close("TOR_EXITED", 0)
        assert spans.open == 0
        assert len(captured.records) == spans.counts.launched
