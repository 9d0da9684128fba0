"""Whole OTLP messages to lines of OTLP/JSON, without a record for any span: what `clew convert` does most.

The native core writes the JSON (`clew._hot.spans_to_json`); here a message is only taken apart, down to its spans.

Source: opentelemetry/proto/trace/v1/trace.proto; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from clew._hot import traces_to_records
from clew.errors import DecodeError
from clew.otlp.batch import Batch
from clew.otlp.protobuf import traces_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.model import Resource, Scope

__all__ = ["Lines", "json_lines_of"]

# Tags (field << 3 | wire type) of TracesData, ResourceSpans and ScopeSpans.
_RESOURCE_SPANS: Final = 1 << 3 | 2
_RESOURCE: Final = 1 << 3 | 2
_SCOPE_SPANS: Final = 2 << 3 | 2
_SCOPE: Final = 1 << 3 | 2
_SPAN: Final = 2 << 3 | 2
_SCHEMA_URL: Final = 3 << 3 | 2
# How a span begins: trace_id of 16 bytes, span_id of 8, as everybody writes them.
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_NO_TRACE_ID: Final = bytes(16)
_NO_SPAN_ID: Final = bytes(8)
# A span with nothing but its ids, to have a message decoded for what stands around it.
_STUB: Final = b"\x12\x1c" + _TRACE_ID + b"\1" * 16 + _SPAN_ID + b"\1" * 8


class Lines(NamedTuple):
    """Spans as text."""

    lines: bytes  # each with its newline
    spans: int


def json_lines_of(traces: bytes) -> Lines | None:
    """A TracesData message as lines of OTLP/JSON, one for each resource and scope.

    Returns: None, if there is something unusual in it, such as damage, or a span that does not begin with its ids (as
        one without an id does): then `decode_traces` has to say what it is.
    """
    try:
        return _lines_of(traces)
    except (DecodeError, IndexError):
        return None


def _lines_of(traces: bytes) -> Lines | None:
    lines = []
    count = 0
    for resource_spans in _bodies(traces, 0, len(traces), _RESOURCE_SPANS):
        resource = _joined(traces, *resource_spans, _RESOURCE)
        for begin, end in _bodies(traces, *resource_spans, _SCOPE_SPANS):
            spans = 0
            for at, _ in _bodies(traces, begin, end, _SPAN):
                if not _has_ids(traces, at):
                    return None
                spans += 1
            if spans:
                scope = _joined(traces, begin, end, _SCOPE)
                schema_urls = [traces[at:to] for at, to in _bodies(traces, begin, end, _SCHEMA_URL)]
                origin = _origin(resource, scope, schema_urls[-1] if schema_urls else b"")
                lines.append(Batch(traces[begin:end], spans, *origin).to_json())
                count += spans
    return Lines(b"".join([line + b"\n" for line in lines]), count)


def _has_ids(data: bytes, at: int) -> bool:
    return (
        data.startswith(_TRACE_ID, at)
        and data.startswith(_SPAN_ID, at + 18)
        and not data.startswith(_NO_TRACE_ID, at + 2)
        and not data.startswith(_NO_SPAN_ID, at + 20)
    )


def _origin(resource: bytes, scope: bytes, schema_url: bytes) -> tuple[Resource, Scope]:
    [record] = traces_to_records(traces_message(resource, scope, _STUB, schema_url.decode("utf-8", "replace")))
    return record.resource, record.scope


def _joined(data: bytes, begin: int, end: int, tag: int) -> bytes:
    """The bodies of a field; protobuf merges messages that are given in pieces."""
    return b"".join([data[at:to] for at, to in _bodies(data, begin, end, tag)])


def _bodies(data: bytes, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the bodies of a field begin and end, among the fields from `at` to `end`.

    Raises: DecodeError, IndexError.
    """
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1)
        wire_type = tag & 7
        if tag < 1 << 3:
            raise DecodeError("a field without a number")
        if wire_type == 2:
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = _varint(data, at - 1)
            at += size
            if tag == wanted and at <= end:
                yield at - size, at
        elif wire_type == 0:
            _, at = _varint(data, at)
        elif wire_type in {1, 5}:
            at += 8 if wire_type == 1 else 4
        else:
            raise DecodeError("a field of a type that is not used any more")
    if at > end:
        raise DecodeError("a field goes on behind its message")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends. Raises: DecodeError, IndexError."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise DecodeError("a number is too long")
