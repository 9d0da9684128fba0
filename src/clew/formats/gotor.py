"""go-tor's `traces.json`: one JSON object a span.

An object has the keys TraceID, SpanID, ParentID, Name, Kind, StartTime, EndTime, Duration (nanoseconds), Status,
Attributes and Events (Timestamp, Name, Attributes). Times are RFC 3339 with up to nine digits of a second; a time that
was never set is 0001-01-01T00:00:00Z. Ids are decimal (the nanosecond at which they were made); the service's name and
the status' description are attributes.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from clew.errors import DecodeError
from clew.formats.json_values import from_json, list_of, value_from_json
from clew.formats.otel_tags import untag
from clew.model import Event, Resource, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["hex_id", "span_from_object"]

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_HEX = re.compile(r"[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[0-9]{1,20}")

_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_STATUSES = {"": Status.UNSET} | {status.name.lower(): status for status in Status}


def span_from_object(value: Mapping[str, Any]) -> SpanRecord:
    """Read one object.

    A span that never ended (its EndTime is the zero time, and it has no Duration) ends when it starts, and is marked
    with `clew.unfinished`, as clew's own are. Words for Kind and Status that are not known are kept as attributes.

    Raises: DecodeError.
    """
    attributes = dict(from_json(value.get("Attributes")))
    told = untag(attributes)
    service = attributes.pop("service.name", None)
    description = attributes.pop("status.description", "")
    start_time_ns, end_time_ns = _times(value)
    if not end_time_ns:
        end_time_ns = start_time_ns
        attributes["clew.unfinished"] = True
    kind = _KINDS.get(str(value.get("Kind", "")).lower())
    if kind is None:
        attributes["go-tor.kind"] = value_from_json(value.get("Kind"))
    status = _STATUSES.get(str(value.get("Status", "")).lower())
    if status is None:
        attributes["go-tor.status"] = value_from_json(value.get("Status"))
    return SpanRecord(
        trace_id=hex_id(value.get("TraceID"), 32),
        span_id=hex_id(value.get("SpanID"), 16),
        parent_id=hex_id(value["ParentID"], 16) if value.get("ParentID") else "",
        name=_text(value.get("Name", "")),
        kind=kind or SpanKind.INTERNAL,
        start_time_ns=start_time_ns,
        end_time_ns=end_time_ns,
        status=status or Status.UNSET,
        status_description=str(description),
        attributes=attributes,
        events=tuple(map(_event, list_of(value.get("Events")))),
        trace_state=told.trace_state,
        dropped_attributes=told.dropped_attributes,
        dropped_events=told.dropped_events,
        dropped_links=told.dropped_links,
        resource=Resource() if service is None else Resource({"service.name": str(service)}),
        scope=told.scope,
    )


def hex_id(value: object, digits: int) -> str:
    """Turn an id into one of OTLP's form: hex of the right length stays, a decimal number becomes hex, and any other
    text becomes a hash, the same for the same text.

    Raises: DecodeError, if there is no id.
    """
    text = value if isinstance(value, str) else ""
    if len(text) == digits and _HEX.fullmatch(text):
        return text.lower()
    if _DECIMAL.fullmatch(text) and 0 < int(text) < 1 << 64:
        return f"{int(text):0{digits}x}"
    if not text:
        raise DecodeError("a span has no id")
    from hashlib import blake2b  # seldom needed, and it loads OpenSSL

    return blake2b(text.encode(errors="surrogatepass"), digest_size=digits // 2).hexdigest()


def _times(value: Mapping[str, Any]) -> tuple[int, int]:
    """The start and the end; an unknown one follows from the duration, or is 0."""
    start_time_ns, end_time_ns = _time_ns(value.get("StartTime")), _time_ns(value.get("EndTime"))
    duration_ns = value.get("Duration", 0)
    if isinstance(duration_ns, bool) or not isinstance(duration_ns, int):
        raise DecodeError("a Duration is no number of nanoseconds")
    if start_time_ns and not end_time_ns and duration_ns > 0:
        end_time_ns = start_time_ns + duration_ns
    if end_time_ns and not start_time_ns:
        start_time_ns = max(end_time_ns - duration_ns, 0)
    return start_time_ns, end_time_ns


def _time_ns(value: object) -> int:
    """Nanoseconds since 1970, 0 for a time that is missing, or before 1970 (as the zero time is)."""
    if value is None or value == "":
        return 0
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise DecodeError("a time is not in the form of RFC 3339")
    year, month, day, hours, minutes, seconds, fraction, sign, zone_hours, zone_minutes = match.groups()
    total = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + _days(int(year), int(month), int(day)) * 86_400
    if sign:
        offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
        total += -offset if sign == "+" else offset
    time_ns = total * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    if time_ns >= 1 << 64:
        raise DecodeError("a time is beyond the year 2554")
    return max(time_ns, 0)


@lru_cache(maxsize=64)
def _days(year: int, month: int, day: int) -> int:
    try:
        return date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise DecodeError("a time is on a day that does not exist") from error


def _event(value: Any) -> Event:
    if not isinstance(value, dict):
        raise DecodeError("an event is no object")
    return Event(_text(value.get("Name", "")), _time_ns(value.get("Timestamp")), from_json(value.get("Attributes")))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DecodeError("a name is no text")
    return value
