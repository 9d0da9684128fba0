"""The numbers of files of traces for JSON: times are nanoseconds since 1970, durations nanoseconds.

A field is null where there is nothing to say, never left out. `version` grows when a field changes its meaning or goes;
readers are to ignore fields that they do not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.stats.figures import NameFigures, SlowTrace, Statistics

__all__ = ["VERSION", "to_json"]

VERSION = 1


def to_json(
    found: Statistics, names: Sequence[NameFigures], slowest: Sequence[SlowTrace], remarks: Sequence[str]
) -> dict[str, Any]:
    """The numbers, made of what `json.dumps` takes.

    Args:
        names: those of `found.names` that were asked for, in their order.
        remarks: what there is to say about the files.
    """
    share = 1 / found.spans if found.spans else 0
    return {
        "version": VERSION,
        "remarks": list(remarks),
        "spans_read": found.spans_read,
        "spans": found.spans,
        "traces": found.traces,
        "traces_is_estimate": not found.is_traces_exact,
        "services": [{"name": name, "spans": spans} for name, spans in found.services.items()],
        "other_services_spans": found.other_services_spans,
        "errors": found.errors,
        "errors_share": found.errors * share,
        "cancelled": found.cancelled,
        "cancelled_share": found.cancelled * share,
        "start_unix_ns": found.start_ns or None,
        "end_unix_ns": found.end_ns or None,
        "spans_per_second": found.spans_per_second,
        "names_known": len(found.names),
        "names": list(map(_name, names)),
        "other_names": None if found.other_names is None else _name(found.other_names),
        "slowest_traces": [trace._asdict() for trace in slowest],
        "durations": [bucket._asdict() for bucket in found.histogram],
    }


def _name(figures: NameFigures) -> dict[str, Any]:
    durations = figures.durations
    return {
        "name": figures.name,
        "spans": figures.spans,
        "errors": figures.errors,
        "cancelled": figures.cancelled,
        "total_ns": figures.total_ns,
        "min_ns": None if durations is None else durations.min_ns,
        "p50_ns": None if durations is None else durations.p50_ns,
        "p90_ns": None if durations is None else durations.p90_ns,
        "p99_ns": None if durations is None else durations.p99_ns,
        "max_ns": None if durations is None else durations.max_ns,
        "mean_ns": None if durations is None else durations.mean_ns,
        "percentiles_of": 0 if durations is None else durations.drawn,
    }
