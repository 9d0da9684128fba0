"""The native transcoder against protobuf's own JSON."""

from __future__ import annotations

import contextlib
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from clew._hot import attributes_to_json, spans_to_json
from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH
from tests.otlp_messages import exact, json_of, nested, span_fields, spans, varint, wire


def elements(data: bytes) -> list[dict[str, Any]]:
    elements: list[dict[str, Any]] = json.loads(b"[" + spans_to_json(data) + b"]")
    return elements


@given(st.lists(spans, max_size=3))
def test_spans_become_what_protobuf_makes_of_them(messages: list[Span]) -> None:
    """Any spans give the JSON that protobuf's own mapping gives, with ids in hex."""
    assert exact(elements(span_fields(messages))) == exact([json_of(message) for message in messages])


@given(wire(Span.DESCRIPTOR))
def test_odd_but_legal_bytes_are_accepted(body: bytes) -> None:
    """Shuffled, repeated, split, padded, unknown and mistyped fields are read as the official parser reads them."""
    data = b"\x12" + varint(len(body), 5) + body
    assert exact(elements(data)) == exact([json_of(Span.FromString(body))])


@given(st.lists(spans, min_size=1, max_size=2).map(span_fields), st.data())
def test_damaged_bytes_raise_decode_error(fields: bytes, data: st.DataObject) -> None:
    """A flipped bit, wherever it is, gives JSON or DecodeError, nothing else."""
    position = data.draw(st.integers(0, len(fields) * 8 - 1))
    damaged = bytearray(fields)
    damaged[position // 8] ^= 1 << position % 8
    with contextlib.suppress(DecodeError):
        elements(bytes(damaged))


@given(st.binary(max_size=200))
def test_any_bytes_give_json_or_decode_error(data: bytes) -> None:
    """Bytes that are no spans at all give JSON or DecodeError, nothing else."""
    with contextlib.suppress(DecodeError):
        elements(data)


def test_truncated_at_every_offset() -> None:
    """Spans that end anywhere but between two of them are refused."""
    span = Span(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        name="build-circuit",
        start_time_unix_nano=1,
        attributes=[KeyValue(key="hop", value=AnyValue(int_value=300))],
        events=[Span.Event(name="extended", time_unix_nano=2)],
        links=[Span.Link(trace_id=b"t" * 16, span_id=b"s" * 8, flags=1)],
    )
    whole = span_fields([span])
    for size in range(1, len(whole)):
        with pytest.raises(DecodeError):
            spans_to_json(whole + whole[:size])


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"\x12\x05\x0a\x04", "past the end"),
        (b"\x12\x80", "past the end"),
        (b"\x12\x02\x39\x00", "past the end"),
        (b"\x12\x04\x85\x01\x00\x00", "past the end"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "past the end"),
        (b"\x12\x0c\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00", "64 bits"),
        (b"\x12\x02\x00\x00", "impossible tag"),
        (b"\x12\x02\x0e\x00", "impossible tag"),
        (b"\x12\x01\x0c", "impossible tag"),
        (b"\x12\x06\x80\x80\x80\x80\x10\x00", "impossible tag"),
        (b"\x12\x02\x0b\x14", "impossible tag"),
        (b"\x12\x01\x0b", "past the end"),
        (b"\x12\x65" + b"\x0b" * 101, "nested too deep"),
    ],
)
def test_the_reason_is_told(damaged: bytes, reason: str) -> None:
    """Each kind of damage is named in the error."""
    with pytest.raises(DecodeError, match=reason):
        spans_to_json(damaged)


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x0f" + b"1" * 15,  # a trace id
        b"\x12\x09" + b"1" * 9,  # a span id
        b"\x22\x01" + b"1",  # a parent
        b"\x0a\x10" + b"1" * 16 + b"\x0a\x01" + b"1",  # the last one counts
        b"\x6a\x11\x0a\x0f" + b"1" * 15,  # a link's trace id
    ],
)
def test_ids_of_a_wrong_length_are_damage(body: bytes) -> None:
    """Nobody could read them, so they are not written; the decoder refuses them too."""
    data = b"\x12" + bytes([len(body)]) + body
    with pytest.raises(DecodeError, match="an id is"):
        spans_to_json(data)


