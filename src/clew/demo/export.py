"""File Export: a trace file, and what clew view makes of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clew import FileExporter, SpanKind, Tracer

if TYPE_CHECKING:
    from clew.demo.stage import Stage

__all__ = ["run"]

_REQUESTS = 5


def run(stage: Stage) -> None:
    path = stage.directory / "export.jsonl"
    path.unlink(missing_ok=True)
    stage.say("FileExporter writes OTLP JSON Lines, which OpenTelemetry's collector and viewers read as it is.")
    stage.say("")
    with Tracer("shop", exporter=FileExporter(path)) as tracer:
        for number in range(_REQUESTS):
            with tracer.start_span("GET /cart", kind=SpanKind.SERVER, attributes={"cart.items": number}):
                with tracer.start_span("load-cart", kind=SpanKind.CLIENT):
                    time.sleep(0.001 * (number + 1))
                with tracer.start_span("render") as span:
                    time.sleep(0.002)
                    span.add_event("template-cached")
        delivered = tracer.flush(5)
        stats = tracer.stats()
    facts = path.stat()
    with path.open(encoding="utf-8") as lines:
        first = lines.readline()
    stage.facts(
        [
            ("file", path),
            ("size", f"{facts.st_size:,} bytes for {stats.exported} spans"),
            ("readable by", "its owner alone" if facts.st_mode & 0o077 == 0 else f"mode {facts.st_mode & 0o777:o}"),
            ("delivered", "all of it" if delivered else "not all of it"),
            ("begins with", first[:90] + "..."),
        ]
    )
    stage.view(str(path), "--slowest", "2")
