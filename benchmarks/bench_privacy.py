"""What it costs to bring spans to a level of privacy before they are exported.

`python benchmarks/bench_privacy.py` prints microseconds of CPU per span for each level, the median of rounds in which
all take turns: for spans that need no change, for those of an HTTP client, and for texts that were never seen before;
`--quick` runs everything once.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from typing import TYPE_CHECKING

from clew import limits
from clew.model import Event, Resource, Scope, SpanKind, SpanRecord
from clew.otlp import Batch, encode_span
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.scrub import Scrubber

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.model import Attributes

SPANS = limits.BATCH_SPANS
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START_NS = 1_732_280_000_000_000_000


def plain(number: int) -> SpanRecord:
    """Nothing to change from level 1 on."""
    attributes: Attributes = {"circuit.id": number, "kind": "fast", "ratio": 0.25}
    events = (Event("circuit-extended", START_NS + 1, {"hop": 1}),)
    return SpanRecord(TRACE, f"{number:016x}", "", "build-circuit", attributes=attributes, events=events)


def http(number: int) -> SpanRecord:
    """As instrumented HTTP clients make them."""
    attributes: Attributes = {
        "http.request.method": "GET",
        "url.full": f"https://example.com/users/{number}",
        "server.address": "example.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "user_agent.original": "python-requests/2.32",
    }
    return SpanRecord(TRACE, f"{number:016x}", "", "GET", SpanKind.CLIENT, attributes=attributes)


def texts(number: int) -> SpanRecord:
    """Four texts that were never seen before."""
    attributes = {
        "note": f"fetched page {number} of example.com in {number}.5 ms",
        "path": f"/data/{number}/file.json",
        "id": f"{number:032x}",
    }
    return SpanRecord(TRACE, f"{number:016x}", "", f"job {number}", attributes=attributes)


KINDS: dict[str, Callable[[int], SpanRecord]] = {"plain": plain, "HTTP client": http, "new texts": texts}


def measure(rounds: int) -> dict[tuple[str, Privacy], float]:
    """Microseconds of CPU per span."""
    figures: dict[tuple[str, Privacy], list[float]] = {(kind, level): [] for kind in KINDS for level in Privacy}
    for turn in range(rounds):
        for kind, make in KINDS.items():
            records = [make(1 + turn * SPANS + i)._replace(start_time_ns=START_NS) for i in range(SPANS)]
            spans = b"".join(map(encode_span, records))
            for level in Privacy:
                scrubber = Scrubber(PrivacyFilter(level))
                batch = Batch(spans, SPANS, Resource({"service.name": "bench"}), Scope("clew"))
                gc.collect()
                begin = time.thread_time_ns()
                scrubber.scrub(batch)
                figures[kind, level].append((time.thread_time_ns() - begin) / SPANS / 1000)
    return {key: statistics.median(values) for key, values in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the export stage of privacy.")
    parser.add_argument("--quick", action="store_true", help="run everything once")
    figures = measure(1 if parser.parse_args().quick else 25)
    print(f"{'µs of CPU per span':<20}" + "".join(f"{level.name.lower():>14}" for level in Privacy))
    for kind in KINDS:
        print(f"{kind:<20}" + "".join(f"{figures[kind, level]:>14.1f}" for level in Privacy))


if __name__ == "__main__":
    main()
