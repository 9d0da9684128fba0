"""Jaeger's JSON, as its UI saves and opens it and its query service answers: `{"data": [trace, ...]}`, to spans.

A trace has its spans first and the processes that they name behind them: so its spans wait, as text, for their
processes.

Source: Jaeger, model/json; OpenTelemetry specification, "OpenTelemetry to Jaeger Transformation"; what that leaves open
(trace state): the Jaeger translator of the OpenTelemetry collector.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from clew.errors import DecodeError
from clew.formats.blocks import ObjectBlock
from clew.formats.json_stream import Broken, Closed, Found, JsonStream
from clew.formats.json_values import hex_id, list_of, natural, object_of, parse, string_of
from clew.formats.microseconds import end_ns, from_micros
from clew.formats.otel_tags import DROPPED_ATTRIBUTES, STATUS_CODE, status_of_code, take_cancelled, untag
from clew.formats.reading import Damage, Glance, Reader
from clew.limits import JAEGER_HELD_CHARACTERS, JAEGER_PARSED_CHARACTERS
from clew.model import Event, Link, Resource, SpanContext, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clew.formats.json_stream import Piece
    from clew.formats.reading import Item
    from clew.model import AttributeValue

__all__ = [
    "DROPPED_OF_EVENT",
    "ERROR",
    "EVENT",
    "SPAN_KIND",
    "STATUS_DESCRIPTION",
    "WARNINGS",
    "JaegerReader",
    "Processes",
    "span_from_object",
]

SPAN_KIND: Final = "span.kind"
ERROR: Final = "error"
EVENT: Final = "event"  # the field of a log that is the event's name
STATUS_DESCRIPTION: Final = "otel.status_description"
DROPPED_OF_EVENT: Final = "otel.event.dropped_attributes_count"
WARNINGS: Final = "@jaeger@warnings"  # where Jaeger itself, version 2, keeps a span's warnings in OTLP

_KINDS: Final = {kind.name.lower(): kind for kind in SpanKind}
_UNNAMED: Final = Resource().service_name

_STATUS_TAGS: Final = frozenset((ERROR, STATUS_CODE))
_GLANCED_MICROS: Final = (1 << 64) // 1000 - 1000  # what is later is looked at closely

# A file may also hold one trace, an array of them, or one a line.
_TRACES: Final = ("", "[]", ".data[]")
_CONTAINERS: Final = (
    {"": "[{", ".data": "["} | dict.fromkeys(_TRACES[1:], "{") | {path + ".spans": "[" for path in _TRACES}
)
_SPANS: Final = frozenset(path + ".spans[]" for path in _TRACES)
_PROCESSES: Final = frozenset(path + ".processes" for path in _TRACES)
_HOME: Final = (("", "{"), (".data", "["), (".data[]", "{"), (".data[].spans", "["))
# How a span begins, and nothing else: a trace has its spans behind its id, a reference its type before it. All of the
# word that tells must be there: the text may still be coming.
_START: Final = re.compile(
    r'(\{\s{0,80}"(?:traceID"\s{0,9}:\s{0,9}"[0-9A-Fa-f]{1,32}"\s{0,9},\s{0,80}"(?!spans"|processes")[A-Za-z]{1,20}"'
    r'|spanID"\s{0,9}:\s{0,9}"[0-9A-Fa-f]{1,16}"))'
)


class JaegerReader(Reader):
    """Reads traces.

    Args:
        wanted: spans of other traces than these (lower-case hex) are left out; None reads everything.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._stream = JsonStream(_CONTAINERS, _HOME, _START)
        self._number = 0  # of spans, damaged ones included
        # Spans whose processes have not come: number, and the object; of many, its text, which is a tenth as large.
        self._held: list[tuple[int, dict[str, Any] | str]] = []
        self._held_trace = ""
        self._size = 0  # of their text, in characters
        self._processes: Processes | None = None  # of the trace that is being read, if they came

    def feed(self, data: bytes) -> Iterator[Item]:
        return self._items(self._stream.feed(data))

    def finish(self) -> Iterator[Item]:
        yield from self._items(self._stream.finish())
        yield from self._release(None)

    def _items(self, pieces: Iterable[Piece]) -> Iterator[Item]:
        for piece in pieces:
            match piece:
                case Found(path, value, text):
                    if path in _SPANS:
                        yield from self._span(value, text)
                    elif path in _PROCESSES:
                        self._processes = Processes(value if isinstance(value, dict) else {})
                        yield from self._release(self._processes)
                case Closed(path):
                    if path in _TRACES:
                        yield from self._release(None)
                        self._processes = None
                case Broken(reason, is_tail):
                    self._number += 1
                    self._processes = None  # what follows may be of another trace
                    yield Damage(self._number, self._number, reason, "span", is_tail)

    def _span(self, value: Any, text: str) -> Iterator[Item]:
        self._number += 1
        if not isinstance(value, dict):
            yield Damage(self._number, self._number, "it is no object", "span")
            return
        trace_id = _id_or_none(value.get("traceID"))
        if self._wanted is not None and trace_id not in self._wanted:
            return
        if self._processes is not None:
            yield _block(self._number, value, self._processes)
            return
        # Processes belong to one trace. A new one begins within it only where damage was.
        if self._held and (trace_id != self._held_trace or self._size > JAEGER_HELD_CHARACTERS):
            yield from self._release(None)
        self._held.append((self._number, value if self._size < JAEGER_PARSED_CHARACTERS else text))
        self._held_trace = trace_id or ""
        self._size += len(text)

    def _release(self, processes: Processes | None) -> Iterator[Item]:
        """Give the spans that wait.

        Args:
            processes: those that they wait for; None if they will not come.
        """
        held, self._held, self._size = self._held, [], 0
        found = processes or Processes({})
        for number, span in held:
            yield _block(number, parse(span) if isinstance(span, str) else span, found)
        if held and processes is None:
            reason = "its trace's processes did not come, or too late: it is read without its service"
            yield Damage(held[0][0], held[-1][0], reason, "span")


