"""Hypothesis strategies for OTLP, and what the official messages say about the same bytes.

`messages` makes ordinary messages. `wire` makes bytes that protobuf allows though no encoder writes them: fields in any
order and more than once, messages in pieces, padded varints, unknown fields, known fields of a wrong wire type, groups.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, TracesData

from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.descriptor import Descriptor
    from hypothesis.strategies import DrawFn, SearchStrategy

    from clew.model import AttributeValue

__all__ = ["exact", "json_of", "nested", "records_of", "span_fields", "spans", "traces", "varint", "wire"]

# Profiles keep strings in a table. Spans never do.
TABLE_FIELDS = {"string_value_strindex", "key_strindex"}
IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}

uint32s = st.integers(0, 2**32 - 1)
uint64s = st.integers(0, 2**64 - 1)
int64s = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=12)
trace_ids = st.binary(min_size=16, max_size=16).filter(any)
span_ids = st.binary(min_size=8, max_size=8).filter(any)


# --- ordinary messages ----------------------------------------------------------------------------------------------


def _array(values: list[AnyValue]) -> AnyValue:
    message = AnyValue()
    message.array_value.SetInParent()
    message.array_value.values.extend(values)
    return message


def _kvlist(pairs: list[KeyValue]) -> AnyValue:
    message = AnyValue()
    message.kvlist_value.SetInParent()
    message.kvlist_value.values.extend(pairs)
    return message


def _pairs(values: SearchStrategy[AnyValue]) -> SearchStrategy[list[KeyValue]]:
    return st.lists(st.builds(KeyValue, key=texts, value=st.none() | values), max_size=3)


any_values: SearchStrategy[AnyValue] = st.recursive(
    st.one_of(
        st.builds(AnyValue),
        st.builds(AnyValue, string_value=texts),
        st.builds(AnyValue, bool_value=st.booleans()),
        st.builds(AnyValue, int_value=int64s),
        st.builds(AnyValue, double_value=st.floats()),
        st.builds(AnyValue, bytes_value=st.binary(max_size=12)),
    ),
    lambda values: st.lists(values, max_size=3).map(_array) | _pairs(values).map(_kvlist),
    max_leaves=6,
)
attributes = _pairs(any_values)
events = st.builds(
    Span.Event, time_unix_nano=uint64s, name=texts, attributes=attributes, dropped_attributes_count=uint32s
)
links = st.builds(
    Span.Link,
    trace_id=trace_ids,
    span_id=span_ids,
    trace_state=texts,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    flags=uint32s,
)
spans = st.builds(
    Span,
    trace_id=trace_ids,
    span_id=span_ids,
    trace_state=texts,
    parent_span_id=st.just(b"") | span_ids,
    flags=uint32s,
    name=texts,
    kind=st.integers(0, 5),
    start_time_unix_nano=uint64s,
    end_time_unix_nano=uint64s,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    events=st.lists(events, max_size=2),
    dropped_events_count=uint32s,
    links=st.lists(links, max_size=2),
    dropped_links_count=uint32s,
    status=st.none() | st.fixed_dictionaries({"message": texts, "code": st.integers(0, 2)}),
)
scopes = st.fixed_dictionaries({"name": texts, "version": texts, "attributes": attributes})
traces = st.builds(
    TracesData,
    resource_spans=st.lists(
        st.fixed_dictionaries(
            {
                "resource": st.none() | st.fixed_dictionaries({"attributes": attributes}),
                "scope_spans": st.lists(
                    st.builds(ScopeSpans, scope=st.none() | scopes, spans=st.lists(spans, max_size=2)), max_size=2
                ),
            }
        ),
        max_size=2,
    ),
)


def span_fields(messages: Iterable[Span]) -> bytes:
    """Spans as concatenated ScopeSpans.spans fields."""
    return ScopeSpans(spans=list(messages)).SerializeToString()


# --- odd, legal bytes -----------------------------------------------------------------------------------------------


def varint(value: int, size: int = 0) -> bytes:
    """A varint, padded to `size` bytes."""
    out = bytearray()
    while value >= 0x80 or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@st.composite
def _payload(draw: DrawFn, wire_type: int, field: FieldDescriptor | None, depth: int) -> bytes:
    if wire_type == 0:
        return varint(draw(st.integers(0, 6) | uint64s), draw(st.integers(0, 10)))
    if wire_type == 1:
        return struct.pack("<Q", draw(uint64s))
    if wire_type == 5:
        return struct.pack("<I", draw(uint32s))
    if wire_type == 3:
        return b""
    if field is None or field.type == FieldDescriptor.TYPE_BYTES:
        size = IDS.get(field.name) if field else None
        data = draw(st.binary(min_size=size, max_size=size) if size else st.binary(max_size=5))
    elif field.type == FieldDescriptor.TYPE_STRING:
        data = draw(st.text(max_size=5)).encode()
    else:
        assert field.message_type is not None
        data = draw(wire(field.message_type, depth - 1))
        if field.message_type is Span.DESCRIPTOR:  # its ids are required
            data += b"\x0a\x10" + draw(trace_ids) + b"\x12\x08" + draw(span_ids)
    return varint(len(data), draw(st.integers(0, 5))) + data


WIRE_TYPES = {
    FieldDescriptor.TYPE_FIXED64: 1,
    FieldDescriptor.TYPE_DOUBLE: 1,
    FieldDescriptor.TYPE_FIXED32: 5,
    FieldDescriptor.TYPE_STRING: 2,
    FieldDescriptor.TYPE_BYTES: 2,
    FieldDescriptor.TYPE_MESSAGE: 2,
}


@st.composite
def _field(draw: DrawFn, descriptor: Descriptor, depth: int) -> bytes:
    known = [field for field in descriptor.fields if field.name not in TABLE_FIELDS]
    if depth <= 0:
        known = [field for field in known if field.type != FieldDescriptor.TYPE_MESSAGE]
    odd = draw(st.integers(0, 9)) == 0
    if known and not odd:
        field = draw(st.sampled_from(known))
        wire_type = WIRE_TYPES.get(field.type, 0)
        number = field.number
    else:  # unknown, or known by another wire type
        field = None
        number = draw(st.sampled_from([field.number for field in descriptor.fields]) | st.integers(1, 2**29 - 1))
        wire_types = {WIRE_TYPES.get(other.type, 0) for other in descriptor.fields if other.number == number}
        wire_type = draw(st.sampled_from([kind for kind in (0, 1, 2, 3, 5) if kind not in wire_types]))
    tag = varint(number << 3 | wire_type, draw(st.integers(0, 5)))
    data = tag + draw(_payload(wire_type, field, depth))
    if wire_type == 3:
        return data + draw(_field(descriptor, 0)) + varint(number << 3 | 4)
    return data


@st.composite
def wire(draw: DrawFn, descriptor: Descriptor, depth: int = 9) -> bytes:
    """Bytes that the official parser of a message accepts."""
    return b"".join(draw(st.lists(_field(descriptor, depth), max_size=4)))


def nested(levels: int) -> bytes:
    """A spans field whose one attribute is an empty list, that many levels down."""
    value = b""
    for _ in range(levels):
        items = b"\x0a" + varint(len(value)) + value if value else b""
        value = b"\x2a" + varint(len(items)) + items
    pair = b"\x12" + varint(len(value)) + value
    span = b"\x4a" + varint(len(pair)) + pair
    return b"\x12" + varint(len(span)) + span


# --- what the official messages say ---------------------------------------------------------------------------------

FIELDS: dict[str, Callable[[AnyValue], AttributeValue]] = {
    "string_value": lambda value: value.string_value,
    "bool_value": lambda value: value.bool_value,
    "int_value": lambda value: value.int_value,
    "double_value": lambda value: value.double_value,
    "bytes_value": lambda value: value.bytes_value,
    "array_value": lambda value: tuple(_value(item) for item in value.array_value.values),
    "kvlist_value": lambda value: _attributes(value.kvlist_value.values),
}


def _value(value: AnyValue) -> AttributeValue:
    field = value.WhichOneof("value")
    return FIELDS[field](value) if field else None


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _record(span: Span, resource: Resource, scope: Scope) -> SpanRecord:
    attributes = _attributes(span.attributes)
    status = Status(span.status.code) if 0 <= span.status.code <= 2 else Status.UNSET
    if status is Status.ERROR and attributes.get("clew.status") == "cancelled":
        status = Status.CANCELLED
        del attributes["clew.status"]
    return SpanRecord(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() if any(span.parent_span_id) else "",
        span.name,
        SpanKind(span.kind) if 1 <= span.kind <= 5 else SpanKind.INTERNAL,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        status,
        span.status.message,
        attributes,
        tuple(
            Event(event.name, event.time_unix_nano, _attributes(event.attributes), event.dropped_attributes_count)
            for event in span.events
        ),
        tuple(
            Link(
                SpanContext(
                    (link.trace_id or bytes(16)).hex(),
                    (link.span_id or bytes(8)).hex(),
                    link.flags & 0xFF,
                    link.trace_state,
                    link.flags & 0x300 == 0x300,
                ),
                _attributes(link.attributes),
                link.dropped_attributes_count,
            )
            for link in span.links
        ),
        span.trace_state,
        span.flags,
        span.dropped_attributes_count,
        span.dropped_events_count,
        span.dropped_links_count,
        resource,
        scope,
    )


def records_of(message: TracesData) -> list[SpanRecord]:
    """The records that a message must be decoded to."""
    return [
        _record(
            span,
            Resource(_attributes(resource_spans.resource.attributes)),
            Scope(
                scope_spans.scope.name,
                scope_spans.scope.version,
                _attributes(scope_spans.scope.attributes),
                scope_spans.schema_url,
            ),
        )
        for resource_spans in message.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def exact(value: Any) -> Any:
    """A form of records in which equal means the same: NaN equals itself, True is not 1, -0.0 not 0.0."""
    if isinstance(value, Mapping):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    return repr(value)


def json_of(message: Span | TracesData) -> dict[str, Any]:
    """The OTLP/JSON object of a message: protobuf's, but for the ids, which are hex, and lists, also where empty."""
    value: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=True)
    _to_hex(value)
    return value


def _to_hex(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _to_hex(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in {"traceId", "spanId", "parentSpanId"}:
                value[name] = base64.b64decode(item).hex()
            else:
                if name in {"arrayValue", "kvlistValue"}:
                    item.setdefault("values", [])
                _to_hex(item)
