"""The worker, flush and close: what their results promise."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from clew import ExportError, MemoryExporter, NoopExporter, ProbabilitySample, TailSample, Tracer, current_span
from clew.limits import GIVE_UP_SECONDS, KIB
from clew.pipeline import time_left

if TYPE_CHECKING:
    from clew import Batch
    from clew.pipeline import _Process

SECONDS = 30.0


class Gate(MemoryExporter):
    """Delivers when it is opened, and tells when it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.open = threading.Event()

    def export(self, batch: Batch) -> None:
        self.entered.set()
        self.open.wait(SECONDS)
        super().export(batch)


class Faulty(MemoryExporter):
    """Raises what it is told to, once for each."""

    def __init__(self, *errors: BaseException | None) -> None:
        super().__init__()
        self.errors = list(errors)
        self.closed = 0

    def export(self, batch: Batch) -> None:
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        super().export(batch)

    def close(self) -> None:
        self.closed += 1


def make_spans(tracer: Tracer, count: int, name: str = "span") -> None:
    for _ in range(count):
        tracer.start_span(name).end()


def balanced(tracer: Tracer) -> bool:
    stats = tracer.stats()
    return (
        stats.started == stats.ended + stats.open
        and stats.ended == stats.exported + sum(stats.dropped.values()) + stats.failed + stats.queued
    )


def test_flush_delivers_what_ended_so_far() -> None:
    """After flush() returned True, the exporter has all spans as they ended, and the ledger says so."""
    exporter = MemoryExporter()
    with Tracer("test", exporter) as tracer:
        make_spans(tracer, 3)
        assert tracer.flush(SECONDS)
        assert len(exporter.records) == 3
        stats = tracer.stats()
        assert (stats.started, stats.ended, stats.exported, stats.queued) == (3, 3, 3, 0)
        assert tracer.flush(SECONDS), "nothing to deliver is everything delivered"


@pytest.mark.parametrize("sampler", [None, TailSample(probability=1)], ids=["plain", "stages"])
def test_a_flush_that_comes_when_the_worker_has_found_nothing(sampler: TailSample | None) -> None:
    """It is not let go by that look into the queue, which was before what it is to deliver."""
    exporter = Gate()
    with Tracer("test", exporter, sampler, batch_delay=3600) as tracer:
        pipeline = tracer._pipeline
        here = pipeline._here()
        deliver = pipeline._deliver
        flushed: list[bool] = []

        def flush() -> None:
            make_spans(tracer, 1)
            flushed.append(tracer.flush(SECONDS))

        late = threading.Thread(target=flush)

        def deliver_and_dawdle(process: _Process, timeout: float) -> bool:
            found = deliver(process, timeout)
            if not found and late.ident is None:
                late.start()
                while not here.waiters:
                    assert late.is_alive()
            return found

        pipeline._deliver = deliver_and_dawdle  # type: ignore[method-assign]
        pipeline.start_worker()
        pipeline._queue.wake()
        assert exporter.entered.wait(SECONDS)
        late.join(0.1)  # as long as the exporter is at it there is nothing to return for
        exporter.open.set()
        late.join()
        assert flushed == [True]
        assert len(exporter.records) == 1


def test_a_full_batch_does_not_wait_for_a_flush() -> None:
    """A batch of `batch_spans` is exported at once, however long `batch_delay` is."""
    exporter = Gate()
    exporter.open.set()
    with Tracer("test", exporter, batch_spans=10, batch_delay=3600) as tracer:
        make_spans(tracer, 10)
        assert exporter.entered.wait(SECONDS)


def test_a_batch_that_is_not_full_goes_out_after_the_delay() -> None:
    """Without flush or close, one span arrives after `batch_delay`."""
    exporter = Gate()
    exporter.open.set()
    with Tracer("test", exporter, batch_delay=0.01) as tracer:
        make_spans(tracer, 1)
        assert exporter.entered.wait(SECONDS)


def test_batches_are_at_most_batch_spans() -> None:
    """No batch holds more spans than asked for."""
    sizes: list[int] = []

    class Sizes(NoopExporter):
        def export(self, batch: Batch) -> None:
            sizes.append(batch.count)

    with Tracer("test", Sizes(), batch_spans=7) as tracer:
        make_spans(tracer, 50)
    assert sum(sizes) == 50
    assert max(sizes) <= 7


