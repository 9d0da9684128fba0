"""What OTLP costs once a span has ended: bytes to JSON, bytes and JSON to records, beside protobuf's own library.

`python benchmarks/bench_otlp.py` prints microseconds of CPU per span of a full batch of typical spans (3 attributes, 1
event), the median of rounds in which all take turns, and writes benchmarks/results/bench_otlp.json; `--quick` runs
everything once.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from clew import limits
from clew.model import Event, Resource, Scope, SpanKind, SpanRecord
from clew.otlp import Batch, decode_json, decode_traces, encode_span

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).resolve().parent / "results" / "bench_otlp.json"
SPANS = limits.BATCH_SPANS
RECORD = SpanRecord(
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00f067aa0ba902b7",
    "b7ad6b7169203331",
    "build-circuit",
    SpanKind.CLIENT,
    1_732_280_000_000_000_000,
    1_732_280_000_000_500_000,
    attributes={"circuit.id": 17, "http.route": "/api/users/{id}", "ratio": 0.25},
    events=(Event("circuit-extended", 1_732_280_000_000_200_000, {"hop": 1}),),
    flags=0x101,
)


def contenders() -> dict[str, Callable[[], object]]:
    """What is measured: each does its work on one batch."""
    resource, scope = Resource({"service.name": "bench"}), Scope("clew")
    records = [RECORD._replace(span_id=f"{i + 1:016x}") for i in range(SPANS)]
    spans = b"".join(map(encode_span, records))
    message = Batch(spans, SPANS, resource, scope).to_protobuf()
    line = Batch(spans, SPANS, resource, scope).to_json()
    return {
        "bytes to JSON (FileExporter)": lambda: Batch(spans, SPANS, resource, scope).to_json(),
        "protobuf's MessageToJson": lambda: json_format.MessageToJson(TracesData.FromString(message)),
        "bytes to records (Batch.records)": lambda: Batch(spans, SPANS, resource, scope).records,
        "message to records (decode_traces)": lambda: decode_traces(message),
        "protobuf's FromString": lambda: TracesData.FromString(message),
        "JSON to records (decode_json)": lambda: decode_json(line),
        "of that, json.loads": lambda: json.loads(line),
        "records to bytes (encode_span)": lambda: [encode_span(record) for record in records],
    }


def measure(rounds: int) -> dict[str, float]:
    """Microseconds of CPU per span, the median of the rounds."""
    work = contenders()
    figures: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            gc.collect()
            begin = time.thread_time_ns()
            run()
            figures[name].append((time.thread_time_ns() - begin) / SPANS / 1000)
    return {name: round(statistics.median(values), 3) for name, values in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the OTLP codec.")
    parser.add_argument("--quick", action="store_true", help="run everything once, and record nothing")
    quick = parser.parse_args().quick
    figures = measure(1 if quick else 100)
    for name, value in figures.items():
        print(f"{name:36}{value:8.2f} us a span")
    if not quick:
        versions = {name: metadata.version(name) for name in ("protobuf", "opentelemetry-proto")}
        report = {"python": platform.python_version(), **versions, "microseconds_per_span": figures}
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
