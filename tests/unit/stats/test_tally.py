"""clew.stats: the numbers are those of a naive computation, within bounded memory."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from clew.formats import Gatherer, Glance, Query
from clew.model import Resource, SpanRecord, Status
from clew.stats import NameFigures, Statistics, Tally, slow_trace
from clew.stats import tally as module
from clew.stats.as_json import to_json

if TYPE_CHECKING:
    import pytest

BASE = 1_790_000_000_000_000_000

GLANCES = st.builds(
    lambda trace, name, start, length, status, service: Glance(
        f"{trace:032x}",
        name,
        BASE + start,
        BASE + start + length,
        status == "error",
        status == "cancelled",
        service,
    ),
    st.integers(1, 9),
    st.sampled_from(["connect", "send", "GET /", "\x1b[31m", ""]),
    st.integers(0, 10**10),
    st.integers(0, 10**7),
    st.sampled_from(["ok", "ok", "error", "cancelled"]),
    st.sampled_from(["shop", "db"]),
)


def counted(*blocks: list[Glance], query: Query = Query(), slowest: int = 5) -> Statistics:  # noqa: B008  # immutable
    tally = Tally(query, slowest)
    for block in blocks:
        tally.add(block)
    return tally.statistics()


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[max(ceil(round(share * len(values), 6)), 1) - 1]


@given(st.lists(st.lists(GLANCES, max_size=12), max_size=8))
def test_against_a_naive_computation(blocks: list[list[Glance]]) -> None:
    """Counts, times and percentiles are what one gets who holds all spans in a list, however they come in blocks."""
    spans = [glance for block in blocks for glance in block]
    found = counted(*blocks)
    assert (found.spans, found.spans_read) == (len(spans), len(spans))
    assert (found.traces, found.is_traces_exact) == (len({span.trace_id for span in spans}), True)
    assert found.services == {
        name: sum(span.service == name for span in spans) for name in {span.service for span in spans}
    }
    assert found.errors == sum(span.is_error for span in spans)
    assert found.cancelled == sum(span.is_cancelled for span in spans)
    assert found.start_ns == min((span.start_time_ns for span in spans), default=0)
    assert found.end_ns == max((span.end_time_ns for span in spans), default=0)
    assert sum(bucket.spans for bucket in found.histogram) == len(spans)
    assert [figures.name for figures in found.names] == list(dict.fromkeys(span.name for span in spans))
    for figures in found.names:
        of_name = [span for span in spans if span.name == figures.name]
        durations = [span.end_time_ns - span.start_time_ns for span in of_name]
        assert figures[1:5] == (
            len(of_name),
            sum(span.is_error for span in of_name),
            sum(span.is_cancelled for span in of_name),
            sum(durations),
        )
        assert figures.durations is not None
        assert figures.durations.p50_ns == percentile(durations, 0.5)
        assert figures.durations.p90_ns == percentile(durations, 0.9)
        assert figures.durations.p99_ns == percentile(durations, 0.99)
        assert (figures.durations.min_ns, figures.durations.max_ns) == (min(durations), max(durations))


def glance(name: str, start: int = 1, end: int = 2, trace: int = 1, service: str = "shop") -> Glance:
    return Glance(f"{trace:032x}", name, start, end, is_error=False, service=service)


def test_spans_without_a_time() -> None:
    """A span that was not ended, ended before it began, or whose times are damaged, is counted; its duration is not."""
    spans = [glance("a"), glance("a", 5, 0), glance("a", 9, 4), glance("a", 0, 7), glance("b", 1, 1 << 63)]
    found = counted(spans, [glance("c", -4, -2)])
    assert [(figures.name, figures.spans, figures.total_ns) for figures in found.names] == [
        ("a", 4, 1),
        ("b", 1, 0),
        ("c", 1, 0),
    ]
    assert [figures.durations is None for figures in found.names] == [False, True, True]
    assert (found.start_ns, found.end_ns) == (1, 4)
    assert sum(bucket.spans for bucket in found.histogram) == 1


def test_what_was_asked_for() -> None:
    """Spans that do not match are read and not counted."""
    spans = [glance("connect", end=5), glance("send", end=9), glance("connect", end=3)]
    found = counted(spans, query=Query(name="conn*", since_ns=4))
    assert (found.spans_read, found.spans) == (3, 1)
    assert counted(spans, query=Query(name="x")).spans == 0


def test_names_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names beyond the cap are counted together, and a name of any length by its beginning; so are services."""
    monkeypatch.setattr(module, "STATS_NAMES", 2)
    spans = [glance(name, 1, end, service=name) for end, name in enumerate("abcdab", start=2)]
    found = counted(spans)
    assert [(figures.name, figures.spans) for figures in found.names] == [("a", 2), ("b", 2)]
    assert found.other_names is not None
    assert (found.other_names.name, found.other_names.spans, found.other_names.total_ns) == ("other names", 2, 3 + 4)
    assert (found.services, found.other_services_spans) == ({"a": 2, "b": 2}, 2)
    assert (found.spans, found.errors) == (6, 0)
    (long,) = counted([glance("x" * 1000), glance("x" * 999)]).names
    assert (long.name, long.spans) == ("x" * 199 + "…", 2)


