"""The queue: bounds, batches, the ledger, waiting, the worker's start."""

from __future__ import annotations

import gc
import os
import threading
import time
from itertools import pairwise

from clew._hot import AlwaysSample, NeverSample, Queue, TracerCore, fork_count, spans_to_records
from clew.model import Resource, Scope, Stats


def make(max_bytes: int = 1 << 20, batch_spans: int = 512, batch_bytes: int = 1 << 17) -> tuple[Queue, TracerCore]:
    queue = Queue(max_bytes, batch_spans, batch_bytes)
    return queue, TracerCore(queue, AlwaysSample())


def end_spans(tracer: TracerCore, count: int) -> None:
    for number in range(count):
        tracer.start_span(f"s{number}", parent=None).end()


def drain(queue: Queue) -> list[int]:
    counts = []
    while taken := queue.take(0):
        queue.settle(taken[1], 0)
        counts.append(taken[1])
    return counts


def balanced(stats: Stats) -> bool:
    return stats.ended == stats.exported + sum(stats.dropped.values()) + stats.failed + stats.queued


def test_batches_are_cut_by_spans_and_by_bytes() -> None:
    """A batch is full at its number of spans or of bytes, whichever comes first; what is left comes last, in order."""
    queue, tracer = make(batch_spans=10)
    end_spans(tracer, 25)
    names = []
    for expected in (10, 10, 5):
        taken = queue.take(0)
        assert taken is not None
        assert taken[1] == expected
        names += [record.name for record in spans_to_records(taken[0], Resource(), Scope())]
    assert names == [f"s{number}" for number in range(25)]
    assert queue.take(0) is None
    queue, tracer = make(batch_bytes=300)
    end_spans(tracer, 10)
    assert all(count < 10 for count in drain(queue))


def test_a_queue_can_be_bounded_by_spans() -> None:
    """What ends beyond the number is dropped as "full", until spans are settled; those that are held count no more."""
    queue = Queue(1 << 20, 2, 1 << 17, max_spans=3)
    tracer = TracerCore(queue, AlwaysSample())
    end_spans(tracer, 5)
    assert queue.stats().dropped["queue_full"] == 2
    assert queue.take(0) is not None
    end_spans(tracer, 1)
    assert queue.stats().dropped["queue_full"] == 3  # what is taken is not yet delivered
    queue.settle(2, 0)
    end_spans(tracer, 3)
    assert queue.stats().dropped["queue_full"] == 4
    assert queue.take(0) is not None
    queue.settle_kept(0, 0, 0)
    end_spans(tracer, 2)
    stats = queue.stats()
    assert stats.dropped["queue_full"] == 4
    assert balanced(stats)


def test_the_ledger_balances_at_each_moment() -> None:
    """Queued, taken, exported, failed, dropped: nothing is counted twice or not at all."""
    queue, tracer = make(batch_spans=4)
    open_span = tracer.start_span("open")
    end_spans(tracer, 10)
    assert queue.stats()[:6] == (11, 10, 0, 0, 0, 10)
    taken = queue.take(0)
    assert taken is not None
    assert queue.stats().queued == 10
    queue.settle(3, 1)
    stats = queue.stats()
    assert (stats.exported, stats.failed, stats.queued, stats.open) == (3, 1, 6, 1)
    queue.closed = True
    open_span.end()
    assert queue.stats().dropped["closed"] == 1
    drain(queue)
    assert balanced(queue.stats())
    assert queue.stats().queued == queue.stats().queued_bytes == 0
    assert (queue.put_total, queue.lost_total) == (10, 2)


def test_the_queue_is_bounded_by_bytes() -> None:
    """What does not fit is dropped and counted; what was taken makes room once it is settled."""
    queue, tracer = make(max_bytes=1000)
    end_spans(tracer, 100)
    stats = queue.stats()
    assert 0 < stats.queued_bytes <= 1000
    assert stats.dropped["queue_full"] == 100 - stats.queued > 0
    taken = queue.take(0)
    assert taken is not None
    end_spans(tracer, 1)
    assert queue.stats().dropped["queue_full"] == 101 - taken[1]
    queue.settle(taken[1], 0)
    end_spans(tracer, 1)
    assert queue.stats().queued == 1
    assert balanced(queue.stats())


def test_a_span_larger_than_the_queue_is_dropped_alone() -> None:
    """Those before and after it arrive whole."""
    queue, tracer = make(max_bytes=10_000)
    end_spans(tracer, 1)
    tracer.start_span("large", attributes={"a": "x" * 20_000}).end()
    end_spans(tracer, 1)
    taken = queue.take(0)
    assert taken is not None
    assert [record.name for record in spans_to_records(taken[0], Resource(), Scope())] == ["s0", "s0"]
    assert queue.stats().dropped["queue_full"] == 1


def test_a_typical_span_takes_little_memory() -> None:
    """Three attributes and an event: at most 256 bytes while queued, and under 1 KB while open."""
    import tracemalloc

    _, tracer = make(max_bytes=1 << 28)
    tracemalloc.start()
    spans = []
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            span = tracer.start_span("GET /users", attributes={"http.method": "GET", "http.status": 200, "ratio": 0.5})
            span.add_event("cache-miss", {"key": "users"})
            spans.append(span)
        held = tracemalloc.get_traced_memory()[0] - before
        for span in spans:
            span.end()
        spans.clear()
        del span
        queued = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / 10_000 < 1000
    assert queued / 10_000 <= 256


