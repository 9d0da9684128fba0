"""Blocks of the formats: a line of OTLP/JSON, an OTLP protobuf message, a go-tor object, spans that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.errors import DecodeError
from clew.formats.gotor import hex_id, span_from_object
from clew.formats.reading import Block, Glance
from clew.model import Resource
from clew.otlp import decode_json, decode_traces
from clew.otlp.copying import json_lines_of
from clew.otlp.json import decode_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew.model import SpanRecord

__all__ = ["GoTorBlock", "ObjectBlock", "OtlpJsonBlock", "OtlpProtobufBlock", "RecordsBlock"]

_ERROR_CODES = (2, "STATUS_CODE_ERROR")  # the number is OTLP's form, the name protobuf's
_UNNAMED_SERVICE = Resource().service_name
_CANCELLED = {"key": "clew.status", "value": {"stringValue": "cancelled"}}  # see model.Status


class OtlpJsonBlock(Block):
    """A TracesData object of OTLP/JSON."""

    __slots__ = ("_text", "_value")

    def __init__(self, number: int, text: bytes, value: dict[str, Any]) -> None:
        super().__init__(number)
        self._text = text
        self._value = value

    def glances(self) -> list[Glance]:
        """See Block. It reads only what it needs: a third of the time that records take."""
        try:
            traces = self._value["resourceSpans"] or ()
            services = [_service(resource_spans) for resource_spans in traces]
            if None in services:
                return list(map(Glance.of, self.records()))
            return [
                _glance(span, service)
                for resource_spans, service in zip(traces, services, strict=True)
                for scope_spans in resource_spans.get("scopeSpans") or ()
                for span in scope_spans.get("spans") or ()
            ]
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DecodeError("a span has a field that is missing or of the wrong type") from error

    def json_lines(self) -> tuple[bytes, int] | None:
        """See Block. A line stays as it is, if it is one and its spans have their ids."""
        spans = len(self.glances())  # raises what there is to raise
        ids = [
            span.get("spanId")
            for resource_spans in self._value["resourceSpans"] or ()
            for scope_spans in resource_spans.get("scopeSpans") or ()
            for span in scope_spans.get("spans") or ()
        ]
        if b"\n" in self._text or not all(isinstance(span_id, str) and len(span_id) == 16 for span_id in ids):
            return None
        return self._text + b"\n", spans

    def records(self) -> list[SpanRecord]:
        # It is parsed already; but only text without escapes is sure to have no lone surrogates.
        return decode_json(self._text) if b"\\u" in self._text else decode_object(self._value)


def _service(resource_spans: dict[str, Any]) -> str | None:
    """The service's name; None where it is no text, and is to be decoded as everything else."""
    service: Any = _UNNAMED_SERVICE
    for attribute in (resource_spans.get("resource") or {}).get("attributes") or ():
        if attribute.get("key") == "service.name":
            service = (attribute.get("value") or {}).get("stringValue")
    return service if isinstance(service, str) else None


def _glance(span: dict[str, Any], service: str | None) -> Glance:
    assert service is not None
    get = span.get
    trace_id = span["traceId"]
    name = get("name") or ""
    if len(trace_id) != 32 or not isinstance(name, str):
        raise ValueError
    status = get("status") or {}
    is_failed = status.get("code") in _ERROR_CODES
    is_cancelled = is_failed and _CANCELLED in (get("attributes") or ())
    return Glance(
        trace_id.lower(),
        name,
        int(get("startTimeUnixNano") or 0),
        int(get("endTimeUnixNano") or 0),
        is_failed and not is_cancelled,
        is_cancelled,
        service,
    )


class OtlpProtobufBlock(Block):
    """A TracesData message."""

    __slots__ = ("_message",)
    unit = "message"

    def __init__(self, number: int, message: bytes) -> None:
        super().__init__(number)
        self._message = message

    def glances(self) -> list[Glance]:
        """See Block. The native core decodes quickly enough that a shorter way is not worth it."""
        return list(map(Glance.of, self.records()))

    def records(self) -> list[SpanRecord]:
        return decode_traces(self._message)

    def json_lines(self) -> tuple[bytes, int] | None:
        return json_lines_of(self._message)


class GoTorBlock(Block):
    """An object of go-tor's traces.json."""

    __slots__ = ("_value",)
    is_single = True

    def __init__(self, number: int, value: dict[str, Any]) -> None:
        super().__init__(number)
        self._value = value

    @property
    def trace_id(self) -> str:
        """The id of its trace, "" if it has none."""
        try:
            return hex_id(self._value.get("TraceID"), 32)
        except DecodeError:
            return ""

    def glances(self) -> list[Glance]:
        return list(map(Glance.of, self.records()))

    def records(self) -> list[SpanRecord]:
        return [span_from_object(self._value)]


class ObjectBlock(Block):
    """An object of JSON that is one span.

    Args:
        value: the object.
        read: makes the record; raises DecodeError.
        look: sees it at a glance, as the record would be, without making one; None if that takes the record. Raises
            DecodeError.
    """

    __slots__ = ("_look", "_read", "_value")
    unit = "span"
    is_single = True

    def __init__(
        self,
        number: int,
        value: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], SpanRecord],
        look: Callable[[Mapping[str, Any]], Glance | None],
    ) -> None:
        super().__init__(number)
        self._value = value
        self._read = read
        self._look = look

    def glances(self) -> list[Glance]:
        return [self._look(self._value) or Glance.of(self._read(self._value))]

    def records(self) -> list[SpanRecord]:
        return [self._read(self._value)]


class RecordsBlock(Block):
    """Spans of a reader that can do nothing quicker than read them."""

    __slots__ = ("_records",)

    def __init__(self, number: int, records: list[SpanRecord]) -> None:
        super().__init__(number)
        self._records = records

    def glances(self) -> list[Glance]:
        return list(map(Glance.of, self._records))

    def records(self) -> list[SpanRecord]:
        return self._records
