"""Arrows between the slices of a Chrome trace: from parents to children drawn elsewhere, and along links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from clew.limits import CHROME_ARROWS, CHROME_ARROWS_TO_ONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.formats.chrome_lanes import Placed

__all__ = ["Arrow", "Arrows", "Spot"]

CHILD: Final = "child"
LINK: Final = "link"


class Spot(NamedTuple):
    """Where a slice begins."""

    start_ns: int
    pid: int
    tid: int


class Arrow(NamedTuple):
    """An arrow; it begins at the slice that begins earlier, for viewers follow it in time."""

    number: int
    what: str  # "child" or "link"
    source: Spot
    target: Spot


_Key: TypeAlias = tuple[str, str]  # trace and span
_End = TypeVar("_End")


class Arrows:
    """Finds both ends of arrows while slices are placed, in whatever order; the oldest ends are forgotten."""

    def __init__(self) -> None:
        self._spots: dict[_Key, Spot] = {}
        self._waiting: dict[_Key, list[tuple[str, Spot]]] = {}  # arrows to and from a slice that has not been placed
        self._number = 0

    def between(self, placed: list[Placed]) -> Iterator[Arrow]:
        """Give the arrows that can be drawn, when these slices are placed."""
        for each in placed:
            record = each.record
            if each.tid:
                key = (record.trace_id, record.span_id)
                _keep(self._spots, key, Spot(each.start_ns, each.pid, each.tid))
        for each in placed:
            record = each.record
            if not each.tid:
                continue
            spot = Spot(each.start_ns, each.pid, each.tid)
            ends: list[tuple[str, _Key]] = [
                (LINK, (link.context.trace_id, link.context.span_id)) for link in record.links
            ]
            if each.is_apart:
                ends.append((CHILD, (record.trace_id, record.parent_id)))
            for what, key in ends:
                if (other := self._spots.get(key)) is not None:
                    yield self._arrow(what, other, spot)
                elif key in self._waiting:
                    if len(self._waiting[key]) < CHROME_ARROWS_TO_ONE:
                        self._waiting[key].append((what, spot))
                else:
                    _keep(self._waiting, key, [(what, spot)])
            for what, other in self._waiting.pop((record.trace_id, record.span_id), ()):
                yield self._arrow(what, spot, other)

    def _arrow(self, what: str, one: Spot, other: Spot) -> Arrow:
        self._number += 1
        return Arrow(self._number, what, min(one, other), max(one, other))


def _keep(known: dict[_Key, _End], key: _Key, value: _End) -> None:
    """Remember an end, and forget the oldest if there are too many."""
    known[key] = value
    if len(known) > CHROME_ARROWS:
        del known[next(iter(known))]