class Processes:
    """The processes of a trace as resources, each made once.

    Args:
        objects: by their ids.
    """

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self._objects = objects
        self._resources: dict[str, Resource] = {}

    def resource(self, process_id: str) -> Resource:
        """That of a process; an empty one, if it is not known.

        Raises: DecodeError.
        """
        resource = self._resources.get(process_id)
        if resource is None:
            resource = self._resources[process_id] = _resource(self._objects.get(process_id))
        return resource


def _resource(value: Any) -> Resource:
    process = object_of(value)
    service = string_of(process.get("serviceName"))
    attributes = _attributes(process.get("tags"))
    if service and service != _UNNAMED:
        return Resource({"service.name": service, **attributes})
    return Resource(attributes) if attributes else Resource()


def _block(number: int, value: dict[str, Any], processes: Processes) -> ObjectBlock:
    return ObjectBlock(
        number, value, lambda span: span_from_object(span, processes), lambda span: _look(span, processes)
    )


def _look(span: Mapping[str, Any], processes: Processes) -> Glance | None:
    get = span.get
    name, start, duration, tags = get("operationName"), get("startTime"), get("duration"), get("tags")
    if (
        type(name) is not str
        or type(start) is not int
        or type(duration) is not int
        or not 0 <= start <= start + duration <= _GLANCED_MICROS
        or get("process") is not None
        or type(tags) is not list
    ):
        return None
    for tag in tags:
        if type(tag) is not dict or tag.get("key") in _STATUS_TAGS:
            return None
    trace_id = _id(get("traceID"), 32)
    if not trace_id:
        return None
    service = processes.resource(string_of(get("processID"))).service_name
    return Glance(trace_id, name, start * 1000, (start + duration) * 1000, False, False, service)


def _id_or_none(value: Any) -> str | None:
    try:
        return _id(value, 32)
    except DecodeError:
        return None


