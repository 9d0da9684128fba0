"""OTLP protobuf <-> records, against the official messages."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from clew._hot import spans_to_records
from clew.errors import DecodeError, EncodeError
from clew.limits import DECODED_VALUE_DEPTH
from clew.model import AttributeValue, Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from clew.otlp import decode_traces, encode_span, encode_traces, protobuf
from tests.otlp_messages import exact, nested, records_of, span_fields, spans, traces, varint, wire

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
RECORD = SpanRecord(TRACE_ID, SPAN_ID, "", "build-circuit")
FULL = RECORD._replace(
    parent_id="a" * 16,
    kind=SpanKind.CLIENT,
    start_time_ns=1,
    end_time_ns=2**64 - 1,
    status=Status.ERROR,
    status_description="no such relay",
    attributes={"text": "é\0", "yes": True, "int": -1, "double": 0.5, "bytes": b"\xff", "none": None, "": ()},
    events=(Event("extended", 2, {"hop": 1}, 3),),
    links=(Link(SpanContext("1" * 32, "2" * 16, 1, "a=b", is_remote=True), {"why": ("x", (1, {"y": 2}))}, 4),),
    trace_state="c=d",
    flags=0x301,
    dropped_attributes=5,
    dropped_events=6,
    dropped_links=7,
    resource=Resource({"service.name": "tor"}),
    scope=Scope("clew", "1.0", {"library": True}),
)


def message(*spans: Span) -> bytes:
    return TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])]).SerializeToString()


def with_name(name: bytes) -> bytes:
    return span_fields([Span(trace_id=b"t" * 16, span_id=b"s" * 8)])[2:] + b"\x2a" + varint(len(name)) + name


@given(traces)
def test_messages_are_decoded(traces: TracesData) -> None:
    """Any message that the official library writes gives its spans with all they have."""
    assert exact(decode_traces(traces.SerializeToString())) == exact(records_of(traces))


@given(wire(TracesData.DESCRIPTOR))
def test_odd_but_legal_bytes_are_accepted(data: bytes) -> None:
    """Shuffled, repeated, split, padded, unknown and mistyped fields are read as the official parser reads them."""
    assert exact(decode_traces(data)) == exact(records_of(TracesData.FromString(data)))


@given(wire(Span.DESCRIPTOR))
def test_odd_but_legal_spans_are_accepted(body: bytes) -> None:
    """The same for the fields of a span, which the native encoder writes without a TracesData around them."""
    body += b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8
    traces = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span.FromString(body)])])])
    resource, scope = Resource({"a": 1}), Scope("b")
    expected = [record._replace(resource=resource, scope=scope) for record in records_of(traces)]
    assert exact(spans_to_records(b"\x12" + varint(len(body), 3) + body, resource, scope)) == exact(expected)


@given(traces)
def test_records_are_encoded(traces: TracesData) -> None:
    """Records, encoded, are the same to the official library, and decoded again the same to us."""
    records = records_of(traces)
    encoded = encode_traces(records)
    expected = sorted(map(repr, exact(records)))
    assert sorted(map(repr, exact(records_of(TracesData.FromString(encoded))))) == expected
    assert sorted(map(repr, exact(decode_traces(encoded)))) == expected


def test_every_field_survives() -> None:
    """A record with all there is comes back equal."""
    assert decode_traces(encode_traces([FULL])) == [FULL]


def test_records_of_one_origin_stand_together() -> None:
    """Spans of equal resource and scope share one header, whatever objects hold them."""
    other = FULL._replace(resource=Resource({"service.name": "other"}))
    equal = FULL._replace(resource=Resource({"service.name": "tor"}), name="second")
    traces = TracesData.FromString(encode_traces([FULL, other, equal]))
    assert [[len(s.spans) for s in r.scope_spans] for r in traces.resource_spans] == [[2], [1]]
    assert encode_traces([]) == b""


def test_cancelled_travels_as_error() -> None:
    """CANCELLED is ERROR and an attribute on the wire, and comes back as itself without the attribute."""
    cancelled = RECORD._replace(status=Status.CANCELLED, attributes={"clew.status": "mine", "a": 1})
    [span] = ScopeSpans.FromString(encode_span(cancelled)).spans
    assert span.status.code == int(Status.ERROR)
    assert span.attributes[0].value.string_value == "cancelled"
    assert decode_traces(encode_traces([cancelled])) == [cancelled._replace(attributes={"a": 1})]


@pytest.mark.parametrize("status", [Status.UNSET, Status.OK, Status.ERROR])
def test_the_attribute_alone_is_an_attribute(status: Status) -> None:
    """Only a status of ERROR and the very value make CANCELLED."""
    value = "other" if status is Status.ERROR else "cancelled"
    record = RECORD._replace(status=status, attributes={"clew.status": value})
    assert decode_traces(encode_traces([record])) == [record]


@pytest.mark.parametrize("kind", [0, 6, 2**31 - 1, -1])
def test_unknown_kinds_are_internal(kind: int) -> None:
    """UNSPECIFIED and kinds of the future are taken for INTERNAL, unknown statuses for UNSET."""
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, kind=kind, status={"code": kind})  # type: ignore[arg-type]
    [record] = decode_traces(message(span))
    assert (record.kind, record.status) == (SpanKind.INTERNAL, Status.UNSET)


@pytest.mark.parametrize(
    ("trace_id", "span_id", "parent_id"),
    [
        (b"", b"s" * 8, b""),
        (b"t" * 15, b"s" * 8, b""),
        (b"t" * 17, b"s" * 8, b""),
        (bytes(16), b"s" * 8, b""),
        (b"t" * 16, b"", b""),
        (b"t" * 16, b"s" * 16, b""),
        (b"t" * 16, bytes(8), b""),
        (b"t" * 16, b"s" * 8, b"p" * 4),
    ],
)
def test_spans_without_valid_ids_are_refused(trace_id: bytes, span_id: bytes, parent_id: bytes) -> None:
    """trace.proto: ids of all zeros or another length are invalid."""
    with pytest.raises(DecodeError, match="id"):
        decode_traces(message(Span(trace_id=trace_id, span_id=span_id, parent_span_id=parent_id)))


def test_a_parent_of_zeros_is_none() -> None:
    """Some exporters write a root's parent as zeros."""
    [record] = decode_traces(message(Span(trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=bytes(8))))
    assert record.parent_id == ""


