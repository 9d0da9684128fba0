"""Everything of clew that has a bar, beside its peers, in one run and one table: `make bench`.

`python benchmarks/bench.py` runs the benchmarks below one after the other (about ten minutes; on a quiet machine),
each with its own results in benchmarks/results, prints the table, stores it as bench.json, and brings README.md and
docs/performance.md up to date. `--quick` runs everything once with few spans, and stores nothing but where it is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_span import header
from bench_tables import RESULTS, collect, text_table, write_documents

HERE = Path(__file__).resolve().parent
# With how many rounds. Those that decide about the first bars come first.
BENCHMARKS = {
    "bench_delivery": 9,
    "bench_span": 9,
    "bench_end": 5,
    "bench_otel": 9,
    "bench_threads": 5,
    "bench_tor": 7,
    "bench_keep": 7,
}


def run(name: str, rounds: int, target: Path, *, quick: bool) -> dict[str, Any]:
    """One benchmark; its progress is this one's."""
    how = ["--quick"] if quick else ["--rounds", str(rounds)]
    command = [sys.executable, str(HERE / f"{name}.py"), *how, "--json", str(target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} ended with status {done.returncode}\n{done.stdout}")
    report: dict[str, Any] = json.loads(target.read_text())
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Everything that has a bar, beside its peers, in one table.",
        epilog="example: python benchmarks/bench.py --rounds 3 --json table.json",
    )
    parser.add_argument("--rounds", type=int, help="how often each contender runs (default: 5 to 9, by benchmark)")
    parser.add_argument("--quick", action="store_true", help="one round with few spans: does it work?")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the table goes; the documents stay as they are"
    )
    options = parser.parse_args()
    is_recorded = options.json is None and not options.quick
    top = header("bench", 0, quick=options.quick)  # now, while the sources are as they are measured
    reports, rounds = {}, {}
    with tempfile.TemporaryDirectory() as directory:
        begin = time.monotonic()
        for number, (name, usual) in enumerate(BENCHMARKS.items(), 1):
            rounds[name] = 1 if options.quick else options.rounds or usual
            print(f"{number} of {len(BENCHMARKS)}: {name}, {time.monotonic() - begin:.0f} s so far", file=sys.stderr)
            reports[name] = run(name, rounds[name], Path(directory) / f"{name}.json", quick=options.quick)
    rows = collect(reports)
    if options.quick:
        print("A quick run: it shows that the benchmarks work; their figures mean nothing.\n")
    print(text_table(rows))
    target = RESULTS / "bench.json" if is_recorded else options.json
    if target is not None:
        report = {**top, "rounds": rounds, "rows": rows}
        target.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if is_recorded:
        for name, report in reports.items():
            (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
        write_documents()
    return 0


if __name__ == "__main__":
    sys.exit(main())
