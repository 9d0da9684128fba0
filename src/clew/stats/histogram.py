"""Durations in buckets whose width grows with them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from clew.stats.figures import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Histogram"]

# 1, 2 and 5 times each power of ten, from 1 ns to 158 years.
_EDGES = [digit * 10**power for power in range(19) for digit in (1, 2, 5)]
_MOST_BUCKETS = 24  # of more than this, those of one power of ten are put together
_place = partial(bisect_right, _EDGES)


class Histogram:
    """Counts durations, all of them, in a few numbers."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add_all(self, durations_ns: Iterable[int]) -> None:
        """Count durations, of which none is negative."""
        self._counts.update(map(_place, durations_ns))

    def buckets(self) -> tuple[Bucket, ...]:
        """The buckets from the shortest duration to the longest, without gaps."""
        if not self._counts:
            return ()
        first, last = min(self._counts), max(self._counts)
        edges = [0, *_EDGES]
        if last - first < _MOST_BUCKETS:
            return tuple(
                Bucket(edges[at], edges[at + 1] if at < len(_EDGES) else None, self._counts[at])
                for at in range(first, last + 1)
            )
        # Bucket 0 is that of nothing; then there are three for each power of ten.
        tens: Counter[int] = Counter()
        for at, number in self._counts.items():
            tens[-(-at // 3)] += number
        edges = [0, *_EDGES[::3]]
        return tuple(
            Bucket(edges[at], edges[at + 1] if at + 1 < len(edges) else None, tens[at])
            for at in range(min(tens), max(tens) + 1)
        )
