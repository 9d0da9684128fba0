"""What bench_span.py measures, one contender and one row in a process of its own.

`python benchmarks/span_contenders.py CONTENDER ROW COUNT BLOCKS [SINK]` prints a JSON object. The contenders and the
floor run the same loop: nothing is subtracted from any of them, so that the cost of the loop is in every figure alike.

The span is the one of a circuit that is being built: a name, three attributes, and an event with one. "Encoded"
means OTLP protobuf. clew encodes at `end()`; the OpenTelemetry SDK in the exporter, on the thread of its batch
processor, and here its exporter throws the bytes away; fastotel cannot encode without sending, so its figures include
a POST to the SINK on loopback for every 512 spans. In the rows of bench_delivery.py all send to the SINK by OTLP/HTTP,
512 spans a request. All are waited for: a block ends when the last span of it is encoded and handed over.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import threading
import time
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer as OtelTracer

    from clew import Tracer
    from clew.otlp import Batch

NAME = "build-circuit"
NOT_SAMPLED = ("root", "below")  # the rows in which nothing is recorded
COMPRESSION = {"delivered": "none", "gzip": "gzip"}  # of the rows in which typical spans are sent to the sink
BATCH = 512
FLOORS = 20_000  # of a block


class Prepared(NamedTuple):
    """A contender ready to run a row."""

    loop: Callable[[int], None]  # makes so many spans
    flush: Callable[[], None]  # returns when all of them are encoded and handed over
    delivered: Callable[[], int | None]  # how many were; None where the contender cannot tell
    start_span: Callable[[str], Any]  # a context manager that gives the span


# --- the floor ------------------------------------------------------------------------------------------------------


class Nothing:
    """A context manager that does nothing, written in Python."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


def floor_loop(count: int) -> None:
    nothing = Nothing()
    for _ in repeat(None, count):
        with nothing:
            pass


# --- clew -----------------------------------------------------------------------------------------------------------


def clew_loop(tracer: Tracer, row: str) -> Callable[[int], None]:
    start_span = tracer.start_span

    def empty(count: int) -> None:
        for _ in repeat(None, count):
            with start_span(NAME):
                pass

    def full(count: int) -> None:
        for _ in repeat(None, count):
            with start_span(NAME) as span:
                span.set_attribute("circuit.id", 4242)
                span.set_attribute("circuit.purpose", "GENERAL")
                span.set_attribute("circuit.timeout", 1.5)
                span.add_event("circuit-extended", {"hop": 1})

    def below(count: int) -> None:
        with start_span(NAME):
            empty(count)

    return {"empty": empty, "root": empty, "below": below}.get(row, full)


def prepare_clew(row: str, count: int, sink: str) -> Prepared:
    from clew import NeverSample, NoopExporter, OtlpExporter, Tracer

    if row == "queued":
        tracer = Tracer("bench", exporter=_HungClewExporter(), max_queue_bytes=count * 1024)
    elif row in NOT_SAMPLED:
        tracer = Tracer("bench", exporter=NoopExporter(), sampler=NeverSample())
    elif row in COMPRESSION:
        tracer = Tracer("bench", exporter=OtlpExporter(sink, compression=COMPRESSION[row]))
    else:
        tracer = Tracer("bench", exporter=NoopExporter())

    def flush() -> None:
        if not tracer.flush(60):
            raise RuntimeError("clew did not deliver everything")

    return Prepared(clew_loop(tracer, row), flush, lambda: tracer.stats().exported, tracer.start_span)


class _HungClewExporter:
    def export(self, batch: Batch) -> None:
        threading.Event().wait()

    def close(self) -> None:
        return None


# --- OpenTelemetry --------------------------------------------------------------------------------------------------


def otel_loop(tracer: OtelTracer, row: str) -> Callable[[int], None]:
    start_span = tracer.start_as_current_span

    def empty(count: int) -> None:
        for _ in repeat(None, count):
            with start_span(NAME):
                pass

    def full(count: int) -> None:
        for _ in repeat(None, count):
            with start_span(NAME) as span:
                span.set_attribute("circuit.id", 4242)
                span.set_attribute("circuit.purpose", "GENERAL")
                span.set_attribute("circuit.timeout", 1.5)
                span.add_event("circuit-extended", {"hop": 1})

    def below(count: int) -> None:
        with start_span(NAME):
            empty(count)

    return {"empty": empty, "root": empty, "below": below}.get(row, full)


