"""An axis of durations: linear, or logarithmic where the durations are far apart, with round numbers on it."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.report.distribution import Summary

__all__ = ["Axis", "Tick", "axis_of", "label"]

# From this ratio on, between the longest duration and the smallest median, a linear axis would show one of them only.
_SPREAD = 12
_MOST_DECADES = 7
_LEAST_NS = 1000  # a logarithmic axis goes no lower: these are times of events from another process
_UNITS = (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000), ("ns", 1))


class Tick(NamedTuple):
    """A mark on an axis."""

    duration_ns: int
    label: str  # "" for a small one


class Axis(NamedTuple):
    """From the left edge to the right one."""

    low_ns: int
    high_ns: int
    is_log: bool

    def at(self, duration_ns: float) -> float:
        """Where a duration lies: 0 at the left edge, 1 at the right one; what is beyond an edge is at the edge."""
        if self.is_log:
            if duration_ns <= self.low_ns:
                return 0.0
            share = log10(duration_ns / self.low_ns) / log10(self.high_ns / self.low_ns)
        else:
            share = (duration_ns - self.low_ns) / (self.high_ns - self.low_ns)
        return min(max(share, 0.0), 1.0)

    def duration(self, share: float) -> float:
        """The duration at a place from 0 to 1: what `at` undoes."""
        if self.is_log:
            return float(self.low_ns * (self.high_ns / self.low_ns) ** share)
        return self.low_ns + share * (self.high_ns - self.low_ns)

    def ticks(self, most: int = 6) -> list[Tick]:
        """Marks at round durations.

        Args:
            most: so many of them have a label, at the most.
        """
        if not self.is_log:
            step = _round_up(self.high_ns / (most - 1), (1, 2, 5, 10))
            return [Tick(at, label(at)) for at in range(0, self.high_ns + 1, step)]
        low, high = floor(log10(self.low_ns)), ceil(log10(self.high_ns))
        within = range(self.low_ns, self.high_ns + 1)
        marks = [digit * 10**power for power in range(low, high + 1) for digit in range(1, 10)]
        marks = [mark for mark in marks if mark in within]
        for digits in ((1, 2, 5), (1, 3), (1,)):
            labelled = [mark for mark in marks if int(str(mark)[0]) in digits]
            if len(labelled) <= most:
                break
        else:
            labelled = labelled[:: ceil(len(labelled) / most)]
        return [Tick(mark, label(mark) if mark in labelled else "") for mark in marks]


def axis_of(summaries: Iterable[Summary]) -> Axis:
    """An axis on which distributions have room."""
    summaries = list(summaries)
    longest = max((summary.max_ns for summary in summaries), default=0)
    medians = [summary.p50_ns for summary in summaries]
    if longest <= _SPREAD * max(min(medians, default=0), _LEAST_NS):
        step = _round_up(max(longest, 1) / 5, (1, 2, 5, 10))
        return Axis(0, step * ceil(max(longest, 1) / step), is_log=False)
    # Two events that came in one piece have no time between them: zeros have no place on such an axis.
    lowest = max(_LEAST_NS, longest // 10**_MOST_DECADES)
    shortest = min(point.duration_ns for summary in summaries for point in summary.curve if point.duration_ns >= lowest)
    return Axis(_round_down(shortest), _round_up(longest, (1, 2, 3, 5, 10)), is_log=True)


def label(duration_ns: int) -> str:
    """A round duration, as short as can be: "500 ms", "2.5 s"."""
    if not duration_ns:
        return "0"
    unit, unit_ns = next(item for item in _UNITS if duration_ns >= item[1])
    return f"{duration_ns / unit_ns:,.6g} {unit}"


def _round_up(value: float, digits: tuple[int, ...]) -> int:
    """The next number of one digit and zeros."""
    power: int = 10 ** max(floor(log10(max(value, 1))), 0)
    return next((digit * power for digit in digits if digit * power >= value), 10 * power)


def _round_down(value: int) -> int:
    power: int = 10 ** (len(str(max(value, 1))) - 1)  # a logarithm is rounded: just below 10**17 it is 17
    return next(digit * power for digit in (5, 3, 2, 1) if digit * power <= value)
