"""What it costs to look at, count and convert a large file of traces: wall time, CPU, memory.

`python benchmarks/bench_files.py` makes a file of 5 million spans (2.3 GB, in a temporary directory, deleted
afterwards), runs each command on it, prints a table and writes benchmarks/results/bench_files.json; `--spans N` takes
another number, `--quick` few of them, and records nothing. `--only WORD ...` runs the rows with one of the words in
their names, and leaves the others of the results as they are. `--file PATH` takes a file of so many spans that exists.

The file is what `FileExporter` writes: OTLP JSON Lines, 512 spans a line, 10 spans a trace, four services, typical
spans of 3 attributes and now and then an event. Each command has standard error on a terminal of its own, so that its
progress bar is drawn and paid for. Memory is the largest sum over the command and its children, of what each of them
had at one moment (sampled), or of what the kernel says was the most of one process, whichever is more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).resolve().parent / "results" / "bench_files.json"
SPANS = 5_000_000
QUICK_SPANS = 2000
SPANS_PER_LINE = 512
SPANS_PER_TRACE = 10
START_NS = 1_790_000_000_000_000_000
SAMPLE_SECONDS = 0.05
MEMORY_MB = 300  # what no command may need

NAMES = [f"{verb} /{thing}" for verb in ("GET", "PUT", "POST", "DELETE") for thing in ("", "a", "b", "items", "users")]
SERVICES = ("frontend", "backend", "database", "tor-client")

# What comes out of it, and the format it is to be.
TARGETS = ("jsonl", "pb", "zipkin", "jaeger", "chrome", "gotor", "csv", "parquet")


class Row(NamedTuple):
    """A command to measure."""

    name: str
    source: str  # a format
    arguments: tuple[str, ...]  # {in} and {out} are files


ROWS = (
    Row("view", "jsonl", ("view", "{in}")),
    Row("view --slowest 5", "jsonl", ("view", "{in}", "--slowest", "5")),
    Row("stats", "jsonl", ("stats", "{in}")),
    *(Row(f"convert to {target}", "jsonl", ("convert", "{in}", "{out}", "--to", target)) for target in TARGETS),
    Row("view, from pb", "pb", ("view", "{in}")),
    Row("stats, from pb", "pb", ("stats", "{in}")),
    Row("convert pb to jsonl", "pb", ("convert", "{in}", "{out}", "--to", "jsonl")),
)


class Measured(NamedTuple):
    """What a command took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    has_progress: bool


def detail(number: int, host: str) -> str:
    """What a span has besides its ids and times: one of a hundred failed, one of four has an event."""
    failed = number % 100 == 7
    event = f',"events":[{{"timeUnixNano":"{START_NS + number}","name":"cache-miss"}}]' if number % 4 == 0 else ""
    status = ',"status":{"message":"it took too long","code":2}' if failed else ""
    return (
        '"attributes":[{"key":"http.request.method","value":{"stringValue":"GET"}},'
        f'{{"key":"http.response.status_code","value":{{"intValue":"{500 if failed else 200}"}}}},'
        f'{{"key":"server.address","value":{{"stringValue":"{host}.example.com"}}}}]{event}{status}'
    )


