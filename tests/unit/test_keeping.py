"""Tail sampling and the flight recorder: what is exported, what is let go, and that the ledger says so."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import (
    AnyOf,
    ConfigurationError,
    DecodeError,
    ExportError,
    FlightRecorder,
    MemoryExporter,
    MultiExporter,
    SpanContext,
    Status,
    TailSample,
    Tracer,
    keeping,
)
from clew._hot.keep import TraceKeeper, shows_trouble
from clew.otlp import decode_traces, encode_span
from clew.samplers import ProbabilitySample

if TYPE_CHECKING:
    from clew import Batch, Span

MS = 1_000_000
T0 = 1_767_225_600_000_000_000
REMOTE = SpanContext("ab" * 16, "cd" * 8, trace_flags=1, is_remote=True)


def names(exporter: MemoryExporter) -> list[str]:
    return [record.name for record in exporter.records]


def trace(tracer: Tracer, name: str, *, milliseconds: int = 1, status: Status | None = None, children: int = 1) -> None:
    """A root and its children, with these times; the status is a child's."""
    root = tracer.start_span(name, parent=None, start_time_ns=T0)
    for number in range(children):
        child = tracer.start_span(f"{name}-{number}", parent=root, start_time_ns=T0)
        if status is not None:
            child.set_status(status, "why")
        child.end(T0 + MS)
    root.end(T0 + milliseconds * MS)


def balanced(tracer: Tracer) -> bool:
    stats = tracer.stats()
    return stats.ended == stats.exported + sum(stats.dropped.values()) + stats.failed + stats.queued


# --- tail sampling ---------------------------------------------------------------------------------------------------


def test_errors_are_kept() -> None:
    """A trace with a failed span is exported whole, another is not; a cancelled one did not fail. The ledger knows."""
    exporter = MemoryExporter()
    with Tracer("t", exporter, TailSample()) as tracer:
        trace(tracer, "good")
        trace(tracer, "bad", status=Status.ERROR)
        trace(tracer, "given-up", status=Status.CANCELLED)
        assert tracer.flush()
        assert names(exporter) == ["bad-0", "bad"]
        stats = tracer.stats()
        assert (stats.exported, stats.dropped["not_kept"], stats.queued) == (2, 4, 0)
        assert balanced(tracer)


def test_slow_roots_are_kept() -> None:
    """As slow as the limit is slow; how long a child takes does not count."""
    exporter = MemoryExporter()
    with Tracer("t", exporter, TailSample(keep_errors=False, slower_than=0.5)) as tracer:
        trace(tracer, "quick", milliseconds=499)
        trace(tracer, "slow", milliseconds=500)
        trace(tracer, "bad", status=Status.ERROR)
        root = tracer.start_span("parent", parent=None, start_time_ns=T0)
        tracer.start_span("child", parent=root, start_time_ns=T0).end(T0 + 900 * MS)
        root.end(T0 + MS)
    assert names(exporter) == ["slow-0", "slow"]


def test_a_share_of_the_rest() -> None:
    """Which one is in the share is decided by the trace id, as ProbabilitySample does, so that services agree."""
    exporter = MemoryExporter()
    with Tracer("t", exporter, TailSample(probability=0.25)) as tracer:
        for _ in range(2000):
            trace(tracer, "any", children=0)
    assert 400 < len(exporter.records) < 600
    sampler = ProbabilitySample(0.25)
    assert all(sampler.should_sample(r.trace_id, "", r.kind, {}, None) for r in exporter.records)


def test_a_root_is_a_root_in_this_process() -> None:
    """A span whose parent is elsewhere decides about its trace; each request of one trace for itself."""
    exporter = MemoryExporter()
    with Tracer("t", exporter, TailSample()) as tracer:
        for name, status in (("first", Status.UNSET), ("second", Status.ERROR), ("third", Status.UNSET)):
            span = tracer.start_span(name, parent=REMOTE)
            span.set_status(status)
            span.end()
    # What comes after a trace was kept belongs to it.
    assert names(exporter) == ["second", "third"]


