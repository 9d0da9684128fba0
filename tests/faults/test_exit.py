"""The end of the process: scenarios 7 to 9, 11 and 24 of the reliability table, and Ctrl-C."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.asleep import wait_until_asleep
from tests.faults.conftest import judge, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Run

    Names = Callable[[], Counter[str]]


def test_what_is_open_or_queued_at_exit_arrives(run: Run, path: Path, names: Names) -> None:
    """Scenario 24: without close, what ended is delivered, and what did not, marked unfinished."""
    run(
        """
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        make(tracer, 3, "ended")
        span = tracer.start_span("open")
        tracer.start_span("forgotten")
        """,
        path,
    )
    assert names() == Counter(ended=3, open=1, forgotten=1)
    assert path.read_text().count('"clew.unfinished"') == 2


def test_no_thread_is_started_at_exit(run: Run, path: Path, names: Names) -> None:
    """Scenario 8: the first span that ends does so at exit; it is delivered by the thread that ends the program."""
    run(
        """
        class Where(FileExporter):
            def export(self, batch):
                assert threading.get_ident() == threading.main_thread().ident
                super().export(batch)
        tracer = Tracer("test", Where(sys.argv[1]))
        span = tracer.start_span("open")
        """,
        path,
    )
    assert names() == {"open": 1}


def test_spans_of_exit_functions_arrive(run: Run, path: Path, names: Names) -> None:
    """What the program's own exit functions trace is delivered, with and without a worker from before."""
    run(
        """
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        make(tracer, 1, "before")
        other = Tracer("other", FileExporter(sys.argv[1]))
        atexit.register(lambda: (make(tracer, 1, "at exit"), make(other, 1, "at exit")))
        """,
        path,
    )
    assert names() == {"before": 1, "at exit": 2}


def test_threads_that_outlive_the_main_thread(run: Run, path: Path, names: Names) -> None:
    """The program ends with its last thread that is no daemon; what that one traced arrives."""
    run(
        """
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        def work():
            threading.main_thread().join()
            make(tracer, 5, "late")
        threading.Thread(target=work).start()
        """,
        path,
    )
    assert names() == {"late": 5}


def test_an_exporter_that_hangs_at_exit(run: Run) -> None:
    """Scenario 9: the program ends after the close timeout, with its own status; all tracers wait together."""
    run(
        """
        tracers = [Tracer("test", Hanging(), close_timeout=0.5) for _ in range(200)]  # one after the other: 100 s
        for tracer in tracers:
            make(tracer, 1)
        sys.exit(3)
        """,
        status=3,
    )


@pytest.mark.parametrize("worker", [True, False])
def test_an_exporter_that_waits_knows_when_to_give_up(run: Run, worker: bool) -> None:
    """Scenario 9: at exit it can still say what it did not deliver, and is closed, with a worker and without."""
    out = run(
        """
        from clew.pipeline import time_left
        class Waiting(NoopExporter):
            def export(self, batch):
                while time_left() > 0:
                    time.sleep(0.001)
                raise OSError("gave up")
            def close(self):
                stats = tracer.stats()
                print(stats.failed, stats.queued, threading.current_thread() is threading.main_thread())
        import logging
        logging.getLogger("clew").addHandler(logging.StreamHandler(sys.stdout))
        tracer = Tracer("test", Waiting(), batch_spans=10, close_timeout=0.3)
        if sys.argv[1] == "True":
            make(tracer, 30)
            atexit.register(tracer.close)  # and the end of the program does not wait as long once more
        else:
            spans = [tracer.start_span("open") for _ in range(30)]
        """,
        worker,
    )
    assert out.splitlines() == ["Waiting could not deliver 10 spans: OSError: gave up", f"30 0 {not worker}"]


def test_ctrl_c_ends_the_wait_at_exit(run: Run) -> None:
    """Scenario 9: waiting is interruptible, and leaves no traceback."""
    run(
        """
        tracer = Tracer("test", Hanging(), close_timeout=1000)
        make(tracer, 1)
        def interrupt():
            while not tracer._pipeline._here().waiters:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        """
    )


