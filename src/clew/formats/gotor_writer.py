"""Spans to go-tor's `traces.json`: one object a line. Reading is in `gotor`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from clew.formats.json_values import text_of, to_json
from clew.formats.otel_tags import tags_of
from clew.formats.writing import Writer

if TYPE_CHECKING:
    from clew.formats.writing import Losses
    from clew.model import SpanRecord

__all__ = ["GoTorWriter", "object_from_span"]

# What go-tor has no fields for is attributes there too.
_SERVICE: Final = "service.name"
_DESCRIPTION: Final = "status.description"
_TAKEN: Final = frozenset((_SERVICE, _DESCRIPTION))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = "0001-01-01T00:00:00Z"  # Go's zero time: a span that never ended


class GoTorWriter(Writer):
    """Writes objects, each on a line of its own."""

    def encode(self, records: list[SpanRecord]) -> bytes:
        return "".join(text_of(object_from_span(record, self.losses)) + "\n" for record in records).encode()

    def finish(self) -> bytes:
        return b""


def object_from_span(record: SpanRecord, losses: Losses) -> dict[str, Any]:
    """A span as an object of go-tor's.

    Args:
        losses: where is counted what it cannot hold.
    """
    values = tags_of(record, losses, _TAKEN.__contains__, with_resource=True)
    never_ended = record.end_time_ns == record.start_time_ns and values.get("clew.unfinished") is True
    if never_ended:
        del values["clew.unfinished"]
    attributes = to_json(values)
    if _SERVICE in record.resource.attributes:
        attributes[_SERVICE] = record.service_name
    if record.status_description:
        attributes[_DESCRIPTION] = record.status_description
    losses.add("link (go-tor has none)", len(record.links))
    losses.add("span whose W3C flags were left out (go-tor has none)", record.flags != 0)
    losses.add(
        "event whose count of dropped attributes was left out", sum(e.dropped_attributes > 0 for e in record.events)
    )
    if not record.end_time_ns and not never_ended:
        losses.add("end of a span, which was at no time")
    return {
        "TraceID": record.trace_id,
        "SpanID": record.span_id,
        "ParentID": record.parent_id,
        "Name": record.name,
        "Kind": record.kind.name.lower(),
        "StartTime": _time(record.start_time_ns),
        "EndTime": _NEVER if never_ended else _time(record.end_time_ns),
        "Duration": record.duration_ns,
        "Status": record.status.name.lower(),
        "Attributes": attributes,
        "Events": [
            {"Timestamp": _time(event.time_ns), "Name": event.name, "Attributes": to_json(event.attributes)}
            for event in record.events
        ],
    }


def _time(time_ns: int) -> str:
    """RFC 3339 with nanoseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest:09d}Z"


@lru_cache(maxsize=1024)  # spans that are near each other in a file are so in time
def _second(seconds: int) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"
