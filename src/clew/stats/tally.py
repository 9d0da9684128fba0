"""Spans at a glance in, numbers out."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import compress
from operator import sub
from typing import TYPE_CHECKING

from clew.formats import Chooser, Query
from clew.limits import REPORT_NAME_CHARS, STATS_NAMES, STATS_TRACES, STATS_VALUES
from clew.report.distribution import Distribution
from clew.stats.distinct import Distinct
from clew.stats.figures import NameFigures, SlowTrace, Statistics
from clew.stats.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.formats import Gathered, Glance

__all__ = ["OTHER_NAMES", "Tally", "slow_trace"]

OTHER_NAMES = "other names"
_END_NS = 1 << 62  # the year 2116: a time that is later is damaged, one of 0 is not known


class _Group:
    """The spans of one name, counted."""

    __slots__ = ("cancelled", "durations", "errors", "spans")

    def __init__(self) -> None:
        self.spans = self.errors = self.cancelled = 0
        self.durations = Distribution(STATS_VALUES)

    def figures(self, name: str) -> NameFigures:
        durations = self.durations
        return NameFigures(name, self.spans, self.errors, self.cancelled, durations.total_ns, durations.summary())


class Tally:
    """Counts spans.

    Args:
        query: which spans; its order does not matter.
        slowest: the traces of so many of the longest spans are remembered.
    """

    def __init__(self, query: Query, slowest: int) -> None:
        self._matches = query.matcher()
        self._chooser = Chooser(Query(slowest=True, limit=slowest)) if slowest else None
        self._names: dict[str, _Group] = {}
        self._others: _Group | None = None
        self._services: Counter[str] = Counter()
        self._other_services_spans = 0
        self._traces = Distinct(STATS_TRACES)
        self._histogram = Histogram()
        self._spans = self._spans_read = 0
        self._start_ns = self._end_ns = 0

    @property
    def slowest_trace_ids(self) -> list[str]:
        """The traces with the longest spans, the longest first."""
        return self._chooser.trace_ids if self._chooser else []

    def add(self, glances: list[Glance]) -> None:
        """Count spans. As little as can be is done for each of them: there may be millions."""
        self._spans_read += len(glances)
        if self._matches is not None:
            glances = list(filter(self._matches, glances))
        if not glances:
            return
        self._spans += len(glances)
        if self._chooser is not None:
            self._chooser.add(glances)
        # By columns, not by spans: so most of it is done without a step of Python for each.
        trace_ids, names, starts, ends, errors, cancelled, services = zip(*glances, strict=True)
        self._traces.add(set(trace_ids))
        self._add_services(Counter(services))
        for name, spans in Counter(names).items():
            self._group(name).spans += spans
        for name, spans in Counter(compress(names, errors)).items():
            self._group(name).errors += spans
        for name, spans in Counter(compress(names, cancelled)).items():
            self._group(name).cancelled += spans
        if min(starts) <= 0 or min(ends) <= 0 or max(starts) >= _END_NS or max(ends) >= _END_NS:
            known = [
                times for times in zip(names, starts, ends, strict=True) if all(0 < t < _END_NS for t in times[1:])
            ]
            if not known:
                return
            names, starts, ends = zip(*known, strict=True)
        self._add_times(names, starts, ends)

    def _add_times(self, names: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> None:
        self._start_ns = min(self._start_ns or starts[0], *starts)
        self._end_ns = max(self._end_ns, *ends)
        durations = list(map(sub, ends, starts))
        if min(durations) < 0:  # a clock was set
            names = [name for name, duration_ns in zip(names, durations, strict=True) if duration_ns >= 0]
            durations = [duration_ns for duration_ns in durations if duration_ns >= 0]
        self._histogram.add_all(durations)
        by_name: defaultdict[str, list[int]] = defaultdict(list)
        for name, duration_ns in zip(names, durations, strict=True):
            by_name[name].append(duration_ns)
        for name, of_name in by_name.items():
            self._group(name).durations.add_all(of_name)

    def _group(self, name: str) -> _Group:
        """Where a name is counted. A name without an end is counted by its beginning."""
        name = _shown(name)
        group = self._names.get(name)
        if group is None:
            if len(self._names) < STATS_NAMES:
                group = self._names[name] = _Group()
            else:
                group = self._others = self._others or _Group()
        return group

    def _add_services(self, services: Counter[str]) -> None:
        for service, spans in services.items():
            name = _shown(service)
            if name in self._services or len(self._services) < STATS_NAMES:
                self._services[name] += spans
            else:
                self._other_services_spans += spans

    def statistics(self) -> Statistics:
        """What was counted until now."""
        groups = [*self._names.values(), *([self._others] if self._others else [])]
        return Statistics(
            spans_read=self._spans_read,
            spans=self._spans,
            traces=self._traces.number,
            is_traces_exact=self._traces.is_exact,
            services=dict(self._services.most_common()),
            other_services_spans=self._other_services_spans,
            errors=sum(group.errors for group in groups),
            cancelled=sum(group.cancelled for group in groups),
            start_ns=self._start_ns,
            end_ns=self._end_ns,
            names=tuple(group.figures(name) for name, group in self._names.items()),
            other_names=self._others.figures(OTHER_NAMES) if self._others else None,
            histogram=self._histogram.buckets(),
        )


def slow_trace(trace_id: str, gathered: Gathered) -> SlowTrace:
    """A trace in a line, from the spans that were gathered of it."""
    records = gathered.records
    root = max(records, key=lambda record: (not record.parent_id, record.duration_ns))
    return SlowTrace(
        trace_id,
        _shown(root.name),
        _shown(root.service_name),
        gathered.end_time_ns - gathered.start_time_ns,
        gathered.span_count,
        gathered.error_count,
    )


def _shown(name: str) -> str:
    return name if len(name) <= REPORT_NAME_CHARS else name[: REPORT_NAME_CHARS - 1] + "…"
