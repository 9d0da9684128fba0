"""A batch: what exporters are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew._hot import attributes_to_json, spans_to_json, spans_to_records
from clew.otlp.protobuf import encode_attributes, encode_resource, encode_scope, encode_text, traces_message

if TYPE_CHECKING:
    from clew.model import Resource, Scope, SpanRecord

__all__ = ["Batch"]


class Batch:
    """Spans that ended, of one resource and one scope.

    It holds OTLP bytes. The other forms are made from them only when asked for: exporters that send or write OTLP
    create no Python object for any span.

    Args:
        spans: concatenated ScopeSpans.spans fields (tag, length, Span message).
        count: how many they are.
        resource: what made the spans.
        scope: the library that made them.

    Thread: any, one at a time.
    """

    __slots__ = ("_records", "count", "resource", "scope", "spans")

    def __init__(self, spans: bytes, count: int, resource: Resource, scope: Scope) -> None:
        self.spans = spans
        self.count = count
        self.resource = resource
        self.scope = scope
        self._records: tuple[SpanRecord, ...] | None = None

    @property
    def records(self) -> tuple[SpanRecord, ...]:
        """The spans as records, in the order in which they ended. Decoded once.

        Raises:
            DecodeError: the bytes are damaged.
        """
        if self._records is None:
            self._records = tuple(spans_to_records(self.spans, self.resource, self.scope))
        return self._records

    def to_protobuf(self) -> bytes:
        """A whole TracesData message, which is also an ExportTraceServiceRequest: the body of OTLP/HTTP."""
        scope = self.scope
        return traces_message(encode_resource(self.resource), encode_scope(scope), self.spans, scope.schema_url)

    def to_json(self) -> bytes:
        """The same as an OTLP/JSON object, in UTF-8, on one line without its newline.

        Raises:
            DecodeError: the bytes are damaged.
        """
        scope = self.scope
        return b"".join(
            (
                b'{"resourceSpans":[{"resource":{"attributes":[',
                attributes_to_json(encode_attributes(1, self.resource.attributes)),
                b']},"scopeSpans":[{"scope":{"name":',
                _quoted(scope.name),
                b',"version":',
                _quoted(scope.version),
                b',"attributes":[',
                attributes_to_json(encode_attributes(1, scope.attributes)),
                b']},"spans":[',
                spans_to_json(self.spans),
                b'],"schemaUrl":' + _quoted(scope.schema_url) + b"}]}]}" if scope.schema_url else b"]}]}]}",
            )
        )

    def __repr__(self) -> str:
        return f"<Batch of {self.count} spans, {len(self.spans)} bytes, service {self.resource.service_name!r}>"


# RFC 8259, section 7. Not by way of `json`: the worker may be importing that just when another thread forks, and then
# the child has half of it, for ever.
_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x20)} | {ord('"'): '\\"', ord("\\"): "\\\\"}


def _quoted(text: str) -> bytes:
    """A JSON string."""
    return b'"' + encode_text(text.translate(_ESCAPES)) + b'"'