def test_orders() -> None:
    """Names stand by the number that was asked for, the largest first, and by the alphabet where it is the same."""
    found = counted([glance("b", 1, 3), glance("a", 1, 3), glance("c", 1, 2), glance("c", 1, 2), glance("d", 5, 1)])

    def order(key: str) -> str:
        return "".join(figures.name for figures in found.sorted_names(key))

    assert {key: order(key) for key in ("count", "total", "p99", "name")} == {
        "count": "cabd",
        "total": "abcd",
        "p99": "abcd",
        "name": "abcd",
    }


def test_the_rate() -> None:
    """Spans a second over the time from the first start to the last end; none where there is no such time."""
    assert counted([glance("a", 1, 2), glance("a", 5, 500_000_001)]).spans_per_second == 4
    assert counted([glance("a", 3, 3)]).spans_per_second is None


def test_slowest_traces() -> None:
    """The traces with the longest spans are found; each is told by its root, or its longest span if there is none."""
    tally = Tally(Query(), 2)
    tally.add([glance("a", 1, 3, trace=1), glance("b", 1, 90, trace=2), glance("c", 4, 50, trace=3)])
    one, two = f"{2:032x}", f"{3:032x}"
    assert tally.slowest_trace_ids == [one, two]
    assert Tally(Query(), 0).slowest_trace_ids == []
    gatherer = Gatherer([one], 10)
    resource = Resource({"service.name": "shop"})
    root = SpanRecord(one, "1" * 16, "", "root", start_time_ns=5, end_time_ns=80, resource=resource)
    child = SpanRecord(one, "2" * 16, "1" * 16, "child", start_time_ns=1, end_time_ns=90, status=Status.ERROR)
    gatherer.add([child])
    assert slow_trace(one, gatherer.traces[one]).name == "child"
    gatherer.add([root])
    assert slow_trace(one, gatherer.traces[one]) == (one, "root", "shop", 89, 2, 1)


def test_json() -> None:
    """The numbers are the same, with units in the keys; where there is no number there is null."""
    found = counted([glance("a", BASE, BASE + 1500), glance("b", 3, 0)])
    value = to_json(found, found.sorted_names("name"), [], ["a remark"])
    assert value["spans"] == 2
    assert value["names"][0]["p99_ns"] == 1500
    assert value["names"][1]["p99_ns"] is None
    assert value["durations"] == [{"from_ns": 1000, "to_ns": 2000, "spans": 1}]
    assert (value["start_unix_ns"], value["remarks"], value["other_names"]) == (BASE, ["a remark"], None)
    empty = to_json(counted(), [], [], [])
    assert (empty["spans"], empty["errors_share"], empty["spans_per_second"], empty["start_unix_ns"]) == (
        0,
        0,
        None,
        None,
    )


def test_figures_without_a_duration_come_last() -> None:
    """A name of which no duration is known has no percentile to be sorted by."""
    figures = [NameFigures("a", 1, 0, 0, 0, None), *counted([glance("b", 1, 1)]).names]
    found = counted()._replace(names=tuple(figures))
    assert [item.name for item in found.sorted_names("p50")] == ["b", "a"]
