"""What every log of tor's events gives when it is read: runs of tor, their events, and what could not be read.

Nothing in a log is an error: a reader counts what it cannot read, and keeps the first of it with the line's number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from clew.errors import ControlProtocolError, DecodeError
from clew.limits import LINE_BYTES, LOG_PROBLEMS_KEPT
from clew.tor.events import Event, parse_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.tor.wire import Reply

__all__ = ["LATEST_NS", "VERSION", "Began", "Ended", "LogItem", "LogLines", "LogNotes", "Problem", "understand"]

LATEST_NS = 1 << 63  # OTLP's times have 64 bits, and not all that reads them knows that they have no sign

# A log is somebody else's file, and tor's version is told in the clear.
VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,39}")


class Began(NamedTuple):
    """The events that follow are of one connection to one run of tor."""

    time_ns: int
    tor_version: str | None  # "0.4.9.11"; None if the log does not tell
    is_testing: bool  # whether the log says that tor was on a testing network


class Ended(NamedTuple):
    """No further event of this run is known."""

    time_ns: int
    reason: str  # for `TorMapper.close`


LogItem = Began | Event | Ended


class Problem(NamedTuple):
    """A line that was not used."""

    line: int  # 1 for the first
    what: str  # half a sentence: "is ...", "has ..."; nothing of its content


@dataclass(slots=True)
class LogNotes:
    """What was found in a log so far."""

    lines: int = 0
    events: int = 0  # that were understood
    foreign: int = 0  # lines of the program that wrote the log
    missed: int = 0  # events that are not in the log, as it says itself
    problems: int = 0
    first_problems: list[Problem] = field(default_factory=list)  # limits.LOG_PROBLEMS_KEPT of them at the most

    def add_problem(self, line: int, what: str) -> None:
        """Count a line that is not used."""
        self.problems += 1
        if len(self.first_problems) < LOG_PROBLEMS_KEPT:
            self.first_problems.append(Problem(line, what))


class LogLines:
    """The lines of a file, without the "\\n" at their ends. None stands for one that is too long.

    Args:
        pieces: the file, in pieces of any size; a DecodeError ends it.
        notes: the lines are counted there, and at the end what is wrong with it is noted.
    """

    def __init__(self, pieces: Iterator[bytes], notes: LogNotes, *, max_line_bytes: int = LINE_BYTES) -> None:
        self._pieces = pieces
        self._notes = notes
        self._max_line_bytes = max_line_bytes

    def __iter__(self) -> Iterator[str | None]:
        begun: list[bytes] = []  # of a line whose end has not come
        size = 0  # of that
        damage = None
        try:
            for piece in self._pieces:
                end = piece.find(b"\n")
                if end >= 0:
                    begun.append(piece[:end])
                    size += end
                    self._notes.lines += 1
                    yield _decode(b"".join(begun)) if size <= self._max_line_bytes else None
                    last = piece.rfind(b"\n")
                    if last > end:
                        lines = _decode(piece[end + 1 : last]).split("\n")
                        self._notes.lines += len(lines)
                        yield from lines
                    begun, size = [], 0
                    piece = piece[last + 1 :]  # noqa: PLW2901 - the rest of it
                begun.append(piece)
                size += len(piece)
                if size > self._max_line_bytes:
                    begun.clear()
        except DecodeError as error:
            damage = str(error)
        if damage is not None:
            self._notes.add_problem(self._notes.lines + 1, f"is the last that can be read: {damage}")
        elif size:
            self._notes.add_problem(self._notes.lines + 1, "is the last and has no end: what wrote it was interrupted")


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def understand(reply: Reply, time_ns: int, line: int, notes: LogNotes) -> Event | None:
    """The event that a reply is, or None and a problem noted."""
    if time_ns >= LATEST_NS:
        notes.add_problem(line, "has a time that nobody could mean")
        return None
    try:
        event = parse_event(reply, time_ns)
    except ControlProtocolError as error:
        notes.add_problem(line, f"is not understood: {error}")
        return None
    notes.events += 1
    return event
