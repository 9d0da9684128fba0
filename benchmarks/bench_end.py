"""What ending a span costs while its exporter hangs: clew beside the OpenTelemetry SDK and fastotel.

`python benchmarks/bench_end.py` prints the table and writes benchmarks/results/bench_end.json; `--quick` runs
everything once with few spans, to see that it works.

Each call of `end()` of a typical span is timed by itself with `perf_counter_ns`, the clock's own cost included, and
nothing is left out: not the first call, nor those in the middle of which another thread was given the processor. All
have the settings that they have by default, so a queue becomes full, and what does not fit is dropped. The troubles:

- a server that accepts connections and never answers (OTLP/HTTP);
- a FIFO whose reader does not read (clew's WriterExporter, the SDK's ConsoleSpanExporter, writing there);
- a disk that is full: /dev/full, in the same way.

fastotel sends by OTLP/HTTP only. Figures are medians over rounds, each in a process of its own, of percentiles of a
round; the longest is the longest of all rounds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_span import CONTENDERS, available, header, progress
from span_contenders import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.protocols import Exporter

RESULTS = Path(__file__).resolve().parent / "results" / "bench_end.json"
TROUBLES = {
    "server": "end(), the server hangs",
    "fifo": "end(), nobody reads the FIFO",
    "full": "end(), the disk is full",
}
BAR_US = 50  # p99.9
SPANS = {"clew": 400_000, "otel": 40_000, "fastotel": 40_000}
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


# --- one round, in its process --------------------------------------------------------------------------------------


def clew_starter(trouble: str, target: str) -> Callable[[], Any]:
    from clew import OtlpExporter, Tracer, WriterExporter

    exporter: Exporter
    if trouble == "server":
        exporter = OtlpExporter(target)
    else:
        file = Path(target).open("wb", buffering=0)  # noqa: SIM115 - as long as the process; each line meets the trouble
        exporter = WriterExporter(file)
    tracer = Tracer("bench", exporter)
    return lambda: tracer.start_span(NAME)


def otel_starter(trouble: str, target: str) -> Callable[[], Any]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporter: SpanExporter
    if trouble == "server":
        exporter = OTLPSpanExporter(target)
    else:
        file = Path(target).open("w")  # noqa: SIM115 - as long as the process
        exporter = ConsoleSpanExporter(out=file)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    return lambda: tracer.start_span(NAME)


def fastotel_starter(trouble: str, target: str) -> Callable[[], Any]:
    from fastotel import OTLPSpanProcessor
    from opentelemetry.sdk.trace import TracerProvider

    assert trouble == "server"
    provider = TracerProvider()
    provider.add_span_processor(OTLPSpanProcessor(endpoint=target))
    tracer = provider.get_tracer("bench")
    return lambda: tracer.start_span(NAME)


STARTERS = {"clew": clew_starter, "otel": otel_starter, "fastotel": fastotel_starter}


def time_ends(start_span: Callable[[], Any], count: int) -> list[int]:
    """Nanoseconds of each call."""
    clock = time.perf_counter_ns
    taken = [0] * count
    for number in range(count):
        span = start_span()
        span.set_attribute("circuit.id", 4242)
        span.set_attribute("circuit.purpose", "GENERAL")
        span.set_attribute("circuit.timeout", 1.5)
        span.add_event("circuit-extended", {"hop": 1})
        end = span.end
        begin = clock()
        end()
        taken[number] = clock() - begin
    return taken


def one_round(contender: str, trouble: str, count: int, target: str) -> None:
    logging.disable()  # they say that they cannot deliver, which is the point
    taken = sorted(time_ends(STARTERS[contender](trouble, target), count))
    figures = {name: taken[int(share * count)] / 1000 for name, share in PERCENTILES.items()}
    print(json.dumps({**figures, "max": taken[-1] / 1000}), flush=True)
    os._exit(0)  # not by way of the exit handlers: the exporters hang


# --- all rounds -----------------------------------------------------------------------------------------------------


def run(contender: str, trouble: str, count: int) -> dict[str, float]:
    """A round, with its trouble."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # the kernel accepts, and nobody serves
        fifo = Path(directory) / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDWR)  # opened by somebody, read by nobody
        try:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"
            target = {"server": url, "fifo": str(fifo), "full": "/dev/full"}[trouble]
            command = [sys.executable, __file__, "--one-round", contender, trouble, str(count), target]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        finally:
            os.close(reader)
    if done.returncode != 0:
        raise SystemExit(f"{contender}, {trouble}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(rounds: int, *, quick: bool) -> list[dict[str, Any]]:
    contenders = [name for name in CONTENDERS if available(name)]
    taken: dict[str, dict[str, list[dict[str, float]]]] = {
        trouble: {name: [] for name in contenders if name != "fastotel" or trouble == "server"} for trouble in TROUBLES
    }
    for number in range(rounds):
        for trouble, by_contender in taken.items():
            for name, so_far in by_contender.items():
                progress(f"end(): round {number + 1} of {rounds}, {trouble}, {CONTENDERS[name]}")
                so_far.append(run(name, trouble, SPANS[name] // (100 if quick else 1)))
    progress("")
    rows = []
    for trouble, by_contender in taken.items():
        us = {
            name: {
                **{p: round(statistics.median(each[p] for each in so_far), 2) for p in PERCENTILES},
                "max": round(max(each["max"] for each in so_far), 1),
            }
            for name, so_far in by_contender.items()
        }
        met = us["clew"]["p99.9"] <= BAR_US
        every = {name: [round(each["p99.9"], 2) for each in so_far] for name, so_far in by_contender.items()}
        rows.append(
            {"row": trouble, "what": TROUBLES[trouble], "us": us, "bar_us": BAR_US, "met": met, "rounds": every}
        )
    return rows


def print_table(rows: list[dict[str, Any]], rounds: int) -> None:
    print(f"{f'us a call, {rounds} rounds':46}" + "".join(f"{name:>10}" for name in (*PERCENTILES, "max")))
    for row in rows:
        for name, us in row["us"].items():
            verdict = f"  p99.9 at most {BAR_US}: {'met' if row['met'] else 'NOT MET'}" if name == "clew" else ""
            cells = "".join(f"{value:10.1f}" for value in us.values())
            print(f"{row['what']:32}{CONTENDERS[name]:14}" + cells + verdict)


def main() -> int:
    if sys.argv[1:2] == ["--one-round"]:
        one_round(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    parser = argparse.ArgumentParser(
        description="What ending a span costs while its exporter hangs.",
        epilog="example: python benchmarks/bench_end.py --rounds 9",
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round with few spans: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS.name})")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    rows = measure(rounds, quick=options.quick)
    if options.quick:
        print("A quick run: it shows that the benchmark works; its figures mean nothing.\n")
    print_table(rows, rounds)
    target = options.json or (None if options.quick else RESULTS)
    if target is not None:
        report = {**header("bench_end", rounds, quick=options.quick), "rows": rows}
        target.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
