"""What the core encodes is what the official OTLP messages decode."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from clew._hot import AlwaysSample, Queue, TracerCore
from clew.limits import VALUE_DEPTH
from clew.model import SpanKind, Status


def encode_one(**arguments: Any) -> ProtoSpan:
    queue = Queue(1 << 30, 512, 1 << 17)
    tracer = TracerCore(queue, AlwaysSample())
    events = arguments.pop("events", ())
    description = arguments.pop("description", None)
    span = tracer.start_span(**arguments)
    for name, attributes, time_ns in events:
        span.add_event(name, attributes, time_ns)
    if description is not None:
        span.set_status(Status.ERROR, description)
    span.end()
    taken = queue.take(0)
    assert taken is not None
    message = ScopeSpans()
    message.ParseFromString(taken[0])
    assert len(message.spans) == taken[1] == 1
    return message.spans[0]


def expected_text(text: str) -> str:
    """A lone surrogate cannot be encoded: it becomes U+FFFD."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def decode(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return tuple(decode(item) for item in value.array_value.values)
        case "kvlist_value":
            return {pair.key: decode(pair.value) for pair in value.kvlist_value.values}
        case name:
            return getattr(value, name)


def expected(value: Any) -> Any:
    match value:
        case str():
            return expected_text(value)
        case bool() | float() | bytes() | None:
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case list() | tuple():
            return tuple(expected(item) for item in value)
        case dict():
            return {expected_text(key): expected(item) for key, item in value.items()}
    raise AssertionError(value)


def same(one: Any, other: Any) -> bool:
    """Equal, with NaN equal to itself, and True no 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def pairs(fields: Any) -> dict[str, Any]:
    return {pair.key: decode(pair.value) for pair in fields}


text = st.text(st.characters(codec=None, categories=None), max_size=20)
# Keys that stay apart when their surrogates are replaced.
keys = text.filter(lambda key: not any("\ud800" <= character <= "\udfff" for character in key))
plain = st.none() | st.booleans() | st.integers() | st.integers(-(2**63), 2**63 - 1) | st.floats() | text | st.binary()
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)
attributes = st.dictionaries(keys, values, max_size=8)
times = st.integers(0, 2**63 - 1)


@given(name=text, attributes=attributes, kind=st.sampled_from(SpanKind), description=text, start=times)
def test_a_span_arrives_as_it_was_given(
    name: str, attributes: dict[str, Any], kind: SpanKind, description: str, start: int
) -> None:
    """Any name and any value: what arrives is what was given, with lone surrogates replaced."""
    span = encode_one(name=name, attributes=attributes, kind=kind, description=description, start_time_ns=start)
    assert span.name == expected_text(name)
    assert span.kind == kind + 0
    assert span.start_time_unix_nano == start
    assert span.end_time_unix_nano >= start
    assert span.status.message == expected_text(description)
    assert same(pairs(span.attributes), expected(attributes))


@given(st.lists(st.tuples(text, attributes, times), max_size=3))
@settings(max_examples=40)
def test_events_arrive(events: list[tuple[str, dict[str, Any], int]]) -> None:
    """In their order, each with its time and attributes."""
    span = encode_one(name="x", events=events)
    assert [event.name for event in span.events] == [expected_text(name) for name, _, _ in events]
    assert [event.time_unix_nano for event in span.events] == [time_ns for _, _, time_ns in events]
    for event, (_, given_attributes, _) in zip(span.events, events, strict=True):
        assert same(pairs(event.attributes), expected(given_attributes))


def test_ten_megabytes() -> None:
    """Lengths past what three bytes of a varint hold: nested messages are moved to make room."""
    for large in ("x" * 10_000_000, "é" * 5_000_000, "\ud800" * 3_000_000, b"\x00" * 10_000_000):
        given_attributes = {"a": large, "b": [large, 1], "c": {"d": large}}
        span = encode_one(name="x", attributes=given_attributes, events=[("e", {"a": large}, 1)])
        wanted = expected(large)
        assert pairs(span.attributes) == {"a": wanted, "b": (wanted, 1), "c": {"d": wanted}}
        assert pairs(span.events[0].attributes) == {"a": wanted}


def test_lengths_around_each_size_of_a_varint() -> None:
    """Strings, arrays and maps whose encoding is just below, at and above 128, 16,384 and 2,097,152 bytes."""
    for size in (0, 1, *(edge + step for edge in (1 << 7, 1 << 14, 1 << 21) for step in range(-20, 3))):
        item = "x" * size
        span = encode_one(name=item, attributes={"s": item, "l": [item], "m": {"k": item}})
        assert span.name == item
        assert pairs(span.attributes) == {"s": item, "l": (item,), "m": {"k": item}}


def test_depth_is_bounded() -> None:
    """A value nested a thousand deep arrives cut, with a placeholder, and protobuf can parse it."""
    value: Any = 1
    for _ in range(1000):
        value = [value]
    span = encode_one(name="x", attributes={"deep": value, "deep map": {"a": {"b": value}}})
    found = pairs(span.attributes)["deep"]
    depth = 0
    while isinstance(found, tuple):
        (found,) = found
        depth += 1
    assert (depth, found) == (VALUE_DEPTH, "<nested too deep>")


def test_what_is_empty_is_left_out() -> None:
    """A root without anything takes no field for what it has not; 76 bytes in all."""
    queue = Queue(1 << 20, 512, 1 << 17)
    TracerCore(queue, AlwaysSample()).start_span("x").end()
    taken = queue.take(0)
    assert taken is not None
    assert len(taken[0]) == 4 + 18 + 10 + 3 + 2 + 9 + 9 + 6
    message = ScopeSpans()
    message.ParseFromString(taken[0])
    assert not message.spans[0].HasField("status")
    assert message.spans[0].parent_span_id == b""


def test_none_is_an_empty_value() -> None:
    """OTLP says None with an AnyValue that has no field."""
    span = encode_one(name="x", attributes={"none": None, "list": [None]})
    assert span.attributes[0] == KeyValue(key="none", value=AnyValue())
    assert pairs(span.attributes) == {"none": None, "list": (None,)}
