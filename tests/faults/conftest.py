"""Programs that are run as processes of their own, with a time limit and without a word on stderr."""

from __future__ import annotations

import os
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
        finally:
            os._exit(status)
    return pid

def join(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0

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
    return subprocess.Popen(
        [*program(code), *map(str, arguments)],
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
