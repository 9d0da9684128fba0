"""OTLP/JSON -> records, against protobuf's own JSON."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH
from clew.model import SpanKind, SpanRecord, Status
from clew.otlp import decode_json
from clew.otlp import json as otlp_json
from tests.otlp_messages import exact, json_of, records_of, traces

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

IDS = {"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7"}


def line(span: Any) -> str:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


def decoded(**fields: Any) -> SpanRecord:
    [record] = decode_json(line(IDS | fields))
    return record


def value(value: Any) -> Any:
    return decoded(attributes=[{"key": "x", "value": value}]).attributes["x"]


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"intValue": "1"}
    for level in range(levels):
        if level % 2:
            value = {"kvlistValue": {"values": [{"key": "", "value": value}]}}
        else:
            value = {"arrayValue": {"values": [value]}}
    return value


@given(traces, st.booleans())
def test_what_protobuf_writes_is_read(traces: TracesData, ascii_only: bool) -> None:
    """Any message, as the JSON that protobuf's own mapping gives (ids in hex), gives its spans with all they have."""
    text = json.dumps(json_of(traces), ensure_ascii=ascii_only)
    expected = exact(records_of(traces))
    assert exact(decode_json(text)) == expected
    assert exact(decode_json(text.encode())) == expected


def test_defaults_are_what_is_absent() -> None:
    """A span of nothing but ids is a record of defaults; null means absent."""
    fields = ["parentSpanId", "name", "kind", "startTimeUnixNano", "attributes", "events", "links", "status", "flags"]
    expected = SpanRecord(IDS["traceId"], IDS["spanId"], "", "")
    assert decoded() == expected
    assert decoded(**dict.fromkeys(fields)) == expected
    assert decode_json('{"resourceSpans":[{"resource":null,"scopeSpans":[{"scope":null,"spans":null}]}]}') == []


@pytest.mark.parametrize(
    "text",
    ["{}", '{"resourceSpans":[]}', '{"resourceMetrics":[{"scopeMetrics":[]}]}', " {} \r\n", '{"resourceSpans":null}'],
)
def test_lines_without_spans_give_none(text: str) -> None:
    """Metrics and logs may stand in the same file."""
    assert decode_json(text) == []


def test_unknown_fields_are_ignored() -> None:
    """The specification's demand on receivers, on every level."""
    new: dict[str, Any] = {"new": {"deep": [1, {"x": None}]}}
    span = IDS | new | {"events": [{"name": "e"} | new], "links": [new], "status": {"code": 1} | new}
    span["attributes"] = [{"key": "a", "value": {"intValue": 1} | new} | new]
    [record] = decode_json(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]} | new]} | new]} | new))
    assert record.status is Status.OK
    assert record.attributes == {"a": 1}
    assert record.events[0].name == "e"
    assert not record.links[0].context.is_valid


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (0, SpanKind.INTERNAL),
        (3, SpanKind.CLIENT),
        ("SPAN_KIND_SERVER", SpanKind.SERVER),
        ("SPAN_KIND_UNSPECIFIED", SpanKind.INTERNAL),
        (17, SpanKind.INTERNAL),
    ],
)
def test_kinds_are_numbers_or_names(kind: object, expected: SpanKind) -> None:
    """OTLP writes numbers, protobuf's mapping names; numbers of the future are INTERNAL."""
    assert decoded(kind=kind).kind is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, Status.UNSET), (1, Status.OK), ("STATUS_CODE_ERROR", Status.ERROR), (9, Status.UNSET)],
)
def test_status_codes_are_numbers_or_names(code: object, expected: Status) -> None:
    """As kinds are."""
    assert decoded(status={"code": code, "message": "m"})[7:9] == (expected, "m")


def test_cancelled_comes_back() -> None:
    """ERROR with the attribute is CANCELLED, without it."""
    attributes = [{"key": "clew.status", "value": {"stringValue": "cancelled"}}]
    assert decoded(status={"code": 2}, attributes=attributes).status is Status.CANCELLED
    assert decoded(status={"code": 2}, attributes=attributes).attributes == {}
    assert decoded(status={"code": 1}, attributes=attributes).attributes == {"clew.status": "cancelled"}


