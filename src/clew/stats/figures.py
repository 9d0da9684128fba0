"""The numbers of files of traces, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew.report.distribution import Summary

__all__ = ["SORTS", "Bucket", "NameFigures", "SlowTrace", "Statistics"]


class Bucket(NamedTuple):
    """A bar of a histogram."""

    from_ns: int
    to_ns: int | None  # the first duration beyond it; None for what has no end
    spans: int


class NameFigures(NamedTuple):
    """The spans of one name."""

    name: str
    spans: int
    errors: int
    cancelled: int
    total_ns: int
    durations: Summary | None  # None, if none has a duration: it was not ended, or its times are damaged


class SlowTrace(NamedTuple):
    """A trace that took long."""

    trace_id: str
    name: str  # of its root; of its longest span, if the root is not there
    service: str
    duration_ns: int  # from the start of its first span to the end of its last one
    spans: int
    errors: int


class Statistics(NamedTuple):
    """What was counted. All numbers but `spans_read` are of the spans that were asked for."""

    spans_read: int
    spans: int
    traces: int
    is_traces_exact: bool  # else they are an estimate
    services: Mapping[str, int]  # their spans, the largest number first
    other_services_spans: int  # of those that came when enough names of services were known
    errors: int
    cancelled: int
    start_ns: int  # of the first span, since 1970; 0, if no span has a time
    end_ns: int  # of the last span to end
    names: tuple[NameFigures, ...]  # in the order in which they came
    other_names: NameFigures | None  # all that came when enough names were known
    histogram: tuple[Bucket, ...]  # without gaps, from the shortest duration to the longest

    @property
    def spans_per_second(self) -> float | None:
        """Over the time from the first span's start to the last one's end; None, if there is no such time."""
        length_ns = self.end_ns - self.start_ns
        return self.spans * 1e9 / length_ns if length_ns > 0 else None

    def sorted_names(self, key: str) -> list[NameFigures]:
        """The names in an order of `SORTS`: the largest number first, names by the alphabet."""
        by_name = sorted(self.names, key=lambda figures: figures.name)
        return by_name if key == "name" else sorted(by_name, key=SORTS[key], reverse=True)


def _of(field: str) -> Callable[[NameFigures], int]:
    return lambda figures: -1 if figures.durations is None else int(getattr(figures.durations, field))


# By what names can be sorted: what it is called, and the number.
SORTS: dict[str, Callable[[NameFigures], int]] = {
    "count": lambda figures: figures.spans,
    "errors": lambda figures: figures.errors,
    "total": lambda figures: figures.total_ns,
    "p50": _of("p50_ns"),
    "p90": _of("p90_ns"),
    "p99": _of("p99_ns"),
    "max": _of("max_ns"),
    "name": lambda _: 0,
}
