"""Forks: scenarios 1 to 3, 5, 6 and 20 of the reliability table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Run

    Names = Callable[[], Counter[str]]


def test_500_forks_while_batches_are_exported(run: Run, path: Path, names: Names) -> None:
    """Scenario 1: each process exports its own spans, none twice, none stuck, whatever the worker is at."""
    run(
        """
        tracer = Tracer("test", FileExporter(sys.argv[1]), batch_spans=2)
        done = threading.Event()
        def work():
            while not done.is_set():
                make(tracer, 20, "parent")
                time.sleep(0.002)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        def child(number):
            make(tracer, 3, f"child {number}")
            assert tracer.flush(20), tracer.stats()
            stats = tracer.stats()
            assert (stats.started, stats.exported, stats.queued) == (3, 3, 0), stats
        for number in range(500):
            join(fork(lambda: child(number)))
        done.set()
        for thread in threads: thread.join()
        assert tracer.close(20)
        Path(sys.argv[2]).write_text(str(tracer.stats().exported))
        """,
        path,
        path.with_suffix(".count"),
    )
    found = names()
    assert found.pop("parent") == int(path.with_suffix(".count").read_text())
    assert found == Counter({f"child {number}": 3 for number in range(500)})


def test_the_worker_imports_nothing(run: Run, path: Path) -> None:
    """Scenario 1: a child that is forked while a thread imports a module has half of it; so no delivery needs one."""
    run(
        """
        exporters = FileExporter(sys.argv[1]), FileExporter(sys.argv[2], pretty=True), MemoryExporter()
        tracer = Tracer("test", MultiExporter(*exporters), resource={"text": "\\n"})
        loaded = set(sys.modules)
        make(tracer, 3)
        assert tracer.flush(20)
        assert len(exporters[2].records) == 3
        assert set(sys.modules) == loaded, set(sys.modules) - loaded
        """,
        path,
        path.with_suffix(".txt"),
    )


def test_a_fork_while_the_exporter_hangs(run: Run) -> None:
    """Scenarios 1 and 2: the child has its own worker, ledger and locks, and waits for nothing of its parent's."""
    run(
        """
        class Once(Hanging):
            def __init__(self):
                super().__init__()
                self.pid, self.counts = os.getpid(), []
            def export(self, batch):
                if os.getpid() == self.pid:
                    super().export(batch)
                self.counts.append([record.name for record in batch.records])
        exporter = Once()
        tracer = Tracer("test", exporter, batch_spans=1, close_timeout=0.1)
        make(tracer, 5, "parent")
        exporter.entered.wait()
        inherited = tracer.start_span("inherited")
        waiting = threading.Thread(target=tracer.flush, args=(0.5,))
        waiting.start()
        def child():
            assert tracer.flush(20)
            assert tracer.stats() == tracer.stats()._replace(started=0, ended=0, queued=0, queued_bytes=0)
            inherited.end()
            make(tracer, 2, "child")
            assert tracer.flush(20)
            assert tracer.close(20)
            assert exporter.counts == [["child"], ["child"]], exporter.counts
        join(fork(child))
        waiting.join()
        assert not tracer.flush(0.01)
        stats = tracer.stats()
        assert (stats.open, stats.queued) == (1, 5), stats
        """
    )


def test_a_fork_while_logging_is_locked(run: Run) -> None:
    """Scenario 2: a handler's lock that another thread holds for ever stops no child that only traces."""
    run(
        """
        import logging
        class Stuck(logging.Handler):
            def emit(self, record):
                entered.set()
                time.sleep(1000)
        entered = threading.Event()
        logging.getLogger().addHandler(Stuck())
        class Failing(NoopExporter):
            def export(self, batch):
                raise OSError(5, "no")
        tracer = Tracer("test", Failing(), close_timeout=0.1)
        make(tracer, 1)
        tracer.flush(0.01)
        entered.wait()
        quiet = Tracer("quiet", MemoryExporter())
        def child():
            make(quiet, 2)
            assert quiet.flush(20)
            make(tracer, 1)
            assert not tracer.flush(0.05)
        join(*[fork(child) for _ in range(20)])
        os._exit(0)  # at exit, logging itself would wait for its handlers
        """
    )


