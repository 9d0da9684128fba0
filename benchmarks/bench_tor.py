"""Tor's events to spans: how many a second on one core, from recorded bytes to encoded spans that were delivered.

`python benchmarks/bench_tor.py` prints microseconds of CPU and events a second for the whole way and for each stage,
and writes benchmarks/results/bench_tor.json; `--quick` runs everything once with few events, to see that it works.

The whole is what a replay does: bytes go in by 16 KB, each event goes all the way before the next, the pipeline's own
thread hands batches to an exporter that does nothing, and the CPU of the process is counted until every span was
delivered. The stages are measured in another pass, piece by piece, on the thread that runs them. Beside them: the
whole where spans pass their level of privacy once more before the exporter, as `protect` has it for programs; and a
plain split of the lines into words, which says how fast the machine was at that time. The recording is made up by
tor_recording.py. Every round has a process of its own, and figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_span import machine, progress, versions
from tor_recording import make_recording

from clew import NoopExporter, Tracer
from clew.tor.events import parse_event
from clew.tor.mapper import TorMapper
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.protection import protect
from clew.tor.wire import ControlParser

RESULTS = Path(__file__).resolve().parent / "results" / "bench_tor.json"

BAR_PER_SECOND = 50_000
ROWS = {
    "whole": "whole: bytes to spans that were delivered",
    "split": "stage: bytes to replies",
    "parse": "stage: replies to events",
    "map": "stage: events to spans, encoded into the queue",
    "deliver": "stage: batches to the exporter, on its own thread",
    "protected": "whole, with privacy once more before the exporter",
    "plain": "for comparison: a plain split of the lines into words",
}
PIECE_BYTES = 16_384
VISITS = 8_000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="How many of tor's events a second become spans.",
        epilog="example: python benchmarks/bench_tor.py --rounds 9",
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 9)")
    parser.add_argument("--quick", action="store_true", help="one round with few events: does it work?")
    parser.add_argument("--level", default="1", help="the privacy level (default: 1, as what is stored has it)")
    parser.add_argument("--one-round", type=int, metavar="VISITS", help=argparse.SUPPRESS)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS.name})")
    where.add_argument("--no-json", action="store_true", help="only print them")
    options = parser.parse_args(arguments)
    if options.one_round is not None:
        print(json.dumps(measure(options.one_round, Privacy(int(options.level)))))
        return 0
    rounds = options.rounds or (1 if options.quick else 9)
    visits = VISITS // 100 if options.quick else VISITS
    summary = summarise(run_rounds(rounds, visits, options.level))
    print_table(summary, rounds, quick=options.quick)
    target = options.json or (None if options.no_json or options.quick else RESULTS)
    if target is not None:
        report = {
            "benchmark": "bench_tor",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "rounds": rounds,
            "quick": options.quick,
            "privacy_level": int(options.level),
            "machine": machine(),
            "versions": {name: version for name, version in versions().items() if name in ("clew", "revision")},
            **summary,
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(report, indent=2) + "\n")
        print(f"\nwritten to {os.path.relpath(target)}")
    return 0


# --- measuring ------------------------------------------------------------------------------------------------------


def run_rounds(rounds: int, visits: int, level: str) -> list[dict[str, Any]]:
    """Each round in a process of its own."""
    done = []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        command = [sys.executable, __file__, "--one-round", str(visits), "--level", level]
        done.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    progress("")
    return done


def measure(visits: int, level: Privacy) -> dict[str, Any]:
    """Everything once: nanoseconds of CPU per event, and what there was."""
    lines = make_recording(visits)
    recording = b"".join(lines)
    run(recording[: len(recording) // 20], level, by_stage=False)  # imports, caches, the specializing interpreter
    taken = run(recording, level, by_stage=False)
    spans = taken.pop("spans")
    taken |= {
        stage: ns for stage, ns in run(recording, level, by_stage=True).items() if stage not in ("whole", "spans")
    }
    taken["protected"] = run(recording, level, by_stage=False, protected=True)["whole"]
    begin = time.thread_time_ns()
    for line in lines:
        line.decode().split(" ")
    taken["plain"] = time.thread_time_ns() - begin
    return {
        "events": len(lines),
        "bytes": len(recording),
        "spans": spans,
        "types": Counter(line.split()[1].decode() for line in lines),
        "ns": {row: taken[row] / len(lines) for row in ROWS},
    }


def run(recording: bytes, level: Privacy, *, by_stage: bool, protected: bool = False) -> dict[str, int]:
    """The whole way, as a replay goes it: nanoseconds of all of it, or by stage."""
    parser = ControlParser()
    privacy = PrivacyFilter(level)
    tracer = Tracer("tor", exporter=NoopExporter(), resource=privacy.resource())
    if protected:
        protect(tracer, privacy, leaving=level)
    mapper = TorMapper(tracer, privacy)
    taken: Counter[str] = Counter()
    process_begin, thread_begin = time.process_time_ns(), time.thread_time_ns()
    at_ns = 1_769_860_800_000_000_000
    for start in range(0, len(recording), PIECE_BYTES):
        parser.feed(recording[start : start + PIECE_BYTES])
        at_ns += 10_000_000
        if by_stage:
            run_stages(parser, mapper, at_ns, taken)
        else:
            for reply in iter(parser.next_reply, None):
                mapper.handle(parse_event(reply, at_ns))
    mapper.close("DETACHED", at_ns)
    taken["deliver"] -= time.thread_time_ns() - thread_begin
    tracer.close(60)
    taken["whole"] = time.process_time_ns() - process_begin
    taken["deliver"] += taken["whole"]
    stats = tracer.stats()
    if stats.open or stats.exported != stats.ended:
        raise SystemExit(f"not every span was delivered: {stats}")
    taken["spans"] = stats.exported
    return taken


def run_stages(parser: ControlParser, mapper: TorMapper, at_ns: int, taken: Counter[str]) -> None:
    """What was fed, one stage after the other."""
    begin = time.thread_time_ns()
    replies = list(iter(parser.next_reply, None))
    replied = time.thread_time_ns()
    events = [parse_event(reply, at_ns) for reply in replies]
    parsed = time.thread_time_ns()
    for event in events:
        mapper.handle(event)
    end = time.thread_time_ns()
    taken["split"] += replied - begin
    taken["parse"] += parsed - replied
    taken["map"] += end - parsed


# --- what comes of it -----------------------------------------------------------------------------------------------


def summarise(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and the bar."""
    rows = []
    for name, what in ROWS.items():
        each = [taken["ns"][name] for taken in rounds]
        median = statistics.median(each)
        rows.append(
            {
                "row": name,
                "what": what,
                "us": round(median / 1000, 3),
                "per_second": round(1e9 / median) if median > 0 else None,
                "times_plain": round(
                    statistics.median(taken["ns"][name] / taken["ns"]["plain"] for taken in rounds), 2
                ),
                "rounds_us": [round(value / 1000, 3) for value in each],
            }
        )
    whole = next(row for row in rows if row["row"] == "whole")
    first = rounds[0]
    return {
        "recording": {name: first[name] for name in ("events", "bytes", "spans", "types")},
        "rows": rows,
        "bar": {
            "per_second": BAR_PER_SECOND,
            "measured": whole["per_second"],
            "met": whole["per_second"] >= BAR_PER_SECOND,
        },
    }


def print_table(summary: dict[str, Any], rounds: int, *, quick: bool) -> None:
    if quick:
        print("A quick run: it shows that the benchmark works; its figures mean nothing.\n")
    recording = summary["recording"]
    print(f"{recording['events']:,} events, {recording['bytes']:,} bytes, {recording['spans']:,} spans; ", end="")
    print(f"medians of {rounds} rounds, CPU")
    print(f"{'':56}{'us an event':>14}{'events a second':>18}{'plain splits':>14}")
    for row in summary["rows"]:
        rate = f"{row['per_second']:,}" if row["per_second"] else "-"
        print(f"{row['what']:56}{row['us']:14.2f}{rate:>18}{row['times_plain']:14.1f}")
    bar = summary["bar"]
    verdict = "met" if bar["met"] else "NOT MET"
    print(f"\nbar: at least {bar['per_second']:,} events a second, measured {bar['measured']:,}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
