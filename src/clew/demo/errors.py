"""Error Recording: what went wrong, where."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from clew import MemoryExporter, Tracer

if TYPE_CHECKING:
    from clew.demo.stage import Stage

__all__ = ["run"]


def run(stage: Stage) -> None:
    stage.say(
        "An exception that leaves a span is recorded and goes on. One that was handled can be recorded too. Who is "
        "cancelled has not failed, and is told apart."
    )
    stage.say("")
    exporter = MemoryExporter()
    with Tracer("demo", exporter=exporter) as tracer:
        with contextlib.suppress(ConnectionRefusedError), tracer.start_span("save-report"):
            with tracer.start_span("read-cache") as span:
                try:
                    _read_cache()
                except KeyError as error:
                    span.record_error(error)
            with tracer.start_span("send-report"):
                _connect()

        async def wait_for_answer() -> None:
            with tracer.start_span("wait-for-answer"):
                await asyncio.sleep(60)

        async def give_up() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wait_for_answer(), 0.02)

        asyncio.run(give_up())
        tracer.flush(5)
    records = exporter.records
    stage.traces(records)
    failed = next(record for record in records if record.name == "send-report")
    event = failed.events[0]
    stage.say(f"The event «{event.name}» of span {failed.span_id}, status {failed.status.name}:")
    stage.say("")
    stage.facts(
        [
            ("type", event.attributes["exception.type"]),
            ("message", event.attributes["exception.message"]),
        ]
    )
    for line in str(event.attributes["exception.stacktrace"]).splitlines():
        stage.say(f"    {line}")


def _read_cache() -> None:
    raise KeyError("report-7")


def _connect() -> None:
    raise ConnectionRefusedError("127.0.0.1 refused the connection")
