"""What it costs to trace everything and keep little: tail sampling and the flight recorder beside a plain file.

`python benchmarks/bench_keep.py` prints a table and writes benchmarks/results/bench_keep.json; `--quick` runs
everything once with few spans.

A trace here is a root with nine children, typical spans all of them (3 attributes, 1 event). Times are CPU of the whole
process, the worker included, for each span; the contenders take turns, round after round, each in a process of its own,
and a figure is the median of the rounds. The floor is the cost of `with` on a do-nothing context manager. OTLP goes to
a receiver on loopback, a process of its own (sink.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench_span import header, progress
from sink import Sink

from clew import FileExporter, FlightRecorder, NoopExporter, OtlpExporter, Status, TailSample, Tracer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.protocols import Exporter

RESULTS = Path(__file__).resolve().parent / "results" / "bench_keep.json"
ROUNDS = 9
TRACES = 4000
SPANS = 10  # of a trace

ROWS = {
    "encoded": "every span encoded, none written",
    "file": "every span written to a file",
    "tail": "TailSample over a file, 1 % of the traces with an error",
    "recorder": "FlightRecorder over a file, no trouble",
    "otlp": "every span sent by OTLP/HTTP",
    "tail-otlp": "TailSample over OTLP/HTTP, 1 % of the traces with an error",
    "recorder-otlp": "FlightRecorder over OTLP/HTTP, no trouble",
}


class Nothing:
    """The floor."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def make(tracer: Tracer, traces: int, failing: int) -> None:
    """Traces, of which every `failing`th has an error."""
    for number in range(traces):
        with tracer.start_span("request"):
            for _ in range(SPANS - 1):
                with tracer.start_span("step") as span:
                    span.set_attribute("http.request.method", "GET")
                    span.set_attribute("http.response.status_code", 200)
                    span.set_attribute("server.address", "example.com")
                    span.add_event("cache-miss")
                    if failing and number % failing == 0:
                        span.set_status(Status.ERROR)


@contextmanager
def tracer_of(row: str, path: Path, url: str) -> Iterator[Tracer]:
    """The tracer of a row."""
    what, _, where = row.partition("-")
    exporter: Exporter = OtlpExporter(url) if "otlp" in (what, where) else FileExporter(path)
    tracer = {
        "encoded": lambda: Tracer("bench", NoopExporter()),
        "tail": lambda: Tracer("bench", exporter, TailSample()),
        "recorder": lambda: Tracer("bench", FlightRecorder(exporter)),
    }.get(what, lambda: Tracer("bench", exporter))()
    with tracer:
        yield tracer


def floor_ns(times: int = 200_000) -> float:
    """CPU of a `with` on a context manager that does nothing (ns)."""
    nothing = Nothing()
    start = time.process_time_ns()
    for _ in range(times):
        with nothing:
            pass
    return (time.process_time_ns() - start) / times


def measure(row: str, traces: int, url: str) -> dict[str, float]:
    """One round of a row, in this process."""
    failing = 0 if row.startswith("recorder") else 100
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "traces.jsonl"
        with tracer_of(row, path, url) as tracer:
            make(tracer, traces // 10, failing)
            tracer.flush()
            start = time.process_time_ns()
            make(tracer, traces, failing)
            tracer.flush()
            cpu_ns = time.process_time_ns() - start
        stats = tracer.stats()
        assert stats.dropped["queue_full"] == stats.failed == 0 or row == "file", stats
        written = path.stat().st_size if path.exists() else 0
    floor = floor_ns()
    per_span = cpu_ns / (traces * SPANS)
    return {"ns": per_span, "floors": per_span / floor, "written": written}


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="once, with few spans")
    parser.add_argument("--json", type=Path, default=None, help="where the results go")
    parser.add_argument("--rounds", type=int, help=f"how often everything is measured (default: {ROUNDS})")
    parser.add_argument("--one-round", nargs=3, metavar=("ROW", "TRACES", "URL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_round:
        row, traces, url = args.one_round
        print(json.dumps(measure(row, int(traces), url)))
        return 0
    traces = 100 if args.quick else TRACES
    how_often = args.rounds or (1 if args.quick else ROUNDS)
    figures: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    with Sink() as sink:
        for number in range(how_often):
            for row in ROWS:
                progress(f"what is kept: round {number + 1} of {how_often}, {row}")
                command = [sys.executable, __file__, "--one-round", row, str(traces), sink.url]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                came = sink.taken().size
                taken = json.loads(done.stdout)
                figures[row].append({**taken, "written": came if row.endswith("otlp") else taken["written"]})
    progress("")
    rows = []
    for row, rounds in figures.items():
        value = {key: statistics.median(each[key] for each in rounds) for key in ("ns", "floors", "written")}
        rows.append({"row": row, "what": ROWS[row], **value})
        print(f"{ROWS[row]:64}{value['ns']:8.0f} ns{value['floors']:7.1f} floors{value['written'] / 1e6:8.2f} MB")
    report = {**header("bench_keep", how_often, quick=args.quick), "spans": traces * SPANS, "rows": rows}
    path = args.json or (None if args.quick else RESULTS)
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
