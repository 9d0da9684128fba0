"""What programs run on: threads, asyncio, gevent, pools. Scenarios 3, 6, 14 to 16 and 21 of the reliability table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Run

    Names = Callable[[], Counter[str]]


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_queue_bytes", [20_000, 32 << 20])
def test_the_ledger_of_32_threads(run: Run, max_queue_bytes: int) -> None:
    """Scenario 21: what ended is exported, or dropped and counted with the reason; so at any moment, and at the end."""
    out = run(
        """
        class Counting(NoopExporter):
            names = []
            def export(self, batch):
                self.names += [record.name for record in batch.records]
                if len(self.names) % 5 == 0:
                    raise ExportError("not these", rejected=3)
        tracer = Tracer("test", Counting(), batch_spans=10, max_queue_bytes=int(sys.argv[1]))
        import logging
        logging.getLogger("clew").addHandler(logging.NullHandler())
        logging.getLogger("clew").propagate = False
        def balance():
            stats = tracer.stats()
            assert stats.started == stats.ended + stats.open, stats
            assert stats.ended == stats.exported + stats.failed + stats.queued + sum(stats.dropped.values()), stats
            return stats
        others, there = [], threading.Barrier(32)
        def work(number):
            there.wait()
            for n in range(300):
                others.append(tracer.start_span(f"{number} {n}"))
                if n % 2:
                    others.pop().end()  # perhaps another thread's
                    others.pop().end()
                if n % 50 == 0:
                    balance()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        tracer.close(20)
        stats = balance()
        assert (stats.started, stats.open, stats.queued) == (9600, 0, 0), stats
        assert len(Counting.names) == len(set(Counting.names)) == stats.exported + stats.failed, stats
        print(stats.dropped["queue_full"])
        """,
        max_queue_bytes,
    )
    assert (int(out) > 0) == (max_queue_bytes == 20_000)


def test_thread_pools(run: Run, path: Path, names: Names) -> None:
    """Scenario 16: with carry(), spans of a pool's threads are children of the caller's, for each caller its own."""
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        def work(_):
            with tracer.start_span("work") as span:
                return span.parent_id
        with ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                with tracer.start_span("caller") as caller:
                    assert set(pool.map(carry(work), range(5))) == {caller.span_id}
            assert set(pool.map(work, range(20))) == {""}, "a context was left behind"
        """,
        path,
    )
    assert names() == Counter(caller=20, work=120)


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_many_tasks(run: Run, path: Path, names: Names) -> None:
    """Each task has its own current span, whatever the others do; cancelled ones end theirs; at exit all arrives."""
    run(
        """
        import asyncio
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        async def work(number):
            with tracer.start_span("task") as outer:
                for _ in range(3):
                    await asyncio.sleep(0)
                    with tracer.start_span("step") as step:
                        await asyncio.sleep(0)
                        assert step.parent_id == outer.span_id
                        assert current_span() is step
                if number % 2:
                    await asyncio.sleep(1000)
                await asyncio.get_running_loop().run_in_executor(None, carry(make), tracer, 1, "in a thread")
        async def main():
            with tracer.start_span("main"):
                tasks = [asyncio.create_task(work(number)) for number in range(200)]
                await asyncio.wait(tasks[::2])
                for task in tasks[1::2]: task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 100
        asyncio.run(main())
        """,
        path,
    )
    assert names() == {"main": 1, "task": 200, "step": 600, "in a thread": 100}


def test_async_generators_that_another_task_closes(run: Run, path: Path, names: Names) -> None:
    """Scenario 15: no raise, no log, no context left behind, with the decorator and with a plain block."""
    out = run(
        """
        import asyncio, logging
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        logging.getLogger("asyncio").setLevel(logging.INFO)
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        @tracer.trace("decorated")
        async def decorated():
            while True:
                yield
        async def plain():
            with tracer.start_span("plain"):
                while True:
                    yield
        async def begin(generator):
            await anext(generator)
        async def end(generator):
            await generator.aclose()
            assert current_span().span_id == "0" * 16
        async def main():
            for function in (decorated, plain):
                for way in ("closed", "left to the loop", "collected"):
                    generator = function()
                    await asyncio.create_task(begin(generator))
                    if way == "closed":
                        await asyncio.create_task(end(generator))
                    elif way == "collected":
                        del generator
                        gc.collect()
                        await asyncio.sleep(0)
                    else:
                        kept.append(generator)
                    assert current_span().span_id == "0" * 16
        kept = []
        asyncio.run(main())
        assert current_span().span_id == "0" * 16
        """,
        path,
    )
    assert out == ""
    assert names() == Counter(decorated=3, plain=3)


# --- gevent ----------------------------------------------------------------------------------------------------------

