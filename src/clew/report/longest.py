"""The longest of many, kept with whatever belongs to them."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

__all__ = ["Longest"]

_T = TypeVar("_T")


class Longest(Generic[_T]):
    """Keeps the items of the longest durations; of equal ones those that came first.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._order = 0
        self._heap: list[tuple[int, int, _T]] = []

    def wants(self, duration_ns: int) -> bool:
        """Whether an item of this duration would be kept, now."""
        return self._limit > 0 and (len(self._heap) < self._limit or duration_ns > self._heap[0][0])

    def add(self, duration_ns: int, item: _T) -> None:
        """Keep an item, if it is among the longest."""
        if not self.wants(duration_ns):
            return
        self._order -= 1
        entry = (duration_ns, self._order, item)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> list[_T]:
        """The longest first."""
        return [item for _, _, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