def test_nesting_is_capped() -> None:
    """Values nested as deep as the cap are read; deeper ones, a million levels too, are refused."""
    assert spans_to_json(nested(DECODED_VALUE_DEPTH)).count(b"arrayValue") == DECODED_VALUE_DEPTH
    for levels in (DECODED_VALUE_DEPTH + 1, 1000):
        with pytest.raises(DecodeError, match="nested too deep"):
            spans_to_json(nested(levels))


@given(st.binary(max_size=40))
@example(b"\xed\xa0\x80 \xf4\x90\x80\x80 \xc0\x80 \xf0\x9f\x98 \xe2\x80\xa8 \xe2\x80")
def test_invalid_utf8_is_replaced(name: bytes) -> None:
    """A name of any bytes reads as Python reads them with U+FFFD for what is not UTF-8."""
    body = b"\x2a" + varint(len(name)) + name
    [span] = elements(b"\x12" + varint(len(body)) + body)
    assert span.get("name", "") == name.decode("utf-8", "replace")


def test_strings_are_escaped_as_little_as_json_demands() -> None:
    """Control characters, quotes and backslashes are escaped, everything else is plain UTF-8 on one line."""
    every = "".join(map(chr, range(0x20))) + '"\\/\x7f\x85\u2028\u2029\U0001f9f6'
    text = spans_to_json(span_fields([Span(name=every)]))
    assert json.loads(text)["name"] == every
    assert json.dumps(every, ensure_ascii=False).encode() in text
    assert b"\n" not in text


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
@example([5e-324, 2.2250738585072014e-308, 2.0**-44, 1e16, 1e22, 0.1, -0.0, 1.7976931348623157e308])
def test_doubles_are_written_as_repr_writes_them(values: list[float]) -> None:
    """Doubles have the shortest digits that give them back."""
    pairs = [KeyValue(key="x", value=AnyValue(double_value=value)) for value in values]
    text = attributes_to_json(Resource(attributes=pairs).SerializeToString())
    expected = [f'{{"key":"x","value":{{"doubleValue":{value!r}}}}}' for value in values]
    assert text.decode() == ",".join(expected)


@pytest.mark.parametrize(
    ("bits", "name"),
    [(0x7FF8000000000000, "NaN"), (0x7FF0000000000000, "Infinity"), (0xFFF0000000000000, "-Infinity")],
)
def test_doubles_that_json_lacks_are_names(bits: int, name: str) -> None:
    """NaN and the infinities are strings."""
    [value] = struct.unpack("<d", struct.pack("<Q", bits))
    text = attributes_to_json(Resource(attributes=[KeyValue(value=AnyValue(double_value=value))]).SerializeToString())
    assert json.loads(text) == {"value": {"doubleValue": name}}


def test_big_strings_and_many_spans() -> None:
    """The output grows as far as it must."""
    name = "\x01é" * 1_000_000
    assert elements(span_fields([Span(name=name)])) == [{"name": name}]
    many = [Span(name=str(i), attributes=[KeyValue(key="x", value=AnyValue(double_value=i))]) for i in range(5000)]
    assert [int(span["name"]) for span in elements(span_fields(many))] == list(range(5000))


def test_threads_share_nothing() -> None:
    """Several threads at once, as the GIL is released, each get their own text."""
    batches = [span_fields([Span(name=str(i) * 10)] * 200) for i in range(8)]
    expected = [spans_to_json(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(spans_to_json, batches * 20)) == expected * 20


@pytest.mark.parametrize("wrong", [None, "text", bytearray(b""), 1])
def test_only_bytes_are_taken(wrong: Any) -> None:
    """What could change while the GIL is released is refused."""
    with pytest.raises(TypeError):
        spans_to_json(wrong)
