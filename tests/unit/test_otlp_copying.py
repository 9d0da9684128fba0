"""clew.otlp.copying: lines made from the bytes say what records would have said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from clew.errors import DecodeError
from clew.model import SpanRecord
from clew.otlp import decode_json, decode_traces, encode_traces
from clew.otlp.copying import json_lines_of
from tests.otlp_messages import exact, traces, wire


def records(lines: bytes) -> list[SpanRecord]:
    return [record for line in lines.splitlines() for record in decode_json(line)]


@given(traces)
def test_lines_have_the_same_spans(messages: TracesData) -> None:
    """What clew or the official library wrote is the same as lines, span for span, counted."""
    data = encode_traces(decode_traces(messages.SerializeToString()))
    found = json_lines_of(data)
    assert found is not None
    assert exact(records(found.lines)) == exact(decode_traces(data))
    assert found.spans == len(decode_traces(data))


@given(wire(TracesData.DESCRIPTOR))
def test_odd_but_legal_bytes(data: bytes) -> None:
    """Bytes that no encoder writes give the same spans as with records, or are left to these."""
    found = json_lines_of(data)
    if found is not None:
        assert exact(records(found.lines)) == exact(decode_traces(data))


@given(traces, st.data())
def test_damaged_bytes(messages: TracesData, data: st.DataObject) -> None:
    """Bytes that are damaged are left to the records to refuse, or are not that damaged."""
    whole = bytearray(messages.SerializeToString())
    if not whole:
        return
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    found = json_lines_of(cut)
    if found is not None:
        assert exact(records(found.lines)) == exact(decode_traces(cut))


@pytest.mark.parametrize(
    "span", [Span(name="x"), Span(trace_id=bytes(16), span_id=b"s" * 8), Span(trace_id=b"t" * 16, span_id=bytes(8))]
)
def test_spans_without_ids_are_left_to_the_records(span: Span) -> None:
    """What is refused as a record is not copied."""
    message = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]).SerializeToString()
    assert json_lines_of(message) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00",  # a field without a number
        # Another trace id, which is none, where the name was.
        encode_traces([SpanRecord("1" * 32, "2" * 16, "", "x")]).replace(b"\x2a\x01x", b"\x0a\x01x"),
    ],
)
def test_what_the_decoder_refuses_is_left_to_it(data: bytes) -> None:
    """Damage is told by the one who knows what it is, and no line is written that cannot be read."""
    with pytest.raises(DecodeError):
        decode_traces(data)
    assert json_lines_of(data) is None
