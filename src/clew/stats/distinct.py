"""How many different words there are among many, with bounded memory."""

from __future__ import annotations

import heapq
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Distinct"]

_HASHES = 1 << 64


class Distinct:
    """Counts different words: exactly up to a number, then by an estimate that does not depend on their order.

    Each word has a hash, as if drawn by lot. Only the smallest hashes are kept: the closer together they lie, the more
    different words there must have been. With n of them the error is one part in the square root of n.

    Args:
        places: how many hashes are kept, at 150 bytes each.

    Source: Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", 2002, algorithm 1.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._kept: set[int] = set()
        self._heap: list[int] = []  # the same, negative, so that the largest one comes first
        self._end = _HASHES  # hashes from here on are not kept any more

    def add(self, words: Iterable[str]) -> None:
        """Count words."""
        for word in words:
            mark = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
            if mark >= self._end or mark in self._kept:
                continue
            self._kept.add(mark)
            heapq.heappush(self._heap, -mark)
            if len(self._kept) > self._places:
                self._end = -heapq.heappop(self._heap)
                self._kept.remove(self._end)

    @property
    def is_exact(self) -> bool:
        """Whether `number` is not an estimate."""
        return self._end == _HASHES

    @property
    def number(self) -> int:
        """How many different words there were."""
        # Of the numbers below the first hash that was let go, so many were drawn.
        return len(self._kept) if self.is_exact else round(len(self._kept) * _HASHES / self._end)
