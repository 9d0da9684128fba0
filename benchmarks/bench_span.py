"""What a span costs: clew beside the OpenTelemetry SDK, fastotel and a do-nothing context manager.

`python benchmarks/bench_span.py` prints the table and writes benchmarks/results/bench_span.json; `--quick` runs
everything once with few spans, to see that it works.

Every figure comes from short runs in processes of their own, the contenders in turn, round after round, and each
block of spans has a block of the floor right before it in the same process: whatever else the machine does falls on
both. Times are therefore compared in floors; a figure is the median of the rounds. Times are CPU of the whole
process, exporter threads included, until the last span is encoded and handed over; the JSON file has wall-clock times
too. What each contender does: span_contenders.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "bench_span.json"

CONTENDERS = {"clew": "clew", "otel": "OpenTelemetry", "fastotel": "fastotel"}
PEERS = ("otel", "fastotel")
IMPORTS = {
    "clew": "import clew",
    "otel": "import opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "fastotel": "import opentelemetry.sdk.trace, fastotel",
}
# How many spans a block has: about 10 ms for clew, 50 for the others.
SPANS = {"clew": 20_000, "otel": 1_000, "fastotel": 1_000}
QUEUED_SPANS = 40_000
BLOCKS = 15

ROWS = {
    "root": "not sampled: the root, made current",
    "below": "not sampled: below such a root",
    "empty": "sampled, empty, encoded",
    "typical": "sampled, 3 attributes, 1 event, encoded",
    "queued": "memory per typical span queued",
    "import": "import",
    "modules": "third-party modules imported",
}
UNITS = {"queued": "bytes", "import": "ms", "modules": ""}


class Bar(NamedTuple):
    """A limit on a row of clew's: in floors, or absolute."""

    row: str
    limit: float
    unit: str


BARS = (
    Bar("root", 1.3, "floors"),
    Bar("below", 1.3, "floors"),
    Bar("empty", 2.5, "floors"),
    Bar("typical", 7, "floors"),
    Bar("queued", 256, "bytes"),
    Bar("import", 25, "ms"),
    Bar("modules", 0, ""),
)

TIMED = ("root", "below", "empty", "typical")

# row -> contender -> what was measured of it, once a round: "value", and for times "wall", "floor" and "floors"
Figures = dict[str, dict[str, list[dict[str, float]]]]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    contenders = [name for name in CONTENDERS if available(name)]
    sinks = Sinks()
    try:
        figures = measure(contenders, options.rounds, sinks, quick=options.quick)
    finally:
        sinks.close()
    summary = summarise(figures)
    print_table(summary, options.rounds, quick=options.quick)
    if options.json is not None:
        report = {**header("bench_span", options.rounds, quick=options.quick), **summary}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"\nwritten to {os.path.relpath(options.json)}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="What a span costs: clew beside the OpenTelemetry SDK and fastotel.",
        epilog="example: python benchmarks/bench_span.py --rounds 15",
    )
    parser.add_argument("--rounds", type=int, help="how often each contender runs each row (default: 9)")
    parser.add_argument("--quick", action="store_true", help="one round with few spans: does it work?")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS.name})")
    where.add_argument("--no-json", action="store_true", help="only print them")
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else 9
    if options.json is None and not options.no_json and not options.quick:
        options.json = RESULTS
    return options


def available(contender: str) -> bool:
    """Whether a peer is installed (`pip install 'clew[bench]'`)."""
    if contender not in PEERS:
        return True
    module = {"otel": "opentelemetry", "fastotel": "fastotel"}[contender]
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"{CONTENDERS[contender]} is not installed and left out: pip install 'clew[bench]'", file=sys.stderr)
    return found


# --- running --------------------------------------------------------------------------------------------------------


class Sinks:
    """Two servers on loopback that fastotel can send to: one that takes everything, one that never answers."""

    def __init__(self) -> None:
        self.taking = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)
        self.hanging = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)  # listens, and nobody serves
        threading.Thread(target=self.taking.serve_forever, daemon=True).start()

    def url(self, row: str) -> str:
        server = self.hanging if row == "queued" else self.taking
        return f"http://127.0.0.1:{server.server_address[1]}/v1/traces"

    def close(self) -> None:
        self.taking.shutdown()
        self.taking.server_close()
        self.hanging.server_close()


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        return None


def measure(contenders: list[str], rounds: int, sinks: Sinks, *, quick: bool) -> Figures:
    """Everything, round by round."""
    figures: Figures = {row: {name: [] for name in contenders} for row in ROWS}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        # Who comes first changes from round to round.
        turn = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
        for row in TIMED:
            for name in turn:
                count = SPANS[name] // (10 if quick else 1)
                figures[row][name].append(run_contender(name, row, count, 2 if quick else BLOCKS, sinks.url(row)))
        for name in turn:
            count = QUEUED_SPANS // (20 if quick else 1)
            figures["queued"][name].append(run_contender(name, "queued", count, 1, sinks.url("queued")))
            # One start of an interpreter is short and its time uneven: several in each round.
            for _ in range(1 if quick else 5):
                figures["import"][name].append({"value": import_ms(IMPORTS[name])})
            figures["modules"][name].append({"value": third_party_modules(IMPORTS[name])})
    progress("")
    return figures


