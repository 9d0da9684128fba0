"""While the program runs: scenarios 4, 10, 12, 13, 17 to 19, 25 and 26 of the reliability table."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.faults.conftest import judge, start

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Run

    Names = Callable[[], Counter[str]]


def test_1000_tracers_leave_nothing(run: Run, path: Path, names: Names) -> None:
    """Scenario 4: neither threads nor files nor exit functions nor memory, whether they are closed or forgotten."""
    run(
        """
        import tracemalloc
        def held():
            gc.collect()
            for _ in range(1000):  # the workers of the forgotten ones end by themselves
                if len(os.listdir("/proc/self/task")) == 1:
                    break
                time.sleep(0.01)
            gc.collect()
            memory = tracemalloc.get_traced_memory()[0]
            return memory, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), atexit._ncallbacks()
        def once(number):
            tracer = Tracer("test", FileExporter(sys.argv[1]))
            make(tracer, 1)
            if number % 2:
                assert tracer.close(20)
                assert not tracer.stats().queued
        for number in range(20): once(number)
        tracemalloc.start()
        for number in range(20): once(number)
        before = held()
        for number in range(1000): once(number)
        after = held()
        assert after[0] - before[0] < 50_000, (before, after)
        assert after[1:] == before[1:], (before, after)
        """,
        path,
    )
    assert names() == {"span": 1040}


def test_flush_returns_in_time_and_says_false(run: Run) -> None:
    """Scenario 10: against an exporter that hangs, on many threads at once."""
    run(
        """
        tracer = Tracer("test", Hanging(), close_timeout=0.1)
        make(tracer, 1)
        results = []
        threads = [threading.Thread(target=lambda: results.append(tracer.flush(0.1))) for _ in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert results == [False] * 20, results
        """
    )


def test_finalizers_end_spans_at_any_moment(run: Run) -> None:
    """Scenario 12: a collection at every allocation, whose finalizers end spans, on threads that end spans too."""
    run(
        """
        class Cycle:
            def __init__(self):
                self.me, self.span = self, tracer.start_span("finalized")
            def __del__(self):
                self.span.set_attribute("by", "finalizer")
                self.span.end()
                tracer.flush(0)
        class Allocating(MemoryExporter):
            def export(self, batch):
                Cycle()
                super().export(batch)
                batch.to_json(), batch.to_protobuf(), batch.records
        exporter = Allocating()
        tracer = Tracer("test", exporter, batch_spans=7)
        gc.set_threshold(1)
        def work():
            for _ in range(200):
                Cycle()
                with tracer.start_span("used", attributes={"list": [1, {"a": object()}]}):
                    Cycle()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        gc.set_threshold(700)
        gc.collect()
        tracer.close(20)
        stats = tracer.stats()
        assert stats.open == stats.queued == 0, stats
        assert stats.exported == stats.ended - stats.dropped["closed"], stats
        assert sum(record.name == "used" for record in exporter.records) == 800
        assert sum(record.name == "finalized" for record in exporter.records) >= 1600
        """
    )


def test_the_first_span_of_a_process_is_ended_by_a_finalizer(run: Run) -> None:
    """Scenario 12: the worker is started from within a collection, while another thread holds a lock of threading."""
    run(
        """
        exporter = MemoryExporter()
        tracer = Tracer("test", exporter)
        class Cycle:
            def __init__(self):
                self.me, self.span = self, tracer.start_span("finalized")
            def __del__(self):
                self.span.end()
        gc.disable()
        Cycle()
        held, release = threading.Event(), threading.Event()
        def hold():
            with threading._active_limbo_lock:  # what threading.Thread.start would wait for
                held.set()
                release.wait()
        threading.Thread(target=hold).start()
        held.wait()
        gc.collect()
        release.set()
        assert tracer.flush(20)
        assert len(exporter.records) == 1
        """
    )


def test_end_never_waits(run: Run) -> None:
    """Scenario 13: with an exporter that hangs and a queue that is full, spans end, and are counted."""
    run(
        """
        exporter = Hanging()
        tracer = Tracer("test", exporter, max_queue_bytes=100_000, close_timeout=0.1)
        make(tracer, 100_000)
        stats = tracer.stats()
        assert stats.ended == 100_000
        assert stats.queued + stats.dropped["queue_full"] == 100_000
        assert stats.queued_bytes <= 100_000
        """
    )


def test_values_that_misbehave(run: Run) -> None:
    """Scenarios 17 to 19: cycles, values that raise, lone surrogates, dicts that change: nothing is raised or lost."""
    run(
        """
        class Raising:
            def __str__(self): raise RuntimeError("no")
            __repr__ = __str__
        cycle = []
        cycle.append(cycle)
        exporter = MemoryExporter()
        tracer = Tracer("test", exporter)
        changed = {"a": 1}
        attributes = {"cycle": cycle, "raising": Raising(), "changed": changed}
        with tracer.start_span("\\ud800", attributes=attributes) as span:
            span.add_event("event", {"changed": changed})
            changed["a"] = 2
            changed["b"] = 3
        make(tracer, 1, "other")
        assert tracer.flush(20)
        first, second = exporter.records
        assert (first.name, second.name) == ("\\ufffd", "other")
        assert first.attributes["changed"] == first.events[0].attributes["changed"] == {"a": 1}
        assert "raising" in first.attributes
        assert tracer.stats().coerced >= 2
        """
    )


def test_a_full_disk_in_the_middle(run: Run, path: Path, names: Names) -> None:
    """Scenario 25: batches that do not fit are failed, one by one; no line is torn, and later ones are whole."""
    out = run(
        """
        import resource
        tracer = Tracer("test", FileExporter(sys.argv[1]), batch_spans=10)
        import logging
        logging.getLogger("clew").addHandler(logging.NullHandler())
        logging.getLogger("clew").propagate = False
        make(tracer, 100, "before")
        assert tracer.flush(20)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(sys.argv[1]).st_size + 5000, hard))
        for _ in range(10):
            make(tracer, 50, "tight")
            tracer.flush(20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        make(tracer, 100, "after")
        assert tracer.flush(20)
        print(tracer.stats().failed)
        """,
        path,
    )
    found = names()
    assert found["before"] == found["after"] == 100
    assert found["tight"] + int(out) == 500
    assert int(out) > 0


def test_a_disk_that_is_full_from_the_start(run: Run) -> None:
    """Scenario 25: everything is failed; the log has one sentence about it."""
    run(
        """
        import io, logging
        log = io.StringIO()
        logging.basicConfig(stream=log)
        tracer = Tracer("test", FileExporter("/dev/full"), batch_spans=10)
        make(tracer, 100)
        assert not tracer.close(20)
        assert tracer.stats().failed == 100
        assert log.getvalue() == (
            "WARNING:clew:FileExporter could not deliver 10 spans: OSError: [Errno 28] No space left on device\\n"
        ), log.getvalue()
        """
    )


def test_writers_that_are_killed(path: Path, names: Names) -> None:
    """Scenario 26: whenever a writer of a shared file is killed, the others' lines stay whole and apart."""
    code = """
        tracer = Tracer("test", FileExporter(sys.argv[1]), batch_spans=1)
        print("ready", flush=True)
        while True:
            make(tracer, 1, "x" * 300_000)
            tracer.flush(20)
        """
    survivor = start(
        """
        tracer = Tracer("test", FileExporter(sys.argv[1]), batch_spans=1)
        for _ in range(40):
            make(tracer, 1, "survivor")
            assert tracer.flush(20)
            time.sleep(0.02)
        """,
        path,
    )
    for _ in range(4):
        victims = [start(code, path) for _ in range(2)]
        for victim in victims:
            assert victim.stdout is not None
            victim.stdout.readline()
        for victim in victims:
            victim.kill()
            judge(victim, status=-signal.SIGKILL)
    judge(survivor)
    judge(start("Tracer('test', FileExporter(sys.argv[1])).close()", path))
    assert names()["survivor"] == 40
