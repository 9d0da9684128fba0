"""Programs that are run as processes of their own, with a time limit and without a word on stderr."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import pytest

from clew.otlp import decode_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A program that hangs is found by this; nothing else depends on it.
LIMIT_SECONDS = 60.0

PRELUDE = """
import atexit, gc, os, signal, sys, threading, time
from pathlib import Path
import clew
from clew import *

def make(tracer, count, name="span"):
    for _ in range(count):
        tracer.start_span(name).end()

def fork(child):
    '''Run a function in a child, which leaves without any of Python's ways to end; its exit status.'''
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return pid

def join(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0

def quiet():
    '''Keep the log from stderr; what was logged.'''
    import io, logging
    log, logger = io.StringIO(), logging.getLogger("clew")
    logger.addHandler(logging.StreamHandler(log))
    logger.propagate = False
    return log

def found(folder):
    '''The names of the spans in all files of a folder, whose every line is whole; no span is there twice.'''
    import gzip
    from clew.otlp import decode_json
    records = []
    for name in sorted(os.listdir(folder)):
        data = Path(folder, name).read_bytes()
        if name.endswith(".gz"):
            data = gzip.decompress(data)
        assert data == b"" or data.endswith(b"\\n"), (name, data[-50:])
        records += [record for line in data.splitlines() for record in decode_json(line)]
    assert len({record.span_id for record in records}) == len(records), "a span is there twice"
    return [record.name for record in records]

def balance(tracer, folder):
    '''The ledger, which balances, and says how many spans are in the files.'''
    stats = tracer.stats()
    assert stats.ended == stats.exported + stats.failed + stats.queued + sum(stats.dropped.values()), stats
    assert stats.exported == len(found(folder)), (stats, len(found(folder)))
    return stats

class Hanging:
    '''An exporter that never comes back from its first batch.'''
    def __init__(self):
        self.entered = threading.Event()
    def export(self, batch):
        self.entered.set()
        time.sleep(1000)
    def close(self):
        pass
"""


class Run(Protocol):
    """Runs a program and returns its standard output."""

    def __call__(self, code: str, *arguments: object, status: int = 0) -> str: ...


def program(code: str) -> list[str]:
    """The command that runs it."""
    return [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code)]


def judge(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for a program; nothing may be on its stderr."""
    try:
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too, which hold the pipes
        out, err = process.communicate()
        pytest.fail(f"it hangs\n{out}\n{err}")
    assert err == ""
    assert process.returncode == status
    return out


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program."""
    return start_command([*program(code), *map(str, arguments)])


def start_command(command: list[str]) -> subprocess.Popen[str]:
    """Start a command in a session of its own, so that its children end with it if it hangs."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def run() -> Run:
    """Runs a program, which must end by itself, with that status, and say nothing on stderr."""

    def run(code: str, *arguments: object, status: int = 0) -> str:
        return judge(start(code, *arguments), status)

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A trace file that is not there yet."""
    return tmp_path / "traces.jsonl"


@pytest.fixture
def names(path: Path) -> Callable[[], Counter[str]]:
    """How often each name is in the trace file, every line of which is whole."""

    def names() -> Counter[str]:
        data = path.read_bytes()
        assert data.endswith(b"\n")
        records = [record for line in data.splitlines() for record in decode_json(line)]
        assert len({record.span_id for record in records}) == len(records), "a span is there twice"
        return Counter(record.name for record in records)

    return names


class Strace(Protocol):
    """Runs a program under strace; returns its standard output and strace's log.

    Args:
        inject: as strace's option: what the calls give that touch one of the paths.
        trace: the calls that are logged, besides.
        paths: that are looked at.
    """

    def __call__(
        self, code: str, *arguments: object, paths: tuple[Path, ...], inject: tuple[str, ...] = (), trace: str = ""
    ) -> tuple[str, list[str]]: ...


@pytest.fixture
def strace(tmp_path: Path) -> Strace:
    """Has system calls of a program fail, or tells which ones it made."""
    probe = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"NOT TESTED: strace may not trace here: {probe.stderr.decode()}")
    (tmp_path / "log").mkdir()
    log = tmp_path / "log" / "strace"

    def run(
        code: str, *arguments: object, paths: tuple[Path, ...], inject: tuple[str, ...] = (), trace: str = ""
    ) -> tuple[str, list[str]]:
        calls = ",".join(filter(None, [trace, *(each.partition(":")[0] for each in inject)]))
        options = ["-f", "-qq", "-y", "-o", str(log), "-e", f"trace={calls}", "-e", "signal=none"]
        options += [word for path in paths for word in ("-P", str(path))]
        options += [word for each in inject for word in ("-e", f"inject={each}")]
        out = judge(start_command(["strace", *options, *program(code), *map(str, arguments)]))
        return out, [line.partition(" ")[2].strip() for line in log.read_text().splitlines()]

    return run


class SmallDisk(Protocol):
    """Runs a program that has a disk of its own, of so many bytes; its folder is the first argument."""

    def __call__(self, code: str, *arguments: object, size: str) -> str: ...


@pytest.fixture
def small_disk(tmp_path: Path) -> SmallDisk:
    """A tmpfs in a namespace of mounts that ends with the program."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = 'mount -t tmpfs -o "size=$1,mode=700" none "$2" && shift 2 && exec "$@"'
    ways = [["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]] if shutil.which("unshare") else []
    for way in ways:
        inside = [*way, "sh", "-c", mount, "sh"]
        if subprocess.run([*inside, "64k", str(folder), "true"], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("NOT TESTED: no disk can be mounted here, neither by this user nor in a namespace of users")

    def run(code: str, *arguments: object, size: str) -> str:
        return judge(start_command([*inside, size, str(folder), *program(code), str(folder), *map(str, arguments)]))

    return run