def test_take_waits_for_a_full_batch_or_a_call() -> None:
    """It returns when a batch is full, when it is woken, and when its time is up."""
    queue, tracer = make(batch_spans=3)
    results: list[tuple[bytes, int] | None] = []
    waiting = threading.Event()

    def work() -> None:
        for _ in range(2):
            waiting.set()
            results.append(queue.take(60))

    thread = threading.Thread(target=work)
    thread.start()
    assert waiting.wait(60)
    end_spans(tracer, 4)
    while len(results) < 1:
        time.sleep(0.001)
    assert results[0] is not None
    assert results[0][1] == 3
    queue.wake()
    thread.join(60)
    assert results[1] is not None
    assert results[1][1] == 1
    assert queue.take(0.001) is None
    queue.wake()
    assert queue.take(60) is None


def test_a_thousand_wake_ups_are_all_heard() -> None:
    """A producer and a worker that wait for each other never miss a signal."""
    queue, tracer = make(batch_spans=1)
    seen = threading.Semaphore(0)

    def work() -> None:
        for _ in range(1000):
            assert queue.take(60) is not None
            queue.settle(1, 0)
            seen.release()

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(1000):
        tracer.start_span("x").end()
        assert seen.acquire(timeout=60)
    thread.join(60)
    assert queue.stats().exported == 1000


def test_the_worker_is_started_once_at_the_first_span() -> None:
    """start_worker is called when the first span has ended; what it raises is counted."""
    queue, tracer = make()
    calls = []

    def start() -> None:
        calls.append(queue.put_total)
        raise ValueError

    queue.start_worker = start
    span = tracer.start_span("x")
    assert not calls
    span.end()
    end_spans(tracer, 3)
    assert calls == [1]
    assert queue.stats().errors == 1


def test_settling_more_than_was_taken_is_refused() -> None:
    """A fault of the caller is not written into the ledger."""
    queue, tracer = make()
    end_spans(tracer, 2)
    queue.take(0)
    try:
        queue.settle(3, 0)
    except ValueError:
        pass
    else:
        raise AssertionError
    queue.settle(2, 0)
    assert balanced(queue.stats())


def test_finalizers_end_spans_while_others_do() -> None:
    """Forced collections in the middle of everything: each span arrives once, the ledger balances."""
    queue, tracer = make(max_bytes=1 << 26, batch_spans=50)

    class Holder:
        def __init__(self) -> None:
            self.me = self  # only the collector can free it
            self.span = tracer.start_span("held")

        def __del__(self) -> None:
            self.span.set_attribute("list", [1, [2, {"a": None}]])
            self.span.end()

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(300):
            Holder()
            with tracer.start_span("x", attributes={"a": [number, {"b": "c"}]}) as span:
                span.add_event("e", {"k": object()})
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    stats = queue.stats()
    assert (stats.started, stats.ended, stats.queued) == (600, 600, 600)
    names = []
    while taken := queue.take(0):
        names += [record.name for record in spans_to_records(taken[0], Resource(), Scope())]
        queue.settle(taken[1], 0)
    assert (names.count("held"), names.count("x")) == (300, 300)


def test_many_threads_and_a_worker_keep_the_ledger() -> None:
    """16 threads, a queue that overflows, a worker that fails now and then: it all adds up."""
    queue, tracer = make(max_bytes=20_000, batch_spans=16)
    never = TracerCore(queue, NeverSample())
    done = threading.Event()

    def work() -> None:
        while not (done.is_set() and queue.stats().queued == 0):
            taken = queue.take(0.01)
            if taken is not None:
                failed = taken[1] // 3
                queue.settle(taken[1] - failed, failed)

    def produce() -> None:
        for number in range(500):
            with tracer.start_span("a"), tracer.start_span("b", attributes={"n": number}):
                pass
            with never.start_span("c", parent=None):
                pass

    worker = threading.Thread(target=work)
    producers = [threading.Thread(target=produce) for _ in range(16)]
    for thread in (worker, *producers):
        thread.start()
    for thread in producers:
        thread.join()
    done.set()
    queue.wake()
    worker.join()
    stats = queue.stats()
    assert (stats.started, stats.ended, stats.not_sampled) == (16_000, 16_000, 8_000)
    assert balanced(stats)
    assert stats.queued == stats.queued_bytes == 0


def test_a_child_begins_with_nothing() -> None:
    """After a fork: an empty queue and ledger, other ids, the parent's open spans left to the parent."""
    queue, tracer = make()
    starts: list[int] = []
    queue.start_worker = lambda: starts.append(os.getpid())
    end_spans(tracer, 3)
    forks = fork_count()
    inherited = tracer.start_span("inherited")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            inherited.end()
            first = queue.stats()
            with tracer.start_span("mine", parent=inherited) as mine:
                pass
            second = queue.stats()
            taken = queue.take(0)
            assert taken is not None
            (record,) = spans_to_records(taken[0], Resource(), Scope())
            good = (
                fork_count() == forks + 1
                and (first.started, first.ended, first.queued) == (0, 0, 0)
                and (second.started, second.ended, second.queued) == (1, 1, 1)
                and (record.name, record.parent_id) == ("mine", inherited.span_id)
                and starts[-1] == os.getpid() != starts[0]
            )
            os.write(write, (mine.span_id if good else "wrong").encode())
        finally:
            os._exit(0)
    os.close(write)
    answer = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(child, 0)
    assert len(answer) == 16
    assert answer != tracer.start_span("x").span_id
    inherited.end()
    assert queue.stats().queued == 3 + 1 + 1  # with the one that was made to look at its id
    assert fork_count() == forks


def test_times_in_the_queue_are_in_order() -> None:
    """Spans arrive in the order in which they ended."""
    queue, tracer = make(batch_spans=7)
    end_spans(tracer, 100)
    ends = []
    while taken := queue.take(0):
        ends += [record.end_time_ns for record in spans_to_records(taken[0], Resource(), Scope())]
    assert all(one <= other + 1_000_000 for one, other in pairwise(ends))
