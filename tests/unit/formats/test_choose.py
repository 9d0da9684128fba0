"""clew.formats.choose: the right traces, whatever the order of the spans, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.formats import choose
from clew.formats.choose import Chooser, Gatherer, Query
from clew.formats.reading import Glance
from clew.model import SpanRecord, Status


def glance(trace_id: str, start: int = 0, end: int = 0, name: str = "x", *, is_error: bool = False) -> Glance:
    return Glance(trace_id, name, start, end, is_error)


def chosen(query: Query, *glances: Glance) -> list[str]:
    chooser = Chooser(query)
    chooser.add(list(glances))
    return chooser.trace_ids


def test_the_newest() -> None:
    """Without --slowest, traces count by their latest span, in whatever order spans come."""
    spans = [glance("a", 0, 9), glance("b", 0, 2), glance("c", 0, 5), glance("b", 0, 7)]
    assert chosen(Query(limit=2), *spans) == ["a", "b"]


def test_the_slowest() -> None:
    """With --slowest, traces count by their longest span."""
    spans = [glance("a", 90, 99), glance("b", 0, 50), glance("c", 3, 5), glance("c", 3, 40)]
    assert chosen(Query(slowest=True, limit=2), *spans) == ["b", "c"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(errors_only=True), ["b"]),
        (Query(name="connect"), ["a"]),
        (Query(name="tor.*"), ["c"]),
        (Query(name="[ct]o?nect"), ["a"]),
        (Query(name="*.circuit"), ["c"]),
        (Query(since_ns=30), ["c"]),
        (Query(trace_ids=("a", "c")), ["c", "a"]),
        (Query(name="connect", errors_only=True), []),
        (Query(since_ns=20, errors_only=True), ["b"]),
    ],
)
def test_what_a_span_must_be(query: Query, found: list[str]) -> None:
    """A trace is found by one span that is all that was asked for."""
    spans = [
        glance("a", 0, 10, "connect"),
        glance("b", 0, 20, "send", is_error=True),
        glance("c", 0, 30, "tor.circuit"),
    ]
    assert chosen(query, *spans) == found


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9), st.integers(0, 9)), max_size=60),
    st.integers(1, 5),
    st.booleans(),
)
def test_as_if_all_had_been_kept(spans: list[tuple[str, int, int]], limit: int, slowest: bool) -> None:
    """Keeping the best traces only gives the same ranks as sorting all of them would."""
    glances = [glance(trace_id, start, start + length) for trace_id, start, length in spans]
    ranks: dict[str, int] = {}
    for trace_id, start, end in ((item.trace_id, item.start_time_ns, item.end_time_ns) for item in glances):
        ranks[trace_id] = max(ranks.get(trace_id, 0), end - start if slowest else end)
    best = chosen(Query(limit=limit, slowest=slowest), *glances)
    assert [ranks[trace_id] for trace_id in best] == sorted(ranks.values(), reverse=True)[:limit]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 traces, only as many are kept as are shown; they are counted as far as the limit."""
    monkeypatch.setattr(choose, "TRACES_COUNTED", 100)
    chooser = Chooser(Query(limit=7))
    for number in range(20_000):
        chooser.add([glance(f"{number:032x}", number, number + 1)])
    assert chooser.trace_ids == [f"{number:032x}" for number in range(19_999, 19_992, -1)]
    assert len(chooser._best) == len(chooser._heap) == 7
    assert chooser.matching == 100
    assert chooser.span_count == 20_000


def record(
    span_id: str, duration: int, status: Status = Status.UNSET, trace_id: str = "a", parent_id: str = "r"
) -> SpanRecord:
    return SpanRecord(trace_id, span_id, parent_id, "x", start_time_ns=100, end_time_ns=100 + duration, status=status)


def test_gathering_keeps_the_telling_spans() -> None:
    """Of too many spans, roots, errors and the longest are kept, in their order; all are counted."""
    gatherer = Gatherer(["a"], 4)
    gatherer.add([record("1", 5), record("2", 1, Status.ERROR), record("3", 4), record("4", 9), record("5", 3)])
    gatherer.add([record("6", 99, trace_id="b"), record("7", 2, Status.CANCELLED), record("r", 1, parent_id="")])
    trace = gatherer.traces["a"]
    assert [kept.span_id for kept in trace.records] == ["1", "2", "4", "r"]
    assert (trace.span_count, trace.error_count, trace.cancelled_count) == (7, 1, 1)
    assert (trace.start_time_ns, trace.end_time_ns) == (100, 109)
    assert list(gatherer.traces) == ["a"]
