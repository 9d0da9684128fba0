"""Spans as the SDK's users read them: events, links, and the JSON of its console exporter."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace as api

if TYPE_CHECKING:
    from clew.model import Attributes

__all__ = ["Event", "Link", "acceptable", "format_span"]

_log = logging.getLogger("clew.otel")


class Event(NamedTuple):
    """Something that happened at one moment of a span."""

    name: str
    timestamp: int  # wall-clock nanoseconds since 1970
    attributes: Attributes = MappingProxyType({})
    dropped_attributes: int = 0


class Link(api.Link):
    """A pointer from a span to another, that knows what it could not hold.

    Args:
        context: of the other.
        attributes: of the link.
        dropped: how many attributes it was given beyond its limit.
    """

    def __init__(self, context: api.SpanContext, attributes: Attributes, dropped: int = 0) -> None:
        super().__init__(context, attributes)
        self._dropped = dropped

    @property
    def dropped_attributes(self) -> int:
        return self._dropped


def acceptable(value: Any) -> Any:
    """What becomes of an attribute's value that may be none: its text, if its class has one of its own, else None.

    Sequences, mappings and subclasses of plain types are left to the core.
    """
    if isinstance(value, (str, int, float, bytes, Sequence, Mapping)):
        return value
    _log.warning("Invalid type `%s` for an attribute's value.", type(value))
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return None
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the core has a placeholder for it
        return value


def format_span(span: Any, indent: int | None) -> str:
    """What the SDK's console exporter prints of a span.

    Args:
        span: what can be read as the SDK's ReadableSpan.
        indent: of nested lines, as in `json.dumps`.
    """
    status = {"status_code": span.status.status_code.name}
    if span.status.description:
        status["description"] = span.status.description
    return json.dumps(
        {
            "name": span.name,
            "context": _context(span.context),
            "kind": str(span.kind),
            "parent_id": None if span.parent is None else f"0x{api.format_span_id(span.parent.span_id)}",
            "start_time": _time(span.start_time),
            "end_time": _time(span.end_time),
            "status": status,
            "attributes": _plain(span.attributes),
            "events": [
                {"name": event.name, "timestamp": _time(event.timestamp), "attributes": _plain(event.attributes)}
                for event in span.events
            ],
            "links": [
                {"context": _context(link.context), "attributes": _plain(link.attributes)} for link in span.links
            ],
            "resource": None if span.resource is None else json.loads(span.resource.to_json()),
        },
        indent=indent,
        default=repr,  # bytes
    )


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(attributes or {})


def _context(context: api.SpanContext) -> dict[str, str]:
    return {
        "trace_id": f"0x{api.format_trace_id(context.trace_id)}",
        "span_id": f"0x{api.format_span_id(context.span_id)}",
        "trace_state": repr(context.trace_state),
    }


def _time(nanoseconds: int | None) -> str | None:
    """ISO 8601, to the microsecond."""
    if not nanoseconds:
        return None
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).replace(
        microsecond=nanoseconds // 1000 % 1_000_000
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
