"""One node of the lab: its tor process, and the control connection that owns it.

tor ends itself when its owner is gone, in two ways. When the control connection that took ownership is closed, tor ends
at once: the kernel closes it when our process ends, however that happens. Before there is such a connection, tor looks
every 15 s whether the process of `__OwningControllerProcess` is still there.

Source: control-spec 3.23 (TAKEOWNERSHIP); tor(1), `__OwningControllerProcess`.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clew.errors import ControlConnectionError, ControlReplyError, LabError
from clew.tor.address import ControlAddress
from clew.tor.authentication import authenticate, parse_protocol_info
from clew.tor.lab_programs import last_words
from clew.tor.wire import Command, ControlParser, Reply, encode_command

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from clew.tor.lab_programs import Programs

__all__ = ["Node", "PortTakenError", "ProcessMark", "end_all", "end_processes", "find_processes", "uninterrupted"]

# tor answers within milliseconds; on a machine that is busy or was suspended it is given this.
_ANSWER_SECONDS = 15.0
# A tor that was told to end does so at once (ShutdownWaitLength 0); after this it is killed.
_END_SECONDS = 5.0
_POLL_SECONDS = 0.02


class PortTakenError(LabError):
    """Another program was quicker to listen on a port that had been free."""


class ProcessMark(NamedTuple):
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    started: int  # clock ticks since the machine was booted

    @classmethod
    def of(cls, pid: int) -> ProcessMark | None:
        """The mark of a process; None if it has ended (a zombie has).

        Source: proc(5), /proc/pid/stat: the fields after the program's name, which may contain anything.
        """
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, started = fields[0], int(fields[19])
        return None if state in (b"Z", b"X") else cls(pid, started)

    @property
    def is_alive(self) -> bool:
        """True while that very process runs."""
        return ProcessMark.of(self.pid) == self

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        # Between the look and the signal the process can end; its id is not given to another that soon.
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Node:
    """A tor process that this process started.

    Args:
        name: the node's name.
        home: its data directory.
        control: its control socket.
        programs: which tor to run.

    Raises:
        LabError: it could not be started.

    Thread: one at a time.
    """

    def __init__(self, name: str, home: Path, control: Path, programs: Programs) -> None:
        self.name = name
        self._home = home
        self._control = control
        self._leash: _Leash | None = None
        self._output = home / "output"
        # What an earlier run left must not be taken for this one's.
        for path in (control, home / "control_auth_cookie", home / "log"):
            path.unlink(missing_ok=True)
        # What tor prints until it has opened its log; in a file, because nobody would read a pipe to its end.
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 (a fixed program, arguments of our own)
                [*programs.tor_command(home / "torrc"), "--hush", "__OwningControllerProcess", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own: Ctrl-C on the terminal is for us, and we end tor in order.
                process_group=0,
            )
        self.mark = ProcessMark.of(self._process.pid)

    @property
    def pid(self) -> int:
        """tor's process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """False once tor has ended, also while the kernel still puts its threads away and nobody can wait for it."""
        return self._process.poll() is None and self.mark is not None and self.mark.is_alive

    def try_connect(self) -> bool:
        """Take ownership of tor, if its control socket is there by now.

        Returns: whether we own it.
        Raises: LabError: tor has ended, or does not let us in.
        """
        if self._leash is not None:
            return True
        self.check()
        if not (self._home / "control_auth_cookie").exists():  # tor writes it after it opened the socket
            return False
        try:
            leash = _Leash(self._control)
        except ControlConnectionError:
            return False
        try:
            leash.take()
        except BaseException:
            leash.close()
            raise
        self._leash = leash
        return True

    def ask(self, *keys: str) -> dict[str, str]:
        """tor's answer to GETINFO; empty if it has no value for one of the keys.

        Raises: LabError: tor has ended or does not answer.
        """
        try:
            reply = self._connected().send(Command.GETINFO, *keys)
        except ControlReplyError:
            return {}
        except ControlConnectionError as error:
            self.check()
            raise LabError(f"{self.name}: {error}") from error
        values: dict[str, str] = {}
        for line in reply.lines:
            key, equals, value = line.text.partition("=")
            if equals:
                values[key] = value if line.data is None else line.data
        return values

    def reload(self) -> None:
        """Have tor read its torrc again, and try every download again that failed before.

        Raises: LabError: tor has ended or does not answer.
        """
        try:
            self._connected().send(Command.SIGNAL, "RELOAD")
        except (ControlConnectionError, ControlReplyError) as error:
            self.check()
            raise LabError(f"{self.name}: {error}") from error

    def check(self) -> None:
        """See that tor still runs.

        Raises: LabError: it has ended; the text has its last words.
        """
        if not self.is_running:
            words = self.last_words()
            kind = PortTakenError if "Address already in use" in words else LabError
            raise kind(f"{self.name}'s tor has ended (status {self._process.wait()}): {words}")

    def last_words(self) -> str:
        """The latest warnings and errors that tor wrote."""
        texts = []
        for path in (self._output, self._home / "log"):
            try:
                texts.append(path.read_text("utf-8", "replace"))
            except FileNotFoundError:
                continue  # tor ended before it made it
        return last_words("\n".join(texts))

    def tell_to_end(self) -> None:
        """Send SIGTERM, on which tor writes its state and ends. Does not wait."""
        if self.is_running:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until tor has ended, after `tell_to_end`; kill it if it takes too long.

        Args:
            deadline: of the monotonic clock, in seconds.
        """
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._let_go()

    def forget(self) -> None:
        """In a forked child: the parent's tor is none of our business, and must not live on because of us."""
        self._let_go()
        self._process.poll()  # it is not our child, which this finds out; else Popen would warn

    def _let_go(self) -> None:
        if self._leash is not None:
            self._leash.close()
            self._leash = None

    def _connected(self) -> _Leash:
        if self._leash is None:
            raise LabError(f"{self.name} is not connected yet")
        return self._leash


