"""Ten minutes of eight threads: does the memory stay flat, and does the ledger balance?

`python benchmarks/long_run.py` prints what came of it, writes benchmarks/results/long_run.json and brings
docs/performance.md up to date; `--seconds N` takes another time, and stores nothing but where it is told.

A process of its own makes typical spans (3 attributes, 1 event), 20,000 a second in bursts, on eight threads, one of
which is replaced each second. They go by OTLP/HTTP to a receiver (sink.py) and to a file of 32 MB that is put aside
when it is full, of which two are kept. Its resident memory is read each second; the slope is that of the line nearest
to the values after the warm-up (least squares).

It fails, with status 1, if a span is neither delivered nor counted as lost, by the ledger or by the receiver.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench_span import header, progress
from bench_tables import write_documents
from sink import Sink
from span_contenders import clew_loop

RESULTS = Path(__file__).resolve().parent / "results" / "long_run.json"
SECONDS = 600
THREADS = 8
SPANS_PER_SECOND = 20_000
BURST = 50  # spans that a thread makes before it sleeps
FILE_BYTES = 32 << 20


# --- the program that is traced -------------------------------------------------------------------------------------


def program(url: str, path: str, seconds: float) -> None:
    """Trace for so long, then print the ledger as it was in the middle of it and at the end."""
    from clew import FileExporter, MultiExporter, OtlpExporter, Tracer

    file = FileExporter(path, max_bytes=FILE_BYTES, keep=2)
    tracer = Tracer("bench", MultiExporter(OtlpExporter(url), file))
    loop = clew_loop(tracer, "typical")
    pause = BURST * THREADS / SPANS_PER_SECOND
    end = time.monotonic() + seconds

    def work(until: float) -> None:
        while time.monotonic() < until:
            loop(BURST)
            time.sleep(pause)

    workers = [threading.Thread(target=work, args=(end,)) for _ in range(THREADS - 1)]
    for worker in workers:
        worker.start()
    unbalanced = 0
    while time.monotonic() < end:
        replaced = threading.Thread(target=work, args=(min(time.monotonic() + 1, end),))
        replaced.start()
        replaced.join()
        unbalanced += not balances(tracer.stats()._asdict())
    for worker in workers:
        worker.join()
    is_closed = tracer.close(60)
    stats = tracer.stats()._asdict() | {"dropped": dict(tracer.stats().dropped)}
    print(json.dumps({"stats": stats, "closed": is_closed, "unbalanced": unbalanced}))


def balances(stats: dict[str, Any]) -> bool:
    """Whether each span that ended is somewhere."""
    lost = sum(stats["dropped"].values()) + stats["failed"]
    return bool(stats["ended"] == stats["exported"] + lost + stats["queued"] and stats["ended"] <= stats["started"])


# --- whoever watches it ---------------------------------------------------------------------------------------------


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(process: subprocess.Popen[str], seconds: float) -> list[tuple[float, float]]:
    """Seconds since the beginning and megabytes, once a second, until the spans have been made."""
    begin, samples = time.monotonic(), []
    while process.poll() is None and (now := time.monotonic() - begin) < seconds:
        samples.append((now, resident_mb(process.pid)))
        progress(f"long run: {now:.0f} of {seconds:.0f} s, {samples[-1][1]:.1f} MB")
        time.sleep(1)
    progress("")
    return samples


def slope(samples: list[tuple[float, float]]) -> float:
    """Megabytes a second, by least squares."""
    if not samples:
        return 0.0
    times, sizes = zip(*samples, strict=True)
    time_mean, size_mean = sum(times) / len(times), sum(sizes) / len(sizes)
    spread: float = sum((at - time_mean) ** 2 for at in times)
    together: float = sum((at - time_mean) * (size - size_mean) for at, size in samples)
    return together / spread if spread else 0.0


def run(seconds: float) -> dict[str, Any]:
    """The run, and what is to be said of it."""
    with Sink() as sink, tempfile.TemporaryDirectory(prefix="clew-bench-") as directory:
        command = [sys.executable, __file__, "--program", sink.url, str(Path(directory) / "traces.jsonl"), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            samples = watch(process, seconds)
            said = process.communicate()[0]
        if process.returncode != 0:
            raise SystemExit(f"the program ended with status {process.returncode}")
        files = sorted(path.stat().st_size for path in Path(directory).iterdir())
        received = sink.taken().spans
    warm_up = seconds / 5
    late = [sample for sample in samples if sample[0] >= warm_up] or samples[-1:]
    result = json.loads(said)
    return {
        **result,
        "seconds": seconds,
        "threads": THREADS,
        "warm_up": warm_up,
        "received": received,
        "dropped": sum(result["stats"]["dropped"].values()),
        "file_mb": [round(size / 1e6, 1) for size in files],
        "memory_mb": {"after_warm_up": round(late[0][1], 2), "most": round(max(size for _, size in late), 2)},
        "slope_kb_per_minute": round(slope(late) * 60_000, 2),
        "samples_mb": [round(size, 1) for _, size in samples],
    }


def problems(report: dict[str, Any]) -> list[str]:
    """What is wrong with a run."""
    stats, found = report["stats"], []
    if not report["closed"] or stats["queued"] or stats["started"] != stats["ended"]:
        found.append("the tracer could not be closed")
    if report["unbalanced"] or not balances(stats):
        found.append("the ledger does not balance")
    if report["received"] != stats["exported"]:
        found.append(f"{report['received']:,} spans came, and {stats['exported']:,} count as exported")
    return found


def main() -> int:
    if sys.argv[1:2] == ["--program"]:
        program(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(
        description="Ten minutes of eight threads: memory and ledger.",
        epilog="example: python benchmarks/long_run.py --seconds 60",
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for how long (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the results go; the documents stay as they are"
    )
    options = parser.parse_args()
    report = {**header("long_run", 1, quick=options.seconds < SECONDS), **run(options.seconds)}
    stats, memory = report["stats"], report["memory_mb"]
    print(f"{stats['started']:,} spans by {THREADS} threads in {options.seconds:g} s, {report['received']:,} received")
    print(f"ledger: {stats['exported']:,} exported, {stats['failed']:,} failed, {report['dropped']:,} dropped")
    print(
        f"memory: {memory['after_warm_up']} MB after {report['warm_up']:g} s, {memory['most']} MB at the most, "
        f"slope {report['slope_kb_per_minute']:+.1f} KB a minute"
    )
    wrong = problems(report)
    print("\n".join(wrong) or "every span is accounted for")
    is_recorded = options.json is None and options.seconds >= SECONDS
    target = RESULTS if is_recorded else options.json
    if target is not None:
        target.write_text(json.dumps(report, indent=2) + "\n")
    if is_recorded:
        write_documents()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
