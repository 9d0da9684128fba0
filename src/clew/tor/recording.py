"""clew's own recordings: what tor's control port sent, as it was sent, with the times of its arrival.

A recording is text, a line for each thing that happened, so that whatever is torn is torn at its end:

    clew-tor-recording 1 raw: ...
    1769860800000000000 BEGIN {"tor_version": "0.4.9.11", "is_testing": false, "events": ["CIRC", "STREAM"]}
    1769860800425731123 650 CIRC 7 LAUNCHED BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL
    1769860800426000000 LINES "650-CONF_CHANGED\\r\\n650-SocksPort=9050\\r\\n650 OK\\r\\n"
    1769860899000000000 END {"reason": "CONNECTION_LOST", "missed": 0}

Times are wall-clock nanoseconds since 1970. An event of one line stands as tor sent it; one of several lines, or with a
line feed within, as a JSON string. BEGIN and END enclose one connection to one run of tor. Only what SOCKS clients gave
as user names and passwords is cut out; all else is there, and no level of privacy applies.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clew.errors import ConfigurationError, ControlProtocolError
from clew.limits import LINE_BYTES, RECORDING_BUFFER_BYTES, RECORDING_STREAM_BYTES, RECORDING_STREAM_SECONDS
from clew.tor.event_log import LATEST_NS, VERSION, Began, Ended, understand
from clew.tor.events import without_credentials
from clew.tor.wire import ControlParser, Reply, ReplyLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clew.tor.event_log import LogItem, LogNotes

__all__ = ["BEGIN", "END", "FORMAT", "LINES", "MAGIC", "Recorder", "RecorderStats", "event_line", "read_recording"]

MAGIC = "clew-tor-recording "
FORMAT = 1
BEGIN, END, LINES = "BEGIN", "END", "LINES"
_HEADER = f"{MAGIC}{FORMAT} raw: destinations, onion addresses, relays and clients are in clear here, keep it private\n"
_FILE_MODE = 0o600
_TIME_DIGITS = 19  # of nanoseconds since 1970, until the year 2286
_REASON = re.compile(r"[A-Z_]{1,40}")


class RecorderStats(NamedTuple):
    """What was recorded so far."""

    events: int
    bytes: int  # of text, before it is compressed
    missed: int  # events that did not get here, or were longer than a line may be


class Recorder:
    """Writes a recording: a new file of mode 0600, compressed if its name ends in .gz or .xz.

    What is recorded waits in memory until there are limits.RECORDING_BUFFER_BYTES of it, or for `flush`. A write that
    fails is the last: `error` says why, and the recording ends as one that was interrupted.

    Args:
        path: of the file, which must not be there yet.

    Raises:
        ConfigurationError: it is there.
        OSError: it cannot be made.

    Thread: any.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.error: OSError | None = None
        self._lock = Lock()  # guards all that follows
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        except FileExistsError:
            raise ConfigurationError(
                f"{path} is there already, and nothing is added to it: give another name"
            ) from None
        self._pack = _packing(path)
        self._waiting: list[str] = [_HEADER]
        self._waiting_size = 0  # characters
        self._events = self._bytes = self._missed = 0
        with self._lock:
            self._write_waiting()  # so that a file that cannot be written is known at once
        if self.error is not None:
            raise self.error

    def begin(self, time_ns: int, tor_version: str, *, is_testing: bool, events: Iterable[str]) -> None:
        """A connection to a tor begins.

        Args:
            is_testing: the tor is on a testing network (TestingTorNetwork 1).
            events: the names of those that are asked for.
        """
        self._note(time_ns, BEGIN, {"tor_version": tor_version, "is_testing": is_testing, "events": list(events)})

    def write(self, reply: Reply, time_ns: int) -> None:
        """Record an event: a raw listener for `ControlClient.add_raw_listener`."""
        line = event_line(reply, time_ns)
        with self._lock:
            if len(line) > LINE_BYTES:
                self._missed += 1
            else:
                self._events += 1
                self._add(line)

    def end(self, time_ns: int, reason: str, *, missed: int = 0) -> None:
        """The connection has ended.

        Args:
            reason: as the mapper is told: DETACHED, CONNECTION_LOST, ...
            missed: events of this connection that tor sent and that did not get here.
        """
        with self._lock:
            self._missed += missed
        self._note(time_ns, END, {"reason": reason, "missed": missed})

    def flush(self) -> None:
        """Write what waits. Blocks as long as the disk does."""
        with self._lock:
            self._write_waiting()

    def close(self) -> None:
        """Write what waits and close the file. A second call does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                self._write_waiting(self._pack.finish)
                os.close(self._descriptor)
                self._descriptor = -1

    def stats(self) -> RecorderStats:
        """What was recorded so far."""
        with self._lock:
            return RecorderStats(self._events, self._bytes, self._missed)

    def _note(self, time_ns: int, word: str, what: dict[str, object]) -> None:
        with self._lock:
            self._add(f"{time_ns} {word} {json.dumps(what)}\n")

    def _add(self, line: str) -> None:
        """With the lock."""
        self._waiting.append(line)
        self._waiting_size += len(line)
        if self._waiting_size >= RECORDING_BUFFER_BYTES:
            self._write_waiting()

    def _write_waiting(self, finish: Callable[[], bytes] = bytes) -> None:
        """With the lock."""
        text = "".join(self._waiting).encode("utf-8", "surrogateescape")
        self._waiting.clear()
        self._waiting_size = 0
        if self.error is not None or self._descriptor < 0:
            return
        data = memoryview(self._pack.pack(text) + finish())
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self.error = OSError(error.errno, error.strerror, self.path)
        else:
            self._bytes += len(text)


def event_line(reply: Reply, time_ns: int) -> str:
    """An event as a line of a recording, with its "\\n", without credentials."""
    reply = without_credentials(reply)
    text = reply.lines[0].text
    if len(reply.lines) == 1 and "\n" not in text:
        return f"{time_ns} {reply.code:03} {text}\n"
    return f"{time_ns} {LINES} {json.dumps(_wire_text(reply))}\n"


def _wire_text(reply: Reply) -> str:
    """An event as on the wire (control-spec 2.3 and 2.4)."""
    parts = []
    last = len(reply.lines) - 1
    for index, line in enumerate(reply.lines):
        divider = " " if index == last else "-" if line.data is None else "+"
        parts.append(f"{reply.code:03}{divider}{line.text}\r\n")
        if line.data is not None:
            block = ("\n" + line.data).replace("\n.", "\n..").replace("\n", "\r\n")[2:]
            parts.append(f"{block}\r\n.\r\n" if line.data else ".\r\n")
    return "".join(parts)


# --- reading --------------------------------------------------------------------------------------------------------


def read_recording(lines: Iterable[str | None], notes: LogNotes) -> Iterator[LogItem]:
    """What a recording tells; a run whose end is missing ends with its last event, DETACHED.

    Args:
        lines: of the recording, from the second on.
        notes: what cannot be read is noted there.
    """
    is_open = False
    time_ns = 0
    for number, line in enumerate(lines, start=2):
        if line is None:
            notes.add_problem(number, "is too long")
            continue
        stamp, _, rest = line.partition(" ")
        if not (stamp.isdecimal() and stamp.isascii() and len(stamp) <= _TIME_DIGITS):
            notes.add_problem(number, "does not begin with a time")
            continue
        item: LogItem | None
        if rest.startswith("650 "):  # all events of one line that tor sends today
            item = understand(Reply(650, (ReplyLine(rest[4:]),)), int(stamp), number, notes)
        else:
            item = _read_other(rest, int(stamp), number, notes)
        if item is None:
            continue
        kind = type(item)
        if kind is Began:
            if is_open:
                yield Ended(time_ns, "DETACHED")
            is_open = True
        elif kind is Ended:
            if not is_open:
                notes.add_problem(number, "ends what has not begun")
                continue
            is_open = False
        elif not is_open:
            yield Began(item.time_ns, None, is_testing=False)
            is_open = True
        time_ns = item.time_ns
        yield item
    if is_open:
        yield Ended(time_ns, "DETACHED")


def _read_other(text: str, time_ns: int, number: int, notes: LogNotes) -> LogItem | None:
    """What is not an event 650 of one line."""
    word, _, what = text.partition(" ")
    if len(word) == 3 and word.startswith("6") and word.isdecimal() and word.isascii():
        return understand(Reply(int(word), (ReplyLine(what),)), time_ns, number, notes)
    try:
        if word == LINES:
            return understand(_read_lines(json.loads(what)), time_ns, number, notes)
        if word in (BEGIN, END) and time_ns < LATEST_NS:
            return _read_note(word, json.loads(what), time_ns, notes)
    except (ValueError, RecursionError, ControlProtocolError):
        pass
    notes.add_problem(number, "has something else than an event behind the time")
    return None


def _read_lines(text: object) -> Reply:
    """Raises: ValueError, ControlProtocolError."""
    parser = ControlParser()
    if isinstance(text, str):
        parser.feed(text.encode("utf-8", "surrogateescape"))
    reply = parser.next_reply()
    if reply is None or not reply.is_event:
        raise ValueError
    return reply


def _read_note(word: str, what: object, time_ns: int, notes: LogNotes) -> LogItem:
    """Raises: ValueError."""
    if not isinstance(what, dict):
        raise ValueError  # noqa: TRY004 - like all else that is not what it should be
    if word == BEGIN:
        version = what.get("tor_version")
        if not (isinstance(version, str) and VERSION.fullmatch(version)):
            version = None
        return Began(time_ns, version, is_testing=what.get("is_testing") is True)
    reason, missed = what.get("reason"), what.get("missed")
    if not (isinstance(reason, str) and _REASON.fullmatch(reason)):
        raise ValueError
    if isinstance(missed, int) and missed > 0:
        notes.missed += missed
    return Ended(time_ns, reason)


# --- compression ----------------------------------------------------------------------------------------------------


class _Packing(Protocol):
    """Turns text into what is in the file, so that all but the last of it can be read after a crash."""

    def pack(self, text: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


def _packing(path: str) -> _Packing:
    return _Gzip() if path.endswith(".gz") else _Xz() if path.endswith(".xz") else _Plain()


class _Plain:
    def pack(self, text: bytes) -> bytes:
        return text

    def finish(self) -> bytes:
        return b""


class _Gzip:
    def __init__(self) -> None:
        self._zlib = zlib.compressobj(wbits=31)  # with gzip's header

    def pack(self, text: bytes) -> bytes:
        return self._zlib.compress(text) + self._zlib.flush(zlib.Z_SYNC_FLUSH) if text else b""

    def finish(self) -> bytes:
        return self._zlib.flush()


class _Xz:
    """xz cannot be flushed: what is to survive a crash is ended, and another stream begun behind it."""

    def __init__(self) -> None:
        import lzma  # seldom needed

        self._make = partial(lzma.LZMACompressor, preset=1)  # 9 MiB of memory, where the default takes 94
        self._lzma = self._make()
        self._begun = 0.0
        self._size = 0  # of text in this stream

    def pack(self, text: bytes) -> bytes:
        if not text and not self._size:
            return b""
        now = time.monotonic()
        if not self._size:
            self._begun = now
        self._size += len(text)
        data = self._lzma.compress(text)
        if self._size >= RECORDING_STREAM_BYTES or now - self._begun >= RECORDING_STREAM_SECONDS:
            data += self.finish()
        return data

    def finish(self) -> bytes:
        if not self._size:
            return b""
        data = self._lzma.flush()
        self._lzma = self._make()
        self._size = 0
        return data
