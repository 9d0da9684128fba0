"""Reading files that grow, and putting traces together while their spans arrive."""

from __future__ import annotations

import os
import select
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

from clew.errors import FormatError
from clew.formats.detect import HEAD_BYTES, AnyReader, detect
from clew.formats.files import CHUNK_BYTES, STDIN, TraceFile, ignore_bytes, open_binary
from clew.formats.json_reader import JsonReader
from clew.limits import FOLLOWED_SPANS, FOLLOWED_TRACES, LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.formats.reading import Item, Reader
    from clew.model import SpanRecord

__all__ = ["Arriving", "Tail"]

# As much of what was read is compared when a file is read on: a file that was begun anew may be as long by then.
_BEFORE_BYTES = 1024


class Tail:
    """A file that is read on as it grows; also when it is replaced (rotated) or truncated and begun anew.

    A line that has no end yet is left alone until it has one; whoever writes may also cut it off and write another. On
    standard input and pipes, it reads what there is.

    Args:
        path: of a file, "-" for standard input.

    Raises: OSError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else path
        self.position = 0  # how much of the file was read, in bytes; of a file of lines, whole ones
        self.is_over = False  # the other end of a pipe was closed
        self._file = open_binary(path)
        self._reader: Reader | None = None  # of a file, as soon as its beginning says which
        self._pipe_reader = AnyReader()
        self._before = b""  # what stands before `position`
        self._state = (0, 0)  # size and time of the file when it was last read to its end
        self._has_restarted = False

    def close(self) -> None:
        self._file.close()

    @property
    def is_regular(self) -> bool:
        """Whether it is a file, and no pipe."""
        return stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def take_restart(self) -> bool:
        """Whether the file was replaced or truncated since the last time that this was asked."""
        has_restarted, self._has_restarted = self._has_restarted, False
        return has_restarted

    def as_read(self) -> TraceFile:
        """The file as far as it was read, also if it was replaced meanwhile; to be closed."""
        return TraceFile(self.path, size_bytes=self.position, descriptor=self._file.fileno())

    def read(self, on_bytes: Callable[[int], object] = ignore_bytes) -> Iterator[Item]:
        """Read what was written since the last time, if anything. Does not wait.

        Args:
            on_bytes: called with the number of bytes that were read since the last call.

        Raises:
            FormatError: a format that is not known.
            OSError: the file cannot be read.
        """
        try:
            if self.is_regular:
                yield from self._read_file(on_bytes)
            else:
                yield from self._read_pipe()
        except FormatError as error:
            raise FormatError(f"{self.name}: {error}") from error

    def _read_file(self, on_bytes: Callable[[int], object]) -> Iterator[Item]:
        is_replaced = self._is_replaced()
        # Whatever was written to the old file before it was replaced; then the new one from its beginning.
        yield from self._read_on(on_bytes)
        if is_replaced:
            yield from self._read_rest()
            self._file.close()
            self._file = open_binary(self.path)
            self._restart()
            yield from self._read_on(on_bytes)

    def _read_on(self, on_bytes: Callable[[int], object]) -> Iterator[Item]:
        status = os.fstat(self._file.fileno())
        state = status.st_size, status.st_mtime_ns
        if state == self._state:
            return  # a long line that has no end yet is not read again and again
        if self._read_at(self.position - len(self._before), len(self._before)) != self._before:
            self._restart()
        if self._reader is None and (make := detect(self._read_at(0, HEAD_BYTES), is_whole=False)) is not None:
            self._reader = make(None)
        while self._reader is not None and (data := self._read_whole(self._reader)):
            self.position += len(data)
            self._before = (self._before + data[-_BEFORE_BYTES:])[-_BEFORE_BYTES:]
            yield from self._reader.feed(data)
            on_bytes(len(data))
        self._state = state

    def _read_whole(self, reader: Reader) -> bytes:
        """The next bytes that nobody will change any more."""
        if not isinstance(reader, JsonReader):
            return self._read_at(self.position, CHUNK_BYTES)
        pieces: list[bytes] = []
        size = 0
        while piece := self._read_at(self.position + size, CHUNK_BYTES):
            if end := piece.rfind(b"\n") + 1:
                return b"".join([*pieces, piece[:end]])
            pieces.append(piece)
            size += len(piece)
            if size > LINE_BYTES:
                return b"".join(pieces)  # the reader says that it is too long
        return b""

    def _read_rest(self) -> Iterator[Item]:
        """What has no end, and will not get one."""
        reader = self._reader if self._reader is not None else AnyReader()
        while data := self._read_at(self.position, CHUNK_BYTES):
            self.position += len(data)
            yield from reader.feed(data)
        yield from reader.finish()

    def _read_at(self, position: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, position)

    def _read_pipe(self) -> Iterator[Item]:
        descriptor = self._file.fileno()
        while not self.is_over and select.select([descriptor], [], [], 0)[0]:
            data = os.read(descriptor, CHUNK_BYTES)
            if data:
                yield from self._pipe_reader.feed(data)
            else:
                self.is_over = True
                yield from self._pipe_reader.finish()

    def _is_replaced(self) -> bool:
        """Whether the path leads to another file by now; one that was removed is waited for."""
        if self.path == STDIN:
            return False
        try:
            there = os.stat(self.path)  # noqa: PTH116  # as fstat below
        except FileNotFoundError:
            return False
        return not os.path.samestat(there, os.fstat(self._file.fileno()))

    def _restart(self) -> None:
        self._reader = None
        self._before = b""
        self._state = (0, 0)
        self.position = 0
        self._has_restarted = True


class _Trace:
    """What has arrived of a trace."""

    __slots__ = ("has_root", "last_ns", "records")

    def __init__(self) -> None:
        self.records: list[SpanRecord] = []
        self.has_root = False
        self.last_ns = 0  # when the last span arrived, on a monotonic clock


class Arriving:
    """Spans that arrive, until their trace is complete as far as one can tell.

    A root ends after what is below it: once it is there and nothing more arrives for a moment, the trace is complete.
    A trace without a root (which may be in another file) is complete after a longer silence.
    """

    SETTLE_NS = 500_000_000
    SILENCE_NS = 5_000_000_000

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Trace] = OrderedDict()  # the one that got a span last is last
        self._span_count = 0
        self._given: OrderedDict[str, None] = OrderedDict()  # traces that were complete

    @property
    def span_count(self) -> int:
        """Spans that wait."""
        return self._span_count

    def add(self, record: SpanRecord, now_ns: int) -> None:
        """Take a span.

        Args:
            now_ns: on a monotonic clock.
        """
        trace = self._open.setdefault(record.trace_id, _Trace())
        trace.records.append(record)
        trace.has_root |= not record.parent_id
        trace.last_ns = now_ns
        self._span_count += 1
        self._open.move_to_end(record.trace_id)

    def complete(self, now_ns: int) -> list[list[SpanRecord]]:
        """Take out the traces that are complete by now, and the oldest ones where too many spans wait."""
        ready = [
            trace_id
            for trace_id, trace in self._open.items()
            if now_ns - trace.last_ns >= (self.SETTLE_NS if trace.has_root else self.SILENCE_NS)
        ]
        taken = [self._take(trace_id) for trace_id in ready]
        while self._span_count > FOLLOWED_SPANS:
            taken.append(self._take(next(iter(self._open))))
        return taken

    def rest(self) -> list[list[SpanRecord]]:
        """Take out all."""
        return [self._take(trace_id) for trace_id in list(self._open)]

    def was_given(self, trace_id: str) -> bool:
        """Whether a part of this trace was taken out before the last time (as far as is remembered)."""
        return trace_id in self._given

    def mark_given(self, trace_id: str) -> None:
        self._given[trace_id] = None
        if len(self._given) > FOLLOWED_TRACES:
            self._given.popitem(last=False)

    def _take(self, trace_id: str) -> list[SpanRecord]:
        records = self._open.pop(trace_id).records
        self._span_count -= len(records)
        return records
