"""The report as values for JSON: the same numbers as on the page and on the terminal.

Times are nanoseconds since 1970, durations nanoseconds. A field is null where there is nothing to say, never left out.
`version` grows when a field changes its meaning or goes; readers are to ignore fields that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from clew.report.comparison import Change, change_of
from clew.report.figures import FIGURES, label_of
from clew.report.phases import PARTS

if TYPE_CHECKING:
    from clew.model import AttributeValue, SpanRecord
    from clew.report.distribution import Summary
    from clew.report.findings import Failures, Findings, GuardRow, Onions, RelayRow, Report, SlowRequest

__all__ = ["VERSION", "to_json"]

VERSION = 1


def to_json(report: Report) -> dict[str, Any]:
    """The report, made of what `json.dumps` takes."""
    return {
        "version": VERSION,
        "privacy_level": None if report.level is None else report.level.name.lower(),
        "findings": _findings(report.findings),
        "before": None if report.before is None else _findings(report.before),
        "changes": None if report.before is None else _changes(report.findings, report.before),
    }


def _findings(found: Findings) -> dict[str, Any]:
    return {
        "files": list(found.files),
        "remarks": [{"file": found.files[remark.file], "remark": remark.sentence} for remark in found.remarks],
        "recorded_privacy_levels": [level.name.lower() for level in found.levels],
        "spans": found.span_count,
        "start_unix_ns": found.start_ns or None,
        "end_unix_ns": found.end_ns or None,
        "requests": found.requests._asdict(),
        "figures": {
            figure.key: {
                "title": figure.title,
                "meaning": figure.sentence,
                "series": [
                    {"key": key, "label": label_of(figure.key, key), **_summary(summary, with_curve=True)}
                    for key, summary in found.figures[figure.key].items()
                ],
            }
            for figure in FIGURES
        },
        "failures": _failures(found.failures),
        "onion_connections": _onions(found.onions),
        "roles": [{"role": row.role, **_relay(row)} for row in found.roles],
        "guards": list(map(_guard, found.guards)),
        "slow_relays": [
            {"name": row.name, "nickname": row.nickname or None, "roles": row.role, **_relay(row)}
            for row in found.relays
        ],
        "slowest_requests": list(map(_request, found.slowest)),
    }


def _summary(summary: Summary, *, with_curve: bool = False) -> dict[str, Any]:
    values: dict[str, Any] = {
        "count": summary.number,
        "min_ns": summary.min_ns,
        "p50_ns": summary.p50_ns,
        "p90_ns": summary.p90_ns,
        "p99_ns": summary.p99_ns,
        "max_ns": summary.max_ns,
        "mean_ns": summary.mean_ns,
        "percentiles_of": summary.drawn,
    }
    if with_curve:
        values["curve"] = [[point.duration_ns, round(point.share, 6)] for point in summary.curve]
    return values


def _failures(failures: Failures) -> dict[str, Any]:
    return {
        "start_unix_ns": failures.steps.start_ns or None,
        "step_ns": failures.steps.width_ns,
        "steps": failures.steps.number,
        "requests_by_step": list(failures.requests),
        "reasons": [
            {"what": row.what, "reason": row.reason, "count": row.total, "by_step": list(row.by_step)}
            for row in failures.rows
        ],
    }


def _onions(onions: Onions) -> dict[str, Any]:
    return {
        "count": onions.total,
        "failed": onions.failed,
        "middle_ns": onions.middle_ns or None,
        "middle_parts_ns": _parts(onions.parts) if onions.parts else None,
        "slowest": [
            {
                "start_unix_ns": each.start_ns,
                "duration_ns": each.duration_ns,
                "error": each.error or None,
                "parts_ns": _parts(each.parts),
            }
            for each in onions.slowest
        ],
    }


def _parts(parts: Mapping[str, int]) -> dict[str, int]:
    return {str(part): parts[part] for part in PARTS}


def _relay(row: RelayRow) -> dict[str, Any]:
    return {"tries": row.tries, "failed": row.failed, "hop": _optional(row.hop)}


def _guard(row: GuardRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "nickname": row.nickname or None,
        "tries": row.tries,
        "failed": row.failed,
        "hop": _optional(row.hop),
        "circuit_build": _optional(row.build),
        "time_to_first_byte": _optional(row.first_byte),
    }


def _optional(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else _summary(summary)


# --- slow requests --------------------------------------------------------------------------------------------------


def _request(request: SlowRequest) -> dict[str, Any]:
    return {
        "name": request.name,
        "target": request.target or None,
        "start_unix_ns": request.start_ns,
        "duration_ns": request.duration_ns,
        "first_byte_ns": request.first_byte_ns,
        "status": request.status.name.lower(),
        "reason": request.reason or None,
        "onion": request.is_onion,
        "spans_total": request.spans_total,
        "spans": [_span(span, request.start_ns) for span in request.spans],
    }


def _span(span: SpanRecord, start_ns: int) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id or None,
        "name": span.name,
        "service": span.service_name,
        "offset_ns": span.start_time_ns - start_ns,
        "duration_ns": span.duration_ns,
        "status": span.status.name.lower(),
        "status_description": span.status_description or None,
        "attributes": _plain(span.attributes),
        "events": [
            {"name": event.name, "offset_ns": event.time_ns - start_ns, "attributes": _plain(event.attributes)}
            for event in span.events
        ],
    }


def _plain(value: AttributeValue) -> Any:
    """A value as JSON has it: bytes in hex; infinity and the like in words."""
    match value:
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case tuple():
            return list(map(_plain, value))
        case bytes():
            return value.hex()
        case float() if not isfinite(value):
            return str(value)
    return value


# --- before and after -----------------------------------------------------------------------------------------------


def _changes(after: Findings, before: Findings) -> dict[str, Any]:
    return {
        figure.key: [
            {"key": key, **_change(change_of(summary, before.figures[figure.key][key]))}
            for key, summary in after.figures[figure.key].items()
            if key in before.figures[figure.key]
        ]
        for figure in FIGURES
    }


def _change(change: Change) -> dict[str, float | None]:
    return {name: None if share is None else round(share, 6) for name, share in change._asdict().items()}
