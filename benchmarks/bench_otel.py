"""What a span costs a program that is instrumented for OpenTelemetry: clew's provider beside the SDK's.

`python benchmarks/bench_otel.py` runs the same program (otel_program.py), which knows the API only, with each provider,
in turn, round after round, each time in a process of its own; it prints CPU of the whole process per span, medians of
the rounds, and writes benchmarks/results/bench_otel.json. `--quick` runs everything once with few spans.

Sampled, the spans go by OTLP over HTTP, uncompressed, to a receiver that is a process of its own and counts them: a run
that lost one does not count. The exporters' work, on whatever thread, is in the figure, to the last answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from clew.otlp import decode_traces

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "bench_otel.json"
ROWS = {"sampled": "sampled, delivered by OTLP over HTTP", "unsampled": "not sampled"}
PROVIDERS = {"clew": "clew", "sdk": "OpenTelemetry SDK"}
BAR = 8  # times the CPU of clew
# Requests of a run, of three spans each: some tenths of a second for either.
REQUESTS = {"clew": {"sampled": 30_000, "unsampled": 100_000}, "sdk": {"sampled": 3_000, "unsampled": 10_000}}


class Receiver(BaseHTTPRequestHandler):
    """Takes everything; the spans are counted when somebody asks."""

    protocol_version = "HTTP/1.1"
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(b"")

    def do_GET(self) -> None:
        spans = sum(len(decode_traces(body)) for body in self.bodies)
        self.bodies.clear()
        self.answer(str(spans).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        return None


def receive(port: Connection) -> None:
    """The receiver's process. One connection at a time: there is one program at a time."""
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    port.send(server.server_port)
    server.serve_forever()


def count(url: str) -> int:
    """The spans that came since the last time."""
    from urllib.request import urlopen

    with urlopen(url) as answer:
        return int(answer.read())


def run(provider: str, row: str, requests: int, url: str) -> dict[str, float]:
    command = [sys.executable, str(HERE / "otel_program.py"), provider, row, str(requests), url]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{provider}, {row}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    result: dict[str, float] = json.loads(done.stdout)
    came = count(url)
    if came != result["delivered"]:
        raise SystemExit(f"{provider}, {row}: {came} spans came, not {result['delivered']}")
    return result


def measure(rounds: int, url: str, *, quick: bool) -> dict[str, dict[str, list[dict[str, float]]]]:
    figures: dict[str, dict[str, list[dict[str, float]]]] = {row: {name: [] for name in PROVIDERS} for row in ROWS}
    for number in range(rounds):
        # Who comes first changes from round to round.
        turn = list(PROVIDERS)[:: -1 if number % 2 else 1]
        for row in ROWS:
            for provider in turn:
                requests = REQUESTS[provider][row] // (50 if quick else 1)
                figures[row][provider].append(run(provider, row, requests, url))
    return figures


def summarise(figures: dict[str, dict[str, list[dict[str, float]]]]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for row, by_provider in figures.items():
        cpu = {name: round(statistics.median(each["cpu"] for each in taken), 1) for name, taken in by_provider.items()}
        wall = {
            name: round(statistics.median(each["wall"] for each in taken), 1) for name, taken in by_provider.items()
        }
        times = round(cpu["sdk"] / cpu["clew"], 2)
        every = {name: [round(each["cpu"], 1) for each in taken] for name, taken in by_provider.items()}
        rows.append(
            {"row": row, "what": ROWS[row], "cpu_ns": cpu, "wall_ns": wall, "times_clew": times, "bar": BAR,
             "met": times >= BAR, "rounds": every}
        )  # fmt: skip
        print(
            f"{ROWS[row]:38}" + "".join(f"{cpu[name] / 1000:>17.2f} us" for name in PROVIDERS)
            + f"   {times:6.1f} x, at least {BAR}: {'met' if times >= BAR else 'NOT MET'}"
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What a span of OpenTelemetry's API costs: clew beside the SDK.")
    parser.add_argument("--rounds", type=int, default=9, help="how often each runs (default: 9)")
    parser.add_argument("--quick", action="store_true", help="one round with few spans: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS.name})")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    receiver = context.Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}"
        rounds = 1 if options.quick else options.rounds
        figures = measure(rounds, url, quick=options.quick)
    finally:
        receiver.terminate()
        receiver.join()
    if options.quick:
        print("A quick run: it shows that the benchmark works; its figures mean nothing.\n")
    print(f"CPU of the whole process per span, medians of {rounds} rounds, interleaved")
    print(f"{'':38}" + "".join(f"{name:>20}" for name in PROVIDERS.values()))
    rows = summarise(figures)
    if options.quick and options.json is None:
        return
    report = {
        "benchmark": "bench_otel",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("clew", "opentelemetry-sdk")},
        "rows": rows,
    }
    (options.json or RESULTS).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