def lines(spans: int) -> Iterator[bytes]:
    """The lines of the file. Numbers are drawn by lot, the same each time."""
    random = Random(1)
    mask = (1 << 64) - 1
    durations = [int(random.lognormvariate(15, 1.5)) for _ in range(4096)]
    details = [detail(number, random.choice(("www", "api", "static"))) for number in range(1000)]
    for first in range(0, spans, SPANS_PER_LINE):
        service = SERVICES[first // SPANS_PER_LINE % len(SERVICES)]
        texts = []
        for number in range(first, min(first + SPANS_PER_LINE, spans)):
            trace, place = divmod(number, SPANS_PER_TRACE)
            # Children end before their root, which comes last.
            is_root = place == SPANS_PER_TRACE - 1
            root = (trace * SPANS_PER_TRACE + SPANS_PER_TRACE) * 0x9E3779B97F4A7C15 & mask
            own = root if is_root else (number + 1) * 0x9E3779B97F4A7C15 & mask
            duration = durations[number * 7 & 4095]
            begin = START_NS + trace * 1_000_000 + (0 if is_root else place * 10_000)
            parent = "" if is_root else f'"parentSpanId":"{root:016x}",'
            texts.append(
                f'{{"traceId":"{trace * 0xD1B54A32D192ED03 & mask:016x}{trace + 1:016x}","spanId":"{own:016x}",{parent}'
                f'"flags":257,"name":"{NAMES[number * 13 % len(NAMES)]}","kind":{number % 5 + 1},'
                f'"startTimeUnixNano":"{begin}","endTimeUnixNano":"{begin + duration}",{details[number % 1000]}}}'
            )
        resource = f'{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}}'
        scope = '{"name":"clew","version":"0.1.0"}'
        scope_spans = f'[{{"scope":{scope},"spans":[{",".join(texts)}]}}]'
        yield f'{{"resourceSpans":[{{"resource":{resource},"scopeSpans":{scope_spans}}}]}}\n'.encode()


def make_file(path: Path, spans: int) -> None:
    """Write the file, where there is room for it and for what is made of it."""
    needed = spans * 1500
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        sys.exit(f"{path.parent} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed: set TMPDIR")
    with path.open("wb", buffering=1 << 20) as file:
        file.writelines(lines(spans))


def family(pid: int) -> Iterator[int]:
    """A process, and those that it started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def memory_kb(pid: int) -> int:
    """What a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def run(arguments: list[str]) -> Measured:
    """Run `clew` and measure it."""
    master, slave = pty.openpty()
    drawn: list[bytes] = []

    def drain() -> None:
        try:
            while data := os.read(master, 4096):
                drawn[:] = [*drawn[-50:], data]
        except OSError:  # Linux's word for the end of a terminal
            pass

    drainer = threading.Thread(target=drain)
    drainer.start()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "clew.cli.main", *arguments], stdout=subprocess.DEVNULL, stderr=slave, env=environment
    )
    os.close(slave)
    peak_kb = 0
    ended = 0
    while not ended:
        with suppress(OSError):  # one of them ended just then
            peak_kb = max(peak_kb, sum(map(memory_kb, family(process.pid))))
        time.sleep(SAMPLE_SECONDS)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    drainer.join()
    os.close(master)
    said = b"".join(drawn).decode(errors="replace")
    if process.returncode:
        sys.exit(f"clew {' '.join(arguments)} ended with {process.returncode}: {said}")
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, max(peak_kb, usage.ru_maxrss) / 1024, "\u2501" in said)


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the results; rows that were not measured now stay."""
    by_name = {row["row"]: row for row in [*(json.loads(path.read_text())["rows"] if path.exists() else []), *rows]}
    report = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "rows": [by_name[row.name] for row in ROWS if row.name in by_name],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spans", type=int, default=SPANS, help="how many (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="with few spans")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="rows with one of these in their names")
    parser.add_argument("--file", type=Path, help="measure on this file")
    parser.add_argument("--json", type=Path, default=None, help="where the results go")
    args = parser.parse_args()
    spans = QUICK_SPANS if args.quick else args.spans
    rows: list[dict[str, Any]] = []
    path = args.json or (RESULTS if not args.quick and spans == SPANS else None)
    print(f"{spans:,} spans")
    print(f"{'':24}{'wall':>9}{'CPU':>9}{'spans/CPU s':>13}{'peak':>9}{'written':>11}")
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as directory:
        sources = {"jsonl": Path(directory) / "in.jsonl", "pb": Path(directory) / "in.pb"}
        if args.file is None:
            make_file(sources["jsonl"], spans)
        else:
            sources["jsonl"] = args.file
        out = Path(directory) / "out"
        for row in ROWS:
            if not any(word in row.name for word in args.only):
                continue
            source = sources[row.source]
            if not source.exists():
                run(["convert", str(sources["jsonl"]), str(source)])
            measured = run([word.format_map({"in": source, "out": out}) for word in row.arguments])
            written = out.stat().st_size if out.exists() else 0
            if row.name == "convert to pb":
                out.rename(sources["pb"])  # it is needed later
            out.unlink(missing_ok=True)
            figures = {key: round(value, 2) for key, value in measured._asdict().items()}
            sizes = {"spans": spans, "read_bytes": source.stat().st_size, "written_bytes": written}
            when = datetime.now(UTC).isoformat(timespec="seconds")
            rows.append({"row": row.name, "when": when, **sizes, **figures})
            print(
                f"{row.name:24}{measured.wall_s:7.1f} s{measured.cpu_s:7.1f} s{spans / measured.cpu_s:13,.0f}"
                f"{measured.peak_mb:6.0f} MB{written / 1e6:8.0f} MB"
                f"{'' if measured.peak_mb < MEMORY_MB else '  too much'}",
                flush=True,
            )
            if path is not None:
                save(path, rows)
    return 0 if all(row["peak_mb"] < MEMORY_MB for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