def test_a_fork_while_stdout_is_written_to(run: Run) -> None:
    """Scenario 2: a reader that is slow to take our lines does not keep a child from printing ever again."""
    run(
        """
        reading, writing = os.pipe()
        stdout, sys.stdout = sys.stdout, os.fdopen(writing, "w")
        tracer = Tracer("test", StdoutExporter(), close_timeout=0.1)
        make(tracer, 1, "x" * 1_000_000)
        assert not tracer.flush(0.2)
        def child():
            sys.stdout.buffer.write(b"child")
        join(fork(child))
        threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reading, 65536), b"")], daemon=True).start()
        assert tracer.flush(20)
        sys.stdout.close()
        sys.stdout = stdout
        """
    )


def test_a_worker_starts_at_the_childs_first_span(run: Run) -> None:
    """Scenario 3: a child that traces nothing has no thread, one that does has one, for each of many forks."""
    run(
        """
        tracer = Tracer("test")
        make(tracer, 1)
        assert tracer.flush(20)
        def threads():
            return len(os.listdir("/proc/self/task"))
        def child():
            assert threads() == 1
            assert tracer.flush(20)
            assert threads() == 1
            make(tracer, 1)
            assert threads() == 2
            make(tracer, 100)
            assert tracer.flush(20)
            assert threads() == 2
        for _ in range(50):
            join(fork(child))
        """
    )


def test_a_worker_is_a_thread_also_under_gevent(run: Run) -> None:
    """Scenario 3: where gevent put greenlets in the place of threads, the worker is a thread all the same."""
    run(
        """
        import _thread, types
        def greenlet(*arguments):
            raise AssertionError("not a thread")
        real = {name: getattr(_thread, name) for name in ("allocate_lock", "get_ident", "start_new_thread")}
        sys.modules["gevent.monkey"] = types.SimpleNamespace(get_original=lambda module, name: real[name])
        _thread.start_new_thread = greenlet
        del sys.modules["clew.pipeline"], sys.modules["clew.tracer"]
        from clew.tracer import Tracer
        tracer = Tracer("test")
        make(tracer, 1)
        assert tracer.flush(20)
        assert len(os.listdir("/proc/self/task")) == 2
        tracer.close()
        """
    )


def test_forks_of_forks(run: Run, path: Path, names: Names) -> None:
    """Each generation has a worker of its own, and its end delivers what it has."""
    run(
        """
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        def descend(generation):
            make(tracer, generation + 1, f"generation {generation}")
            if generation < 5:
                pid = os.fork()
                if pid == 0:
                    descend(generation + 1)
                    sys.exit(0)  # at which atexit delivers
                join(pid)
        descend(0)
        """,
        path,
    )
    assert names() == Counter({f"generation {number}": number + 1 for number in range(6)})


def test_a_fork_that_python_does_not_see(run: Run, path: Path, names: Names) -> None:
    """Scenario 5: a server forks in C, not by os.fork; the child has its own worker all the same."""
    run(
        """
        import ctypes
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        make(tracer, 2, "parent")
        # As uWSGI does: without AfterFork_Child the interpreter's own locks would be the parent's. From 3.13 on it ends
        # the process unless BeforeFork was called too.
        announced = sys.version_info >= (3, 13)
        if announced:
            ctypes.pythonapi.PyOS_BeforeFork()
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
            make(tracer, 3, "child")
            assert tracer.flush(20)
            os._exit(0)
        if announced:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        join(pid)
        """,
        path,
    )
    assert names() == Counter(parent=2, child=3)