def test_ids_are_lower_case() -> None:
    """Hex digits of either case are read; a parent of zeros is none."""
    record = decoded(traceId=IDS["traceId"].upper(), parentSpanId="0" * 16)
    assert (record.trace_id, record.parent_id) == (IDS["traceId"], "")


@pytest.mark.parametrize(("time", "expected"), [("5", 5), (5, 5), (5.0, 5), (str(2**64 - 1), 2**64 - 1), (None, 0)])
def test_integers_are_strings_or_numbers(time: object, expected: int) -> None:
    """Integers of 64 bits are strings in OTLP, but numbers are read."""
    assert decoded(startTimeUnixNano=time, endTimeUnixNano=time)[5:7] == (expected, expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, None),
        (None, None),
        ({"stringValue": None}, None),
        ({"stringValue": ""}, ""),
        ({"boolValue": False}, False),
        ({"intValue": "-9223372036854775808"}, -(2**63)),
        ({"intValue": 7}, 7),
        ({"doubleValue": "Infinity"}, float("inf")),
        ({"doubleValue": "-Infinity"}, float("-inf")),
        ({"doubleValue": "1.5"}, 1.5),
        ({"doubleValue": 2}, 2.0),
        ({"bytesValue": "+/8="}, b"\xfb\xff"),
        ({"bytesValue": "-_8"}, b"\xfb\xff"),
        ({"bytesValue": ""}, b""),
        ({"arrayValue": {}}, ()),
        ({"kvlistValue": {}}, {}),
        ({"kvlistValue": {"values": [{}]}}, {"": None}),
        ({"arrayValue": {"values": [{"intValue": 1}, {}]}}, (1, None)),
    ],
)
def test_values(content: object, expected: object) -> None:
    """Every kind of value, in the forms that protobuf's mapping allows."""
    assert exact(value(content)) == exact(expected)


def test_nan_is_a_name() -> None:
    """NaN is a string in JSON."""
    assert exact(value({"doubleValue": "NaN"})) == "nan"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "1",
        '"x"',
        "{",
        '{"resourceSpans":[',
        "{} {}",
        '{"resourceSpans":{}}',
        '{"resourceSpans":[1]}',
        '{"resourceSpans":[null]}',
        '{"resourceSpans":[{"resource":[]}]}',
        '{"resourceSpans":[{"scopeSpans":[{"spans":"x"}]}]}',
        b"\xff",
        b'{"resourceSpans":"\xc3"}',
        "1" * 5000,
    ],
)
def test_what_is_no_traces_data_is_refused(text: str | bytes) -> None:
    """Not JSON, not UTF-8, or not the structure: DecodeError."""
    with pytest.raises(DecodeError):
        decode_json(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": ""},
        {"traceId": None},
        {"traceId": "0" * 32},
        {"traceId": "g" * 32},
        {"traceId": "a" * 31},
        {"traceId": " a" * 16},
        {"traceId": 7},
        {"spanId": "a" * 32},
        {"spanId": ["a"]},
        {"parentSpanId": "a"},
        {"parentSpanId": 0},
        {"name": 5},
        {"name": ["x"]},
        {"kind": "SPAN_KIND_NEW"},
        {"kind": [1]},
        {"status": {"code": "NEW"}},
        {"status": {"code": {}}},
        {"status": {"message": 1}},
        {"status": [1]},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": str(2**64)},
        {"startTimeUnixNano": "1_0"},
        {"startTimeUnixNano": " 1"},
        {"startTimeUnixNano": "1.5"},
        {"startTimeUnixNano": 1.5},
        {"startTimeUnixNano": float("inf")},
        {"startTimeUnixNano": True},
        {"startTimeUnixNano": "9" * 5000},
        {"flags": 2**32},
        {"droppedLinksCount": -1},
        {"attributes": {}},
        {"attributes": "x"},
        {"attributes": [1]},
        {"attributes": [{"key": 1}]},
        {"attributes": [{"value": []}]},
        {"attributes": [{"value": "x"}]},
        {"attributes": [{"value": {"stringValue": 1}}]},
        {"attributes": [{"value": {"boolValue": 1}}]},
        {"attributes": [{"value": {"intValue": 2**63}}]},
        {"attributes": [{"value": {"intValue": "x"}}]},
        {"attributes": [{"value": {"doubleValue": True}}]},
        {"attributes": [{"value": {"doubleValue": "1_0"}}]},
        {"attributes": [{"value": {"doubleValue": "x"}}]},
        {"attributes": [{"value": {"doubleValue": 10**400}}]},
        {"attributes": [{"value": {"bytesValue": "*"}}]},
        {"attributes": [{"value": {"bytesValue": "é"}}]},
        {"attributes": [{"value": {"bytesValue": 1}}]},
        {"attributes": [{"value": {"arrayValue": []}}]},
        {"attributes": [{"value": {"arrayValue": {"values": {}}}}]},
        {"attributes": [{"value": {"arrayValue": {"values": [1]}}}]},
        {"attributes": [{"value": {"kvlistValue": {"values": [1]}}}]},
        {"attributes": [{"value": {"stringValue": "x", "intValue": 1}}]},
        {"attributes": [{"value": {"boolValue": False, "intValue": 0}}]},
        {"events": {}},
        {"events": [1]},
        {"events": [{"timeUnixNano": "x"}]},
        {"links": [{"traceId": "a"}]},
        {"links": [[]]},
    ],
)
def test_damaged_spans_are_refused(fields: dict[str, Any]) -> None:
    """A field of the wrong type or out of its range: DecodeError, with a sentence."""
    with pytest.raises(DecodeError, match=r"damaged OTLP/JSON: .+"):
        decoded(**fields)


