"""Exporters of the SDK under clew, and clew's under the SDK."""

from __future__ import annotations

from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api

from clew.errors import ExportError
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from clew.otel.readable import Event as OtelEvent
from clew.otel.readable import Link as OtelLink
from clew.otel.resources import InstrumentationScope
from clew.otel.resources import Resource as OtelResource
from clew.otlp import Batch, encode_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.protocols import Exporter

__all__ = ["from_otel_exporter", "to_otel_exporter"]

_CODES = {
    Status.UNSET: api.StatusCode.UNSET,
    Status.OK: api.StatusCode.OK,
    Status.ERROR: api.StatusCode.ERROR,
    Status.CANCELLED: api.StatusCode.ERROR,
}
_REMOTE = 0x200  # OTLP Span.flags: the parent is of another process


# --- theirs under ours -----------------------------------------------------------------------------------------------


class _FromOtel:
    """See `from_otel_exporter`."""

    def __init__(self, span_exporter: Any) -> None:
        self.wrapped = span_exporter

    def export(self, batch: Batch) -> None:
        resource = OtelResource(batch.resource.attributes)
        scope = batch.scope
        own = InstrumentationScope(scope.name, scope.version, scope.schema_url, scope.attributes)
        result = self.wrapped.export(tuple(_readable(record, resource, own) for record in batch.records))
        if getattr(result, "name", "SUCCESS") != "SUCCESS":
            raise ExportError(f"{type(self.wrapped).__name__} says that it failed; its own log may tell why")

    def close(self) -> None:
        self.wrapped.shutdown()

    def __repr__(self) -> str:
        return f"from_otel_exporter({self.wrapped!r})"


def from_otel_exporter(span_exporter: Any) -> Exporter:
    """A span exporter of the SDK's interface as an exporter of clew's. It is called on the tracer's worker.

    Each span becomes a `ReadableSpan` of the SDK, which has to be there: what the exporter costs, it costs here.

    Args:
        span_exporter: an object with `export(spans)` and `shutdown()`.
    """
    return _FromOtel(span_exporter)


def _readable(record: SpanRecord, resource: OtelResource, scope: InstrumentationScope) -> Any:
    from opentelemetry.sdk.trace import ReadableSpan

    parent = None
    if record.parent_id:
        parent = _context(
            SpanContext(
                record.trace_id, record.parent_id, record.flags & 3, record.trace_state, bool(record.flags & _REMOTE)
            )
        )
    make: Any = ReadableSpan  # what it is given reads as its own classes do
    return make(
        record.name,
        _context(record.context),
        parent,
        resource,
        record.attributes,
        tuple(OtelEvent(*event) for event in record.events),
        tuple(OtelLink(_context(link.context), link.attributes, link.dropped_attributes) for link in record.links),
        api.SpanKind(record.kind - 1),
        status=api.Status(_CODES[record.status], record.status_description or None),
        start_time=record.start_time_ns,
        end_time=record.end_time_ns,
        instrumentation_scope=scope,
    )


def _context(context: SpanContext) -> api.SpanContext:
    state = api.TraceState.from_header([context.trace_state]) if context.trace_state else None
    return api.SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        context.is_remote,
        api.TraceFlags(context.trace_flags),
        state,
    )


# --- ours under theirs -----------------------------------------------------------------------------------------------


class _ToOtel:
    """See `to_otel_exporter`."""

    def __init__(self, exporter: Exporter) -> None:
        self.wrapped = exporter

    def export(self, spans: Sequence[Any]) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        failed = False
        for (resource, scope), group in groupby(spans, lambda span: (span.resource, span.instrumentation_scope)):
            records = list(map(_record, group))
            own = Scope()
            if scope is not None:
                attributes = dict(scope.attributes or {})
                own = Scope(scope.name, scope.version or "", MappingProxyType(attributes), scope.schema_url or "")
            made_by = Resource(MappingProxyType(dict(resource.attributes)))
            try:
                self.wrapped.export(Batch(b"".join(map(encode_span, records)), len(records), made_by, own))
            except Exception:  # noqa: BLE001 - the SDK wants a result, whatever happened
                failed = True
        return SpanExportResult.FAILURE if failed else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - nothing is held back here
        return True

    def shutdown(self) -> None:
        self.wrapped.close()

    def __repr__(self) -> str:
        return f"to_otel_exporter({self.wrapped!r})"


def to_otel_exporter(exporter: Exporter) -> Any:
    """An exporter of clew's as a span exporter of the SDK's interface, for the SDK's own processors.

    Args:
        exporter: of clew's; FileExporter, StdoutExporter, MemoryExporter, any.
    """
    return _ToOtel(exporter)


def _record(span: Any) -> SpanRecord:
    context, parent = span.get_span_context(), span.parent
    flags = int(context.trace_flags) | 0x100 | (_REMOTE if parent is not None and parent.is_remote else 0)
    return SpanRecord(
        api.format_trace_id(context.trace_id),
        api.format_span_id(context.span_id),
        "" if parent is None else api.format_span_id(parent.span_id),
        span.name,
        SpanKind(span.kind.value + 1),
        span.start_time or 0,
        span.end_time or 0,
        Status(span.status.status_code.value),
        span.status.description or "",
        dict(span.attributes or {}),
        tuple(
            Event(each.name, each.timestamp, dict(each.attributes or {}), each.dropped_attributes)
            for each in span.events
        ),
        tuple(Link(_own(each.context), dict(each.attributes or {}), each.dropped_attributes) for each in span.links),
        context.trace_state.to_header() if context.trace_state else "",
        flags,
        span.dropped_attributes,
        span.dropped_events,
        span.dropped_links,
    )


def _own(context: api.SpanContext) -> SpanContext:
    state = context.trace_state.to_header() if context.trace_state else ""
    ids = api.format_trace_id(context.trace_id), api.format_span_id(context.span_id)
    return SpanContext(*ids, int(context.trace_flags), state, context.is_remote)
