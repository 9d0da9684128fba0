"""Durations as a cumulative distribution: counted one by one, summed up in a few numbers and a curve.

A percentile is a duration that was measured, not one between two (nearest rank): of 10 values p90 is the ninth.
"""

from __future__ import annotations

from array import array
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from clew.limits import REPORT_CURVE_POINTS, REPORT_VALUES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Distribution", "Lottery", "Point", "Summary"]

_LONGEST_NS = 1 << 62  # what is longer, or negative, is no duration: a clock was set, or the file is damaged
_TAIL = (0.995, 0.999)  # where a curve has points of its own, that its end does not depend on their number


class Point(NamedTuple):
    """A point of a curve: so large a share of all took no longer than this."""

    duration_ns: int
    share: float  # above 0, at most 1


class Summary(NamedTuple):
    """What is said of a distribution."""

    number: int
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int
    mean_ns: int
    drawn: int  # of how many values the percentiles and the curve are made: `number`, or a sample of them
    curve: tuple[Point, ...]  # rising steps, the last one with share 1

    def share_within(self, duration_ns: float) -> float:
        """Which share took no longer than a duration, as far as the curve's points tell."""
        low, high = 0, len(self.curve)
        while low < high:
            middle = (low + high) // 2
            if self.curve[middle].duration_ns <= duration_ns:
                low = middle + 1
            else:
                high = middle
        return self.curve[low - 1].share if low else 0.0


class Lottery:
    """Decides which of many are kept, so that each has the same chance (Vitter's algorithm R).

    Args:
        places: how many are kept.
    """

    __slots__ = ("_lots", "_places", "count")

    def __init__(self, places: int) -> None:
        self._places = places
        self._lots: Random | None = None  # made when there is something to draw
        self.count = 0  # how many there were

    def draw(self) -> int | None:
        """The place of the next one: a new one after all others, one that it takes over, or None."""
        self.count += 1
        if self.count <= self._places:
            return self.count - 1
        # The same file is to give the same report: the lots are always the same ones.
        self._lots = self._lots or Random(0)  # noqa: S311  # nothing is kept secret by it
        place = self._lots.randrange(self.count)
        return place if place < self._places else None

    def draw_all(self, number: int) -> Iterator[tuple[int, int]]:
        """The same for many at once: which of the next ones, from 0, are kept, and the place of each."""
        first, self.count = self.count, self.count + number
        new = max(min(number, self._places - first), 0)
        yield from enumerate(range(first, first + new))
        if new == number:
            return
        self._lots = self._lots or Random(0)  # noqa: S311  # as above
        random, places = self._lots.random, self._places
        for at in range(new, number):
            place = int(random() * (first + at + 1))
            if place < places:
                yield at, place


class Distribution:
    """Durations that are added one by one.

    All of them are kept up to a number; of more than that, a sample in which each has the same chance to be. Count,
    mean and extremes are always those of all.

    Args:
        max_values: how many are kept, at eight bytes each.
    """

    __slots__ = ("_lottery", "_max_ns", "_min_ns", "_total_ns", "_values")

    def __init__(self, max_values: int = REPORT_VALUES) -> None:
        self._values = array("q")
        self._lottery = Lottery(max_values)
        self._min_ns = _LONGEST_NS
        self._max_ns = 0
        self._total_ns = 0

    @property
    def count(self) -> int:
        """How many there were."""
        return self._lottery.count

    @property
    def total_ns(self) -> int:
        """All of them one after the other."""
        return self._total_ns

    def add(self, duration_ns: int) -> None:
        """Count a duration; a negative one is left out."""
        if not 0 <= duration_ns < _LONGEST_NS:
            return
        self._total_ns += duration_ns
        self._min_ns = min(self._min_ns, duration_ns)
        self._max_ns = max(self._max_ns, duration_ns)
        place = self._lottery.draw()
        if place == len(self._values):
            self._values.append(duration_ns)
        elif place is not None:
            self._values[place] = duration_ns

    def add_all(self, durations_ns: Iterable[int]) -> None:
        """Count many: the same as one after the other, but sooner."""
        counted = [duration_ns for duration_ns in durations_ns if 0 <= duration_ns < _LONGEST_NS]
        if not counted:
            return
        self._total_ns += sum(counted)
        self._min_ns = min(self._min_ns, *counted)
        self._max_ns = max(self._max_ns, *counted)
        for at, place in self._lottery.draw_all(len(counted)):
            if place == len(self._values):
                self._values.append(counted[at])
            else:
                self._values[place] = counted[at]

    def summary(self) -> Summary | None:
        """What is said of them; None of none."""
        if not self.count:
            return None
        values = sorted(self._values)
        return Summary(
            self.count,
            self._min_ns,
            _quantile(values, 0.5),
            _quantile(values, 0.9),
            _quantile(values, 0.99),
            self._max_ns,
            self._total_ns // self.count,
            len(values),
            _curve(values),
        )


def _rank(count: int, share: float) -> int:
    """The number, from 1, of the first of `count` values in order that makes up a share of them."""
    # Rounded before it is rounded up: 0.9 * 10 is a little more than 9.
    exact = round(share * count, 6)
    return max(int(exact) + (exact > int(exact)), 1)


def _quantile(values: list[int], share: float) -> int:
    return values[_rank(len(values), share) - 1]


def _curve(values: list[int]) -> tuple[Point, ...]:
    """As many steps as can be told apart in a picture; where there are few values, all of them."""
    count = len(values)
    if count <= REPORT_CURVE_POINTS:
        ranks = list(range(1, count + 1))
    else:
        shares = [number / REPORT_CURVE_POINTS for number in range(1, REPORT_CURVE_POINTS)]
        ranks = sorted({1, count, *(_rank(count, share) for share in (*shares, *_TAIL))})
    shares_of: dict[int, float] = {}
    for rank in ranks:  # of equal values the last one counts
        shares_of[values[rank - 1]] = rank / count
    return tuple(Point(value, share) for value, share in shares_of.items())
