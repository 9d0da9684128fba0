"""clew.report.distribution: percentiles that were measured, curves, samples of what is too many."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.limits import REPORT_CURVE_POINTS
from clew.report.distribution import Distribution, Summary


def summary_of(values: list[int], max_values: int = 250_000) -> Summary:
    distribution = Distribution(max_values)
    for value in values:
        distribution.add(value)
    summary = distribution.summary()
    assert summary is not None
    return summary


def test_of_ten() -> None:
    """The median of ten is the fifth, p90 the ninth, p99 the last."""
    summary = summary_of([70, 10, 30, 20, 50, 60, 40, 100, 80, 90])
    assert summary[:8] == (10, 10, 50, 90, 100, 100, 55, 10)
    assert summary.curve == tuple((value * 10, value / 10) for value in range(1, 11))


def test_none() -> None:
    """Of nothing, nothing is said; what is no duration is nothing."""
    distribution = Distribution()
    for value in (-1, 1 << 62, 1 << 70):
        distribution.add(value)
    assert distribution.count == 0
    assert distribution.summary() is None


@given(st.lists(st.integers(0, 1 << 50), min_size=1, max_size=600))
def test_as_the_definition_says(values: list[int]) -> None:
    """A percentile is the smallest value with at least so many of all at or below it."""
    summary = summary_of(values)
    ordered = sorted(values)
    for percent, found in ((50, summary.p50_ns), (90, summary.p90_ns), (99, summary.p99_ns)):
        assert found == ordered[ceil(len(values) * percent / 100) - 1]
    assert (summary.number, summary.min_ns, summary.max_ns) == (len(values), ordered[0], ordered[-1])
    assert summary.mean_ns == sum(values) // len(values)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=600))
def test_the_curve_rises_to_all(values: list[int]) -> None:
    """A curve has few points, rises in both directions, ends with all, and is right at each of them."""
    curve = summary_of(values).curve
    assert len(curve) <= REPORT_CURVE_POINTS + 3
    assert list(curve) == sorted(set(curve))
    assert len({point.duration_ns for point in curve}) == len({point.share for point in curve}) == len(curve)
    assert curve[0].duration_ns == min(values)
    assert curve[-1] == (max(values), 1.0)
    if len(values) <= REPORT_CURVE_POINTS:
        for point in curve:
            assert point.share == sum(value <= point.duration_ns for value in values) / len(values)


def test_share_within() -> None:
    """How many were done by then: none before the first, all from the last on."""
    summary = summary_of([10, 20, 20, 40])
    shares = [summary.share_within(duration) for duration in (0, 9.9, 10, 19, 20, 39, 40, 1e9)]
    assert shares == [0, 0, 0.25, 0.25, 0.75, 0.75, 1, 1]


def test_a_sample_of_too_many() -> None:
    """Count, mean and extremes are of all; the percentiles of a sample, the same one each time, that is not far off."""
    values = [(7919 * number) % 100_003 for number in range(100_003)]  # each from 0 to 100,002 once
    summary = summary_of(values, max_values=5000)
    assert (summary.number, summary.drawn) == (100_003, 5000)
    assert (summary.min_ns, summary.max_ns, summary.mean_ns) == (0, 100_002, 50_001)
    assert summary.p50_ns == pytest.approx(50_000, rel=0.05)
    assert summary.p90_ns == pytest.approx(90_000, rel=0.03)
    assert summary == summary_of(values, max_values=5000)


@given(st.lists(st.lists(st.integers(-2, 1 << 63), max_size=30), max_size=5))
def test_many_at_once(groups: list[list[int]]) -> None:
    """What is counted many at once is what is counted one by one, as long as all of it is kept."""
    one, many = Distribution(), Distribution()
    for group in groups:
        many.add_all(group)
        for value in group:
            one.add(value)
    assert many.summary() == one.summary()
    assert many.total_ns == one.total_ns


def test_many_at_once_beyond_what_is_kept() -> None:
    """Of more than can be kept there is a sample, in which each has the same chance; the extremes are those of all."""
    distribution = Distribution(1000)
    for first in range(0, 100_000, 700):
        distribution.add_all(range(first, min(first + 700, 100_000)))
    summary = distribution.summary()
    assert summary is not None
    assert (summary.number, summary.drawn, summary.min_ns, summary.max_ns) == (100_000, 1000, 0, 99_999)
    assert 45_000 < summary.p50_ns < 55_000
    assert 87_000 < summary.p90_ns < 93_000
