"""Sampling Strategies: how many of how many traces each sampler keeps."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from clew import AlwaysSample, MemoryExporter, NeverSample, ProbabilitySample, RateLimitSample, Tracer

if TYPE_CHECKING:
    from clew import Sampler
    from clew.demo.stage import Stage

__all__ = ["run"]

_TRACES = 2_000
_PROBABILITY = 0.1
_PER_SECOND = 50
_WATCHED_SECONDS = 2.5
_BETWEEN_SECONDS = 0.005


def run(stage: Stage) -> None:
    stage.say(
        "A sampler decides once for each trace, at its root. The children follow it: a trace is kept whole or not at "
        f"all. Each of these saw {_TRACES:,} traces of three spans."
    )
    stage.say("")
    rows = []
    samplers: tuple[Sampler, ...] = (
        AlwaysSample(),
        NeverSample(),
        ProbabilitySample(_PROBABILITY),
        RateLimitSample(_PER_SECOND),
    )
    for sampler in samplers:
        begin = time.perf_counter()
        exporter = MemoryExporter()
        with Tracer("demo", exporter=exporter, sampler=sampler) as tracer:
            for _ in range(_TRACES):
                _make_trace(tracer)
            tracer.flush(5)
            stats = tracer.stats()
        sizes = Counter(record.trace_id for record in exporter.records)
        seconds = time.perf_counter() - begin
        whole = sum(size == 3 for size in sizes.values())
        rows.append(
            (sampler, f"{_TRACES:,}", f"{len(sizes):,}", f"{whole:,}", f"{stats.not_sampled:,}", f"{seconds:.2f} s")
        )
    stage.table(["sampler", "traces", "kept", "whole", "spans unrecorded", "in"], rows)
    stage.say(f"ProbabilitySample({_PROBABILITY}) decides by the trace id, so that all services keep the same traces.")
    stage.say("")
    _watch_rate_limit(stage)


def _make_trace(tracer: Tracer) -> None:
    with tracer.start_span("request"), tracer.start_span("query"), tracer.start_span("socket"):
        pass


def _watch_rate_limit(stage: Stage) -> None:
    every_ms = _BETWEEN_SECONDS * 1e3
    stage.say(f"RateLimitSample({_PER_SECOND}) watched for {_WATCHED_SECONDS:g} s, with a trace every {every_ms:g} ms:")
    stage.say("")
    begun: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    with Tracer("demo", exporter=MemoryExporter(), sampler=RateLimitSample(_PER_SECOND)) as tracer:
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < _WATCHED_SECONDS:
            with tracer.start_span("request") as span:
                begun[int(passed)] += 1
                kept[int(passed)] += span.is_recording
            time.sleep(_BETWEEN_SECONDS)
    stage.table(
        ["second", "begun", "kept", ""],
        ((f"{second + 1}.", begun[second], kept[second], "▇" * (kept[second] // 2)) for second in sorted(begun)),
    )
