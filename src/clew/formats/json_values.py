"""Attributes as plain JSON, for formats that have JSON where OTLP has values: `{"http.status": 200}`.

What JSON lacks is written as OTLP/JSON writes it, in an object of one key: `{"bytesValue": "AAE="}` and
`{"doubleValue": "NaN"}`; so is a mapping that could be taken for one: `{"kvlistValue": {...}}`. So everything comes
back as what it was, and what people look for stands there as they would write it.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH
from clew.model import Event, Link, Scope, SpanContext, SpanKind, SpanRecord, Status
from clew.otlp.protobuf import encode_text

if TYPE_CHECKING:
    from clew.model import Attributes, AttributeValue

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "STATUSES",
    "STATUS_NAMES",
    "events_from_json",
    "events_to_json",
    "from_json",
    "hex_id",
    "links_from_json",
    "links_to_json",
    "list_of",
    "natural",
    "object_of",
    "parse",
    "scope_from_json",
    "scope_to_json",
    "string_of",
    "text_of",
    "to_json",
    "value_from_json",
    "value_to_json",
    "without_surrogates",
]

# The words for kinds and statuses.
KINDS: Final = {kind.name.lower(): kind for kind in SpanKind}
STATUSES: Final = {status.name.lower(): status for status in Status}
KIND_NAMES: Final = {kind: name for name, kind in KINDS.items()}
STATUS_NAMES: Final = {status: name for name, status in STATUSES.items()}

_PLAIN: Final = frozenset((str, int, bool, type(None)))  # types whose values JSON has
_WRAPPED: Final = ("bytesValue", "doubleValue", "kvlistValue")
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_NO_ATTRIBUTES: Final[Attributes] = SpanRecord._field_defaults["attributes"]
_dump = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), allow_nan=False).encode


def text_of(value: Any) -> str:
    """JSON on one line, without spaces, of what `to_json` gives and anything plain."""
    text = _dump(value)
    return text if text.isascii() else encode_text(text).decode()


def parse(text: str) -> Any:
    """What JSON says; lone surrogates, which could not be printed or encoded, become U+FFFD.

    Raises: DecodeError.
    """
    try:
        return without_surrogates(json.loads(text)) if _SURROGATE_ESCAPE.search(text) else json.loads(text)
    except RecursionError as error:
        raise DecodeError("JSON is nested too deep") from error
    except ValueError as error:
        raise DecodeError("it is no JSON") from error


def without_surrogates(value: Any) -> Any:
    """A parsed value in which no surrogate stands alone."""
    return json.loads(_SURROGATES.sub("\ufffd", json.dumps(value, ensure_ascii=False)))


def to_json(attributes: Attributes) -> dict[str, Any]:
    """Attributes as an object for `json`."""
    return {key: value if type(value) in _PLAIN else value_to_json(value) for key, value in attributes.items()}


def value_to_json(value: AttributeValue) -> Any:
    """One value of an attribute, for `json`."""
    match value:
        case float() if not math.isfinite(value):
            return {"doubleValue": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
        case bytes():
            return {"bytesValue": binascii.b2a_base64(value, newline=False).decode()}
        case tuple() | list():
            return list(map(value_to_json, value))
        case Mapping():
            inner = to_json(value)
            return {"kvlistValue": inner} if len(inner) == 1 and next(iter(inner)) in _WRAPPED else inner
    return value


def from_json(value: Any) -> Attributes:
    """Attributes from an object that was parsed.

    Raises: DecodeError.
    """
    if value is None:
        return _NO_ATTRIBUTES
    if not isinstance(value, dict):
        raise DecodeError("attributes are no object")
    return _mapping(value, DECODED_VALUE_DEPTH) if value else _NO_ATTRIBUTES


def _mapping(value: dict[str, Any], depth: int) -> dict[str, AttributeValue]:
    return {key: item if type(item) in _PLAIN else value_from_json(item, depth) for key, item in value.items()}


def value_from_json(value: Any, depth: int = DECODED_VALUE_DEPTH) -> AttributeValue:
    """One value of an attribute, from what was parsed.

    Raises: DecodeError.
    """
    if isinstance(value, (list, dict)) and depth == 0:
        raise DecodeError(f"an attribute's value is nested deeper than {DECODED_VALUE_DEPTH} levels")
    if isinstance(value, list):
        return tuple([value_from_json(item, depth - 1) for item in value])
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key == "kvlistValue" and isinstance(inner, dict):
                return _mapping(inner, depth - 1)
            if key == "doubleValue" and isinstance(inner, str) and inner in _NOT_FINITE:
                return _NOT_FINITE[inner]
            if key == "bytesValue" and isinstance(inner, str):
                try:
                    return binascii.a2b_base64(inner, strict_mode=True)
                except ValueError:
                    pass  # somebody else's mapping
        return _mapping(value, depth - 1)
    assert value is None or isinstance(value, (bool, int, float, str))  # JSON has no other types
    return value


# --- events, links, scopes -----------------------------------------------------------------------------------------
# What is at its default is left out.


def events_to_json(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """Events as objects of name, time_ns, attributes and dropped_attributes."""
    return [
        {
            "name": event.name,
            "time_ns": event.time_ns,
            **({"attributes": to_json(event.attributes)} if event.attributes else {}),
            **({"dropped_attributes": event.dropped_attributes} if event.dropped_attributes else {}),
        }
        for event in events
    ]


def events_from_json(value: Any) -> tuple[Event, ...]:
    """Raises: DecodeError."""
    return tuple(
        Event(
            _of_type(event.get("name", ""), str),
            natural(event.get("time_ns", 0), 64),
            from_json(event.get("attributes")),
            natural(event.get("dropped_attributes", 0), 32),
        )
        for event in _objects(value)
    )


def links_to_json(links: tuple[Link, ...]) -> list[dict[str, Any]]:
    """Links as objects of trace_id, span_id, trace_flags, trace_state, is_remote, attributes and dropped_attributes."""
    return [
        {
            "trace_id": link.context.trace_id,
            "span_id": link.context.span_id,
            **({"trace_flags": link.context.trace_flags} if link.context.trace_flags else {}),
            **({"trace_state": link.context.trace_state} if link.context.trace_state else {}),
            **({"is_remote": True} if link.context.is_remote else {}),
            **({"attributes": to_json(link.attributes)} if link.attributes else {}),
            **({"dropped_attributes": link.dropped_attributes} if link.dropped_attributes else {}),
        }
        for link in links
    ]


def links_from_json(value: Any) -> tuple[Link, ...]:
    """Raises: DecodeError."""
    return tuple(
        Link(
            SpanContext(
                hex_id(link.get("trace_id"), 32) or "0" * 32,
                hex_id(link.get("span_id"), 16) or "0" * 16,
                natural(link.get("trace_flags", 0), 8),
                _of_type(link.get("trace_state", ""), str),
                _of_type(link.get("is_remote", False), bool),
            ),
            from_json(link.get("attributes")),
            natural(link.get("dropped_attributes", 0), 32),
        )
        for link in _objects(value)
    )


def scope_to_json(scope: Scope) -> dict[str, Any]:
    """A scope as an object of name, version, attributes and schema_url."""
    return {
        "name": scope.name,
        "version": scope.version,
        "attributes": to_json(scope.attributes),
        **({"schema_url": scope.schema_url} if scope.schema_url else {}),
    }


def scope_from_json(value: Any) -> Scope:
    """Raises: DecodeError."""
    if value is None:
        return Scope()
    if not isinstance(value, dict):
        raise DecodeError("a scope is no object")
    name, version, schema_url = (_of_type(value.get(key, ""), str) for key in ("name", "version", "schema_url"))
    return Scope(name, version, from_json(value.get("attributes")), schema_url)


def hex_id(value: Any, digits: int) -> str:
    """An id as lower-case hex digits; "" for one that is absent or all zero.

    Raises: DecodeError.
    """
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) != digits or not set(value) <= _HEX_DIGITS:
        raise DecodeError(f"an id is not of {digits} hex digits")
    return value.lower() if value.strip("0") else ""


_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def natural(value: Any, bits: int) -> int:
    """An integer of so many bits, not negative.

    Raises: DecodeError.
    """
    if type(value) is not int or value >> bits:
        raise DecodeError(f"a number is not an integer of {bits} bits")
    return value


def object_of(value: Any) -> Mapping[str, Any]:
    """A field that is an object; empty if it is absent. Raises DecodeError."""
    return {} if value is None else _of_type(value, dict)


def list_of(value: Any) -> list[Any]:
    """A field that is an array; empty if it is absent. Raises DecodeError."""
    return [] if value is None else _of_type(value, list)


def string_of(value: Any) -> str:
    """A field that is a text; empty if it is absent. Raises DecodeError."""
    return "" if value is None else _of_type(value, str)


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise DecodeError(f"a field is no {kind.__name__}")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DecodeError("events or links are no array of objects")
    return value
