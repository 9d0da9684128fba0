"""How many spans a second come out of one process: threads and asyncio tasks, clew beside the OpenTelemetry SDK.

`python benchmarks/bench_threads.py` prints the table and writes benchmarks/results/bench_threads.json; `--quick` runs
everything once with few spans, to see that it works.

Typical spans (3 attributes, 1 event), made by so many threads at the same time, or by 100 tasks of one thread that wait
(`asyncio.sleep(0)`) inside each span, until the last one is encoded and handed over. The figure is spans by wall clock,
which is what contention costs; CPU is in the JSON file too. Contenders in turn, in processes of their own; medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_span import CONTENDERS, available, header, progress
from span_contenders import CONTENDERS as PREPARE
from span_contenders import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).resolve().parent / "results" / "bench_threads.json"
ROWS = {"1": "1 thread", "2": "2 threads", "4": "4 threads", "8": "8 threads", "tasks": "100 asyncio tasks"}
TASKS = 100
# Less than what clew's queue holds by default, in any case.
SPANS = {"clew": 80_000, "otel": 4_000}
BLOCKS = 3


def in_threads(loop: Callable[[int], None], threads: int, count: int) -> None:
    """So many spans, by so many threads; none begins before the others."""
    begin = threading.Barrier(threads)

    def work() -> None:
        begin.wait()
        loop(count // threads)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def in_tasks(start_span: Callable[[str], Any], count: int) -> None:
    """So many spans, by tasks that take turns inside of their spans."""

    async def work() -> None:
        for _ in repeat(None, count // TASKS):
            with start_span(NAME) as span:
                span.set_attribute("circuit.id", 4242)
                span.set_attribute("circuit.purpose", "GENERAL")
                span.set_attribute("circuit.timeout", 1.5)
                await asyncio.sleep(0)
                span.add_event("circuit-extended", {"hop": 1})

    async def everybody() -> None:
        await asyncio.gather(*(work() for _ in range(TASKS)))

    asyncio.run(everybody())


def one_round(contender: str, row: str, count: int, blocks: int) -> None:
    """Spans a second and CPU nanoseconds a span: medians of some blocks."""
    prepared = PREPARE[contender]("typical", count, "")

    def block() -> None:
        if row == "tasks":
            in_tasks(prepared.start_span, count)
        else:
            in_threads(prepared.loop, int(row), count)
        prepared.flush()

    block()
    rates, cpu = [], []
    for _ in range(blocks):
        wall_began, cpu_began = time.perf_counter_ns(), time.process_time_ns()
        block()
        cpu.append((time.process_time_ns() - cpu_began) / count)
        rates.append(count * 1e9 / (time.perf_counter_ns() - wall_began))
    if prepared.delivered() != (blocks + 1) * count:
        raise RuntimeError(f"{contender} delivered {prepared.delivered()} of {(blocks + 1) * count} spans")
    print(json.dumps({"per_second": statistics.median(rates), "cpu_ns": statistics.median(cpu)}), flush=True)
    os._exit(0)


def measure(rounds: int, *, quick: bool) -> list[dict[str, Any]]:
    contenders = [name for name in SPANS if available(name)]
    taken: dict[str, dict[str, list[dict[str, float]]]] = {row: {name: [] for name in contenders} for row in ROWS}
    for number in range(rounds):
        for row, what in ROWS.items():
            for name in contenders[:: -1 if number % 2 else 1]:
                progress(f"threads: round {number + 1} of {rounds}, {what}, {CONTENDERS[name]}")
                count, blocks = SPANS[name] // (10 if quick else 1), 1 if quick else BLOCKS
                command = [sys.executable, __file__, "--one-round", name, row, str(count), str(blocks)]
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
                if done.returncode != 0:
                    raise SystemExit(f"{name}, {row}: {done.stderr.strip() or f'exit status {done.returncode}'}")
                taken[row][name].append(json.loads(done.stdout))
    progress("")
    rows = []
    for row, by_contender in taken.items():
        entry: dict[str, Any] = {"row": row, "what": ROWS[row]}
        for figure in ("per_second", "cpu_ns"):
            entry[figure] = {
                name: round(statistics.median(each[figure] for each in so_far)) for name, so_far in by_contender.items()
            }
        rates = entry["per_second"]
        entry["times_clew"] = {name: round(rates["clew"] / rates[name], 1) for name in rates if name != "clew"}
        entry["rounds"] = {
            name: [round(each["per_second"]) for each in so_far] for name, so_far in by_contender.items()
        }
        rows.append(entry)
    return rows


def main() -> int:
    if sys.argv[1:2] == ["--one-round"]:
        one_round(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    parser = argparse.ArgumentParser(
        description="How many spans a second threads and tasks of one process make.",
        epilog="example: python benchmarks/bench_threads.py --rounds 9",
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round with few spans: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS.name})")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    rows = measure(rounds, quick=options.quick)
    if options.quick:
        print("A quick run: it shows that the benchmark works; its figures mean nothing.\n")
    print(f"{f'spans a second, medians of {rounds} rounds':40}" + "".join(f"{CONTENDERS[name]:>16}" for name in SPANS))
    for row in rows:
        print(f"{row['what']:40}" + "".join(f"{rate:16,}" for rate in row["per_second"].values()))
    target = options.json or (None if options.quick else RESULTS)
    if target is not None:
        report = {**header("bench_threads", rounds, quick=options.quick), "rows": rows}
        target.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
