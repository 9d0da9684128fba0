"""What is measured of connections to onion services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.limits import REPORT_CONNECTIONS
from clew.model import Status
from clew.report.distribution import Lottery
from clew.report.figures import ONION_PHASES
from clew.report.findings import OnionConnection, Onions
from clew.report.longest import Longest
from clew.report.measures import has_succeeded
from clew.report.phases import PARTS, UNEXPLAINED, parts_of
from clew.report.requests import reason_of

if TYPE_CHECKING:
    from clew.report.measures import Measures
    from clew.tree import Node

__all__ = ["OnionConnections"]

# Which connections, in the order of their durations, make the middle one: medians of the parts would not add up.
_MIDDLE = (0.45, 0.55)


class OnionConnections:
    """Counts connections.

    Args:
        slowest: how many are kept one by one.
    """

    def __init__(self, measures: Measures, slowest: int) -> None:
        self._measures = measures
        self._total = self._failed = 0
        self._kept: list[tuple[int, dict[str, int]]] = []  # durations and parts of those that got there
        self._lottery = Lottery(REPORT_CONNECTIONS)
        self._slowest: Longest[OnionConnection] = Longest(slowest)

    def add(self, connection: Node) -> None:
        """Take a `tor.hs.connect`."""
        record = connection.record
        self._total += 1
        parts = parts_of(connection)
        if has_succeeded(record):
            place = self._lottery.draw()
            if place is not None:
                self._kept[place : place + 1] = [(record.duration_ns, parts)]
            self._measures.measure(ONION_PHASES, record.name, record.duration_ns)
            self._measures.measure(ONION_PHASES, UNEXPLAINED, parts[UNEXPLAINED])
        elif record.status is Status.ERROR:
            self._failed += 1
            self._measures.fail("onion connection", reason_of(connection), record)
        kept = OnionConnection(record.start_time_ns, record.duration_ns, reason_of(connection), parts)
        self._slowest.add(record.duration_ns, kept)

    def findings(self) -> Onions:
        """What was found so far."""
        slowest = tuple(self._slowest.items())
        if not self._kept:
            return Onions(self._total, self._failed, 0, {}, slowest)
        kept = sorted(self._kept, key=lambda item: item[0])
        first, last = int(len(kept) * _MIDDLE[0]), int(len(kept) * _MIDDLE[1])
        middle = [parts for _, parts in kept[first : last + 1]]
        parts = {part: sum(each[part] for each in middle) // len(middle) for part in PARTS}
        return Onions(self._total, self._failed, sum(parts.values()), parts, slowest)