def test_a_child_that_may_not_open_the_file_again(run: Run, path: Path, names: Names) -> None:
    """A server that gives up its rights goes on writing to the file it had opened."""
    run(
        """
        from clew.exporters import file
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        make(tracer, 1, "parent")
        assert tracer.flush(20)
        def child():
            def refuse(*arguments, **more):
                raise PermissionError(13, "no")
            os.open, stat, os.stat = refuse, os.stat, refuse
            make(tracer, 2, "child")
            assert tracer.flush(20)
            assert tracer.flush(20)
            make(tracer, 1, "child")
            assert tracer.flush(20)
        join(fork(child))
        make(tracer, 1, "parent")
        """,
        path,
    )
    assert names() == Counter(parent=2, child=3)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing(run: Run, tmp_path: Path, path: Path, names: Names, method: str) -> None:
    """Scenario 6: they leave by os._exit, and what they traced arrives all the same, open spans too."""
    (tmp_path / "work.py").write_text(
        "import sys\nfrom clew import FileExporter, Tracer\n"
        "tracer = None\n"
        "def work(path, number):\n"
        "    global tracer\n"
        "    tracer = tracer or Tracer('child', FileExporter(path))\n"
        "    tracer.start_span('ended').end()\n"
        "    work.span = tracer.start_span('open')\n"
    )
    run(
        """
        sys.path.insert(0, sys.argv[2])
        import multiprocessing, work
        if sys.argv[3] == "fork":
            work.tracer = Tracer("parent", FileExporter(sys.argv[1]))
            make(work.tracer, 1, "parent")
        context = multiprocessing.get_context(sys.argv[3])
        children = [context.Process(target=work.work, args=(sys.argv[1], number)) for number in range(3)]
        for child in children: child.start()
        for child in children: child.join()
        assert [child.exitcode for child in children] == [0] * 3
        """,
        path,
        tmp_path,
        method,
    )
    found = names()
    assert found.pop("parent", 0) == (method == "fork")
    assert found == Counter(ended=3, open=3)


def test_a_child_of_multiprocessing_whose_exporter_hangs(run: Run) -> None:
    """Scenario 6: it ends within two seconds, whatever the close timeout."""
    run(
        """
        import multiprocessing
        def work():
            tracer = Tracer("child", Hanging(), close_timeout=1000)
            make(tracer, 1)
            work.tracers.append(tracer)
        work.tracers = []
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        """
    )


def test_a_process_pool(run: Run, path: Path, names: Names) -> None:
    """The workers of concurrent.futures deliver when the pool ends, with the context that the caller sent along."""
    run(
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        def work(headers):
            with attach(extract(headers)), tracer.start_span("work"):
                return os.getpid()
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(2, mp_context=fork) as pool, tracer.start_span("caller"):
            headers = {}
            inject(headers)
            assert len(list(pool.map(work, [headers] * 20))) == 20
        """,
        path,
    )
    assert names() == Counter(work=20, caller=1)


def test_ids_differ_after_a_fork(run: Run) -> None:
    """Scenario 20: children draw ids of their own, also when random was seeded."""
    out = run(
        """
        import random
        random.seed(1)
        tracer = Tracer("test")
        make(tracer, 1)
        def child():
            random.seed(1)
            os.write(1, f"{tracer.start_span('a').trace_id}\\n".encode())
        for _ in range(20):
            join(fork(child))
        child()
        """
    )
    assert len(set(out.split())) == 21


def test_what_a_parent_holds_back_is_not_the_childs(run: Run, path: Path, names: Names) -> None:
    """Scenario 5, with tail sampling and the flight recorder: each process decides about its own spans only."""
    run(
        """
        recorder = FlightRecorder(FileExporter(sys.argv[1]))
        tracer = Tracer("test", recorder, TailSample(probability=1.0))
        root = tracer.start_span("parent root", parent=None)
        tracer.start_span("parent child", parent=root).end()  # held by the sampler
        make(tracer, 2, "parent")  # held by the recorder
        assert tracer.flush(20)
        def child():
            make(tracer, 1, "child")
            recorder.dump()
            assert tracer.flush(20)
            stats = tracer.stats()
            assert (stats.started, stats.exported, stats.queued) == (1, 1, 0), stats
        join(fork(child))
        root.end()
        recorder.dump()
        assert tracer.close(20)
        assert tracer.stats().exported == 4
        """,
        path,
    )
    assert names() == Counter({"parent root": 1, "parent child": 1, "parent": 2, "child": 1})