GEVENT = """
if sys.argv[1] == "patched first":
    for name in [name for name in sys.modules if name.partition(".")[0] == "clew"]:
        del sys.modules[name]  # the prelude loaded it
from gevent import monkey
monkey.patch_all()
import gevent, clew
from clew import *
def threads():
    return len(os.listdir("/proc/self/task"))
"""


@pytest.mark.parametrize("order", ["patched first", "patched later"])
def test_gevent(run: Run, path: Path, names: Names, order: str) -> None:
    """Scenario 3: each greenlet has its own current span; the worker is a thread, which no greenlet waits for."""
    run(
        GEVENT
        + """
tracer = Tracer("test", FileExporter(sys.argv[2]), batch_delay=0.01)
def work(number):
    with tracer.start_span("greenlet") as outer:
        for _ in range(3):
            time.sleep(0.001)
            with tracer.start_span("step") as step:
                time.sleep(0)
                assert step.parent_id == outer.span_id
                assert current_span() is step
threads_before = threads()
with tracer.start_span("main"):
    gevent.joinall([gevent.spawn(work, number) for number in range(100)], raise_error=True)
assert threads() == threads_before + 1
worked = threading.Thread(target=make, args=(tracer, 5, "in a thread"))  # a greenlet
worked.start()
worked.join()
gevent.joinall([gevent.spawn(time.sleep, 0.02) for _ in range(100)])
assert tracer.flush(20)
tracer.start_span("open")
""",
        order,
        path,
    )
    assert names() == {"main": 1, "greenlet": 100, "step": 300, "in a thread": 5, "open": 1}


@pytest.mark.parametrize("order", ["patched first", "patched later"])
def test_forks_of_gevent(run: Run, path: Path, names: Names, order: str) -> None:
    """Scenario 3: no thread in a child that ends no span; the others export their own, none twice."""
    run(
        GEVENT
        + """
tracer = Tracer("test", FileExporter(sys.argv[2]))
make(tracer, 2, "parent")
def idle():
    assert tracer.flush(20)
    gevent.sleep(0.001)
    assert threads() == 1
def busy():
    gevent.joinall([gevent.spawn(make, tracer, 1, "child") for _ in range(3)])
    assert threads() == 2
    assert tracer.flush(20)
for _ in range(20):
    join(fork(idle), fork(busy))
pid = os.fork()
if pid == 0:
    make(tracer, 1, "leaves")
    sys.exit()
join(pid)
make(tracer, 1, "parent")
""",
        order,
        path,
    )
    assert names() == Counter(parent=3, child=60, leaves=1)


# --- pools of processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_multiprocessing(run: Run, tmp_path: Path, path: Path, names: Names, method: str) -> None:
    """Scenario 6: its processes are replaced after some tasks, and nothing that they traced is lost."""
    (tmp_path / "work.py").write_text(
        "import sys\nfrom clew import FileExporter, Tracer\n"
        "tracer = Tracer('pool', FileExporter(sys.argv[1]))\n"
        "def work(number):\n"
        "    with tracer.start_span(f'{number}'):\n"
        "        pass\n"
    )
    run(
        """
        sys.path.insert(0, sys.argv[2])
        import multiprocessing, work
        with multiprocessing.get_context(sys.argv[3]).Pool(2, maxtasksperchild=4) as pool:
            pool.map(work.work, range(16), chunksize=1)
            pool.close()
            pool.join()
        """,
        path,
        tmp_path,
        method,
    )
    assert names() == Counter(map(str, range(16)))


# --- the exporter ----------------------------------------------------------------------------------------------------


def test_an_exporter_whose_client_is_traced_and_logs(run: Run) -> None:
    """Scenario 14: what it traces is no trace, what its handlers trace neither; else each batch would make another."""
    run(
        """
        import logging
        class Tracing(logging.Handler):
            def emit(self, record):
                with tracer.start_span("logged"):
                    pass
        class Client(NoopExporter):
            batches = 0
            @property
            def tracer(self):
                return tracer
            def export(self, batch):
                Client.batches += 1
                with tracer.start_span("POST", kind=SpanKind.CLIENT) as span:
                    headers = {}
                    inject(headers)
                    assert headers["traceparent"].endswith("-00"), headers
                logging.getLogger("client").error("sent")
                raise OSError("again")
        logging.basicConfig(handlers=[Tracing()])
        tracer = Tracer("test", Client(), batch_spans=10)
        for _ in range(5):
            make(tracer, 10)
            assert not tracer.flush(20)
        make(tracer, 10)
        tracer.close(20)
        stats = tracer.stats()
        assert (Client.batches, stats.started, stats.failed, stats.queued) == (6, 60, 60, 0), (Client.batches, stats)
        """
    )
