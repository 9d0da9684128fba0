"""Counts of what happened over time, in steps that grow with the time there is to show."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from clew.limits import REPORT_KEYS, REPORT_STEPS

__all__ = ["OTHERS", "Steps", "Timeline"]

# What is counted under this: whatever comes after the first REPORT_KEYS.
OTHERS = ("", "")

_SECOND_NS = 1_000_000_000
_HOUR, _DAY = 3600, 86_400
# Each is a multiple of the one before, so that steps can be put together. From here on it doubles.
_WIDTHS = (1, 5, 10, 30, 60, 300, 600, 1800, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 7 * _DAY, 28 * _DAY)


class Steps(NamedTuple):
    """The steps of a timeline."""

    start_ns: int  # of the first one, since 1970
    width_ns: int
    number: int


class Timeline:
    """Counts by key and time.

    A key is what is counted, in two words. Keys beyond `limits.REPORT_KEYS` are counted together.
    """

    def __init__(self) -> None:
        self._widths = list(_WIDTHS)
        self._width_ns = _WIDTHS[0] * _SECOND_NS
        self._counts: dict[tuple[str, str], Counter[int]] = {}
        self._first = self._last = -1  # numbers of steps since 1970

    def add(self, key: tuple[str, str], time_ns: int) -> None:
        """Count one. What has no time (0) is counted at the beginning."""
        if key not in self._counts and len(self._counts) >= REPORT_KEYS:
            key = OTHERS
        at = time_ns // self._width_ns if time_ns > 0 else self._first
        self._counts.setdefault(key, Counter())[at] += 1
        if at >= 0:
            self._first = at if self._first < 0 else min(self._first, at)
            self._last = max(self._last, at)
        while self._last - self._first >= REPORT_STEPS:
            self._widen()

    def _widen(self) -> None:
        self._widths.pop(0)
        if not self._widths:
            self._widths.append(2 * self._width_ns // _SECOND_NS)
        factor = self._widths[0] * _SECOND_NS // self._width_ns
        self._width_ns *= factor
        self._first //= factor
        self._last //= factor
        for key, counts in self._counts.items():
            wider: Counter[int] = Counter()
            for at, count in counts.items():
                wider[at // factor] += count
            self._counts[key] = wider

    @property
    def steps(self) -> Steps:
        """The steps from the first one counted in to the last one."""
        first = max(self._first, 0)
        return Steps(first * self._width_ns, self._width_ns, max(self._last, first) - first + 1 if self._counts else 0)

    def counts(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """For each key its count in each step."""
        steps, first = range(self.steps.number), max(self._first, 0)
        # -1: it came without a time when there was none yet.
        return {
            key: tuple(counts[first + at] + (counts[-1] if at == 0 else 0) for at in steps)
            for key, counts in self._counts.items()
        }