def test_what_ends_after_its_root() -> None:
    """A late span follows the trace if that was kept; else it is held until the end and decided about by itself."""
    exporter = MemoryExporter()
    with Tracer("t", exporter, TailSample()) as tracer:
        late: list[Span] = []
        for name, status in (("good", Status.UNSET), ("bad", Status.ERROR)):
            root = tracer.start_span(name, parent=None)
            late.append(tracer.start_span(f"{name}-late", parent=root))
            root.set_status(status)
            root.end()
        for span in late:
            span.end()
        assert tracer.flush()
        assert names(exporter) == ["bad", "bad-late"]
        assert tracer.stats().queued == 1
        assert balanced(tracer)
    assert names(exporter) == ["bad", "bad-late"]
    assert tracer.stats().queued == 0


def test_close_decides_about_everything() -> None:
    """Roots that are open are ended by close, and their traces decided about."""
    exporter = MemoryExporter()
    tracer = Tracer("t", exporter, TailSample())
    root = tracer.start_span("open", parent=None)
    child = tracer.start_span("failed", parent=root)
    child.set_status(Status.ERROR)
    child.end()
    assert tracer.close()
    assert sorted(names(exporter)) == ["failed", "open"]
    assert balanced(tracer)


def test_memory_is_bounded() -> None:
    """Beyond the bound the oldest traces are decided about with what is known of them."""
    exporter = MemoryExporter()
    with Tracer("t", exporter, TailSample(max_bytes=4096)) as tracer:
        roots = [tracer.start_span("root", parent=None) for _ in range(100)]
        for number, root in enumerate(roots):
            child = tracer.start_span(f"child-{number}", parent=root)
            child.set_attribute("text", "x" * 200)
            child.set_status(Status.ERROR if number == 3 else Status.UNSET)
            child.end()
        assert tracer.flush()
        assert names(exporter) == ["child-3"]
        stats = tracer.stats()
        assert 0 < stats.queued < 25
        assert stats.dropped["not_kept"] == 100 - stats.queued - 1
        assert balanced(tracer)
        roots[3].end()
        assert tracer.flush()
        assert names(exporter) == ["child-3", "root"]


def test_a_trace_is_not_held_for_ever() -> None:
    """What is held for too long is decided about when the worker has nothing else to do, or with the next batch."""
    keeper = TraceKeeper(
        True, -1, ProbabilitySample(0), max_bytes=10**6, max_decisions=10, wait_seconds=0.0
    )  # every trace is too old at once
    spans = one_span("child", parent_id="cd" * 8)
    assert keeper.take(spans) == (b"", 0, 1)
    assert (keeper.held, keeper.held_bytes) == (0, 0)
    patient = TraceKeeper(True, -1, ProbabilitySample(1), max_bytes=10**6, max_decisions=10, wait_seconds=600.0)
    assert patient.take(spans) == (b"", 0, 0)
    assert (patient.held, patient.held_bytes) == (1, len(spans))
    assert patient.expired() == (b"", 0, 0)
    assert patient.decide_all() == (spans, 1, 0)


def one_span(name: str, *, parent_id: str = "", status: Status = Status.UNSET) -> bytes:
    """An encoded span of a trace."""
    exporter = MemoryExporter()
    with Tracer("t", exporter) as tracer:
        tracer.start_span(name, parent=None).end()
    (record,) = exporter.records
    return encode_span(record._replace(trace_id="ab" * 16, parent_id=parent_id, status=status))


def test_what_an_exporter_loses_is_failed() -> None:
    """A kept trace that cannot be delivered is failed, not let go, and flush says so."""

    class Broken:
        def export(self, batch: Batch) -> None:
            raise ExportError("no", rejected=1)

        def close(self) -> None:
            pass

    tracer = Tracer("t", Broken(), TailSample())
    trace(tracer, "bad", status=Status.ERROR)
    assert not tracer.flush()
    stats = tracer.stats()
    assert (stats.exported, stats.failed, stats.dropped["not_kept"]) == (1, 1, 0)
    assert balanced(tracer)
    tracer.close()


