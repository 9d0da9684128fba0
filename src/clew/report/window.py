"""Spans in the order of their files into traces, with bounded memory.

A trace's spans lie near each other in a file, because they end near each other in time: those of some thousand traces
are held until room is needed, then the trace that got no span for the longest time is taken to be complete. Files are
read side by side, by time, so that this holds for a trace whose spans are in two of them too.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from clew.limits import REPORT_SPANS_HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.model import SpanRecord

__all__ = ["side_by_side", "traces"]


def side_by_side(files: Iterable[Iterator[list[SpanRecord]]]) -> Iterator[list[SpanRecord]]:
    """The blocks of several files, the next one always from the file that lags behind in time."""
    heap: list[tuple[int, int, Iterator[list[SpanRecord]]]] = [(0, number, file) for number, file in enumerate(files)]
    while heap:
        last_ns, number, file = heap[0]
        records = next(file, None)
        if records is None:
            heapq.heappop(heap)
            continue
        last_ns = max(last_ns, max((record.end_time_ns for record in records), default=0))
        heapq.heapreplace(heap, (last_ns, number, file))
        yield records


def traces(blocks: Iterable[list[SpanRecord]], max_spans: int = REPORT_SPANS_HELD) -> Iterator[list[SpanRecord]]:
    """Spans by trace, each list as complete as can be; a trace of which spans come later comes again, with them.

    Args:
        max_spans: how many are held at once.
    """
    held: dict[str, list[SpanRecord]] = {}  # the trace that got a span last is last
    count = 0
    for records in blocks:
        for record in records:
            trace_id = record.trace_id
            spans = held.pop(trace_id, None)
            if spans is None:
                held[trace_id] = [record]
            else:
                spans.append(record)
                held[trace_id] = spans
        count += len(records)
        while count > max_spans:
            spans = held.pop(next(iter(held)))
            count -= len(spans)
            yield spans
    yield from held.values()
