"""OTLP/JSON -> records. It is written by the native core (`clew._hot.spans_to_json`).

Source: OTLP specification, "JSON Protobuf Encoding"; Protocol Buffers, "ProtoJSON Format".
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH, LINE_BYTES
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.model import Attributes, AttributeValue

__all__ = ["decode_json", "decode_object"]

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")

# OTLP writes the integers, protobuf's own mapping the names. 0 is UNSPECIFIED, which trace.proto lets a reader take
# for INTERNAL; the same is done with kinds of the future.
_KINDS: Final[dict[object, SpanKind]] = {
    **{int(kind): kind for kind in SpanKind},
    **{f"SPAN_KIND_{kind.name}": kind for kind in SpanKind},
    "SPAN_KIND_UNSPECIFIED": SpanKind.INTERNAL,
}
_STATUSES: Final[dict[object, Status]] = {
    **{int(status): status for status in (Status.UNSET, Status.OK, Status.ERROR)},
    **{f"STATUS_CODE_{status.name}": status for status in (Status.UNSET, Status.OK, Status.ERROR)},
}
_NO_ATTRIBUTES: Final[Attributes] = SpanRecord._field_defaults["attributes"]

# A named tuple is made as the tuple that it is, its own __new__ takes twice as long: a file may hold a million spans.
_new = tuple.__new__


def decode_json(line: bytes | str) -> list[SpanRecord]:
    """A TracesData object of OTLP/JSON as records, in the order in which they stand there.

    Unknown fields are ignored, so that a line of metrics or logs gives no records.

    Raises:
        DecodeError: not such an object, longer than `limits.LINE_BYTES`, or a span in it has no valid id.
    """
    if len(line) > LINE_BYTES:
        raise DecodeError(f"a line of {len(line)} bytes is longer than the {LINE_BYTES} that are read")
    return _decode(lambda: _parse(line if isinstance(line, str) else str(line, "utf-8")))


def decode_object(traces: dict[str, Any]) -> list[SpanRecord]:
    """The same for an object that was parsed, and has no lone surrogates in it.

    Raises:
        DecodeError: as above.
    """
    return _decode(lambda: traces)


def _decode(parse: Callable[[], Any]) -> list[SpanRecord]:
    try:
        return _traces(parse())
    except RecursionError as error:
        raise DecodeError("damaged OTLP/JSON: values are nested too deep") from error
    except ValueError as error:  # not UTF-8, not JSON, a number with too many digits, or what is raised below
        raise DecodeError(f"damaged OTLP/JSON: {error}") from error
    except (AttributeError, OverflowError, TypeError) as error:  # such as a string where an object must be
        raise DecodeError("damaged OTLP/JSON: a field is of the wrong type") from error


def _parse(text: str) -> Any:
    """Parse JSON; lone surrogates, which could not be printed or encoded, become U+FFFD."""
    # Here and not above: who only makes spans reads none, and `import clew` is to be quick.
    import json

    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
    value = json.loads(text)
    if _SURROGATE_ESCAPE.search(text):
        # Escapes that make a pair are one character by now: those that are left stand alone.
        value = json.loads(_SURROGATES.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    return value


# --- spans (trace.proto) --------------------------------------------------------------------------------------------


def _traces(traces: dict[str, Any]) -> list[SpanRecord]:
    records: list[SpanRecord] = []
    for resource_spans in _list(traces.get("resourceSpans")):
        resource = Resource(_attributes(_object(resource_spans.get("resource")).get("attributes")))
        for scope_spans in _list(resource_spans.get("scopeSpans")):
            scope = _scope(_object(scope_spans.get("scope")), _text(scope_spans.get("schemaUrl")))
            records += [_span(span, resource, scope) for span in _list(scope_spans.get("spans"))]
    return records


def _scope(scope: dict[str, Any], schema_url: str) -> Scope:
    attributes = _attributes(scope.get("attributes"))
    return Scope(_text(scope.get("name")), _text(scope.get("version")), attributes, schema_url)


def _span(span: dict[str, Any], resource: Resource, scope: Scope) -> SpanRecord:
    get = span.get
    attributes = _attributes(get("attributes"))
    status, description = Status.UNSET, ""
    if "status" in span:
        status, description = _status(_object(get("status")))
        if status is Status.ERROR and attributes.get("clew.status") == "cancelled":
            status = Status.CANCELLED
            attributes = {key: value for key, value in attributes.items() if key != "clew.status"}
    return _new(
        SpanRecord,
        (
            _id(get("traceId"), 16) or _missing_id(),
            _id(get("spanId"), 8) or _missing_id(),
            _id(get("parentSpanId"), 8),
            _text(get("name")),
            _KINDS.get(get("kind")) or _unknown_kind(get("kind")),
            _time(get("startTimeUnixNano")),
            _time(get("endTimeUnixNano")),
            status,
            description,
            attributes,
            tuple([_event(event) for event in _list(get("events"))]) if "events" in span else (),
            tuple([_link(link) for link in _list(get("links"))]) if "links" in span else (),
            _text(get("traceState")) if "traceState" in span else "",
            _uint32(get("flags")) if "flags" in span else 0,
            _uint32(get("droppedAttributesCount")) if "droppedAttributesCount" in span else 0,
            _uint32(get("droppedEventsCount")) if "droppedEventsCount" in span else 0,
            _uint32(get("droppedLinksCount")) if "droppedLinksCount" in span else 0,
            resource,
            scope,
        ),
    )


def _missing_id() -> NoReturn:
    raise ValueError("a span has no id")


def _unknown_kind(kind: Any) -> SpanKind:
    if kind is None or type(kind) is int:
        return SpanKind.INTERNAL
    raise ValueError("a kind that does not exist")


def _status(status: dict[str, Any]) -> tuple[Status, str]:
    code = status.get("code", 0)
    if code not in _STATUSES and type(code) is not int:
        raise ValueError("a status that does not exist")
    return _STATUSES.get(code, Status.UNSET), _text(status.get("message"))


def _event(event: dict[str, Any]) -> Event:
    get = event.get
    dropped = _uint32(get("droppedAttributesCount")) if "droppedAttributesCount" in event else 0
    return _new(Event, (_text(get("name")), _time(get("timeUnixNano")), _attributes(get("attributes")), dropped))


def _link(link: dict[str, Any]) -> Link:
    get = link.get
    flags = _uint32(get("flags"))
    context = SpanContext(
        # An invalid context is legal in a link (the tracing API's specification, "Link"): zeros for what is absent.
        _id(get("traceId"), 16) or "0" * 32,
        _id(get("spanId"), 8) or "0" * 16,
        flags & 0xFF,
        _text(get("traceState")),
        flags & 0x300 == 0x300,
    )
    return Link(context, _attributes(get("attributes")), _uint32(get("droppedAttributesCount")))


# --- values (common.proto) ------------------------------------------------------------------------------------------


def _attributes(pairs: Any) -> Attributes:
    return _pairs(pairs, DECODED_VALUE_DEPTH) if pairs is not None else _NO_ATTRIBUTES


def _pairs(pairs: Any, depth: int) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    for pair in _list(pairs):
        key, value = pair.get("key"), pair.get("value")
        # Most keys and values are strings: this saves them a call each.
        if type(key) is not str:
            key = _text(key)
        if type(value) is dict and len(value) == 1 and type(string := value.get("stringValue")) is str:
            attributes[key] = string
        else:
            attributes[key] = _value(_object(value), depth)
    return attributes


def _value(value: dict[str, Any], depth: int) -> AttributeValue:
    """An AnyValue: an object of one field, or of none for None."""
    found: AttributeValue = None
    for field, content in value.items():
        if content is not None and (read := _VALUES.get(field)):
            if found is not None:
                raise ValueError("a value of two types")
            found = read(content, depth)
    return found


def _boolean(value: Any, _: int) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _int64(value: Any, _: int) -> int:
    number = _integer(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("an integer of more than 64 bits")
    return number


def _double(value: Any, _: int) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    if type(value) is str and value == value.strip() and "_" not in value:
        return float(value)
    raise TypeError


def _array(value: Any, depth: int) -> tuple[AttributeValue, ...]:
    if depth == 0:
        raise RecursionError
    return tuple([_value(_object(item), depth - 1) for item in _list(_object(value).get("values"))])


def _kvlist(value: Any, depth: int) -> dict[str, AttributeValue]:
    if depth == 0:
        raise RecursionError
    return _pairs(_object(value).get("values"), depth - 1)


def _bytes(value: Any, _: int) -> bytes:
    """Base64, standard or URL-safe, with or without padding (ProtoJSON accepts both)."""
    text = _text(value).translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)


_VALUES: Final[dict[str, Callable[[Any, int], AttributeValue]]] = {
    "stringValue": lambda value, _: _text(value),
    "boolValue": _boolean,
    "intValue": _int64,
    "doubleValue": _double,
    "arrayValue": _array,
    "kvlistValue": _kvlist,
    "bytesValue": _bytes,
}


# --- JSON -----------------------------------------------------------------------------------------------------------
# null stands for a field that is absent (ProtoJSON).


def _object(value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    if value is None:
        return {}
    raise TypeError


def _list(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    if value is None:
        return []
    raise TypeError


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if value is None:
        return ""
    raise TypeError


def _integer(value: Any) -> int:
    """An integer as a number or, as OTLP writes those of 64 bits, as a string."""
    if type(value) is str and value.removeprefix("-").isdecimal():
        return int(value)
    if type(value) is int:
        return value
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        return int(value)
    raise ValueError("a number is not an integer")


def _time(value: Any) -> int:
    number = int(value) if type(value) is str and value.isdecimal() else _integer(value)
    if number >> 64:
        raise ValueError("a time does not fit 64 bits")
    return number


def _uint32(value: Any) -> int:
    number = value if type(value) is int else _integer(value)
    if number >> 32:
        raise ValueError("a count does not fit 32 bits")
    return number


def _id(value: Any, size: int) -> str:
    """An id as lower-case hex digits; "" for one that is absent or all zero."""
    if value is None or value == "":
        return ""
    digits = value.lower()
    if len(bytes.fromhex(digits)) != size or len(digits) != 2 * size:
        raise ValueError(f"an id is not of {2 * size} hex digits")
    return digits if digits.strip("0") else ""
