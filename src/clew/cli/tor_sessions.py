"""What `clew tor attach` and `clew tor record` have in common: one connection to tor after the other, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from clew.cli.tor_connection import connect
from clew.errors import ClewError, TorError
from clew.pretty import escape
from clew.tor.mapper import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from clew.tor.control import ControlClient

__all__ = ["Connection", "Screen", "Session", "follow"]

_LIVE_LINE_SECONDS = 0.25  # between two states of the line on a terminal
_DEFAULT_COLUMNS = 80  # of a terminal that does not know
_PLAIN_LINE_SECONDS = 60.0  # between two lines elsewhere
# Waits for a tor that is gone: each twice as long as the one before, between these.
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 15.0


class _Countable(Protocol):
    """What sessions count: numbers that can be added and shown."""

    def __add__(self, other: Self, /) -> Self: ...

    def brief(self) -> str:
        """In fewer words than `str` gives."""
        ...


C = TypeVar("C", bound=_Countable)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a tor is, and how it lets us in."""

    address: str | None  # None: search
    password: str | Callable[[], str] | None = None
    cookie_file: str | None = None

    def open(self, address: str | None = None) -> ControlClient:
        """Connect; with an address, to the tor that was found there.

        Raises: TorError, ConfigurationError.
        """
        return connect(address or self.address, self.password, self.cookie_file)


class Session(ABC, Generic[C]):
    """One connection to tor, from the moment that its events are asked for."""

    def __init__(self, client: ControlClient) -> None:
        self.client = client
        self.address = client.address
        self.tor_version = client.tor_version
        self.reason: TorError | None = None  # why the connection was lost
        self._is_lost = threading.Event()

    @abstractmethod
    def lose(self) -> None:
        """The connection is gone. Called on tor's thread after the last event; not if `end` was called before."""

    @abstractmethod
    def counts(self) -> C:
        """What this connection brought so far."""

    @abstractmethod
    def end(self) -> C:
        """Disconnect, end what is open, write it. Returns the counts at the end."""

    def look(self) -> None:
        """Called now and then. What it raises ends all sessions."""

    def events(self, more: Iterable[str] = ()) -> list[str]:
        """The names of what a mapper wants to know and of what is asked for beyond, as far as this tor knows them."""
        known = self.client.get_info("events/names")["events/names"].split()
        return [name for name in dict.fromkeys((*EVENTS, *more)) if name in known]

    def start(self, events: Iterable[str]) -> None:
        """Have tor send events.

        Raises: TorError.
        """
        self.client.on_disconnect(self._lose)
        self.client.set_events(events)

    def _lose(self, reason: TorError) -> None:
        self.lose()
        self.reason = reason
        self._is_lost.set()

    def is_lost(self, timeout: float) -> bool:
        """Whether the connection is lost, after waiting for that so many seconds at the most."""
        return self._is_lost.wait(timeout)


def follow(
    connection: Connection,
    begin: Callable[[ControlClient], Session[C]],
    total: C,
    screen: Screen,
    describe: Callable[[Session[C]], str],
) -> C:
    """Follow a tor, restart after restart, until Ctrl-C or SIGTERM.

    Args:
        begin: makes a session of a connection, or closes it and raises.
        total: no counts at all.
        describe: what is being done, a sentence for the screen.

    Returns: the counts of all sessions.
    Raises: ClewError, OSError: from the first connection and its session, or from `look`. Later ones are tried again.
    Thread: the main one; blocks.
    """
    session = begin(connection.open())
    try:
        with _terminated_like_interrupted():
            while True:
                screen.note(describe(session))
                try:
                    while not session.is_lost(_LIVE_LINE_SECONDS):
                        session.look()
                        counts = total + session.counts()
                        screen.show(str(counts), counts.brief())
                finally:
                    total += session.end()
                session.look()
                screen.note(f"{session.reason}; trying again until Ctrl-C")
                session = _begin_again(connection, session.address, begin)
    except KeyboardInterrupt:
        pass  # the way to end this
    return total


def _begin_again(connection: Connection, address: str, begin: Callable[[ControlClient], Session[C]]) -> Session[C]:
    """Begin again with a tor that went away, however long it takes."""
    wait = _FIRST_WAIT_SECONDS
    while True:
        time.sleep(wait)
        try:
            return begin(connection.open(address))
        except ClewError:
            # Whatever it says: a tor that is just starting has not written its new cookie yet, for one.
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, so that what was recorded is written."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Screen:
    """Standard error: one live line on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown = ""
        self._next_line = time.monotonic() + _PLAIN_LINE_SECONDS

    def show(self, text: str, brief: str) -> None:
        """How it stands now, and the same in brief for where there is no room."""
        if self._is_terminal:
            if text != self._shown:
                # Of this terminal: shutil asks that of standard output, which may go elsewhere.
                columns = os.get_terminal_size(sys.stderr.fileno()).columns or _DEFAULT_COLUMNS
                line = text if len(text) < columns else brief[: columns - 1]
                print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
                self._shown = text
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _PLAIN_LINE_SECONDS
            if text != self._shown:
                print(text, file=sys.stderr, flush=True)
                self._shown = text

    def note(self, sentence: str) -> None:
        """A line that stays."""
        if self._is_terminal and self._shown:
            print("\r\x1b[2K", end="", file=sys.stderr)
            self._shown = ""
        print(escape(sentence), file=sys.stderr, flush=True)