def span_from_object(span: Mapping[str, Any], processes: Processes) -> SpanRecord:
    """Read one span.

    Args:
        processes: of its trace.

    Raises: DecodeError.
    """
    attributes = _attributes(span.get("tags"))
    kind = _take_kind(attributes)
    status, description = _take_status(attributes)
    told = untag(attributes)
    if warnings := [string_of(warning) for warning in list_of(span.get("warnings"))]:
        attributes[WARNINGS] = tuple(warnings)
    trace_id, span_id = _id(span.get("traceID"), 32), _id(span.get("spanID"), 16)
    if not trace_id or not span_id:
        raise DecodeError("a span has no id")
    parent_id, links = _references(span, trace_id)
    process_id = string_of(span.get("processID"))
    start_time_ns = from_micros(span.get("startTime") or 0)
    return SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_id="" if parent_id == span_id else parent_id,
        name=string_of(span.get("operationName")),
        kind=kind,
        start_time_ns=start_time_ns,
        end_time_ns=end_ns(start_time_ns, from_micros(span.get("duration") or 0)),
        status=status,
        status_description=description,
        attributes=attributes,
        events=tuple([_event(log) for log in list_of(span.get("logs"))]),
        links=links,
        trace_state=told.trace_state,
        flags=natural(span.get("flags") or 0, 32) & 1,  # 1: sampled, as W3C's; the others are Jaeger's own
        dropped_attributes=told.dropped_attributes,
        dropped_events=told.dropped_events,
        dropped_links=told.dropped_links,
        resource=_resource(process) if (process := span.get("process")) else processes.resource(process_id),
        scope=told.scope,
    )


def _references(span: Mapping[str, Any], trace_id: str) -> tuple[str, tuple[Link, ...]]:
    """The parent, which is the first CHILD_OF of the same trace, and the links."""
    parent_id = ""
    links = []
    for item in list_of(span.get("references")):
        reference = object_of(item)
        context = SpanContext(
            _id(reference.get("traceID"), 32) or "0" * 32, _id(reference.get("spanID"), 16) or "0" * 16
        )
        if not parent_id and reference.get("refType") == "CHILD_OF" and context.trace_id == trace_id:
            parent_id = context.span_id if context.is_valid else ""
        else:
            links.append(Link(context))
    return parent_id or _id(span.get("parentSpanID"), 16), tuple(links)


def _take_kind(attributes: dict[str, AttributeValue]) -> SpanKind:
    word = attributes.get(SPAN_KIND)
    kind = _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        return SpanKind.INTERNAL
    del attributes[SPAN_KIND]
    return kind


def _take_status(attributes: dict[str, AttributeValue]) -> tuple[Status, str]:
    """Take the status and its description out of the tags ("Status", "Error flag")."""
    status = status_of_code(attributes.get(STATUS_CODE))
    if status is not None:
        del attributes[STATUS_CODE]
    if attributes.get(ERROR) in (True, "true"):
        del attributes[ERROR]
        status = Status.ERROR
    if status is None:
        return Status.UNSET, ""
    description = attributes.get(STATUS_DESCRIPTION, "")
    if not isinstance(description, str):
        description = ""
    else:
        attributes.pop(STATUS_DESCRIPTION, None)
    return (take_cancelled(attributes) if status is Status.ERROR else status), description


def _event(value: Any) -> Event:
    log = object_of(value)
    attributes = _attributes(log.get("fields"))
    name = attributes.get(EVENT)
    if isinstance(name, str):
        del attributes[EVENT]
    dropped = 0
    for key in (DROPPED_OF_EVENT, DROPPED_ATTRIBUTES):
        count = attributes.get(key)
        if type(count) is int and 0 < count < 1 << 32:
            dropped = count
            del attributes[key]
            break
    return Event(name if isinstance(name, str) else "", from_micros(log.get("timestamp") or 0), attributes, dropped)


def _attributes(tags: Any) -> dict[str, AttributeValue]:
    return {
        string_of(tag.get("key")): _value(tag.get("type"), tag.get("value")) for tag in map(object_of, list_of(tags))
    }


def _value(kind: Any, value: Any) -> AttributeValue:
    """A tag's value. Numbers may be text: JavaScript has no integers of 64 bits, and JSON no NaN."""
    try:
        if kind == "int64" and isinstance(value, (str, int)):
            return int(value)
        if kind == "float64" and isinstance(value, (str, int, float)):
            return float(value)
        if kind == "bool" and isinstance(value, (str, bool)):
            return _BOOLEANS[value]
        if kind == "binary" and isinstance(value, str):
            return binascii.a2b_base64(value, strict_mode=True)
    except (ValueError, KeyError, OverflowError) as error:
        raise DecodeError("a tag is not of its type") from error
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise DecodeError("a tag is neither text nor a number")


_BOOLEANS: Final[dict[object, bool]] = {True: True, False: False, "true": True, "false": False}


def _id(value: Any, digits: int) -> str:
    """An id, filled up with zeros, which Jaeger leaves out."""
    if isinstance(value, str) and 0 < len(value) < digits:
        value = value.rjust(digits, "0")
    return hex_id(value, digits)
