"""What is compressed, decompressed a piece at a time: gzip, of one member or several, and xz, of one stream or several.

Nothing that unfolds a thousandfold is ever held: never more than CHUNK_BYTES is given at once.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

from clew.errors import DecodeError
from clew.limits import XZ_MEMORY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHUNK_BYTES", "decompress"]

CHUNK_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for "with gzip's header"
_XZ_MAGIC = b"\xfd7zXZ\0"
_DAMAGED = "the compressed data is damaged, and what follows cannot be read"


def decompress(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a file as they are, or what they stand for if its beginning says that it is compressed.

    Raises: DecodeError, if the data is damaged or ends too early; what was read before has been given by then.
    """
    first = b""
    while len(first) < len(_XZ_MAGIC) and (piece := next(pieces, None)) is not None:
        first += piece
    if first.startswith(_GZIP_MAGIC):
        yield from _decompress(first, pieces, _Gzip)
    elif first.startswith(_XZ_MAGIC):
        yield from _decompress(first, pieces, _Xz)
    else:
        yield first
        yield from pieces


class _Member(Protocol):
    """One member of a gzip file, or one stream of an xz file."""

    is_begun: bool
    eof: bool
    rest: bytes  # what was not taken, or lies behind the end

    def decompress(self, data: bytes) -> bytes:
        """At most CHUNK_BYTES of what it stands for; more may be left while there are so many."""


class _Gzip:
    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_WINDOW)
        self.is_begun = self.eof = False
        self.rest = b""

    def decompress(self, data: bytes) -> bytes:
        try:
            plain = self._zlib.decompress(data, CHUNK_BYTES)
        except zlib.error as error:
            raise DecodeError(_DAMAGED) from error
        self.is_begun = self.is_begun or data != b""
        self.eof = self._zlib.eof
        self.rest = self._zlib.unused_data if self.eof else self._zlib.unconsumed_tail
        return plain


class _Xz:
    def __init__(self) -> None:
        import lzma  # seldom needed

        self._error = lzma.LZMAError
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES)
        self.is_begun = self.eof = False
        self.rest = b""  # it keeps what it has not taken itself

    def decompress(self, data: bytes) -> bytes:
        try:
            plain = self._lzma.decompress(data, CHUNK_BYTES)
        except self._error as error:
            raise DecodeError(_DAMAGED) from error
        self.is_begun = self.is_begun or data != b""
        self.eof = self._lzma.eof
        self.rest = self._lzma.unused_data if self.eof else b""
        return plain


def _decompress(first: bytes, pieces: Iterator[bytes], make: Callable[[], _Member]) -> Iterator[bytes]:
    member = make()
    data: bytes | None = first
    while data is not None:
        plain = b""
        # A full piece may have left more in the decompressor, even if it took all of the data.
        while data or len(plain) == CHUNK_BYTES:
            if not member.is_begun:
                data = data.lstrip(b"\0")  # some tools pad with zeros, between members too
                if not data:
                    break
            plain = member.decompress(data)
            if plain:
                yield plain
            data = member.rest
            if member.eof:
                member, plain = make(), b""
        data = next(pieces, None)
    if member.is_begun:
        raise DecodeError("the compressed data ends too early")
