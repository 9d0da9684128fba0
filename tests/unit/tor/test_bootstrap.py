"""tor's way into the network: whole traces, compared as text."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clew import NeverSample
from clew.model import Status
from clew.pretty import format_tree
from clew.testing import capture_spans
from clew.tor.bootstrap import TABLE, Action, BootstrapSpans, State
from clew.tor.events import BootstrapEvent
from clew.tor.privacy import Privacy, PrivacyFilter

MS = 1_000_000
T0 = 1_767_225_600_000_000_000


def phase(at_ms: float, progress: int, tag: str, severity: str = "NOTICE", **fields: Any) -> BootstrapEvent:
    return BootstrapEvent(T0 + round(at_ms * MS), severity, progress, tag, **fields)


WHOLE = (
    phase(0, 5, "conn", summary="Connecting to a relay"),
    phase(2, 10, "conn_done"),
    phase(40, 50, "loading_descriptors"),
    phase(60, 62, "loading_descriptors"),
    phase(90, 95, "circuit_create"),
    phase(120, 100, "done"),
)
REFUSED = {
    "summary": "Connecting to a relay",
    "warning": "Connection refused",
    "reason": "CONNECTREFUSED",
    "count": 3,
    "recommendation": "warn",
    "host": "A" * 40,
    "host_address": "192.0.2.1:9001",
}


def traced(*events: BootstrapEvent, level: Privacy = Privacy.ANONYMOUS, close: tuple[str, float] | None = None) -> str:
    """The traces of these events, as text."""
    with capture_spans("tor") as captured:
        spans = BootstrapSpans(captured.tracer, PrivacyFilter(level))
        for event in events:
            spans.handle(event)
        if close is not None:
            spans.close(close[0], T0 + round(close[1] * MS))
        return format_tree(captured.records, ids=False)


def tree(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_a_whole_bootstrap() -> None:
    """From the first event to 100 %, with an event for each phase; further progress in a phase has none."""
    assert traced(*WHOLE) == tree("""
        trace  tor  120 ms
          tor.bootstrap  120 ms
            - clew.privacy.level = "anonymous"
            - tor.bootstrap.tag = "done"
            - tor.bootstrap.progress = 100
            * phase  +0 ns
              - tor.bootstrap.tag = "conn"
              - tor.bootstrap.progress = 5
            * phase  +2.00 ms
              - tor.bootstrap.tag = "conn_done"
              - tor.bootstrap.progress = 10
            * phase  +40.0 ms
              - tor.bootstrap.tag = "loading_descriptors"
              - tor.bootstrap.progress = 50
            * phase  +90.0 ms
              - tor.bootstrap.tag = "circuit_create"
              - tor.bootstrap.progress = 95
            * phase  +120 ms
              - tor.bootstrap.tag = "done"
              - tor.bootstrap.progress = 100
        """)


def test_a_problem_on_the_way() -> None:
    """A problem is an event with all that tor says."""
    events = (WHOLE[0], phase(50, 5, "conn", "WARN", **REFUSED, extra={"TRIES": "4"}), WHOLE[-1])
    assert traced(*events, level=Privacy.LAB) == tree("""
        trace  tor  120 ms
          tor.bootstrap  120 ms
            - clew.privacy.level = "lab"
            - tor.bootstrap.tag = "done"
            - tor.bootstrap.progress = 100
            * phase  +0 ns
              - tor.bootstrap.tag = "conn"
              - tor.bootstrap.progress = 5
              - tor.bootstrap.summary = "Connecting to a relay"
            * problem  +50.0 ms
              - tor.bootstrap.tag = "conn"
              - tor.bootstrap.progress = 5
              - tor.bootstrap.summary = "Connecting to a relay"
              - tor.bootstrap.warning = "Connection refused"
              - tor.bootstrap.reason = "CONNECTREFUSED"
              - tor.bootstrap.count = 3
              - tor.bootstrap.recommendation = "warn"
              - tor.bootstrap.host = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
              - tor.bootstrap.host_address = "192.0.2.1:9001"
              - tor.bootstrap.extra.tries = "4"
            * phase  +120 ms
              - tor.bootstrap.tag = "done"
              - tor.bootstrap.progress = 100
        """)


def test_lost_on_the_way() -> None:
    """tor went away: the span says how it ended and what was in the way last; the relay only where the level allows."""
    events = (WHOLE[0], phase(50, 5, "conn", "WARN", **REFUSED))
    assert traced(*events, close=("TOR_EXITED", 70)) == tree("""
        trace  tor  70.0 ms
          tor.bootstrap  70.0 ms  ERROR: tor_exited, last problem: connectrefused
            - clew.privacy.level = "anonymous"
            - error.type = "tor_exited"
            - clew.unfinished = true
            - tor.bootstrap.reason = "CONNECTREFUSED"
            - tor.bootstrap.tag = "conn"
            - tor.bootstrap.progress = 5
            * phase  +0 ns
              - tor.bootstrap.tag = "conn"
              - tor.bootstrap.progress = 5
            * problem  +50.0 ms
              - tor.bootstrap.tag = "conn"
              - tor.bootstrap.progress = 5
              - tor.bootstrap.reason = "CONNECTREFUSED"
              - tor.bootstrap.count = 3
              - tor.bootstrap.recommendation = "warn"
        """)


def test_tracing_ended_on_the_way() -> None:
    """That is a cancellation."""
    assert "tor.bootstrap  70.0 ms  CANCELLED: detached\n" in traced(WHOLE[0], close=("DETACHED", 70))


def test_another_run_of_tor() -> None:
    """Progress that goes back is another run: the one before ends unfinished, or was done."""
    with capture_spans("tor") as captured:
        spans = BootstrapSpans(captured.tracer, PrivacyFilter())
        for event in (*WHOLE[:3], *WHOLE, *WHOLE):
            spans.handle(event)
        assert spans.counts == (3, 2, 1, 0)
        lost, *done = captured.records
    assert (lost.status_description, lost.attributes["error.type"]) == ("tor_restarted", "tor_restarted")
    assert [record.status for record in done] == [Status.UNSET] * 2


def test_after_the_end_of_tor() -> None:
    """What comes after `close` is another run, even where progress seems to go on."""
    with capture_spans("tor") as captured:
        spans = BootstrapSpans(captured.tracer, PrivacyFilter())
        spans.handle(WHOLE[0])
        spans.close("CONNECTION_LOST", T0)
        spans.handle(WHOLE[-1])
        spans.close("DETACHED", T0)
        assert (spans.counts, spans.open) == ((2, 1, 1, 0), 0)
        assert "tor.bootstrap.partial" in captured.records[1].attributes


def test_attached_in_the_middle() -> None:
    """What was not seen from its beginning says so, even where only the end was."""
    for events in (WHOLE[4:], WHOLE[-1:], (phase(0, 5, "conn", "WARN", **REFUSED), WHOLE[-1])):
        assert "    - tor.bootstrap.partial = true\n" in traced(*events)
    assert "partial" not in traced(*WHOLE)


def test_clocks_that_go_back() -> None:
    """No duration is negative."""
    with capture_spans("tor") as captured:
        spans = BootstrapSpans(captured.tracer, PrivacyFilter())
        spans.handle(phase(50, 5, "conn"))
        spans.handle(phase(10, 100, "done"))
        (record,) = captured.records
    assert record.end_time_ns == record.start_time_ns == T0 + 50 * MS


def test_a_tracer_that_records_nothing() -> None:
    """An unsampled bootstrap is counted like any other."""
    with capture_spans("tor", sampler=NeverSample()) as captured:
        spans = BootstrapSpans(captured.tracer, PrivacyFilter())
        for event in WHOLE:
            spans.handle(event)
        assert (spans.counts, spans.open, captured.records) == ((1, 1, 0, 0), 0, [])


def test_a_span_is_open_in_running_only() -> None:
    """No cell leaves a span open, ends one twice, or notes something where there is none."""
    for (state, trigger), step in TABLE.items():
        if Action.RESTART in step.actions:
            assert step == (State.UNSEEN, (Action.RESTART,), step.why)
            continue
        is_open = state is State.RUNNING
        for action in step.actions:
            assert is_open != (action in (Action.OPEN, Action.OPEN_LATE)), (state, trigger)
            is_open = action not in (Action.SUCCEED, Action.LOSE)
        assert is_open == (step.state is State.RUNNING), (state, trigger)


@given(
    st.lists(
        st.builds(
            BootstrapEvent,
            time_ns=st.integers(0, 2**62),
            severity=st.sampled_from(["NOTICE", "WARN", "ERR", "odd"]),
            progress=st.sampled_from([0, 5, 10, 50, 100, 10**17]),
            tag=st.sampled_from(["conn", "done", "", "\ud800 \0"]),
            summary=st.text(max_size=5),
            warning=st.none() | st.text(max_size=5),
            reason=st.none() | st.sampled_from(["MISC", "\ud800"]),
            count=st.none() | st.integers(0, 10**17),
            extra=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        )
    )
)
def test_any_events_in_any_order(events: list[BootstrapEvent]) -> None:
    """Nothing raises, nothing is left open, everything is counted."""
    with capture_spans("tor") as captured:
        spans = BootstrapSpans(captured.tracer, PrivacyFilter(Privacy.LAB))
        for event in events:
            spans.handle(event)
            counts = spans.counts
            assert counts.started == counts.done + counts.lost + spans.open
        spans.close("TOR_EXITED", 0)
        assert spans.open == 0
        assert len(captured.records) == spans.counts.started
