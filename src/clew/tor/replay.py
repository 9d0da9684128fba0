"""Recorded events, turned into what they would have been live.

The mappers know time from events only, so a log gives the same spans as the connection that it was written from.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Protocol

from clew.errors import FormatError
from clew.formats.compression import CHUNK_BYTES, decompress
from clew.formats.files import ignore_bytes, open_binary
from clew.tor.event_log import Began, Ended, LogLines, LogNotes
from clew.tor.recording import FORMAT, MAGIC, read_recording
from clew.tor.torctl_log import read_torctl_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from clew.tor.event_log import LogItem
    from clew.tor.events import Event

__all__ = ["EventHandler", "read_events", "read_log", "replay"]


class EventHandler(Protocol):
    """What takes the events of one run of tor: a `TorMapper`, for one."""

    def handle(self, event: Event, /) -> None:
        """Take an event."""

    def close(self, reason: str, time_ns: int | None = None, /) -> None:
        """The run is over, or the connection to it was."""


def read_log(
    path: str, notes: LogNotes | None = None, *, on_bytes: Callable[[int], object] = ignore_bytes
) -> Iterator[LogItem]:
    """Read a recording of `clew tor record` or a log of OnionPerf's monitor, compressed by gzip or xz or not.

    Of a file of any size only the line at hand is kept.

    Args:
        path: of the file; "-" for standard input.
        notes: what cannot be read is noted there.
        on_bytes: called with the number of bytes that were read from the file since the last call.

    Raises:
        FormatError: a recording of a newer clew.
        OSError: the file cannot be read.
    """
    with open_binary(path) as file:
        try:
            yield from read_events(_pieces(file, on_bytes), LogNotes() if notes is None else notes)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error


def _pieces(file: BinaryIO, on_bytes: Callable[[int], object]) -> Iterator[bytes]:
    while piece := file.read(CHUNK_BYTES):
        yield piece
        on_bytes(len(piece))


def read_events(pieces: Iterator[bytes], notes: LogNotes) -> Iterator[LogItem]:
    """Read a log from its bytes.

    Raises: FormatError: a recording of a newer clew.
    """
    lines = iter(LogLines(decompress(pieces), notes))
    first = next(lines, "")
    if first is None or not first.startswith(MAGIC):
        if notes.lines:
            yield from read_torctl_log(chain((first,), lines), notes)
        return
    version = first.removeprefix(MAGIC).partition(" ")[0]
    if version != str(FORMAT):
        raise FormatError("it was recorded by a newer clew: read it with that one")
    yield from read_recording(lines, notes)


def replay(log: Iterable[LogItem], begin: Callable[[Began], EventHandler]) -> None:
    """Hand over what a log tells, run by run, at the times that it tells.

    Args:
        begin: gives the handler for a run that begins; `lambda began: mapper`, if one is to do for all.
    """
    handler: EventHandler | None = None
    for item in log:
        if isinstance(item, Began):
            handler = begin(item)
        elif handler is None:
            raise AssertionError("a log begins with Began")
        elif isinstance(item, Ended):
            handler.close(item.reason, item.time_ns)
        else:
            handler.handle(item)
