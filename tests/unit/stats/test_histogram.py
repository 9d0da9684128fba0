"""clew.stats.histogram: durations in buckets of 1, 2 and 5 times the powers of ten."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clew.stats import Bucket
from clew.stats.histogram import Histogram


def buckets_of(*durations_ns: int) -> tuple[Bucket, ...]:
    histogram = Histogram()
    histogram.add_all(durations_ns)
    return histogram.buckets()


def test_without_gaps() -> None:
    """A bucket begins with its first duration; those between have no span, but are there."""
    assert buckets_of(1000, 1999, 9999, 5000) == (Bucket(1000, 2000, 2), Bucket(2000, 5000, 0), Bucket(5000, 10_000, 2))


def test_nothing() -> None:
    """Of nothing there are no buckets; no time at all has one of its own."""
    assert buckets_of() == ()
    assert buckets_of(0, 0, 1) == (Bucket(0, 1, 2), Bucket(1, 2, 1))


def test_far_apart() -> None:
    """What would make too many buckets makes one for each power of ten."""
    buckets = buckets_of(0, 1, 9, 10, 9_999_999_999)
    assert buckets[:3] == (Bucket(0, 1, 1), Bucket(1, 10, 2), Bucket(10, 100, 1))
    assert buckets[-1] == Bucket(10**9, 10**10, 1)
    assert len(buckets) == 11


@given(st.lists(st.integers(0, 1 << 70) | st.integers(0, 10_000), min_size=1, max_size=50))
def test_each_is_in_its_bucket(durations_ns: list[int]) -> None:
    """Every duration is counted in the bucket that it lies in, and buckets join each other."""
    buckets = buckets_of(*durations_ns)
    for bucket in buckets:
        inside = [value for value in durations_ns if bucket.from_ns <= value < (bucket.to_ns or 1 << 80)]
        assert bucket.spans == len(inside)
    assert all(one.to_ns == other.from_ns for one, other in pairwise(buckets))
    assert buckets[0].spans
    assert buckets[-1].spans
