"""Choosing traces out of files of any size, in two passes.

The first pass looks at every span and keeps the ids of the best traces so far, the second gathers their spans. Spans
of one trace may be anywhere in the files; what is kept is bounded by what is shown.
"""

from __future__ import annotations

import heapq
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from clew.limits import TRACES_COUNTED
from clew.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from clew.formats.reading import Glance
    from clew.model import SpanRecord

__all__ = ["Chooser", "Gathered", "Gatherer", "Query"]


class Query(NamedTuple):
    """Which traces are wanted: those in which one span matches everything that is asked for."""

    trace_ids: tuple[str, ...] = ()  # prefixes (lower-case hex); any of them
    name: str = ""  # a part of the span's name, or a pattern with *, ? or [
    errors_only: bool = False
    since_ns: int = 0  # the span ended then or later
    slowest: bool = False  # the longest matching spans first; else the newest
    limit: int = 20  # traces

    def matcher(self) -> Callable[[Glance], bool] | None:
        """A function that tells whether a span matches; None, if all do."""
        if not (self.trace_ids or self.name or self.errors_only or self.since_ns):
            return None
        trace_ids, errors_only, since_ns = self.trace_ids, self.errors_only, self.since_ns
        is_named = _name_matcher(self.name)

        def matches(glance: Glance) -> bool:
            trace_id, name, _, end_time_ns, is_error, _, _ = glance
            return (
                end_time_ns >= since_ns
                and (is_error or not errors_only)
                and (not trace_ids or trace_id.startswith(trace_ids))
                and (is_named is None or is_named(name))
            )

        return matches


def _name_matcher(pattern: str) -> Callable[[str], bool] | None:
    if not pattern:
        return None
    if any(char in pattern for char in "*?["):
        return lambda name: fnmatchcase(name, pattern)
    return lambda name: pattern in name


class Chooser:
    """The first pass: the best traces, by the best of their matching spans.

    Because a trace counts by its best span, and not by a sum over its spans, only the best `limit` traces need to be
    kept to know them exactly, in whatever order the spans come.
    """

    def __init__(self, query: Query) -> None:
        self._matches = query.matcher()
        self._slowest = query.slowest
        self._limit = query.limit
        self._best: dict[str, int] = {}  # trace id -> its best span's duration or end
        self._heap: list[tuple[int, str]] = []  # the same, but values may be behind
        self._floor = -(1 << 65)  # what does not rank above this is not among the best, unless its trace is
        self._seen: set[str] = set()
        self.span_count = 0

    def add(self, glances: list[Glance]) -> None:
        """Look at spans. This is done a million times for a file of a million spans: hence no calls in the loop."""
        self.span_count += len(glances)
        if self._matches is not None:
            glances = list(filter(self._matches, glances))
        if len(self._seen) < TRACES_COUNTED:
            self._seen.update([glance[0] for glance in glances])
        slowest, best = self._slowest, self._best
        for trace_id, _, start_time_ns, end_time_ns, _, _, _ in glances:
            rank = end_time_ns - start_time_ns if slowest else end_time_ns
            if trace_id in best:
                if rank > best[trace_id]:  # noqa: PLR1730  # max() would be a call
                    best[trace_id] = rank
            elif rank > self._floor:
                self._admit(trace_id, rank)

    def _admit(self, trace_id: str, rank: int) -> None:
        best, heap = self._best, self._heap
        best[trace_id] = rank
        heapq.heappush(heap, (rank, trace_id))
        while len(best) > self._limit:
            worst_rank, worst = heapq.heappop(heap)
            if best[worst] == worst_rank:
                del best[worst]
            else:  # it got better since
                heapq.heappush(heap, (best[worst], worst))
        if len(best) == self._limit:
            self._floor = heap[0][0]

    @property
    def trace_ids(self) -> list[str]:
        """The best traces, the best first."""
        return sorted(self._best, key=self._best.__getitem__, reverse=True)

    @property
    def matching(self) -> int:
        """How many traces match, counted up to `limits.TRACES_COUNTED`."""
        return min(len(self._seen), TRACES_COUNTED)


class Gathered:
    """The spans of one trace: all of them counted, the most telling ones kept."""

    def __init__(self, max_spans: int) -> None:
        self._max_spans = max_spans
        self._kept: list[tuple[bool, int, int, SpanRecord]] = []  # a heap: error or root, duration, order, span
        self.span_count = 0
        self.error_count = 0
        self.cancelled_count = 0
        self.start_time_ns = 0
        self.end_time_ns = 0

    def add(self, record: SpanRecord) -> None:
        self.span_count += 1
        is_error = record.status is Status.ERROR
        self.error_count += is_error
        self.cancelled_count += record.status is Status.CANCELLED
        if record.end_time_ns:  # a span without any time does not count, as in clew.tree
            self.start_time_ns = min(self.start_time_ns or record.start_time_ns, record.start_time_ns)
            self.end_time_ns = max(self.end_time_ns, record.end_time_ns)
        item = (is_error or not record.parent_id, record.duration_ns, -self.span_count, record)
        if len(self._kept) < self._max_spans:
            heapq.heappush(self._kept, item)
        else:
            heapq.heappushpop(self._kept, item)

    @property
    def records(self) -> list[SpanRecord]:
        """What was kept, in the order in which it came: of too many, roots, errors and the longest spans."""
        return [record for _, _, _, record in sorted(self._kept, key=lambda item: -item[2])]


class Gatherer:
    """The second pass: the spans of the traces that were chosen.

    Args:
        trace_ids: of the traces.
        max_spans: kept of each trace.
    """

    def __init__(self, trace_ids: Iterable[str], max_spans: int) -> None:
        self.traces = {trace_id: Gathered(max_spans) for trace_id in trace_ids}

    def add(self, records: Iterable[SpanRecord]) -> None:
        for record in records:
            trace = self.traces.get(record.trace_id)
            if trace is not None:
                trace.add(record)
