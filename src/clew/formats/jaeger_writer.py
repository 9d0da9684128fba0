"""Spans to Jaeger's JSON, `{"data": [trace, ...]}`, which its UI opens.

Each trace is one element of `data`. The UI keeps traces by their ids: of two elements with the same id it would show
only the last. So the spans of a trace must come one after the other (`writing.Format.is_by_trace`).

Source: see `jaeger`.
"""

from __future__ import annotations

import binascii
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from clew.formats.jaeger import DROPPED_OF_EVENT, ERROR, EVENT, SPAN_KIND, STATUS_DESCRIPTION, WARNINGS
from clew.formats.json_values import text_of, to_json, value_to_json
from clew.formats.microseconds import span_micros, to_micros
from clew.formats.otel_tags import STATUS_CODE, tags_of
from clew.formats.writing import Losses, Writer
from clew.model import Event, Link, Resource, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from clew.model import Attributes, AttributeValue

__all__ = ["JaegerWriter", "object_from_span"]

# Larger integers are text: JavaScript would round them.
_JAVASCRIPT_INTEGER: Final = 1 << 53
_TAKEN: Final = frozenset((SPAN_KIND, STATUS_CODE, STATUS_DESCRIPTION))
_SAMPLED: Final = 1


class JaegerWriter(Writer):
    """Writes traces; of the one that is being written, it keeps only the processes."""

    def __init__(self) -> None:
        super().__init__()
        self._trace_id = ""  # of the trace that is being written
        self._processes: dict[str, str] = {}  # of that: as JSON -> id

    def encode(self, records: list[SpanRecord]) -> bytes:
        parts: list[str] = []
        for trace_id, spans in groupby(records, lambda record: record.trace_id):
            if trace_id != self._trace_id:
                parts.append(self._end_trace() + ",\n" if self._trace_id else '{"data":[\n')
                parts.append(f'{{"traceID":"{trace_id}","spans":[\n')
                self._trace_id = trace_id
            else:
                parts.append(",\n")
            parts.append(",\n".join([self._span(span) for span in spans]))
        return "".join(parts).encode()

    def finish(self) -> bytes:
        return (self._end_trace() + "\n]}\n" if self._trace_id else '{"data":[]}\n').encode()

    def _span(self, record: SpanRecord) -> str:
        return text_of(object_from_span(record, self._process_id(record.resource), self.losses))

    def _process_id(self, resource: Resource) -> str:
        attributes = {key: value for key, value in resource.attributes.items() if key != "service.name"}
        losses = Losses()
        process = text_of({"serviceName": resource.service_name, "tags": _tags(attributes, losses)})
        if process not in self._processes:
            self._processes[process] = f"p{len(self._processes) + 1}"
            for what, count in losses.counts.items():
                self.losses.add(what, count)
        return self._processes[process]

    def _end_trace(self) -> str:
        processes = ",\n".join(f'"{process_id}":{process}' for process, process_id in self._processes.items())
        self._processes = {}
        return f'\n],"processes":{{\n{processes}\n}},"warnings":null}}'


def object_from_span(record: SpanRecord, process_id: str, losses: Losses) -> dict[str, Any]:
    """A span as an object of Jaeger's.

    Args:
        process_id: of its resource.
        losses: where is counted what it cannot hold.
    """
    start, duration = span_micros(record, losses)
    if record.flags & ~_SAMPLED:
        losses.add("span whose W3C flags were left out, except for the one that says that it is sampled")
    values = tags_of(record, losses, _TAKEN.__contains__, with_cancelled=True)
    warnings = values.get(WARNINGS)
    is_warned = isinstance(warnings, tuple) and warnings and all(isinstance(text, str) for text in warnings)
    if is_warned:
        del values[WARNINGS]
    is_error = record.status in (Status.ERROR, Status.CANCELLED)
    if values.get(ERROR) in (True, "true") or (is_error and ERROR in values):
        losses.add("attribute with a name that means something else in the format")
        del values[ERROR]
    tags = _tags(values, losses)
    if record.kind is not SpanKind.INTERNAL:
        tags.append({"key": SPAN_KIND, "type": "string", "value": record.kind.name.lower()})
    if record.status is not Status.UNSET:
        tags.append({"key": STATUS_CODE, "type": "string", "value": "ERROR" if is_error else "OK"})
    if is_error:
        tags.append({"key": ERROR, "type": "bool", "value": True})
    if record.status_description:
        if record.status is Status.UNSET:
            losses.add("description of a status that is not set")
        else:
            tags.append({"key": STATUS_DESCRIPTION, "type": "string", "value": record.status_description})
    return {
        "traceID": record.trace_id,
        "spanID": record.span_id,
        "flags": record.flags & _SAMPLED,
        "operationName": record.name,
        "references": _references(record, losses),
        "startTime": start,
        "duration": duration or 0,
        "tags": tags,
        "logs": [_log(event, losses) for event in record.events],
        "processID": process_id,
        "warnings": list(warnings) if is_warned and isinstance(warnings, tuple) else None,
    }


def _references(record: SpanRecord, losses: Losses) -> list[dict[str, str]]:
    references = []
    if record.parent_id:
        references.append({"refType": "CHILD_OF", "traceID": record.trace_id, "spanID": record.parent_id})
    for link in record.links:
        if link != Link(link.context) or link.context[2:] != (0, "", False, {}):
            losses.add("link whose attributes, trace state or flags were left out (Jaeger has only its ids)")
        references.append({"refType": "FOLLOWS_FROM", "traceID": link.context.trace_id, "spanID": link.context.span_id})
    return references


def _log(event: Event, losses: Losses) -> dict[str, Any]:
    attributes = dict(event.attributes)
    # "If OpenTelemetry Event contains an attribute with the key `event`, it should take precedence" ("Events").
    if EVENT in attributes:
        if event.name:
            losses.add("name of an event that has an attribute called event")
    elif event.name:
        attributes = {EVENT: event.name, **attributes}
    if DROPPED_OF_EVENT in event.attributes:
        losses.add("attribute with a name that means something else in the format")
        del attributes[DROPPED_OF_EVENT]
    if event.dropped_attributes:
        attributes[DROPPED_OF_EVENT] = event.dropped_attributes
    return {"timestamp": to_micros(event.time_ns, losses), "fields": _tags(attributes, losses)}


def _tags(attributes: Attributes, losses: Losses) -> list[dict[str, Any]]:
    return [{"key": key} | _typed(value, losses) for key, value in attributes.items()]


def _typed(value: AttributeValue, losses: Losses) -> dict[str, Any]:
    match value:
        case str():
            return {"type": "string", "value": value}
        case bool():
            return {"type": "bool", "value": value}
        case int() if abs(value) < _JAVASCRIPT_INTEGER:
            return {"type": "int64", "value": value}
        case int():
            return {"type": "int64", "value": str(value)}
        case float():
            plain = value_to_json(value)
            return {"type": "float64", "value": plain if plain == value else plain["doubleValue"]}
        case bytes():
            return {"type": "binary", "value": binascii.b2a_base64(value, newline=False).decode()}
    losses.add("attribute that became text (Jaeger has neither lists nor mappings)")
    return {"type": "string", "value": text_of(to_json({"": value})[""])}
