"""Batches: one content in four forms."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from clew._hot import AlwaysSample, Queue, TracerCore
from clew.limits import VALUE_DEPTH
from clew.model import Resource, Scope
from clew.otlp import Batch, decode_json, decode_traces, encode_span
from tests.otlp_messages import exact, json_of, records_of, span_fields, spans, traces

RESOURCE = Resource(
    {"service.name": 'quo"te\ud800', "process.pid": 7, "tags": ("a", {"b": b"\0"}), "ratio": float("nan")}
)
SCOPE = Scope("cl\new", "1.0\u2028", {"library": True})


@given(st.lists(spans, max_size=3))
def test_every_form_has_the_same_content(messages: list[Span]) -> None:
    """Records, protobuf and JSON say the same, to us and to the official library."""
    batch = Batch(span_fields(messages), len(messages), RESOURCE, SCOPE)
    official = TracesData.FromString(batch.to_protobuf())
    assert exact(batch.records) == exact([r._replace(resource=RESOURCE, scope=SCOPE) for r in records_of(official)])
    assert exact(decode_traces(batch.to_protobuf())) == exact(records_of(official))
    assert exact(decode_json(batch.to_json())) == exact(records_of(official))
    assert ExportTraceServiceRequest.FromString(batch.to_protobuf()).resource_spans == official.resource_spans


@given(traces)
def test_records_come_back_from_json(traces: TracesData) -> None:
    """What is read from anywhere can be written as JSON and read again."""
    for record in records_of(traces):
        batch = Batch(encode_span(record), 1, record.resource, record.scope)
        assert exact(decode_json(batch.to_json())) == exact([record])


def test_json_is_one_line_that_others_read() -> None:
    """The JSON is what protobuf's mapping would write, on one line."""
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="a\nb")
    batch = Batch(span_fields([span]), 1, RESOURCE, SCOPE)
    assert b"\n" not in batch.to_json()
    assert json.loads(batch.to_json()) == json_of(TracesData.FromString(batch.to_protobuf()))


def test_an_empty_batch_of_nothing() -> None:
    """No spans, no resource, no scope: still a message in every form."""
    batch = Batch(b"", 0, Resource(), Scope())
    assert batch.records == ()
    assert decode_traces(batch.to_protobuf()) == []
    assert decode_json(batch.to_json()) == []


def test_the_deepest_value_is_read_by_others() -> None:
    """A mapping nested without end does not cost the batch: protobuf's own decoder takes what the core writes."""
    value: dict[str, Any] = {}
    value["again"] = value
    queue = Queue(1 << 20, 10, 1 << 20)
    span = TracerCore(queue, AlwaysSample()).start_span("deep", attributes={"a": value})
    span.add_event("deep", {"a": value})
    span.end()
    taken = queue.take(0)
    assert taken is not None
    batch = Batch(*taken, RESOURCE, SCOPE)
    official = TracesData.FromString(batch.to_protobuf())
    assert exact(decode_traces(batch.to_protobuf())) == exact(records_of(official))
    assert exact(decode_json(batch.to_json())) == exact(records_of(official))
    assert str(batch.records[0].attributes).count("again") == VALUE_DEPTH


def test_records_are_decoded_once() -> None:
    """Exporters that share a batch share its records."""
    batch = Batch(span_fields([Span(trace_id=b"t" * 16, span_id=b"s" * 8)]), 1, RESOURCE, SCOPE)
    assert batch.records is batch.records
    assert batch.records[0].resource is RESOURCE
    assert repr(batch) == r"""<Batch of 1 spans, 30 bytes, service 'quo"te\ud800'>"""