def test_lone_surrogates_are_replaced() -> None:
    """Half a pair, escaped or not, becomes U+FFFD everywhere; whole pairs are the character they make."""
    text = line(IDS | {"name": "NAME", "attributes": [{"key": "KEY", "value": {"stringValue": "x"}}]})
    text = text.replace("NAME", r"\ud83e\uddf6 \uD83E \\ud83e").replace("KEY", "\udfff é")
    [record] = decode_json(text)
    assert record.name == "\U0001f9f6 \ufffd \\ud83e"
    assert list(record.attributes) == ["\ufffd é"]


def test_nesting_is_capped() -> None:
    """Values nested as deep as the cap are read; deeper ones, and brackets without end, are refused."""
    assert value(nested(DECODED_VALUE_DEPTH)) is not None
    with pytest.raises(DecodeError, match="nested too deep"):
        value(nested(DECODED_VALUE_DEPTH + 1))
    for deep in ("[" * 200_000, '{"a":' * 200_000):
        with pytest.raises(DecodeError, match="nested too deep"):
            decode_json('{"resourceSpans":' + deep)


def test_too_long_a_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is looked at before anything else."""
    monkeypatch.setattr(otlp_json, "LINE_BYTES", 10)
    with pytest.raises(DecodeError, match="longer than the 10"):
        decode_json("{" * 11)


def test_truncated_at_every_offset() -> None:
    """A torn line is refused wherever it is torn."""
    whole = line(IDS | {"name": "é\u2028", "attributes": [{"key": "a", "value": {"arrayValue": {}}}]}).encode()
    for size in range(len(whole)):
        with pytest.raises(DecodeError):
            decode_json(whole[:size])


@given(traces, st.data())
def test_flipped_bits_raise_decode_error(traces: TracesData, data: st.DataObject) -> None:
    """A flipped bit, wherever it is, gives records or DecodeError, nothing else."""
    damaged = bytearray(json.dumps(json_of(traces), ensure_ascii=False).encode())
    position = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[position // 8] ^= 1 << position % 8
    with contextlib.suppress(DecodeError):
        decode_json(bytes(damaged))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda junk: st.lists(junk, max_size=2) | st.dictionaries(st.sampled_from(["values", "value", "key"]), junk),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["traceId", "name", "kind", "flags", "startTimeUnixNano", "attributes", "events", "status"]),
        JUNK,
    )
)
def test_any_json_gives_records_or_decode_error(fields: dict[str, Any]) -> None:
    """Any JSON in any place gives records or DecodeError, nothing else."""
    with contextlib.suppress(DecodeError):
        decoded(**fields)