def test_flush_is_false_while_the_exporter_hangs_and_true_once_it_delivered() -> None:
    """A flush that runs out of time says False; a later one that finds all delivered says True."""
    exporter = Gate()
    with Tracer("test", exporter) as tracer:
        make_spans(tracer, 1)
        assert not tracer.flush(0.01)
        assert tracer.stats().queued == 1
        exporter.open.set()
        assert tracer.flush(SECONDS)
        assert len(exporter.records) == 1


def test_flush_waits_for_a_batch_that_is_under_way() -> None:
    """What the worker took before the flush counts as not yet delivered."""
    exporter = Gate()
    with Tracer("test", exporter, batch_spans=1) as tracer:
        make_spans(tracer, 1)
        assert exporter.entered.wait(SECONDS)
        assert not tracer.flush(0)
        exporter.open.set()
        assert tracer.flush(SECONDS)


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (ExportError("refused"), 4),
        (ExportError("refused in part", rejected=1), 1),
        (ExportError("rejected more than there were", rejected=99), 4),
        (ExportError("rejected less than none", rejected=-1), 0),
        (RuntimeError("a bug"), 4),
        (SystemExit(1), 4),
        (KeyboardInterrupt(), 4),
    ],
    ids=repr,
)
def test_what_cannot_be_delivered_is_failed(error: BaseException, failed: int) -> None:
    """Whatever an exporter raises is counted, and neither ends the worker nor reaches the program."""
    exporter = Faulty(error)
    with Tracer("test", exporter) as tracer:
        make_spans(tracer, 4)
        assert tracer.flush(SECONDS) == (failed == 0)
        stats = tracer.stats()
        assert (stats.exported, stats.failed, stats.errors) == (4 - failed, failed, 1)
        make_spans(tracer, 1)
        assert tracer.flush(SECONDS), "nothing was lost since the flush before"
        assert balanced(tracer)


def test_dropped_spans_make_the_next_flush_false_once() -> None:
    """What the queue had no room for is counted by reason, and told of by one flush."""
    exporter = Gate()
    with Tracer("test", exporter, max_queue_bytes=4 * KIB) as tracer:
        make_spans(tracer, 1000)
        exporter.open.set()
        assert not tracer.flush(SECONDS)
        stats = tracer.stats()
        assert stats.dropped["queue_full"] > 0
        assert stats.dropped["queue_full"] + stats.exported == 1000
        assert stats.queued_bytes == 0
        assert tracer.flush(SECONDS)
        assert balanced(tracer)


def test_close_delivers_ends_what_is_open_and_closes_the_exporter_once() -> None:
    """Open spans arrive marked unfinished; the exporter is closed once, however often the tracer is."""
    exporter = Faulty()
    tracer = Tracer("test", exporter)
    make_spans(tracer, 1)
    span = tracer.start_span("open")
    assert tracer.close(SECONDS)
    assert tracer.close(SECONDS)
    assert exporter.closed == 1
    assert [(record.name, record.attributes) for record in exporter.records] == [
        ("span", {}),
        ("open", {"clew.unfinished": True}),
    ]
    span.end()
    make_spans(tracer, 2)
    stats = tracer.stats()
    assert stats.dropped["closed"] == 2
    assert balanced(tracer)
    assert not tracer.flush(SECONDS), "two were dropped"


def test_close_without_any_span_closes_the_exporter() -> None:
    """A tracer that was never used is closed all the same."""
    exporter = Faulty()
    assert Tracer("test", exporter).close(SECONDS)
    assert exporter.closed == 1


def test_close_is_false_while_the_exporter_hangs_and_goes_on_without_us() -> None:
    """close() gives up in time; the worker finishes when the exporter does."""
    exporter = Gate()
    tracer = Tracer("test", exporter)
    make_spans(tracer, 1)
    assert not tracer.close(0.01)
    exporter.open.set()
    assert tracer.close(SECONDS)
    assert len(exporter.records) == 1


