"""clew.report.axis: round numbers, linear or logarithmic."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clew.report.axis import Axis, axis_of, label
from clew.report.distribution import Distribution, Summary

MS = 1_000_000


def summaries(*groups: list[int]) -> list[Summary]:
    found = []
    for group in groups:
        distribution = Distribution()
        for value in group:
            distribution.add(value)
        if (summary := distribution.summary()) is not None:
            found.append(summary)
    return found


def labels(axis: Axis) -> list[str]:
    return [mark.label for mark in axis.ticks() if mark.label]


def test_linear_where_durations_are_alike() -> None:
    """From zero, in round steps."""
    axis = axis_of(summaries([90 * MS, 120 * MS, 480 * MS]))
    assert axis == (0, 500 * MS, False)
    assert labels(axis) == ["0", "100 ms", "200 ms", "300 ms", "400 ms", "500 ms"]


def test_logarithmic_where_they_are_far_apart() -> None:
    """With small marks between those that have a label."""
    axis = axis_of(summaries([1 * MS, 3 * MS], [900 * MS, 2500 * MS]))
    assert axis == (1 * MS, 3000 * MS, True)
    assert labels(axis) == ["1 ms", "10 ms", "100 ms", "1 s"]
    assert len(axis.ticks()) > 20


def test_zeros_have_no_place_on_a_logarithm() -> None:
    """They stand at the left edge, and do not stretch the axis."""
    axis = axis_of(summaries([0, 0, 0, 250 * MS], [7 * MS, 90 * MS]))
    assert axis == (5 * MS, 300 * MS, True)
    assert axis.at(0) == 0


def test_of_nothing() -> None:
    """An axis nevertheless."""
    axis = axis_of([])
    assert axis.at(0) == 0
    assert labels(axis)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "0"), (500, "500 ns"), (20_000, "20 µs"), (2_500 * MS, "2.5 s"), (1000 * MS, "1 s"), (10**13, "10,000 s")],
)
def test_labels(duration_ns: int, text: str) -> None:
    """In the unit that fits."""
    assert label(duration_ns) == text


@example([[0, 99_999_999_999_999_593]])  # whose logarithm is that of 10**17
@given(st.lists(st.lists(st.integers(0, 1 << 61), min_size=1, max_size=8), min_size=1, max_size=4))
def test_everything_is_on_it(groups: list[list[int]]) -> None:
    """Every duration has its place, longer ones further right; marks are few, round and in order."""
    axis = axis_of(summaries(*groups))
    values = sorted(value for group in groups for value in group)
    places = [axis.at(value) for value in values]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert axis.high_ns >= values[-1]
    marks = axis.ticks()
    assert 1 <= len([mark for mark in marks if mark.label]) <= 7
    assert [mark.duration_ns for mark in marks] == sorted({mark.duration_ns for mark in marks})
    for place in (0.0, 0.3, 1.0):
        assert axis.at(axis.duration(place)) == pytest.approx(place, abs=1e-6)