def prepare_otel(row: str, count: int, sink: str) -> Prepared:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    encoded = [0]

    class EncodingExporter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if row == "queued":
                threading.Event().wait()
            encode_spans(spans).SerializeToString()
            encoded[0] += len(spans)
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=ALWAYS_OFF if row in NOT_SAMPLED else ALWAYS_ON)
    exporter: SpanExporter = EncodingExporter()
    if row in COMPRESSION:
        exporter = OTLPSpanExporter(sink, compression=Compression(COMPRESSION[row]))
    processor = BatchSpanProcessor(exporter, max_queue_size=2 * count + BATCH, max_export_batch_size=BATCH)
    provider.add_span_processor(processor)

    def flush() -> None:
        if not processor.force_flush():
            raise RuntimeError("the OpenTelemetry SDK did not deliver everything")

    tracer = provider.get_tracer("bench")
    delivered = (lambda: None) if row in COMPRESSION else (lambda: encoded[0])
    return Prepared(otel_loop(tracer, row), flush, delivered, tracer.start_as_current_span)


def prepare_fastotel(row: str, count: int, sink: str) -> Prepared:
    from fastotel import OTLPSpanProcessor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    provider = TracerProvider(sampler=ALWAYS_OFF if row in NOT_SAMPLED else ALWAYS_ON)
    processor = OTLPSpanProcessor(
        endpoint=sink,
        compression=COMPRESSION.get(row, "none"),
        max_queue_size=2 * count + BATCH,
        max_export_batch_size=BATCH,
    )
    provider.add_span_processor(processor)

    def flush() -> None:
        if not processor.force_flush():
            raise RuntimeError("fastotel did not deliver everything")

    tracer = provider.get_tracer("bench")
    return Prepared(otel_loop(tracer, row), flush, lambda: None, tracer.start_as_current_span)


# --- measuring ------------------------------------------------------------------------------------------------------

CONTENDERS = {"clew": prepare_clew, "otel": prepare_otel, "fastotel": prepare_fastotel}


def measure_time(contender: str, row: str, count: int, blocks: int, sink: str) -> dict[str, float]:
    """Nanoseconds per span, of CPU (all threads of the process) and of wall clock, and how many floors that is.

    Medians of some blocks of spans, each with a block of the floor right before it: what disturbs the one disturbs the
    other.
    """
    prepared = CONTENDERS[contender](row, count, sink)
    floor_loop(FLOORS)
    prepared.loop(count)
    prepared.flush()
    samples = []
    for _ in range(blocks):
        gc.collect()
        floor = _cpu_ns(lambda: floor_loop(FLOORS)) / FLOORS
        wall = time.perf_counter_ns()
        cpu = _cpu_ns(lambda: (prepared.loop(count), prepared.flush())) / count
        samples.append((cpu, (time.perf_counter_ns() - wall) / count, floor, cpu / floor))
    delivered = prepared.delivered()
    made = (blocks + 1) * count
    if delivered is not None and row not in NOT_SAMPLED and delivered != made:
        raise RuntimeError(f"{contender} delivered {delivered} of {made} spans: its figures would mean nothing")
    medians = map(statistics.median, zip(*samples, strict=True))
    return dict(zip(("value", "wall", "floor", "floors"), medians, strict=True))


def _cpu_ns(work: Callable[[], object]) -> int:
    start = time.process_time_ns()
    work()
    return time.process_time_ns() - start


def measure_memory(contender: str, count: int, sink: str) -> dict[str, float]:
    """Growth of the resident memory, in bytes, per typical span that waits while the exporter hangs."""
    prepared = CONTENDERS[contender]("queued", count, sink)
    prepared.loop(2 * BATCH)  # the exporter is given its first batch, and hangs
    time.sleep(0.2)
    gc.collect()
    before = _resident_bytes()
    prepared.loop(count)
    gc.collect()
    return {"value": (_resident_bytes() - before) / count}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    contender, row, count, blocks, sink = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    if row == "queued":
        result = measure_memory(contender, count, sink)
    else:
        result = measure_time(contender, row, count, blocks, sink)
    print(json.dumps(result), flush=True)
    # Not by way of the exit handlers: some exporters hang, on purpose.
    os._exit(0)


if __name__ == "__main__":
    main()