def test_an_exporter_has_all_the_time_until_the_program_ends() -> None:
    """time_left() is infinite on the worker and elsewhere; at the end of the program it is what may be waited."""
    left: list[float] = []

    class Asking(NoopExporter):
        def export(self, batch: Batch) -> None:
            left.append(time_left())

    with Tracer("test", Asking(), close_timeout=7.0) as tracer:
        make_spans(tracer, 1)
        tracer.flush(SECONDS)
        tracer._pipeline.begin_exit(monotonic(), 5.0)
        tracer._queue.closed = False
        make_spans(tracer, 1)
        tracer.flush(SECONDS)
    assert left[0] == time_left() == float("inf")
    assert 0 < left[1] <= 5.0


def test_what_close_waited_is_not_waited_again_at_the_end() -> None:
    """The end of the program is delayed by close_timeout in all; a little is left for an exporter to give up."""
    exporter = Gate()
    tracer = Tracer("test", exporter, close_timeout=5.0)
    make_spans(tracer, 1)
    assert not tracer.close(0.01)
    assert tracer._pipeline.begin_exit(0.0, float("inf")) <= 4.99
    tracer._pipeline._waited = 100.0
    assert tracer._pipeline.begin_exit(0.0, float("inf")) == GIVE_UP_SECONDS
    assert tracer._pipeline.begin_exit(0.0, 0.0) == 0.0
    exporter.open.set()
    assert tracer.close(SECONDS)


def test_close_says_false_for_what_was_lost() -> None:
    """Closing is no success if spans failed since the last flush, asked once or twice."""
    tracer = Tracer("test", Faulty(RuntimeError()))
    make_spans(tracer, 1)
    assert not tracer.close(SECONDS)
    assert not tracer.close(SECONDS)


def test_an_exporter_whose_close_fails_ends_nothing() -> None:
    """What close() of an exporter raises is counted."""

    class Stuck(NoopExporter):
        def close(self) -> None:
            raise OSError("no")

    tracer = Tracer("test", Stuck())
    make_spans(tracer, 1)
    assert tracer.close(SECONDS)
    assert tracer.stats().errors == 1


def test_close_on_many_threads() -> None:
    """All who close together return, and the exporter is closed once."""
    exporter = Faulty()
    tracer = Tracer("test", exporter)
    make_spans(tracer, 100)
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(tracer.close(SECONDS))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 16
    assert exporter.closed == 1
    assert len(exporter.records) == 100


def test_an_exporter_may_call_its_own_tracer() -> None:
    """flush, close, stats and start_span within export() neither hang nor record anything."""
    results: list[object] = []

    class Curious(NoopExporter):
        def export(self, batch: Batch) -> None:
            with tracer.start_span("export") as span:
                results.append(span.is_recording)
            results.append(tracer.flush(SECONDS))
            results.append(tracer.close(SECONDS))

    tracer = Tracer("test", Curious())
    make_spans(tracer, 1)
    assert tracer.close(SECONDS)
    assert results == [False, False, False]
    assert tracer.stats().exported == 1


def test_the_worker_is_untraced_and_asks_no_sampler() -> None:
    """On the worker an unsampled span is current, so that whatever the exporter uses traces nothing (scenario 14)."""
    asked: list[str] = []
    current: list[tuple[bool, bool]] = []

    class Listening:
        def should_sample(self, trace_id: str, name: str, *rest: object) -> bool:
            asked.append(name)
            return True

    class Traced(NoopExporter):
        def export(self, batch: Batch) -> None:
            tracer.start_span("http").end()
            current.append((current_span().context.is_valid, current_span().context.is_sampled))

    with Tracer("test", Traced(), Listening()) as tracer:
        make_spans(tracer, 1)
        assert tracer.flush(SECONDS)
        assert asked == ["span"]
        assert current == [(True, False)]
        assert tracer.stats().started == 1


