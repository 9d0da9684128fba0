"""What a span costs until an OTLP receiver has it: clew beside the OpenTelemetry SDK and fastotel.

`python benchmarks/bench_delivery.py` prints the table and writes benchmarks/results/bench_delivery.json; `--quick` runs
everything once with few spans, to see that it works.

Typical spans (3 attributes, 1 event) are made, encoded and sent by OTLP/HTTP with protobuf, 512 a request, to a
receiver on loopback (sink.py), which is a process of its own; a block of them ends when the last answer is there. Times
are CPU of the whole process that is measured, all its threads included, fastotel's native sender too.
Processes of their own, the contenders in turn, round after round, each block beside a block of the floor: as in
bench_span.py. A run of which the receiver did not get every span fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench_span import CONTENDERS, available, header, progress, quantity, run_contender
from sink import Sink

RESULTS = Path(__file__).resolve().parent / "results" / "bench_delivery.json"
ROWS = {
    "delivered": "typical, delivered by OTLP/HTTP",
    "gzip": "typical, delivered by OTLP/HTTP with gzip",
}
BARS = {"otel": 50, "fastotel": 20}  # times the CPU of clew, in the row without compression
# Whole requests; and less than what clew's queue holds by default. About 30 ms for clew, 150 for the SDK.
SPANS = {"clew": 40 * 512, "otel": 4 * 512, "fastotel": 4 * 512}
BLOCKS = 9


def measure(contenders: list[str], rounds: int, *, quick: bool) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Everything, round by round: row -> contender -> what was measured."""
    figures: dict[str, dict[str, list[dict[str, float]]]] = {row: {name: [] for name in contenders} for row in ROWS}
    blocks = 2 if quick else BLOCKS
    with Sink() as sink:
        for number in range(rounds):
            # Who comes first changes from round to round.
            turn = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
            for row in ROWS:
                for name in turn:
                    progress(f"delivery: round {number + 1} of {rounds}, {row}, {CONTENDERS[name]}")
                    count = 512 if quick else SPANS[name]
                    taken = run_contender(name, row, count, blocks, f"{sink.url}/v1/traces")
                    came = sink.taken().spans
                    if came != (blocks + 1) * count:
                        raise SystemExit(f"{name}, {row}: {came} spans came of {(blocks + 1) * count}")
                    figures[row][name].append(taken)
    progress("")
    return figures


def summarise(figures: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Medians, ratios and bars."""
    rows = []
    for row, by_contender in figures.items():
        entry: dict[str, Any] = {"row": row, "what": ROWS[row], "unit": "ns"}
        for measure in ("value", "wall", "floor", "floors"):
            entry[measure] = {
                name: round(statistics.median(each[measure] for each in taken), 2)
                for name, taken in by_contender.items()
            }
        entry["times_clew"] = {
            name: round(floors / entry["floors"]["clew"], 1)
            for name, floors in entry["floors"].items()
            if name != "clew"
        }
        entry["rounds"] = {name: [round(each["floors"], 2) for each in taken] for name, taken in by_contender.items()}
        rows.append(entry)
    measured = rows[0]["times_clew"]
    bars = [
        {
            "row": "delivered",
            "against": name,
            "times": times,
            "measured": measured[name],
            "met": measured[name] >= times,
        }
        for name, times in BARS.items()
        if name in measured
    ]
    return {"rows": rows, "bars": bars}


def print_table(summary: dict[str, Any], rounds: int) -> None:
    print(f"CPU of the whole process per span, to the receiver's answer; medians of {rounds} rounds, interleaved")
    names = list(summary["rows"][0]["value"])
    print(f"{'':44}" + "".join(f"{CONTENDERS[name]:>24}" for name in names))
    for entry in summary["rows"]:
        cells = [
            quantity(entry["value"][name], "ns")
            + (f" ({entry['times_clew'][name]:.1f} x clew)" if name in entry["times_clew"] else "")
            for name in names
        ]
        print(f"{entry['what']:44}" + "".join(f"{cell:>24}" for cell in cells))
    for bar in summary["bars"]:
        verdict = "met" if bar["met"] else "NOT MET"
        print(f"bar: {CONTENDERS[bar['against']]} {bar['times']} times clew, measured {bar['measured']}: {verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="What a span costs until an OTLP receiver has it.",
        epilog="example: python benchmarks/bench_delivery.py --rounds 15",
    )
    parser.add_argument("--rounds", type=int, help="how often each contender runs each row (default: 9)")
    parser.add_argument("--quick", action="store_true", help="one round with few spans: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS.name})")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 9)
    contenders = [name for name in CONTENDERS if available(name)]
    summary = summarise(measure(contenders, rounds, quick=options.quick))
    if options.quick:
        print("A quick run: it shows that the benchmark works; its figures mean nothing.\n")
    print_table(summary, rounds)
    target = options.json or (None if options.quick else RESULTS)
    if target is not None:
        report = {**header("bench_delivery", rounds, quick=options.quick), **summary}
        target.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
