"""Servers of several processes: scenarios 3, 5 and 6 of the reliability table, with gunicorn, uWSGI and Celery.

They are started as in production, answer requests over HTTP on this machine, replace their workers and are stopped.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from clew.otlp import decode_json
from tests.faults.conftest import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# Each request is a span with a name of its own. A process that ends tells its ledger after clew has delivered: what is
# registered before clew is loaded is called after it.
SERVICE = """
import atexit, os, time
from pathlib import Path

def tell():
    stats = tracer.stats()
    with open("ledger", "a") as file:
        file.write(f"{stats.started} {stats.ended} {stats.exported}\\n")

atexit.register(tell)
import clew
tracer = clew.Tracer("service", clew.FileExporter("traces.jsonl"))
tracer.start_span("loaded").end()
if os.environ["FLUSH"]:
    assert tracer.flush(20)

served = 0

def application(environ, start_response):
    global served
    served += 1
    if served == 5:
        Path(f"leaves-{os.getpid()}").touch()
    name = environ["QUERY_STRING"]
    with tracer.start_span(name):
        if name == "slow":
            Path("slow").touch()
            while not Path("go on").exists():
                time.sleep(0.01)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]
"""

REQUESTS = 24


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Server:
    """A server with the service above, in a folder of its own.

    Args:
        folder: made here.
        command: of the server, which finds the service in its working directory.
    """

    def __init__(self, folder: Path, command: list[str], *, inherit: int | None = None, flush: bool = False) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = 0
        (folder / "service.py").write_text(SERVICE)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "FLUSH": "yes" * flush},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if inherit is None else (inherit,),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def get(self, name: str) -> None:
        """One request, which must be answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
        try:
            connection.request("GET", f"/?{name}", headers={"Connection": "close"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"ok")
        finally:
            connection.close()

    def serve(self, count: int = REQUESTS) -> None:
        """Answer so many requests, several at a time."""
        numbers = iter(range(count))
        failed: list[BaseException] = []

        def client() -> None:
            try:
                for number in numbers:
                    self.get(f"request {number}".replace(" ", "-"))
            except BaseException as error:
                failed.append(error)

        clients = [threading.Thread(target=client) for _ in range(3)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert not failed, (failed, self.log)

    def stop_within_a_request(self) -> None:
        """SIGTERM, while a request is answered, which it still is."""
        thread = threading.Thread(target=self.get, args=("slow",))
        thread.start()
        until((self.folder / "slow").exists, self.log)
        self.process.terminate()
        # However much later, it is answered: the server waits for it.
        (self.folder / "go on").touch()
        thread.join()
        self.wait()

    def wait(self) -> None:
        """Until it has ended, with all its processes."""
        try:
            assert self.process.wait(LIMIT_SECONDS) == 0, self.log
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end\n{self.log}")

    @property
    def names(self) -> Counter[str]:
        """How often each name is in the trace file."""
        data = (self.folder / "traces.jsonl").read_bytes()
        records = [record for line in data.splitlines() for record in decode_json(line)]
        assert len({record.span_id for record in records}) == len(records), "a span is there twice"
        return Counter(record.name for record in records)

    def judge(self, loaded: int | None = None) -> int:
        """Every answered request is there once, every process's ledger balances; the number of processes."""
        found = self.names
        times = found.pop("loaded", 0)
        assert found == Counter(["slow", *(f"request-{number}" for number in range(REQUESTS))])
        ledgers = [[int(word) for word in line.split()] for line in (self.folder / "ledger").read_text().splitlines()]
        assert all(started == ended == exported for started, ended, exported in ledgers), ledgers
        if loaded is not None:
            assert times == loaded
        return len(ledgers)


# --- gunicorn --------------------------------------------------------------------------------------------------------


GUNICORN = """
from pathlib import Path

def post_worker_init(worker):
    Path(f"ready-{worker.pid}").touch()
"""


def is_at_rest(server: Server) -> bool:
    """Whether both workers are there and neither is about to leave: one that begins is deaf to SIGTERM."""
    pid = server.process.pid
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(workers) == 2 and all(
        (server.folder / f"ready-{worker}").exists() and not (server.folder / f"leaves-{worker}").exists()
        for worker in workers
    )


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("preload", [False, True])
def test_gunicorn(tmp_path: Path, worker: str, preload: bool) -> None:
    """Scenario 1: workers are forked, replaced after five requests and stopped, and nothing is lost or there twice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-W", "ignore::DeprecationWarning"]
        command += ["-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "--log-level", "warning"]
        command += ["--workers", "2", "--max-requests", "5", "--worker-class", worker, "--no-control-socket"]
        command += ["--config", str(tmp_path / "conf.py"), *["--preload"] * preload]
        (tmp_path / "conf.py").write_text(GUNICORN)
        with Server(tmp_path / "server", [*command, "service:application"], inherit=listener.fileno()) as server:
            server.port = listener.getsockname()[1]
            server.serve()
            until(lambda: is_at_rest(server), server.log)
            server.stop_within_a_request()
            processes = server.judge(loaded=1 if preload else None)
            assert processes > 2 + preload
            if not preload:
                assert server.names["loaded"] == processes
            assert "Traceback" not in server.log


# --- uWSGI -----------------------------------------------------------------------------------------------------------


def uwsgi(folder: Path, *options: str, flush: bool) -> Server:
    """A master with two workers; SIGTERM has it wait for what is answered (by default it would not)."""
    command = [str(Path(sys.executable).with_name("pyuwsgi")), "--master", "--processes", "2", "--need-app"]
    command += ["--http-socket", "127.0.0.1:0", "--virtualenv", sys.prefix, "--wsgi-file", "service.py"]
    command += ["--hook-master-start", "unix_signal:15 gracefully_kill_them_all", *options]
    command += ["--hook-accepting", "print:ready"]
    return Server(folder, command, flush=flush)


def port_of(server: Server) -> int:
    """The port that uWSGI chose."""
    pattern = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")
    until(lambda: pattern.search(server.log) or server.process.poll() is not None, "it has no port")
    found = pattern.search(server.log)
    assert found is not None, server.log
    return int(found[1])


def both_accept(server: Server) -> bool:
    """Whether both workers accept requests: one that does not yet is not told when the master ends."""
    return server.log.count('running "print:ready"') == 2


def test_uwsgi(tmp_path: Path) -> None:
    """Scenario 5: it forks in C, past Python's hooks; the application loaded before the forks or after them.

    All ways at the same time, because uWSGI takes a second to end.
    """
    ways = [
        ("before",),
        ("before", "--enable-threads"),
        ("before", "--threads", "3"),
        ("before", "--enable-threads", "--py-call-uwsgi-fork-hooks"),
        ("after", "--lazy-apps"),
        ("after", "--lazy-apps", "--enable-threads"),
    ]
    with ExitStack() as stack:
        servers = []
        for number, (when, *options) in enumerate(ways):
            servers.append((when, stack.enter_context(uwsgi(tmp_path / str(number), *options, flush=number == 0))))
        for when, server in servers:
            server.port = port_of(server)
            server.serve()
            until(partial(both_accept, server), server.log)
            if when == "before":
                # One of ours could hold Python's lock while uWSGI forks.
                assert len([*Path(f"/proc/{server.process.pid}/task").iterdir()]) == 1
        threads = [threading.Thread(target=server.stop_within_a_request) for _, server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for when, server in servers:
            assert server.process.returncode == 0, server.log
            # What the master traces while it loads the application is delivered if it asks for that.
            flushed = server is servers[0][1]
            assert server.judge(loaded=flushed if when == "before" else None) == 2


# --- Celery ----------------------------------------------------------------------------------------------------------

WORK = """
import os
from pathlib import Path
from celery import Celery
from celery.signals import worker_process_shutdown
import clew

app = Celery("work", broker="filesystem://")
app.conf.update(
    broker_transport_options={"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control",
                              "polling_interval": 0.02},
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)
tracer = clew.Tracer("work", clew.FileExporter("traces.jsonl"))
tracer.start_span("loaded").end()

@worker_process_shutdown.connect
def leave(pid, **_):
    if Path(f"worked-{pid}").exists():
        tracer.start_span("leaving").end()

@app.task
def job(number):
    Path(f"worked-{os.getpid()}").touch()
    tracer.start_span(f"job-{number}").end()
    job.span = tracer.start_span(f"open-{number}")
    Path(f"done-{number}").touch()
"""


def test_celery(tmp_path: Path) -> None:
    """Scenario 6: the processes of its pool leave by os._exit, and what they traced arrives all the same."""
    folder = tmp_path / "server"
    send = "import work; [work.job.delay(number) for number in range(12)]"
    command = [sys.executable, "-m", "celery", "--app", "work", "worker", "--pool", "prefork", "--concurrency", "1"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--max-tasks-per-child", "4"]
    with Server(folder, ["sh", "-c", 'until [ -e ready ]; do sleep 0.05; done; exec "$@"', "sh", *command]) as server:
        (folder / "work.py").write_text(WORK)
        for name in ("queue", "control"):
            (folder / name).mkdir()
        subprocess.run([sys.executable, "-c", send], cwd=folder, check=True, timeout=LIMIT_SECONDS)
        (folder / "ready").touch()
        until(lambda: len([*folder.glob("done-*")]) == 12 or server.process.poll() is not None, server.log)
        # Each ends after four jobs. One that Celery stops, on a busy machine it kills, and that is another matter.
        pids = [each.name.partition("-")[2] for each in folder.glob("worked-*")]
        until(lambda: not any(Path("/proc", pid).exists() for pid in pids), server.log)
        server.process.terminate()
        server.wait()
        found = server.names
        assert found.pop("leaving") == len(pids) == 3
        assert found.pop("loaded") == 2  # the program that sent the tasks loaded it too
        assert found == Counter(f"{what}-{number}" for what in ("job", "open") for number in range(12))