def run_contender(contender: str, row: str, count: int, blocks: int, sink: str) -> dict[str, float]:
    script = str(HERE / "span_contenders.py")
    command = [sys.executable, script, contender, row, str(count), str(blocks), sink]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise SystemExit(f"{contender}, {row}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def import_ms(statement: str) -> float:
    """Milliseconds of CPU that the statement takes in a new interpreter; its bytecode is cached."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = f"import time; begin = time.process_time(); {statement}; print(time.process_time() - begin)"

    def cpu_ms() -> float:
        done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
        return float(done.stdout) * 1e3

    cpu_ms()  # fills the caches
    return cpu_ms()


def third_party_modules(statement: str) -> int:
    """How many modules the statement loads from files that are neither the standard library's nor the package's own."""
    code = (
        f"import sys; before = set(sys.modules); {statement}\n"
        "own = set(sys.stdlib_module_names) | {'clew', 'fastotel'}\n"
        "new = {name for name in set(sys.modules) - before if getattr(sys.modules[name], '__file__', None)}\n"
        "print(sum(name.partition('.')[0] not in own for name in new))"
    )
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# --- what comes of it -----------------------------------------------------------------------------------------------


def summarise(figures: Figures) -> dict[str, Any]:
    """Medians, ratios and bars."""
    rows = []
    for row, by_contender in figures.items():
        entry: dict[str, Any] = {"row": row, "what": ROWS[row], "unit": UNITS.get(row, "ns")}
        for measure in by_contender["clew"][0]:
            entry[measure] = {name: median(taken, measure) for name, taken in by_contender.items()}
        # Times are compared by their floors, which were measured beside them.
        measure = "floors" if row in TIMED else "value"
        entry["times_clew"] = {
            name: round(entry[measure][name] / entry[measure]["clew"], 1)
            for name in by_contender
            if name != "clew" and entry[measure]["clew"]
        }
        entry["rounds"] = {name: [round(each[measure], 2) for each in taken] for name, taken in by_contender.items()}
        rows.append(entry)
    bars = []
    for bar in BARS:
        entry = next(entry for entry in rows if entry["row"] == bar.row)
        measured = entry["floors" if bar.unit == "floors" else "value"]["clew"]
        bars.append({**bar._asdict(), "what": ROWS[bar.row], "measured": measured, "met": measured <= bar.limit})
    return {"rows": rows, "bars": bars}


def median(taken: list[dict[str, float]], measure: str) -> float:
    return round(statistics.median(each[measure] for each in taken), 2)


def print_table(summary: dict[str, Any], rounds: int, *, quick: bool) -> None:
    if quick:
        print("A quick run: it shows that the benchmark works; its figures mean nothing.\n")
    print(f"CPU of the whole process per span, until encoded and handed over; medians of {rounds} rounds, interleaved")
    names = list(summary["rows"][0]["value"])
    print(f"{'':40}{'floor':>8}" + "".join(f"{CONTENDERS[name]:>24}" for name in names))
    for entry in summary["rows"]:
        floor = quantity(entry["floor"]["clew"], "ns") if "floor" in entry else ""
        cells = []
        for name in names:
            if name == "clew":
                against = f" ({entry['floors']['clew']:.2f} floors)" if "floors" in entry else ""
            else:
                against = f" ({entry['times_clew'][name]:.0f} x clew)" if name in entry["times_clew"] else ""
            cells.append(quantity(entry["value"][name], entry["unit"]) + against)
        print(f"{entry['what']:40}{floor:>8}" + "".join(f"{cell:>24}" for cell in cells))
    print("\nbars")
    for bar in summary["bars"]:
        limit, measured = (f"{bar[key]:g} {bar['unit']}".strip() for key in ("limit", "measured"))
        print(f"  {bar['what']:40} at most {limit:12} measured {measured:14} {'met' if bar['met'] else 'NOT MET'}")


def quantity(value: float, unit: str) -> str:
    if unit == "ns" and value >= 1000:
        return f"{value / 1000:.1f} us"
    return f"{value:.{1 if unit == 'ms' else 0}f} {unit}".strip()


# --- where it was measured ------------------------------------------------------------------------------------------


def header(benchmark: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    """What results begin with."""
    return {
        "benchmark": benchmark,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
    }


def machine() -> dict[str, str | int | None]:
    """Facts of the machine that bear on the figures; nothing that names it."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in ("clew", "opentelemetry-sdk", "fastotel"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    revision = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    if revision.returncode == 0:
        found["revision"] = revision.stdout.strip()
    return found


if __name__ == "__main__":
    sys.exit(main())
