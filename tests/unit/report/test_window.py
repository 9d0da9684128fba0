"""clew.report.window: traces out of spans that come in any order, with bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clew.model import SpanRecord
from clew.report.window import side_by_side, traces


def span(trace: str, number: int, end_ns: int = 0) -> SpanRecord:
    return SpanRecord(trace, f"{number:016x}", "", "span", end_time_ns=end_ns)


def names(spans: list[SpanRecord]) -> str:
    return "".join(record.trace_id for record in spans)


def test_traces_are_put_together() -> None:
    """However their spans are mixed, if there is room for all; the one that got no span for longest comes first."""
    blocks = [[span(trace, number) for number, trace in enumerate("abca")], [span("b", 9)]]
    assert list(map(names, traces(blocks))) == ["c", "aa", "bb"]


def test_room_is_made() -> None:
    """What waited longest goes when there is no more room, and comes again with what follows of it."""
    blocks = [[span(trace, number)] for number, trace in enumerate("abbca")]
    assert list(map(names, traces(blocks, max_spans=3))) == ["a", "bb", "c", "a"]


def test_one_trace_that_is_too_long() -> None:
    """It is taken in parts."""
    blocks = [[span("a", number) for number in range(5)] for _ in range(3)]
    assert list(map(names, traces(blocks, max_spans=7))) == ["a" * 10, "a" * 5]


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=20), st.integers(1, 10))
def test_nothing_is_lost(blocks: list[list[str]], max_spans: int) -> None:
    """Each span comes once, with others of its trace, in the order in which they came."""
    numbers = iter(range(10_000))
    spans = [[span(trace, next(numbers)) for trace in block] for block in blocks]
    taken = list(traces(spans, max_spans))
    assert all(len({record.trace_id for record in each}) == 1 for each in taken)
    for trace in "abcdef":
        expected = [record for block in spans for record in block if record.trace_id == trace]
        assert [record for each in taken for record in each if record.trace_id == trace] == expected


def test_files_are_read_side_by_side() -> None:
    """The file that lags behind in time is read on, so that a trace in two files is near itself."""
    first = iter([[span("a", 0, 10)], [span("a", 1, 50)], [span("a", 2, 60)]])
    second = iter([[span("b", 0, 20)], [span("b", 1, 30)], [], [span("b", 2, 90)]])
    ends = [[record.end_time_ns for record in block] for block in side_by_side([first, second])]
    assert ends == [[10], [20], [50], [30], [], [90], [60]]
