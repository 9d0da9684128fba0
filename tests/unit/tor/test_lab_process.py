"""Processes: marks that cannot be mistaken, ends that come, signals that are put off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clew.tor.lab_process import ProcessMark, end_processes, find_processes, uninterrupted

IDLE = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
# One that does not end on SIGTERM.
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()",
]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """A process that is past its start, and waits for its standard input to end."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def mark_of(process: subprocess.Popen[bytes]) -> ProcessMark:
    mark = ProcessMark.of(process.pid)
    assert mark is not None
    return mark


def test_a_mark_is_of_one_process() -> None:
    """It is alive while that process runs; a zombie does not, nor does another with the same id."""
    with start(IDLE) as process:
        mark = mark_of(process)
        assert mark.is_alive
        assert not ProcessMark(mark.pid, mark.started + 1).is_alive
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
        assert ProcessMark.of(process.pid) is None
        assert not mark.is_alive
    assert ProcessMark.of(process.pid) is None
    mark.signal(signal.SIGKILL)


def test_a_name_that_looks_like_fields(tmp_path: Path) -> None:
    """A program's name may have blanks and brackets in it; the fields after it are still found."""
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to(sys.executable)
    with start([str(program), *IDLE[1:]]) as process:
        assert b"a) Z 1 (b" in Path(f"/proc/{process.pid}/stat").read_bytes()
        assert mark_of(process).is_alive
        process.kill()


def test_ending_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM first; who does not end in time is killed. An ended one is no trouble."""
    monkeypatch.setattr("clew.tor.lab_process._END_SECONDS", 0.1)
    with start(IDLE) as obedient, start(STUBBORN) as stubborn, start(IDLE) as ended:
        marks = [mark_of(process) for process in (obedient, stubborn, ended)]
        ended.kill()
        ended.wait()
        end_processes(marks)
        assert (obedient.wait(), stubborn.wait()) == (-signal.SIGTERM, -signal.SIGKILL)
    end_processes([])


def test_finding_processes(tmp_path: Path) -> None:
    """By the torrc that they were started with, to the letter."""
    mine, other = tmp_path / "torrc", tmp_path / "torrc2"
    with start([*IDLE, "-f", str(mine)]) as process, start([*IDLE, str(mine), "-f", str(other)]):
        assert find_processes([mine]) == [mark_of(process)]
        assert find_processes([tmp_path / "nothing"]) == []
        assert len(find_processes([mine, other])) == 2


def test_a_signal_is_put_off() -> None:
    """Ctrl-C within the block comes at its end, also when the block fails; the handlers are as before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    steps = []

    def block() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append("after the signal")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["after the signal"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

    def failing_block() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ValueError

    with pytest.raises(KeyboardInterrupt) as caught:
        failing_block()
    assert isinstance(caught.value.__context__, ValueError)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_nobody_handles_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignored stays ignored: a program under nohup is not to be interrupted."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_a_thread() -> None:
    """Signals' handlers run on the main thread: there is nothing to put off."""
    ran = []

    def run() -> None:
        with uninterrupted():
            ran.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ran == [True]