def test_ctrl_c_ends_a_flush() -> None:
    """flush() and close() are interrupted as any Python code is, and the tracer goes on."""
    process = start(
        """
        exporter = Hanging()
        tracer = Tracer("test", exporter, close_timeout=0.1)
        make(tracer, 1)
        for wait in (tracer.flush, tracer.close):
            try:
                print("waiting", flush=True)
                wait(1000)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        assert not tracer.flush(0.01)
        """
    )
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == "waiting\n"
        wait_until_asleep(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    judge(process)


def test_an_unhandled_exception_is_all_that_is_said(path: Path, names: Names) -> None:
    """A program that fails says so itself; its spans arrive, and the tracer adds nothing."""
    process = start(
        """
        sys.excepthook = lambda *error: print(error[0].__name__)
        tracer = Tracer("test", FileExporter(sys.argv[1]))
        with tracer.start_span("failed"):
            raise ValueError
        """,
        path,
    )
    assert judge(process, status=1) == "ValueError\n"
    assert names() == {"failed": 1}


SIGTERM = """
made = []
def program(writing, threads):
    tracer = Tracer("test", FileExporter(sys.argv[1]), batch_spans=7)
    clew.flush_on_sigterm(20)
    def work():
        while True:
            make(tracer, 5, "thread")
            time.sleep(0.001)
    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    with tracer.start_span(f"open {os.getpid()}"):
        for n in range(1_000_000):
            make(tracer, 1, f"{os.getpid()} {n}")
            os.write(writing, b"%d %d\\n" % (os.getpid(), n))
for number in range(20):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        program(writing, number % 3)
    os.close(writing)
    seen = b""
    while seen.count(b"\\n") < 5 * number + 1:
        seen += os.read(reading, 4096)
    os.kill(pid, signal.SIGTERM)
    while more := os.read(reading, 65536):
        seen += more
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    made += [f"open {pid}", *seen.decode().splitlines()]
print("\\n".join(made))
"""


def test_sigterm_at_any_moment(run: Run, path: Path, names: Names) -> None:
    """Scenario 7: with the handler what had ended arrives, what was open too; the signal ends the process as ever."""
    made = run(SIGTERM, path).splitlines()
    found = names()
    found.pop("thread", None)
    assert len(made) > 900
    # The last span of a process may have ended without a word about it.
    assert found.keys() >= set(made)
    assert len(found) <= len(made) + 20
    assert path.read_text().count('"clew.unfinished"') >= 20


def test_daemon_threads_end_spans_while_the_interpreter_goes_down(run: Run, path: Path, names: Names) -> None:
    """Scenario 11: 100 exits, status 0, nothing on stderr. (Forked, which spares the start of 100 interpreters.)"""
    run(
        """
        def program():
            tracer = Tracer("test", FileExporter(sys.argv[1]), batch_spans=5, close_timeout=0.03)
            def work():
                while True:
                    with tracer.start_span("a") as span:
                        span.set_attribute("n", 1)
                        tracer.start_span("b").end()
            for _ in range(3):
                threading.Thread(target=work, daemon=True).start()
            time.sleep(0.01)
            sys.exit()
        for _ in range(25):
            pids = []
            for _ in range(4):
                pids.append(os.fork())
                if pids[-1] == 0:
                    program()
            join(*pids)
        """,
        path,
    )
    assert names()["a"] > 0


def test_a_tracer_in_a_cycle_at_exit(run: Run, path: Path, names: Names) -> None:
    """Objects that are freed in any order when the interpreter goes down raise nothing."""
    run(
        """
        class Holder:
            def __init__(self):
                self.me = self
                self.tracer = Tracer("test", FileExporter(sys.argv[1]))
                self.span = self.tracer.start_span("held")
            def __del__(self):
                self.span.end()
                self.tracer.start_span("too late").end()
                self.tracer.close()
        holder = Holder()
        sys.modules["holder"] = holder
        """,
        path,
    )
    assert names() == {"held": 1}
