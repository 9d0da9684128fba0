"""Exporters of the SDK under clew, clew's exporters and samplers under the stock SDK, and what is lost on the way."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, StatusCode, TraceFlags, TraceState

from clew import (
    AlwaysSample,
    FileExporter,
    MemoryExporter,
    NeverSample,
    ParentSample,
    ProbabilitySample,
    Status,
    Tracer,
)
from clew.formats import TraceFile, records_of
from clew.otel import Resource, TracerProvider, from_otel_exporter, to_otel_exporter, to_otel_sampler

if TYPE_CHECKING:
    from pathlib import Path

    from clew import SpanRecord

REMOTE = SpanContext(
    0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True, TraceFlags(1), TraceState([("v", "1")])
)
BEGIN = 1_795_000_000_000_000_000


def program(tracer: api.Tracer) -> None:
    """A span with everything, and its child."""
    context = api.set_span_in_context(NonRecordingSpan(REMOTE))
    span = tracer.start_span("call", context, api.SpanKind.CLIENT, {"a": [1, 2]}, [Link(REMOTE, {"b": 1})], BEGIN)
    span.add_event("event", {"c": True}, BEGIN + 1)
    span.set_status(StatusCode.ERROR, "no")
    tracer.start_span("child", api.set_span_in_context(span), start_time=BEGIN + 1).end(BEGIN + 2)
    span.end(BEGIN + 5)


def compared(record: SpanRecord) -> Any:
    """All fields, but for ids that were drawn, and who made it."""
    parent: Any = bool(record.parent_id)
    return record._replace(span_id="", resource=record.resource._replace(attributes={}), parent_id=parent)


def test_exporters_of_clew_under_the_sdk(tmp_path: Path) -> None:
    """The stock SDK's spans are in the file as clew's own for the same program."""
    mine, theirs = MemoryExporter(), tmp_path / "theirs.jsonl"
    ours = TracerProvider(exporter=mine, shutdown_on_exit=False, resource=Resource({"service.name": "shop"}))
    program(ours.get_tracer("library", "1", "https://x/1", {"k": 1}))
    ours.shutdown()
    stock = SdkProvider(resource=SdkResource({"service.name": "shop"}), shutdown_on_exit=False)
    stock.add_span_processor(BatchSpanProcessor(to_otel_exporter(FileExporter(theirs))))
    program(stock.get_tracer("library", "1", "https://x/1", {"k": 1}))
    stock.shutdown()
    with TraceFile(str(theirs)) as file:
        found = [record for records in records_of(file.items(), print) for record in records]
    assert list(map(compared, found)) == list(map(compared, mine.records))
    assert {record.resource.service_name for record in found} == {"shop"}


def test_an_exporter_that_fails_under_the_sdk() -> None:
    """The SDK is told so by the result, never by an exception."""

    class Bad(MemoryExporter):
        def export(self, batch: Any) -> None:
            raise ValueError

    exporter = to_otel_exporter(Bad())
    span = TracerProvider(shutdown_on_exit=False).get_tracer("library").start_span("call")
    span.end()
    assert exporter.export([span]) is SpanExportResult.FAILURE
    assert exporter.force_flush()


def test_exporters_of_the_sdk_under_clew() -> None:
    """Each span reaches them as a ReadableSpan with everything on it."""
    exporter = InMemorySpanExporter()
    with Tracer("shop", from_otel_exporter(exporter)) as own:
        program(TracerProvider(tracer=own, shutdown_on_exit=False).get_tracer("library", "1"))
    child, span = exporter.get_finished_spans()
    assert (span.name, span.kind, span.start_time, span.end_time) == ("call", api.SpanKind.CLIENT, BEGIN, BEGIN + 5)
    assert (span.parent, child.parent) == (REMOTE, span.context)
    assert span.attributes == {"a": (1, 2)}
    assert [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events] == [
        ("event", BEGIN + 1, {"c": True})
    ]
    assert [(link.context, dict(link.attributes or {})) for link in span.links] == [(REMOTE, {"b": 1})]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no")
    assert span.resource.attributes["service.name"] == "shop"
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("library", "1")
    shown = StringIO()
    with Tracer("shop", from_otel_exporter(ConsoleSpanExporter(out=shown))) as own, own.start_span("shown"):
        pass
    assert '"name": "shown"' in shown.getvalue()


def test_an_exporter_of_the_sdk_that_fails() -> None:
    """What it says it could not deliver is in the ledger."""

    class Bad(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.FAILURE

    own = Tracer("shop", from_otel_exporter(Bad()))
    own.start_span("call").end()
    assert not own.close()
    assert own.stats().failed == 1


@pytest.mark.parametrize(
    ("sampler", "root", "remote"),
    [
        (AlwaysSample(), True, True),
        (NeverSample(), False, True),
        (ParentSample(AlwaysSample(), remote_sampled=NeverSample()), True, False),
    ],
)
def test_samplers_of_clew_under_the_sdk(sampler: Any, root: bool, remote: bool) -> None:
    """They decide as under clew: at the root, for traces from elsewhere if they want to, and children follow."""
    exporter = InMemorySpanExporter()
    stock = SdkProvider(to_otel_sampler(sampler), shutdown_on_exit=False)  # type: ignore[arg-type]
    stock.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = stock.get_tracer("library")
    with tracer.start_as_current_span("root"):
        tracer.start_span("child").end()
    tracer.start_span("remote", api.set_span_in_context(NonRecordingSpan(REMOTE))).end()
    names = [span.name for span in exporter.get_finished_spans()]
    assert names == ["child", "root"] * root + ["remote"] * remote


def test_a_sampler_of_clew_says_what_it_is() -> None:
    """By its description and its repr."""
    sampler = to_otel_sampler(ProbabilitySample(0.5))
    assert (sampler.get_description(), repr(sampler)) == (
        "ProbabilitySample(0.5)",
        "OtelSampler(ProbabilitySample(0.5))",
    )


def test_a_cancelled_span_is_an_error_to_others() -> None:
    """OpenTelemetry has no such status."""
    exporter = InMemorySpanExporter()
    with Tracer("shop", from_otel_exporter(exporter)) as own:
        own_span = own.start_span("call")
        own_span.set_status(Status.CANCELLED, "enough")
        own_span.end()
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


def test_resources_are_merged(caplog: pytest.LogCaptureFixture) -> None:
    """The other's attributes win; schemas that contradict each other are told of."""
    one, other = Resource({"a": 1, "b": 1}, "https://x/1"), Resource({"b": 2})
    assert one.merge(other) == Resource({"a": 1, "b": 2}, "https://x/1")
    assert one.merge(SdkResource({"c": 3})).attributes == {"a": 1, "b": 1, "c": 3}
    assert one.merge(Resource({}, "https://x/2")) is one
    assert "cannot be merged" in caplog.text
    assert hash(Resource({"a": 1})) == hash(Resource({"a": 1}))
