"""Spans in any order, given trace by trace: for formats in which a trace's spans stand together.

What does not fit into memory is sorted in parts, which wait in a temporary file without a name, and merged.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO, Final, Self, TypeAlias

from clew.limits import SORTED_BYTES, SORTED_WINDOW_BYTES
from clew.otlp import decode_traces, encode_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from clew.model import SpanRecord

__all__ = ["ByTrace"]

# In the file: the trace id, the size of an OTLP message with spans of that trace, the message.
_ID_BYTES: Final = 16
_HEAD_BYTES: Final = _ID_BYTES + 4

_Entry: TypeAlias = tuple[bytes, bytes]  # trace id, message


class ByTrace:
    """Takes spans and gives them sorted by their trace's id; those of a trace stay in their order.

    A context manager. Thread: one.
    """

    def __init__(self) -> None:
        self._waiting: list[_Entry] = []
        self._waiting_bytes = 0
        self._file: BinaryIO | None = None
        self._parts: list[tuple[int, int]] = []  # where each begins and ends in the file
        self._written_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Of all that was taken."""
        return self._written_bytes + self._waiting_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, records: list[SpanRecord]) -> None:
        """Take spans.

        Raises:
            EncodeError: see `clew.otlp.encode_traces`.
            OSError: the temporary file cannot be written.
        """
        for trace_id, spans in groupby(records, lambda record: record.trace_id):
            message = encode_traces(spans)
            self._waiting.append((bytes.fromhex(trace_id), message))
            self._waiting_bytes += _HEAD_BYTES + len(message)
            if self._waiting_bytes > SORTED_BYTES:
                self._write_part()

    def records(self, on_bytes: Callable[[int], object]) -> Iterator[list[SpanRecord]]:
        """Give all of them, a few at a time.

        Args:
            on_bytes: called with the number of bytes, out of `size_bytes`, that were given since the last call.

        Raises:
            OSError: the temporary file cannot be read.
        """
        self._waiting.sort(key=_trace_id)
        parts = [self._read_part(*part) for part in self._parts]
        for _, message in heapq.merge(*parts, iter(self._waiting), key=_trace_id):
            yield decode_traces(message)
            on_bytes(_HEAD_BYTES + len(message))

    def _write_part(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._waiting.sort(key=_trace_id)
        begin = self._file.tell()
        for trace_id, message in self._waiting:
            self._file.write(trace_id + len(message).to_bytes(4, "big") + message)
        self._file.flush()
        self._parts.append((begin, self._file.tell()))
        self._written_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def _read_part(self, at: int, end: int) -> Iterator[_Entry]:
        assert self._file is not None
        descriptor = self._file.fileno()
        data = b""
        start = 0
        while at < end or start < len(data):
            size = _HEAD_BYTES
            if len(data) - start >= size:
                size += int.from_bytes(data[start + _ID_BYTES : start + _HEAD_BYTES], "big")
            if len(data) - start < size:
                # Each part has a window of its own: they are read side by side.
                more = os.pread(descriptor, min(max(SORTED_WINDOW_BYTES, size), end - at), at)
                data, start = data[start:] + more, 0
                at += len(more)
                continue
            yield data[start : start + _ID_BYTES], data[start + _HEAD_BYTES : start + size]
            start += size


def _trace_id(entry: _Entry) -> bytes:
    return entry[0]
