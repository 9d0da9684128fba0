"""OTLP protobuf in a file: TracesData messages, in any of the three ways in which they are put one after the other.

A message as it is has no mark of its own end, but TracesData is a list of ResourceSpans, and lists of protobuf may be
concatenated: so each ResourceSpans is read by itself, and the file is never whole in memory.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from clew.formats.blocks import OtlpProtobufBlock
from clew.formats.reading import Damage, Reader
from clew.limits import LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.formats.reading import Item

__all__ = ["Framing", "ProtobufReader", "find_framing"]

# The tags (field << 3 | wire type) of what a file of traces begins with.
_RESOURCE_SPANS = 1 << 3 | 2  # TracesData.resource_spans
# ResourceSpans: resource, scope_spans, schema_url, and what scope_spans was called before OTLP 0.19.
_IN_RESOURCE_SPANS = frozenset((1 << 3 | 2, 2 << 3 | 2, 3 << 3 | 2, 1000 << 3 | 2))
_FIXED_BYTES = {1: 8, 5: 4}  # wire type -> size


class Framing(Enum):
    """What stands before each message."""

    NOTHING = "nothing"  # one message, or several glued together
    VARINT = "varint"  # its length as a varint, as protobuf libraries delimit messages
    UINT32 = "uint32"  # its length in four bytes, big-endian, as the OpenTelemetry collector's file exporter writes


class _Incomplete(Exception):  # noqa: N818  # nothing is wrong: the bytes have not come yet
    pass


class ProtobufReader(Reader):
    """Reads messages.

    Args:
        framing: see `find_framing`.
        wanted: messages without any of these trace ids (lower-case hex) are left out; None reads everything.
    """

    def __init__(self, framing: Framing, wanted: frozenset[str] | None = None) -> None:
        self._framing = framing
        self._wanted = None if wanted is None else [bytes.fromhex(trace_id) for trace_id in wanted]
        self._data = b""
        self._number = 1
        self._is_lost = False  # after damage to a length nobody knows where the next message begins

    def feed(self, data: bytes) -> Iterator[Item]:
        if self._is_lost:
            return
        self._data += data
        start = 0
        try:
            while start < len(self._data):
                begin, end = self._next_message(start)
                message = self._data[begin:end]
                start = end
                if message and self._is_wanted(message):
                    yield OtlpProtobufBlock(self._number, message)
                self._number += 1
        except _Incomplete:
            pass
        except ValueError as error:
            self._is_lost = True
            yield Damage(self._number, self._number, f"{error}; what follows it cannot be read", "message")
        self._data = b"" if self._is_lost else self._data[start:]

    def finish(self) -> Iterator[Item]:
        if self._data:
            yield Damage(self._number, self._number, "it has no end", "message", is_tail=True)
            self._data = b""

    def _next_message(self, start: int) -> tuple[int, int]:
        """From where to where the next message reaches; nothing, for a field that is not known.

        Raises: _Incomplete, ValueError.
        """
        data = self._data
        if self._framing is Framing.NOTHING:
            end = _field_end(data, start)
            begin = start if data[start] == _RESOURCE_SPANS else end
        else:
            size, begin = _read_varint(data, start) if self._framing is Framing.VARINT else _read_uint32(data, start)
            end = begin + size
        if end - start > LINE_BYTES:
            raise ValueError(f"it is longer than {LINE_BYTES} bytes")
        if end > len(data):
            raise _Incomplete
        return begin, end

    def _is_wanted(self, message: bytes) -> bool:
        return self._wanted is None or any(trace_id in message for trace_id in self._wanted)


def find_framing(head: bytes) -> Framing | None:
    """Find out whether the first bytes of a file are OTLP protobuf, and how its messages are put together.

    Raises: nothing; None means that it is something else.
    """
    if _is_traces(head):
        return Framing.NOTHING
    for framing, read_size in ((Framing.UINT32, _read_uint32), (Framing.VARINT, _read_varint)):
        try:
            size, begin = read_size(head, 0)
        except (_Incomplete, ValueError):
            continue
        if 0 < size <= LINE_BYTES and _is_traces(head[begin : begin + size]):
            return framing
    return None


def _is_traces(data: bytes) -> bool:
    """Whether a message, or the first part of one, has the structure of TracesData down to its second level."""
    try:
        if not data or data[0] != _RESOURCE_SPANS:
            return False
        size, at = _read_varint(data, 1)
        end = at + size
        while at < min(end, len(data)):
            tag, _ = _read_varint(data, at)
            at = _field_end(data, at)
            if tag not in _IN_RESOURCE_SPANS or at > end:
                return False
    except _Incomplete:
        return True
    except ValueError:
        return False
    return size > 0


def _field_end(data: bytes, start: int) -> int:
    """Where a field ends, which may be beyond the data.

    Raises: _Incomplete, ValueError.
    """
    tag, at = _read_varint(data, start)
    wire_type = tag & 7
    if wire_type == 0:
        return _read_varint(data, at)[1]
    if wire_type == 2:
        size, at = _read_varint(data, at)
        return at + size
    if wire_type in _FIXED_BYTES:
        return at + _FIXED_BYTES[wire_type]
    raise ValueError("it is no protobuf")


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Read a number; return it and where it ends.

    Raises: _Incomplete, ValueError.
    """
    value = 0
    for count, byte in enumerate(data[start : start + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, start + count + 1
    if len(data) < start + 10:
        raise _Incomplete
    raise ValueError("it is no protobuf")


def _read_uint32(data: bytes, start: int) -> tuple[int, int]:
    if len(data) < start + 4:
        raise _Incomplete
    return int.from_bytes(data[start : start + 4], "big"), start + 4
