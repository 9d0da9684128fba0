"""Span Hierarchy: who called whom, also across tasks and threads."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from clew import MemoryExporter, SpanKind, Tracer, carry
from clew.pretty import format_duration

if TYPE_CHECKING:
    from clew.demo.stage import Stage

__all__ = ["run"]


def run(stage: Stage) -> None:
    stage.say(
        "A span that begins while another is current is its child: in calls, in asyncio's tasks, and in a thread pool "
        "whose work is wrapped with carry()."
    )
    stage.say("")
    exporter = MemoryExporter()
    with Tracer("demo", exporter=exporter) as tracer:

        @tracer.trace("parse-page")
        def parse() -> None:
            time.sleep(0.004)

        async def fetch(name: str, seconds: float) -> None:
            with tracer.start_span("fetch", kind=SpanKind.CLIENT, attributes={"file": name}):
                await asyncio.sleep(seconds)

        async def fetch_all() -> None:
            with tracer.start_span("fetch-files"):
                await asyncio.gather(fetch("style.css", 0.012), fetch("logo.png", 0.02), fetch("app.js", 0.03))

        with tracer.start_span("load-page", kind=SpanKind.SERVER):
            with tracer.start_span("fetch", kind=SpanKind.CLIENT, attributes={"file": "index.html"}):
                time.sleep(0.008)
            parse()
            asyncio.run(fetch_all())
            with tracer.start_span("render"), ThreadPoolExecutor(2) as pool:
                for region in ("header", "body"):
                    pool.submit(carry(_paint), tracer, region)
        tracer.flush(5)
    records = sorted(exporter.records, key=lambda record: record.start_time_ns)
    stage.table(
        ["span", "id", "parent's id", "duration"],
        (
            (record.name, record.span_id, record.parent_id or "none", format_duration(record.duration_ns))
            for record in records
        ),
    )
    stage.say(f"All of trace {records[0].trace_id}. As a picture:")
    stage.say("")
    stage.traces(records)


def _paint(tracer: Tracer, region: str) -> None:
    with tracer.start_span("paint", attributes={"region": region}):
        time.sleep(0.006)
