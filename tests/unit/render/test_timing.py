"""clew.render.timing: own time, and the path of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clew.model import SpanRecord
from clew.render.timing import Timing
from clew.tree import assemble


def span(span_id: str, parent_id: str, start: int, end: int) -> SpanRecord:
    return SpanRecord("t", span_id, parent_id, span_id, start_time_ns=start, end_time_ns=end)


def path(*records: SpanRecord) -> dict[str, list[tuple[int, int]]]:
    (trace,) = assemble(records)
    timing = Timing(trace)
    return {node.record.span_id: sorted(timing.path[node]) for node in trace.walk() if timing.path[node]}


def own(*records: SpanRecord) -> dict[str, int]:
    (trace,) = assemble(records)
    timing = Timing(trace)
    return {node.record.span_id: timing.own_ns(node) for node in trace.walk()}


def test_children_one_after_the_other() -> None:
    """The path goes through each child, and through the parent where no child ran."""
    records = [span("r", "", 10, 100), span("a", "r", 20, 40), span("b", "r", 50, 90)]
    assert path(*records) == {"r": [(10, 20), (40, 50), (90, 100)], "a": [(20, 40)], "b": [(50, 90)]}
    assert own(*records) == {"r": 30, "a": 20, "b": 40}


def test_children_at_once() -> None:
    """Of two that ran at once, the path is in the one that ended last; the other ran beside it."""
    records = [span("r", "", 0, 100), span("a", "r", 0, 60), span("b", "r", 10, 100)]
    assert path(*records) == {"a": [(0, 10)], "b": [(10, 100)]}
    assert own(*records) == {"r": 0, "a": 60, "b": 90}


def test_a_child_that_outlives_its_parent() -> None:
    """What was only begun by its parent is on the path when the trace ends with it."""
    records = [span("r", "", 0, 10), span("a", "r", 5, 100), span("b", "a", 50, 90)]
    assert path(*records) == {"r": [(0, 5)], "a": [(5, 50), (90, 100)], "b": [(50, 90)]}
    assert own(*records) == {"r": 5, "a": 55, "b": 40}


def test_a_child_that_starts_before_its_parent() -> None:
    """Clocks of two machines differ: what is outside of the parent is not counted as its waiting."""
    records = [span("r", "", 50, 100), span("a", "r", 40, 60)]
    assert own(*records) == {"r": 40, "a": 20}


def test_gaps_belong_to_nobody() -> None:
    """Between roots that do not touch, nothing is on the path."""
    assert path(span("a", "", 0, 10), span("b", "x", 20, 30)) == {"a": [(0, 10)], "b": [(20, 30)]}


def test_a_span_that_ends_before_it_starts() -> None:
    """A negative duration is no time."""
    assert own(span("r", "", 50, 10), span("a", "r", 5, 60))["r"] == 0


def test_a_long_chain() -> None:
    """10,000 levels need no recursion."""
    records = [span(str(n), str(n - 1) if n else "", n, 20_000 - n) for n in range(10_000)]
    assert sum(end - start for parts in path(*records).values() for start, end in parts) == 20_000


IDS = st.sampled_from("abcdef")


@given(st.lists(st.tuples(IDS, IDS | st.just(""), st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=10))
def test_the_path_is_one(spans: list[tuple[str, str, int, int]]) -> None:
    """At no moment is more than one span on the path, and each only while it ran."""
    (trace,) = assemble([span(*fields) for fields in spans])
    timing = Timing(trace)
    moments: list[int] = []
    for node, parts in timing.path.items():
        for start, end in parts:
            assert node.record.start_time_ns <= start < end <= node.record.end_time_ns
            moments += range(start, end)
    assert len(moments) == len(set(moments))
    for node in trace.walk():
        assert 0 <= timing.own_ns(node) <= max(node.record.duration_ns, 0)
