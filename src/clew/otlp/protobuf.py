"""OTLP protobuf <-> records.

Decoding is the native core's. Encoding, here, is for records that did not come from a span of this process: files that
are converted, spans made by tests. Ended spans are encoded by the native core, in `Span.end()`.

Source: opentelemetry/proto/trace/v1/trace.proto, common/v1/common.proto, resource/v1/resource.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from clew._hot import traces_to_records
from clew.errors import DecodeError, EncodeError
from clew.limits import DECODED_VALUE_DEPTH, LINE_BYTES
from clew.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.model import Attributes, AttributeValue, Event, Link, Resource, Scope, SpanRecord

__all__ = [
    "decode_traces",
    "encode_attributes",
    "encode_resource",
    "encode_scope",
    "encode_span",
    "encode_text",
    "encode_traces",
    "traces_message",
]

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5

_INT64: Final = range(-(1 << 63), 1 << 63)
# What stands before bytes, by the number of their field and their size, where both are small: nearly always.
_HEADS: Final = [[bytes((number << 3 | _BYTES, size)) for size in range(0x80)] for number in range(16)]
_KNOWN_CHARACTERS: Final = 64  # longer texts are not remembered
_SURROGATES: Final = "[\ud800-\udfff]"
# What a status of CANCELLED travels as, see model.Status.
_CANCELLED: Final = ("clew.status", "cancelled")


def decode_traces(data: bytes) -> list[SpanRecord]:
    """A TracesData (or ExportTraceServiceRequest) message as records, in the order in which they stand there.

    Raises:
        DecodeError: the message is damaged or longer than `limits.LINE_BYTES`, or a span in it has no valid id.
    """
    if len(data) > LINE_BYTES:
        raise DecodeError(f"an OTLP message of {len(data)} bytes is longer than the {LINE_BYTES} that are read")
    return traces_to_records(data)


def encode_traces(records: Iterable[SpanRecord]) -> bytes:
    """Records as a TracesData message. Those of one resource and scope stand together.

    Raises:
        EncodeError: see `encode_span`.
    """
    groups: dict[tuple[bytes, bytes, str], list[bytes]] = {}
    # Records that were read together share these objects: each is encoded once.
    resources: dict[int, tuple[Resource, bytes]] = {}
    scopes: dict[int, tuple[Scope, bytes]] = {}
    for record in records:
        resource, scope = record.resource, record.scope
        if id(resource) not in resources:
            resources[id(resource)] = (resource, encode_resource(resource))
        if id(scope) not in scopes:
            scopes[id(scope)] = (scope, encode_scope(scope))
        group = (resources[id(resource)][1], scopes[id(scope)][1], scope.schema_url)
        groups.setdefault(group, []).append(encode_span(record))
    # Concatenated messages are one message with the repeated fields of all.
    return b"".join(
        traces_message(resource, scope, b"".join(spans), schema_url)
        for (resource, scope, schema_url), spans in groups.items()
    )


def traces_message(resource: bytes, scope: bytes, spans: bytes, schema_url: str = "") -> bytes:
    """A TracesData message of one resource and one scope.

    Args:
        resource: a Resource message.
        scope: an InstrumentationScope message.
        spans: concatenated ScopeSpans.spans fields.
        schema_url: the scope's.
    """
    scope = _message(1, scope)
    resource = _message(1, resource)
    schema = _text(3, schema_url)
    scope_spans = _head(2, len(scope) + len(spans) + len(schema))
    resource_spans = _head(1, len(resource) + len(scope_spans) + len(scope) + len(spans) + len(schema))
    return b"".join((resource_spans, resource, scope_spans, scope, spans, schema))


def encode_resource(resource: Resource) -> bytes:
    """A Resource message."""
    return encode_attributes(1, resource.attributes)


def encode_scope(scope: Scope) -> bytes:
    """An InstrumentationScope message."""
    return _text(1, scope.name) + _text(2, scope.version) + encode_attributes(3, scope.attributes)


def encode_span(record: SpanRecord) -> bytes:
    """A record as a ScopeSpans.spans field: tag, length and Span message.

    Integers beyond 64 bits become their decimal digits, lone surrogates U+FFFD, as in the native core.

    Raises:
        EncodeError: what OTLP has no place for: ids that are no hex digits of the right length, negative times and
            counts, values nested deeper than `limits.DECODED_VALUE_DEPTH` or of a type that no attribute has.
    """
    (
        trace_id, span_id, parent_id, name, kind, start_ns, end_ns, status, description, attributes, events, links,
        trace_state, flags, dropped_attributes, dropped_events, dropped_links, _, _,
    ) = record  # fmt: skip
    if status is Status.CANCELLED:
        attributes, status = {**attributes, _CANCELLED[0]: _CANCELLED[1]}, Status.ERROR
    # A file may hold millions of spans: what is not there costs no call.
    fields = [_id(1, trace_id, 16), _id(2, span_id, 8)]
    if trace_state:
        fields.append(_text(3, trace_state))
    if parent_id:
        fields.append(_id(4, parent_id, 8))
    fields += (_text(5, name), _number(6, kind), _time(7, start_ns), _time(8, end_ns))
    if attributes:
        fields.append(encode_attributes(9, attributes))
    if dropped_attributes:
        fields.append(_number(10, dropped_attributes))
    for event in events:
        fields.append(_message(11, _event(event)))  # there are few, mostly none
    if dropped_events:
        fields.append(_number(12, dropped_events))
    for link in links:
        fields.append(_message(13, _link(link)))
    if dropped_links:
        fields.append(_number(14, dropped_links))
    if status or description:
        fields.append(_message(15, _text(2, description) + _number(3, status)))
    if flags:
        fields.append(_flags(16, flags))
    return _message(2, b"".join(fields))


def _event(event: Event) -> bytes:
    fields = (
        _time(1, event.time_ns),
        _text(2, event.name),
        encode_attributes(3, event.attributes),
        _number(4, event.dropped_attributes),
    )
    return b"".join(fields)


def _link(link: Link) -> bytes:
    context = link.context
    fields = (
        _id(1, context.trace_id, 16),
        _id(2, context.span_id, 8),
        _text(3, context.trace_state),
        encode_attributes(4, link.attributes),
        _number(5, link.dropped_attributes),
        # Bits 8 and 9: it is known whether the context is remote, and it is.
        _flags(6, context.trace_flags | (0x300 if context.is_remote else 0)),
    )
    return b"".join(fields)


def encode_attributes(number: int, attributes: Attributes) -> bytes:
    """Attributes as KeyValue fields of this number."""
    return b"".join(
        [
            _known_attribute(number, key, value)
            if type(value) is int or (type(value) is str and len(value) <= _KNOWN_CHARACTERS)
            else _message(number, _pair(key, value, 0))
            for key, value in attributes.items()
        ]
    )


@lru_cache(maxsize=4096)
def _known_attribute(number: int, key: str, value: int | str) -> bytes:
    """An attribute, remembered: most of them come again and again."""
    return _message(number, _pair(key, value, 0))


def _pair(key: str, value: AttributeValue, depth: int) -> bytes:
    return _text(1, key) + _message(2, _value(value, depth))


def _value(value: AttributeValue, depth: int) -> bytes:
    """An AnyValue message, `depth` lists and mappings down."""
    match value:
        case None:
            return b""
        case str():
            return _message(1, encode_text(value))
        case bool():
            return bytes((2 << 3, value))
        case int() if value in _INT64:
            return bytes((3 << 3,)) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        case int():
            return _message(1, _digits(value))
        case float():
            return bytes((4 << 3 | _FIXED64,)) + struct.pack("<d", value)
        case bytes():
            return _message(7, value)
    if depth == DECODED_VALUE_DEPTH:
        raise EncodeError(f"an attribute's value is nested deeper than {DECODED_VALUE_DEPTH} levels")
    match value:
        case tuple() | list():
            return _message(5, b"".join(_message(1, _value(item, depth + 1)) for item in value))
        case Mapping():
            return _message(6, b"".join(_message(1, _pair(key, item, depth + 1)) for key, item in value.items()))
    raise EncodeError(f"an attribute's value cannot be a {type(value).__name__}")


def _digits(value: int) -> bytes:
    try:
        return str(value).encode()
    except ValueError as error:  # thousands of digits: sys.set_int_max_str_digits
        raise EncodeError(f"an attribute's value is an integer of {value.bit_length()} bits") from error


# --- protobuf's wire format -----------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _head(number: int, size: int) -> bytes:
    if size < 0x80:
        return _HEADS[number][size]
    return bytes((number << 3 | _BYTES,)) + _varint(size)


def _message(number: int, data: bytes) -> bytes:
    size = len(data)
    return (_HEADS[number][size] if size < 0x80 else _head(number, size)) + data


def encode_text(text: str) -> bytes:
    """UTF-8, with U+FFFD for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return re.sub(_SURROGATES, "\ufffd", text).encode()


def _text(number: int, text: str) -> bytes:
    return _message(number, encode_text(text)) if text else b""


def _number(number: int, value: int) -> bytes:
    """A uint32 or an enum."""
    if not 0 <= value <= 0xFFFF_FFFF:
        raise EncodeError(f"a count cannot be {value}")
    return bytes((number << 3 | _VARINT,)) + _varint(value) if value else b""


def _flags(number: int, value: int) -> bytes:
    if not 0 <= value <= 0xFFFF_FFFF:
        raise EncodeError(f"flags cannot be {value}")
    return _varint(number << 3 | _FIXED32) + value.to_bytes(4, "little") if value else b""


def _time(number: int, time_ns: int) -> bytes:
    if not 0 <= time_ns <= 0xFFFF_FFFF_FFFF_FFFF:
        raise EncodeError(f"a time cannot be {time_ns} ns after 1970")
    return bytes((number << 3 | _FIXED64,)) + time_ns.to_bytes(8, "little") if time_ns else b""


def _id(number: int, digits: str, size: int) -> bytes:
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b""
    if len(data) != size:
        raise EncodeError(f"an id must be {2 * size} hex digits, not {digits!r}")
    return _message(number, data)
