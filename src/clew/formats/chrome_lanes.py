"""Where the slices of a Chrome trace are drawn: processes for services, lanes for what goes on at the same time.

A viewer draws the slices of a thread below each other by their times alone, and cannot draw two that overlap in part.
So a span is put below another only if it is its child, within its time, and begins when the child before it has ended;
what does not go there begins a stack of its own, in the first lane that is free for so long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from clew.limits import CHROME_LANE_STACKS, CHROME_LANES, CHROME_PROCESSES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.model import SpanRecord

__all__ = ["OTHER_SERVICES", "Lanes", "Placed", "Process"]

OTHER_SERVICES = "other services"


class Placed(NamedTuple):
    """A span and where it is drawn."""

    record: SpanRecord
    start_ns: int
    end_ns: int
    pid: int
    tid: int  # 0: there is no lane for it
    depth: int  # below the first of its stack
    is_apart: bool  # it has a parent, and is not drawn below it


class _Lane:
    """When a lane is taken: stretches of time, in their order, that do not overlap."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def take(self, start_ns: int, end_ns: int) -> bool:
        """Take a stretch, if it is free. Returns: whether it was."""
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, start_ns)
        if (at and ends[at - 1] > start_ns) or (at < len(starts) and starts[at] < end_ns):
            return False
        starts.insert(at, start_ns)
        ends.insert(at, end_ns)
        if len(starts) > CHROME_LANE_STACKS:  # what was long ago is taken as a whole: little comes so late
            half = len(starts) // 2
            starts[:half] = starts[:1]
            ends[:half] = ends[half - 1 : half]
        return True


class Process:
    """What stands for a service."""

    __slots__ = ("lanes", "name", "pid")

    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.lanes: list[_Lane] = []

    def tid(self, number: int) -> int:
        """The thread that is a lane: one number for it in the whole file, which not all viewers need."""
        return self.pid * (CHROME_LANES + 1) + number

    def take_lane(self, start_ns: int, end_ns: int) -> int:
        """The number of a lane that is free for so long, from 1; 0, if there is none."""
        for number, lane in enumerate(self.lanes, start=1):
            if lane.take(start_ns, end_ns):
                return number
        if len(self.lanes) == CHROME_LANES:
            return 0
        self.lanes.append(_Lane())
        self.lanes[-1].take(start_ns, end_ns)
        return len(self.lanes)


class Lanes:
    """Places spans, a trace at a time, with bounded memory."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}  # by the service's name

    def process(self, service: str) -> Process:
        """The process of a service; when there are too many of them, one for the rest."""
        process = self.processes.get(service)
        if process is None:
            if len(self.processes) >= CHROME_PROCESSES:
                service = OTHER_SERVICES
            process = self.processes.setdefault(service, Process(len(self.processes) + 1, service))
        return process

    def place(self, records: Iterable[SpanRecord], first_ns: int) -> list[Placed]:
        """Place spans of one trace, as many of them as are known together.

        Args:
            first_ns: where a span is drawn of which no time is known.
        """
        by_process: dict[int, tuple[Process, list[SpanRecord]]] = {}
        for record in records:
            process = self.process(record.service_name)
            by_process.setdefault(process.pid, (process, []))[1].append(record)
        return [
            placed
            for process, spans in by_process.values()
            for placed in _place(process, sorted((_Drawn(span, first_ns) for span in spans), key=_order))
        ]


class _Drawn:
    """A span with the times at which it is drawn."""

    __slots__ = ("children", "end_ns", "is_placed", "record", "start_ns")

    def __init__(self, record: SpanRecord, first_ns: int) -> None:
        self.record = record
        self.start_ns = record.start_time_ns or record.end_time_ns or first_ns
        self.end_ns = max(record.end_time_ns, self.start_ns)
        self.children: list[_Drawn] = []  # by their start
        self.is_placed = False


def _order(span: _Drawn) -> tuple[int, int]:
    return span.start_ns, -span.end_ns


def _place(process: Process, spans: list[_Drawn]) -> Iterable[Placed]:
    by_id = {span.record.span_id: span for span in spans}
    stacks: deque[_Drawn] = deque()
    for span in spans:
        parent = by_id.get(span.record.parent_id) if span.record.parent_id else None
        if parent is None or parent is span:
            stacks.append(span)
        else:
            parent.children.append(span)
    remaining = iter(spans)
    while True:
        while stacks:
            yield from _place_stack(process, stacks)
        # Those whose parents are each other's children begin somewhere.
        begin = next((span for span in remaining if not span.is_placed), None)
        if begin is None:
            return
        stacks.append(begin)


def _place_stack(process: Process, stacks: deque[_Drawn]) -> Iterable[Placed]:
    """Place the first span that waits with what goes below it; what does not go there waits behind the others."""
    top = stacks.popleft()
    if top.is_placed:
        return
    # A span without length is drawn all the same.
    number = 0
    if top.record.end_time_ns:
        number = process.take_lane(top.start_ns, max(top.end_ns, top.start_ns + 1))
    tid = process.tid(number) if number else 0
    below = [(top, 0)]
    top.is_placed = True
    while below:
        span, depth = below.pop()
        is_apart = span is top and span.record.parent_id != ""
        yield Placed(span.record, span.start_ns, span.end_ns, process.pid, tid, depth, is_apart)
        free_ns = span.start_ns
        for child in span.children:
            if child.is_placed:
                continue
            if tid and free_ns <= child.start_ns and child.end_ns <= span.end_ns and child.record.end_time_ns:
                child.is_placed = True
                free_ns = max(child.end_ns, child.start_ns + 1)
                below.append((child, depth + 1))
            else:
                stacks.append(child)