class _Leash:
    """A control connection without threads: a command is sent and its reply is read. No events are asked for."""

    def __init__(self, path: Path) -> None:
        self._socket = ControlAddress("", 0, str(path)).open(_ANSWER_SECONDS)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._parser = ControlParser()

    def take(self) -> None:
        info = parse_protocol_info(self.send(Command.PROTOCOLINFO, "1"))
        authenticate(self.send, info, password=None, cookie_path=None)
        self.send(Command.TAKEOWNERSHIP)

    def send(self, command: Command, *arguments: str) -> Reply:
        try:
            self._socket.sendall(encode_command(command, *arguments))
            while (reply := self._parser.next_reply()) is None:
                data = self._socket.recv(65536)
                if not data:
                    raise ControlConnectionError("tor closed its control connection")
                self._parser.feed(data)
        except OSError as error:
            raise ControlConnectionError(f"tor does not answer on its control socket ({error})") from error
        if not reply.is_success:
            raise ControlReplyError(reply.code, reply.text)
        return reply

    def close(self) -> None:
        self._socket.close()


def end_all(nodes: Sequence[Node]) -> None:
    """End them together. Those that do not end in time are killed."""
    try:
        for node in nodes:
            node.tell_to_end()
    finally:
        deadline = time.monotonic() + _END_SECONDS
        for node in nodes:
            node.end(deadline)


def find_processes(torrcs: Sequence[Path]) -> list[ProcessMark]:
    """Our user's processes that were started with one of these torrcs (`Programs.tor_command`)."""
    wanted = {os.fsencode(torrc) for torrc in torrcs}
    found = []
    for path in Path("/proc").glob("[1-9]*"):
        with suppress(OSError):  # it ended, or it is another user's
            words = (path / "cmdline").read_bytes().split(b"\0")
            if path.stat().st_uid == os.geteuid() and any(
                word == b"-f" and after in wanted for word, after in itertools.pairwise(words)
            ):
                mark = ProcessMark.of(int(path.name))
                if mark is not None:
                    found.append(mark)
    return found


def end_processes(marks: Sequence[ProcessMark]) -> None:
    """End processes that somebody else started. Those that do not end in time are killed."""
    deadline = time.monotonic() + _END_SECONDS
    for mark in marks:
        mark.signal(signal.SIGTERM)
    while any(mark.is_alive for mark in marks):
        if time.monotonic() > deadline:
            for mark in marks:
                mark.signal(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Put SIGINT and SIGTERM off to the end of the block.

    An exception from a signal's handler between the start of a tor and the line that notes it would leave it running,
    without anybody who knows of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers on the main thread only
        return
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # None: a handler that was not set from Python, which raises nothing here.
    ours = [number for number, handler in handlers.items() if callable(handler)]
    for number in ours:
        signal.signal(number, lambda number, _frame: arrived.append(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, handlers[number])
        for late in arrived:
            signal.raise_signal(late)
