"""What `clew tor attach` does: one connection to tor after the other, each with a tracer and a mapper of its own."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from clew.cli.tor_connection import connect
from clew.errors import ClewError, TorError
from clew.exporters import FileExporter
from clew.pretty import escape
from clew.tor.circuit_mapper import CircuitMapper
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.protection import allow_level, protect
from clew.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from clew.tor.control import ControlClient

__all__ = ["Counts", "Options", "attach"]

_EVENTS = ("CIRC", "CIRC_MINOR")

# Spans are written at least so often, so that who follows the file sees them soon.
_BATCH_DELAY_SECONDS = 1.0
_LIVE_LINE_SECONDS = 0.25  # between two states of the line on a terminal
_PLAIN_LINE_SECONDS = 60.0  # between two lines elsewhere
# Waits for a tor that is gone: each twice as long as the one before, between these.
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    address: str | None  # None: search
    file: str
    privacy: Privacy = Privacy.PSEUDONYMOUS
    public_network: bool = False  # Privacy.LAB is meant on the public network too
    password: str | Callable[[], str] | None = None
    cookie_file: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What was seen and written, over all connections."""

    circuits: int = 0  # builds that began
    building: int = 0
    open: int = 0  # built, and there now
    built: int = 0
    failed: int = 0
    lost: int = 0  # tor or we went away in the middle
    spans: int = 0  # written
    spans_lost: int = 0  # not written, for whatever reason
    events_lost: int = 0  # of tor's, because we were too slow or did not understand them

    def __add__(self, other: Counts) -> Counts:
        sums = asdict(self)
        for key, value in asdict(other).items():
            sums[key] += value
        return Counts(**sums)

    def __str__(self) -> str:
        parts = [
            f"{self.building} building",
            f"{self.open} open",
            f"{self.built} built",
            f"{self.failed} failed",
            *([f"{self.lost} lost"] if self.lost else []),
            f"{self.spans} spans written",
            *([f"{self.spans_lost} spans NOT written"] if self.spans_lost else []),
            *([f"{self.events_lost} events lost"] if self.events_lost else []),
        ]
        return "circuits: " + ", ".join(parts)


def attach(options: Options) -> int:
    """Record circuits until Ctrl-C or SIGTERM.

    Returns: the exit status: 1 if something was not written.
    Raises: ClewError: tor cannot be reached, or the file not be written, at the beginning. Later, it is tried again.
    Thread: the main one; blocks.
    """
    privacy = PrivacyFilter(options.privacy)  # one for all connections: what is hashed stays the same
    screen = _Screen()
    total = Counts()
    session = _Session(_connect(options, options.address), options, privacy)
    try:
        with _terminated_like_interrupted():
            while True:
                screen.note(f"recording circuits of tor {session.tor_version} at {session.address} to {options.file}")
                try:
                    while not session.is_lost(_LIVE_LINE_SECONDS):
                        screen.show(total + session.counts())
                finally:
                    total += session.end()
                screen.note(f"{session.reason}; trying again until Ctrl-C")
                session = _begin_again(session.address, options, privacy)
    except KeyboardInterrupt:
        pass  # the way to end this
    screen.note(f"{total} to {options.file}")
    if options.json:
        print(json.dumps({"file": options.file, **asdict(total)}))
    return 1 if total.spans_lost else 0


class _Session:
    """One connection to tor, from the moment that its events are asked for."""

    def __init__(self, client: ControlClient, options: Options, privacy: PrivacyFilter) -> None:
        self.address = client.address
        self.tor_version = client.tor_version
        self.reason: TorError | None = None  # why the connection was lost
        self._client = client
        self._lost = threading.Event()
        try:
            allow_level(client, options.privacy, public_network=options.public_network)
            self._tracer = Tracer(
                "tor",
                FileExporter(options.file),
                resource={
                    "service.version": client.tor_version,
                    # Ids of circuits are unique within one run of tor only; a new connection may be to a new run.
                    "tor.instance.id": secrets.token_hex(8),
                    **privacy.resource(),
                },
                batch_delay=_BATCH_DELAY_SECONDS,
            )
            protect(self._tracer, privacy)
        except BaseException:
            client.close()
            raise
        self._mapper = CircuitMapper(self._tracer, privacy)
        try:
            client.add_listener(self._mapper.handle)
            client.on_disconnect(self._lose)
            client.set_events(_EVENTS)
        except BaseException:
            self.end()
            raise

    def _lose(self, reason: TorError) -> None:
        self._mapper.close("CONNECTION_LOST")
        self.reason = reason
        self._lost.set()

    def is_lost(self, timeout: float) -> bool:
        """Whether the connection is lost, after waiting for that so many seconds at the most."""
        return self._lost.wait(timeout)

    def counts(self) -> Counts:
        """What this connection brought so far."""
        seen = self._mapper.counts
        written = self._tracer.stats()
        events = self._client.stats()
        return Counts(
            circuits=seen.launched,
            building=seen.building,
            open=max(seen.known - seen.building, 0),
            built=seen.built,
            failed=seen.failed,
            lost=seen.lost,
            spans=written.exported,
            spans_lost=written.failed + sum(written.dropped.values()),
            events_lost=events.dropped + events.malformed,
        )

    def end(self) -> Counts:
        """Disconnect, end what is open, write it. Returns the counts at the end."""
        self._client.close()
        self._mapper.close("DETACHED")
        self._tracer.close()
        counts = self.counts()
        return replace(counts, spans_lost=counts.spans_lost + self._tracer.stats().queued)


def _begin_again(address: str, options: Options, privacy: PrivacyFilter) -> _Session:
    """Begin again with a tor that went away, however long it takes."""
    wait = _FIRST_WAIT_SECONDS
    while True:
        time.sleep(wait)
        try:
            return _Session(_connect(options, address), options, privacy)
        except ClewError:
            # Whatever it says: a tor that is just starting has not written its new cookie yet, for one.
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _connect(options: Options, address: str | None) -> ControlClient:
    return connect(address, options.password, options.cookie_file)


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


class _Screen:
    """Standard error: one live line on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown = ""
        self._next_line = time.monotonic() + _PLAIN_LINE_SECONDS

    def show(self, counts: Counts) -> None:
        """The counts as they are now."""
        text = str(counts)
        if self._is_terminal:
            if text != self._shown:
                columns = shutil.get_terminal_size().columns
                print(f"\r\x1b[2K{text[: columns - 1]}", end="", file=sys.stderr, flush=True)
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