def test_a_stage_that_fails_exports_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be decided about is exported."""
    exporter = MemoryExporter()

    def broken(self: object, spans: bytes, count: int) -> keeping.Kept:
        raise DecodeError("broken")

    monkeypatch.setattr(keeping._TailStage, "take", broken)
    with Tracer("t", exporter, TailSample()) as tracer:
        trace(tracer, "good")
        tracer.flush()
        assert names(exporter) == ["good-0", "good"]
        assert tracer.stats().errors > 0
        assert balanced(tracer)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 200)), max_size=40))
def test_any_spans(spans: list[tuple[int, bool, bool, int]]) -> None:
    """Every span comes out once or is let go once, traces whole until their decision, whatever the order."""
    keeper = TraceKeeper(True, -1, ProbabilitySample(0), max_bytes=3000, max_decisions=2, wait_seconds=600.0)
    base = decode_traces(encode_traces_of(one_span("x")))[0]
    came = went = let_go = 0
    for number, (trace_number, is_root, failed, padding) in enumerate(spans):
        record = base._replace(
            trace_id=f"{trace_number + 1:032x}",
            span_id=f"{number + 1:016x}",
            parent_id="" if is_root else "cd" * 8,
            status=Status.ERROR if failed else Status.UNSET,
            attributes={"padding": "x" * padding},
        )
        encoded, count, gone = keeper.take(encode_span(record))
        came += 1
        went += count
        let_go += gone
        assert len(decode_traces(encode_traces_of(encoded))) == count
        assert keeper.held == came - went - let_go
        assert keeper.held_bytes <= 3000
    _, count, gone = keeper.decide_all()
    assert came == went + count + let_go + gone
    assert keeper.held == keeper.held_bytes == 0


def encode_traces_of(spans: bytes) -> bytes:
    """Spans as a TracesData message."""
    return wrap(1, wrap(2, spans))


def wrap(number: int, body: bytes) -> bytes:
    length = len(body)
    varint = bytearray()
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return bytes([number << 3 | 2]) + bytes(varint) + body


@given(st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """What is no span is an error, never a crash."""
    keeper = TraceKeeper(True, -1, ProbabilitySample(0), max_bytes=100, max_decisions=2, wait_seconds=600.0)
    for call in (lambda: keeper.take(data), lambda: shows_trouble(data, True, 0)):
        try:
            call()
        except DecodeError:
            continue


# --- the flight recorder ---------------------------------------------------------------------------------------------


def test_nothing_is_exported_without_trouble() -> None:
    """What is held counts as queued; at the end it is let go, and the ledger says so."""
    exporter = MemoryExporter()
    with Tracer("t", FlightRecorder(exporter)) as tracer:
        trace(tracer, "good")
        assert tracer.flush()
        assert tracer.stats().queued == 2
    assert not exporter.records
    assert tracer.stats().dropped["not_kept"] == 2
    assert balanced(tracer)


def test_an_error_exports_what_was_before() -> None:
    """All that is held goes out, in the order in which it ended; then the recorder is empty."""
    exporter = MemoryExporter()
    with Tracer("t", FlightRecorder(exporter)) as tracer:
        trace(tracer, "before")
        tracer.flush()
        trace(tracer, "bad", status=Status.ERROR)
        assert tracer.flush()
        assert names(exporter) == ["before-0", "before", "bad-0", "bad"]
        trace(tracer, "after")
        assert tracer.flush()
        assert len(exporter.records) == 4
        assert tracer.stats().exported == 4
        assert balanced(tracer)


def test_a_slow_root_is_trouble() -> None:
    """With `slower_than`; errors can be left out of it."""
    exporter = MemoryExporter()
    with Tracer("t", FlightRecorder(exporter, on_error=False, slower_than=1)) as tracer:
        trace(tracer, "bad", status=Status.ERROR)
        tracer.flush()
        assert not exporter.records
        trace(tracer, "slow", milliseconds=1000)
        tracer.flush()
        assert names(exporter) == ["bad-0", "bad", "slow-0", "slow"]


def test_dump() -> None:
    """On a call, from any thread: what ended before it is exported when flush returns."""
    exporter = MemoryExporter()
    recorder = FlightRecorder(exporter)
    with Tracer("t", recorder) as tracer:
        trace(tracer, "good")
        assert tracer.flush()
        thread = threading.Thread(target=recorder.dump)
        thread.start()
        thread.join()
        assert tracer.flush()
        assert names(exporter) == ["good-0", "good"]
        trace(tracer, "last")
        recorder.dump()
    assert names(exporter) == ["good-0", "good", "last-0", "last"]
    assert balanced(tracer)


@pytest.mark.parametrize("sampler", [None, TailSample(probability=1.0)])
def test_a_dump_while_batches_wait(sampler: TailSample | None) -> None:
    """All that ended before the call is exported, however many batches that is; what ended after it is held."""

    class Slow(MemoryExporter):
        def export(self, batch: Batch) -> None:
            entered.set()
            assert gate.wait(30)
            super().export(batch)

    entered, gate = threading.Event(), threading.Event()
    exporter = Slow()
    recorder = FlightRecorder(exporter)
    with Tracer("t", recorder, sampler, batch_spans=10) as tracer:
        for number in range(10):
            tracer.start_span(f"first-{number}", parent=None).end()
        recorder.dump()
        assert entered.wait(30)
        for number in range(100):
            tracer.start_span(f"before-{number}", parent=None).end()
        recorder.dump()
        for number in range(100):
            tracer.start_span(f"after-{number}", parent=None).end()
        gate.set()
        assert tracer.flush(30)
        found = [name.partition("-")[0] for name in names(exporter)]
        assert found == ["first"] * 10 + ["before"] * 100
        assert tracer.stats().queued == 100
    assert balanced(tracer)


def test_only_the_newest() -> None:
    """By time, and by bytes."""
    exporter = MemoryExporter()
    recorder = FlightRecorder(exporter, max_bytes=2000)
    with Tracer("t", recorder) as tracer:
        for number in range(20):
            with tracer.start_span(f"span-{number}") as span:
                span.set_attribute("text", "x" * 200)
            tracer.flush()
        recorder.dump()
        tracer.flush()
        kept = names(exporter)
        assert kept == [f"span-{number}" for number in range(20 - len(kept), 20)]
        assert 3 < len(kept) < 9
        assert tracer.stats().dropped["not_kept"] == 20 - len(kept)
    brief = FlightRecorder(exporter, keep_seconds=1e-9)
    with Tracer("t", brief) as tracer:
        for name in ("first", "second"):
            tracer.start_span(name).end()
            tracer.flush()
        brief.dump()
        tracer.flush()
    assert "first" not in names(exporter)


def test_both_together() -> None:
    """A recorder holds what tail sampling kept."""
    exporter = MemoryExporter()
    recorder = FlightRecorder(exporter, on_error=False)
    with Tracer("t", recorder, TailSample()) as tracer:
        trace(tracer, "good")
        trace(tracer, "bad", status=Status.ERROR)
        tracer.flush()
        assert (tracer.stats().queued, tracer.stats().dropped["not_kept"]) == (2, 2)
        recorder.dump()
        tracer.flush()
        assert names(exporter) == ["bad-0", "bad"]
        assert balanced(tracer)


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_mistakes() -> None:
    """Each is one clear sentence, where it is made."""
    exporter = MemoryExporter()
    for call in (
        lambda: TailSample(slower_than=-1),
        lambda: TailSample(slower_than=True),
        lambda: TailSample(probability=2),
        lambda: TailSample(max_bytes=0),
        lambda: FlightRecorder(exporter, keep_seconds=0),
        lambda: FlightRecorder(exporter, keep_seconds=float("nan")),
        lambda: FlightRecorder(exporter, max_bytes=1.5),  # type: ignore[arg-type]
        lambda: FlightRecorder(MemoryExporter),  # type: ignore[arg-type]
        lambda: AnyOf(TailSample()),
        lambda: MultiExporter(FlightRecorder(exporter)),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError):
            call()
    recorder = FlightRecorder(exporter)
    Tracer("t", recorder).close()
    with pytest.raises(ConfigurationError, match="one tracer"):
        Tracer("t", recorder)


def test_in_words() -> None:
    """They say what they are."""
    assert repr(TailSample(slower_than=0.5)) == "TailSample(keep_errors=True, slower_than=0.5, probability=0)"
    assert repr(FlightRecorder(MemoryExporter(), 5)) == f"FlightRecorder({MemoryExporter()!r}, 5)"


def test_a_closed_tracer_is_freed() -> None:
    """No cycle through a stage keeps a tracer in memory."""
    tracer = Tracer("t", FlightRecorder(MemoryExporter()), TailSample())
    trace(tracer, "good")
    reference = weakref.ref(tracer)
    tracer.close()
    gc.disable()
    try:
        del tracer
        assert reference() is None
    finally:
        gc.enable()