def test_an_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A kind of error is logged when it is new, in one sentence, and not again for every batch."""
    with (
        caplog.at_level(logging.WARNING),
        Tracer("test", Faulty(*[OSError(28, "full")] * 3, OSError(5, "io"))) as tracer,
    ):
        for _ in range(4):
            make_spans(tracer, 2)
            tracer.flush(SECONDS)
        assert tracer.stats().errors == 4
    assert [record.getMessage() for record in caplog.records] == [
        "Faulty could not deliver 2 spans: OSError: [Errno 28] full",
        "Faulty could not deliver 2 spans: OSError: [Errno 5] io",
    ]


def test_a_thread_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no worker to be had, flush and close deliver on the thread that calls them."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("clew.pipeline._start_new_thread", refuse)
    threads: list[int] = []
    closed: list[int] = []

    class Where(MemoryExporter):
        def export(self, batch: Batch) -> None:
            threads.append(threading.get_ident())
            tracer.start_span("within").end()
            super().export(batch)

        def close(self) -> None:
            closed.append(threading.get_ident())

    exporter = Where()
    tracer = Tracer("test", exporter)
    make_spans(tracer, 2)
    assert tracer.flush(SECONDS)
    assert not current_span().context.is_valid
    make_spans(tracer, 1)
    assert tracer.close(SECONDS)
    assert threads == [threading.get_ident()] * 2
    assert closed == [threading.get_ident()]
    assert [record.name for record in exporter.records] == ["span"] * 3


def test_ctrl_c_ends_a_delivery_on_the_callers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller's own thread delivers, KeyboardInterrupt is the caller's, and the batch is counted as failed."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("clew.pipeline._start_new_thread", refuse)
    tracer = Tracer("test", Faulty(KeyboardInterrupt()))
    make_spans(tracer, 2)
    with pytest.raises(KeyboardInterrupt):
        tracer.flush(SECONDS)
    assert tracer.stats().failed == 2
    assert not tracer.close(SECONDS)


def test_a_tracer_that_nobody_holds_delivers_and_is_freed() -> None:
    """Without close(): its spans arrive, also those that end after it is gone; then the worker ends."""
    exporter = Faulty()
    closed = threading.Event()
    exporter.close = closed.set  # type: ignore[method-assign]
    tracer: Tracer | None = Tracer("test", exporter, batch_delay=0.01)
    assert tracer is not None
    make_spans(tracer, 2)
    late = tracer.start_span("late")
    gone = weakref.ref(tracer)
    pipeline = weakref.ref(tracer._pipeline)
    tracer = None
    assert gone() is None
    assert not closed.is_set()
    late.end()
    assert closed.wait(SECONDS)
    assert [record.name for record in exporter.records] == ["span", "span", "late"]
    while pipeline() is not None:  # the worker's last steps
        gc.collect()


def test_1000_tracers_leave_nothing() -> None:
    """Threads, files and objects of tracers that were made and closed are gone (scenario 4)."""

    def census() -> tuple[int, int, int]:
        gc.collect()
        kinds = [type(thing).__name__ for thing in gc.get_objects()]
        return (
            len(list(Path("/proc/self/task").iterdir())),
            len(list(Path("/proc/self/fd").iterdir())),
            sum(kinds.count(name) for name in ("Tracer", "Pipeline", "Queue", "_Process", "MemoryExporter")),
        )

    def use() -> None:
        with Tracer("test", MemoryExporter(), ProbabilitySample(1)) as tracer:
            make_spans(tracer, 2)
        Tracer("never used").close()

    use()
    before = census()
    for _ in range(500):
        use()
    after = census()
    while after[0] > before[0]:  # the last worker is on its way out
        after = census()
    assert after == before


def test_the_ledger_of_32_threads() -> None:
    """32 threads, a sampler, a queue that overflows, an exporter that fails: every span is accounted for."""

    class Moody(NoopExporter):
        def __init__(self) -> None:
            self.seen = 0
            self.calls = 0

        def export(self, batch: Batch) -> None:
            self.calls += 1
            if self.calls % 5 == 0:
                raise ExportError("not today", rejected=batch.count // 2)
            self.seen += batch.count

    exporter = Moody()
    tracer = Tracer("test", exporter, ProbabilitySample(0.5), max_queue_bytes=64 * KIB, batch_spans=50)
    each = 2_000
    sampled = [0] * 32

    def work(index: int) -> None:
        for _ in range(each):
            with tracer.start_span("work") as span:
                sampled[index] += span.is_recording

    threads = [threading.Thread(target=work, args=(index,)) for index in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.close(SECONDS)
    stats = tracer.stats()
    assert stats.started == stats.ended == sum(sampled)
    assert stats.started + stats.not_sampled == 32 * each
    assert stats.ended == stats.exported + stats.failed + sum(stats.dropped.values())
    assert stats.queued == stats.queued_bytes == stats.open == 0
    assert stats.exported >= exporter.seen > 0
    assert stats.failed > 0
