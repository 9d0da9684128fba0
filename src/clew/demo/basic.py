"""Basic Tracing: one span."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clew import MemoryExporter, NoopExporter, SpanKind, Tracer
from clew.pretty import format_duration

if TYPE_CHECKING:
    from clew.demo.stage import Stage

__all__ = ["run"]

_SPANS = 20_000


def run(stage: Stage) -> None:
    stage.say("A span measures one operation. It has an id, belongs to a trace, and knows when it began and ended.")
    stage.say("")
    exporter = MemoryExporter()
    with Tracer("demo", exporter=exporter) as tracer:
        with tracer.start_span("lookup-address", kind=SpanKind.CLIENT) as span:
            span.set_attribute("server.address", "example.org")
            time.sleep(0.02)
        tracer.flush(5)
        stage.facts(
            [
                ("trace id", span.trace_id),
                ("span id", span.span_id),
                ("parent", span.parent_id or "none: it is the root of its trace"),
                ("kind", span.kind.name),
                ("attributes", dict(span.attributes)),
                ("duration", format_duration(span.duration_ns or 0)),
            ]
        )
        stage.say("Exported, it looks like this:")
        stage.say("")
        stage.traces(exporter.records, details=True)
        stats = tracer.stats()
        stage.say(
            f"The ledger of the tracer: {stats.started} started = {stats.ended} ended + {stats.open} open; "
            f"{stats.ended} ended = {stats.exported} exported + {sum(stats.dropped.values())} dropped "
            f"+ {stats.failed} failed + {stats.queued} queued."
        )
    with Tracer("demo", exporter=NoopExporter()) as tracer:
        begin = time.perf_counter_ns()
        for _ in range(_SPANS):
            with tracer.start_span("x"):
                pass
        each_ns = (time.perf_counter_ns() - begin) // _SPANS
    stage.say(f"What it costs: {_SPANS:,} spans made, ended and encoded just now, {each_ns:,} ns each.")
