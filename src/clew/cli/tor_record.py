"""What `clew tor record` does: tor's events as they are, one connection after the other, in one file."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from threading import Lock
from typing import TYPE_CHECKING

from clew.cli.tor_sessions import Connection, Screen, Session, follow
from clew.errors import ConfigurationError
from clew.tor.recording import Recorder

if TYPE_CHECKING:
    from clew.tor.control import ControlClient

__all__ = ["Counts", "Options", "record"]

# Never kept, at no level and in no file: descriptors, and tor's configuration, in which there are secrets.
_NEVER = ("HS_DESC_CONTENT", "CONF_CHANGED")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    connection: Connection
    file: str
    events: tuple[str, ...] = ()  # beyond those that a replay needs
    json: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What was recorded, over all connections."""

    connections: int = 0
    events: int = 0
    bytes: int = 0  # of text, before it is compressed
    missed: int = 0  # events that did not get into the file

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.connections + other.connections,
            self.events + other.events,
            self.bytes + other.bytes,
            self.missed + other.missed,
        )

    def brief(self) -> str:
        """It is brief enough."""
        return str(self)

    def __str__(self) -> str:
        return f"{self.events:,} events, {self.bytes:,} bytes" + (f", {self.missed:,} MISSED" if self.missed else "")


def record(options: Options) -> int:
    """Record events until Ctrl-C or SIGTERM.

    Returns: the exit status: 1 if events are missing in the recording.
    Raises:
        ClewError: tor cannot be reached at the beginning, or the file is there already.
        OSError: the file cannot be written.

    Thread: the main one; blocks.
    """
    if forbidden := [name for name in options.events if name in _NEVER]:
        raise ConfigurationError(f"{forbidden[0]} is never recorded, as it has secrets in it: leave it out")
    screen = Screen()
    file = _File(options.file)
    try:
        total = follow(
            options.connection,
            lambda client: _Session(client, file, options.events),
            Counts(),
            screen,
            lambda session: f"recording events of tor {session.tor_version} at {session.address} to {options.file}",
        )
    finally:
        file.close()
    screen.note(f"{total} in {options.file}, in clear: keep it private; to make traces of it, clew tor replay")
    if options.json:
        print(json.dumps({"file": options.file, **asdict(total)}))
    return 1 if total.missed else 0


class _File:
    """The recording, made when there is something to record."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._recorder: Recorder | None = None

    def open(self) -> Recorder:
        if self._recorder is None:
            self._recorder = Recorder(self._path)
        return self._recorder

    def close(self) -> None:
        """Raises: OSError: the last of it could not be written."""
        if self._recorder is not None:
            self._recorder.close()
            if self._recorder.error is not None:
                raise self._recorder.error


class _Session(Session[Counts]):
    def __init__(self, client: ControlClient, file: _File, more: tuple[str, ...]) -> None:
        super().__init__(client)
        self._lock = Lock()  # of the run's end, which comes once
        self._is_open = False
        try:
            events = self._choose(more)
            is_testing = client.get_conf("TestingTorNetwork").get("TestingTorNetwork") == ("1",)
            self._recorder = recorder = file.open()
            self._before = recorder.stats()
            recorder.begin(time.time_ns(), client.tor_version, is_testing=is_testing, events=events)
            self._is_open = True
            client.add_raw_listener(recorder.write)
            self.start(events)
        except BaseException:
            client.close()
            self._close("DETACHED")
            raise

    def _choose(self, more: tuple[str, ...]) -> list[str]:
        events = self.events(more)
        if unknown := [name for name in more if name not in events]:
            raise ConfigurationError(f"this tor does not know events of the type {unknown[0]}: leave it out")
        return events

    def _close(self, reason: str) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._recorder.end(time.time_ns(), reason, missed=self.client.stats().dropped)

    def look(self) -> None:
        self._recorder.flush()
        if self._recorder.error is not None:
            raise self._recorder.error

    def lose(self) -> None:
        self._close("CONNECTION_LOST")

    def counts(self) -> Counts:
        events, size, missed = self._recorder.stats()
        before = self._before
        return Counts(1, events - before.events, size - before.bytes, missed - before.missed)

    def end(self) -> Counts:
        self.client.close()
        self._close("DETACHED")
        self._recorder.flush()
        return self.counts()
