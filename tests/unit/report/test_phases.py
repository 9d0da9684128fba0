"""clew.report.phases: each moment of an onion connection counts for one phase."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clew.model import SpanRecord
from clew.report.phases import PARTS, UNEXPLAINED, parts_of
from clew.tor.onion import CONNECT_SPAN, Phase
from clew.tree import assemble

FETCH, ESTABLISH, INTRODUCE, JOIN = (part for part in PARTS if part != UNEXPLAINED)


def parts(start_ns: int, end_ns: int, *phases: tuple[str, int, int]) -> dict[str, int]:
    """Of a connection with these phases; those that got nothing are left out."""
    connection = SpanRecord("t", "0", "", CONNECT_SPAN, start_time_ns=start_ns, end_time_ns=end_ns)
    children = [
        SpanRecord("t", str(number), "0", name, start_time_ns=start, end_time_ns=end)
        for number, (name, start, end) in enumerate(phases, start=1)
    ]
    (trace,) = assemble([connection, *children])
    return {part: part_ns for part, part_ns in parts_of(trace.root).items() if part_ns}


def test_one_after_the_other() -> None:
    """Phases have their own time; what is between them is unexplained."""
    assert parts(0, 100, (FETCH, 5, 40), (INTRODUCE, 40, 80), (JOIN, 90, 100)) == {
        FETCH: 35,
        INTRODUCE: 40,
        JOIN: 10,
        UNEXPLAINED: 15,
    }


def test_side_by_side() -> None:
    """What ended first was not waited for, but for the time before the other began."""
    assert parts(0, 100, (ESTABLISH, 10, 60), (INTRODUCE, 40, 100)) == {
        ESTABLISH: 30,
        INTRODUCE: 60,
        UNEXPLAINED: 10,
    }
    assert parts(0, 100, (ESTABLISH, 20, 60), (INTRODUCE, 10, 100)) == {INTRODUCE: 90, UNEXPLAINED: 10}


def test_retries() -> None:
    """Both tries of a phase count for it."""
    assert parts(0, 100, (INTRODUCE, 0, 50), (INTRODUCE, 50, 100)) == {INTRODUCE: 100}


def test_nothing_is_known() -> None:
    """Without phases all of it is unexplained."""
    assert parts(10, 100) == {UNEXPLAINED: 90}


@given(
    st.integers(0, 50),
    st.integers(0, 100),
    st.lists(st.tuples(st.sampled_from([*PARTS, "other"]), st.integers(0, 120), st.integers(0, 120)), max_size=8),
)
def test_the_parts_add_up(start: int, length: int, phases: list[tuple[str, int, int]]) -> None:
    """Whatever the times of the phases, the parts are the connection's duration, and none is negative."""
    found = parts(start, start + length, *((str(name), low, high) for name, low, high in phases if name != UNEXPLAINED))
    assert sum(found.values()) == length
    assert all(part_ns > 0 for part_ns in found.values())


def test_each_phase_has_a_part() -> None:
    """What tor does for a connection is told apart."""
    assert {str(phase) for phase in Phase if phase.startswith(f"{CONNECT_SPAN}.")} == {*PARTS} - {UNEXPLAINED}