def test_invalid_utf8_is_replaced() -> None:
    """A name that is not UTF-8 costs its bytes, not the batch."""
    body = with_name(b"a\xff\xc3")
    [record] = spans_to_records(b"\x12" + varint(len(body)) + body, Resource(), Scope())
    assert record.name == "a\ufffd\ufffd"


def test_truncated_at_every_offset() -> None:
    """A message cut anywhere within is refused."""
    whole = encode_traces([FULL])
    for size in range(1, len(whole)):
        with pytest.raises(DecodeError):
            decode_traces(whole[:size])
    fields = encode_span(FULL)
    for size in range(1, len(fields)):
        with pytest.raises(DecodeError):
            spans_to_records(fields + fields[:size], Resource(), Scope())


@given(st.lists(spans, min_size=1, max_size=2), st.data())
def test_flipped_bits_raise_decode_error(messages: list[Span], data: st.DataObject) -> None:
    """A flipped bit, wherever it is, gives records or DecodeError, nothing else."""
    damaged = bytearray(message(*messages))
    position = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[position // 8] ^= 1 << position % 8
    try:
        records = decode_traces(bytes(damaged))
    except DecodeError:
        return
    assert all(len(record.trace_id) == 32 and len(record.span_id) == 16 for record in records)


@given(st.binary(max_size=200))
def test_any_bytes_give_records_or_decode_error(data: bytes) -> None:
    """Bytes that are no message at all give records or DecodeError, nothing else."""
    with contextlib.suppress(DecodeError):
        decode_traces(data)


def test_too_long_a_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is looked at before anything else."""
    monkeypatch.setattr(protobuf, "LINE_BYTES", 10)
    with pytest.raises(DecodeError, match="longer than the 10"):
        decode_traces(bytes(11))


def test_nesting_is_capped_both_ways() -> None:
    """What can be encoded can be decoded; deeper values are refused by both."""
    value: AttributeValue = None
    for level in range(DECODED_VALUE_DEPTH):
        value = {"": value} if level % 2 else (value,)
    record = RECORD._replace(attributes={"deep": value})
    assert decode_traces(encode_traces([record])) == [record]
    with pytest.raises(EncodeError, match="nested deeper"):
        encode_span(RECORD._replace(attributes={"deep": (value,)}))
    for levels in (DECODED_VALUE_DEPTH + 1, 1000):
        with pytest.raises(DecodeError, match="nested too deep"):
            spans_to_records(nested(levels), Resource(), Scope())


def test_values_beyond_otlp_are_coerced() -> None:
    """Integers of more than 64 bits become digits, lone surrogates U+FFFD; lists are tuples."""
    values: dict[str, Any] = {"big": 2**63, "small": -(2**63), "text": "\ud800x", "list": [1, [2]], "\udfff": None}
    [record] = decode_traces(encode_traces([RECORD._replace(attributes=values, name="\udc80")]))
    assert record.name == "\ufffd"
    assert record.attributes == {
        "big": "9223372036854775808",
        "small": -(2**63),
        "text": "\ufffdx",
        "list": (1, (2,)),
        "\ufffd": None,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trace_id": "xyz"}, "hex digits"),
        ({"trace_id": ""}, "hex digits"),
        ({"span_id": "0" * 15}, "hex digits"),
        ({"parent_id": TRACE_ID}, "hex digits"),
        ({"start_time_ns": -1}, "ns after 1970"),
        ({"end_time_ns": 2**64}, "ns after 1970"),
        ({"dropped_links": -1}, "count"),
        ({"flags": 2**32}, "flags"),
        ({"attributes": {"a": object()}}, "cannot be a object"),
        ({"attributes": {"a": 10**5000}}, "integer of 16610 bits"),
    ],
)
def test_what_otlp_has_no_place_for_is_refused(change: dict[str, Any], words: str) -> None:
    """A record that cannot be written as it is raises one sentence that says why."""
    with pytest.raises(EncodeError, match=words):
        encode_span(RECORD._replace(**change))
