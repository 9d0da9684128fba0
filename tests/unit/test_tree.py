"""clew.tree: records into trees, every span once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clew.model import SpanRecord
from clew.tree import Node, assemble

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(span_id: str, parent_id: str = "", start: int = 1, end: int = 2, trace_id: str = TRACE) -> SpanRecord:
    return SpanRecord(trace_id, span_id, parent_id, f"span {span_id}", start_time_ns=start, end_time_ns=end)


def shape(records: list[SpanRecord]) -> list[tuple[int, str]]:
    return [(node.depth, node.record.span_id) for trace in assemble(records) for node in trace.walk()]


def notes(records: list[SpanRecord]) -> dict[str, tuple[str, ...]]:
    return {node.record.span_id: node.notes for trace in assemble(records) for node in trace.walk() if node.notes}


def test_children_before_parents() -> None:
    """Spans arrive as they end, children first; the tree stands anyway, siblings by start time."""
    records = [span("d", "b", 3), span("c", "a", 5), span("b", "a", 2), span("a", "", 1)]
    assert shape(records) == [(0, "a"), (1, "b"), (2, "d"), (1, "c")]
    assert notes(records) == {}


def test_traces_in_order_of_their_first_record() -> None:
    """Interleaved traces are told apart and keep the order in which they were met."""
    records = [span("b", "a", trace_id="2"), span("x", trace_id="1"), span("a", trace_id="2")]
    assert [(trace.trace_id, trace.span_count) for trace in assemble(records)] == [("2", 2), ("1", 1)]


def test_missing_parent_becomes_root() -> None:
    """A span whose parent is not among the records stands at the root and says so."""
    records = [span("a"), span("c", "b")]
    assert shape(records) == [(0, "a"), (0, "c")]
    assert notes(records) == {"c": ("its parent b is not here",)}


def test_own_parent() -> None:
    """A span that is its own parent is shown once, with a note."""
    assert shape([span("a", "a"), span("b", "a")]) == [(0, "a"), (1, "b")]
    assert notes([span("a", "a")]) == {"a": ("it is its own ancestor: the ring is cut here",)}


def test_ring_is_cut_at_its_earliest_span() -> None:
    """A ring of spans is cut once, at the span that began first; what hangs on it stays below."""
    records = [span("t", "c", 9), span("a", "c", 3), span("b", "a", 2), span("c", "b", 4)]
    assert shape(records) == [(0, "b"), (1, "c"), (2, "a"), (2, "t")]
    assert list(notes(records)) == ["b"]


def test_duplicate_ids() -> None:
    """A second span with the same id is shown too; children hang on the first."""
    records = [span("a"), span("b", "a", 2), span("b", "a", 3), span("c", "b", 4)]
    assert shape(records) == [(0, "a"), (1, "b"), (2, "c"), (1, "b")]
    assert notes(records) == {"b": ("a span with this id came before",)}


def test_times_of_a_trace() -> None:
    """A trace lasts from its first start to its last end; a span without times does not stretch it."""
    (trace,) = assemble([span("a", "", 100, 200), span("b", "a", 90, 150), span("c", "a", 0, 0), span("d", "", 0, 0)])
    assert (trace.start_time_ns, trace.end_time_ns) == (90, 200)


def test_deep_chain() -> None:
    """A chain of 10,000 spans, deepest first, needs no recursion."""
    records = [span(str(number), str(number - 1) if number else "") for number in reversed(range(10_000))]
    (trace,) = assemble(records)
    assert [node.depth for node in trace.walk()] == list(range(10_000))


IDS = st.sampled_from("abcdef")


@given(st.lists(st.tuples(IDS, st.one_of(st.just(""), st.just("z"), IDS), st.integers(0, 5)), max_size=12))
def test_every_span_is_shown_once(links: list[tuple[str, str, int]]) -> None:
    """Whatever the ids say, each record is in the tree exactly once, and the tree is one."""
    records = [span(span_id, parent_id, start) for span_id, parent_id, start in links]
    shown: list[Node] = [node for trace in assemble(records) for node in trace.walk()]
    assert sorted(map(id, records)) == sorted(id(node.record) for node in shown)
    for node in shown:
        assert node.depth == (0 if node.parent is None else node.parent.depth + 1)
        assert node.parent is None or node in node.parent.children
