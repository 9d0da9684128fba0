"""Trace files, read a piece at a time: from a path or standard input, compressed or not."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from clew.errors import DecodeError, FormatError
from clew.formats.compression import CHUNK_BYTES, decompress
from clew.formats.detect import PARQUET_MAGIC, AnyReader
from clew.formats.reading import Damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import RawIOBase
    from types import TracebackType

    from _typeshed import WriteableBuffer

    from clew.formats.reading import Item, Reader

__all__ = ["CHUNK_BYTES", "STDIN", "TraceFile", "ignore_bytes", "open_binary", "read_items"]

STDIN = "-"


def ignore_bytes(_: int) -> None:
    """Do nothing with a number of bytes."""


def open_binary(path: str) -> BinaryIO:
    """Open a file or, for "-", a copy of standard input's descriptor, so that closing it is always right.

    Raises: OSError.
    """
    if path == STDIN:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    return Path(path).open("rb")


class TraceFile:
    """A file as it was when it was opened, to be read any number of times.

    What cannot be read twice (standard input, a pipe) is copied to a temporary file first.

    Args:
        path: of a file, "-" for standard input.
        on_bytes: called with the number of bytes that were copied since the last call.
        size_bytes: as much of the file as is read; None for all of it.
        descriptor: of the file, where it is open and the path may lead to another one by now; it is copied.

    Raises: OSError.
    """

    def __init__(
        self,
        path: str,
        on_bytes: Callable[[int], object] = ignore_bytes,
        *,
        size_bytes: int | None = None,
        descriptor: int | None = None,
    ) -> None:
        self.name = "standard input" if path == STDIN else path
        self._file = open_binary(path) if descriptor is None else os.fdopen(os.dup(descriptor), "rb")
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            import tempfile  # seldom needed, and not quick to load

            spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by close()
            try:
                with self._file as source:
                    while piece := os.read(source.fileno(), CHUNK_BYTES):
                        _write_all(spool, piece)
                        on_bytes(len(piece))
            except BaseException:
                spool.close()
                raise
            self._file = spool
        self.size_bytes = os.fstat(self._file.fileno()).st_size if size_bytes is None else size_bytes

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def items(
        self,
        wanted: frozenset[str] | None = None,
        on_bytes: Callable[[int], object] = ignore_bytes,
        make_reader: Callable[[frozenset[str] | None], Reader] = AnyReader,
    ) -> Iterator[Item]:
        """Read the file from its beginning.

        Args:
            wanted: trace ids; what holds none of them may be left out. None reads everything.
            on_bytes: called with the number of bytes, out of `size_bytes`, that were read since the last call.
            make_reader: makes the reader, given `wanted`, where the content is not to tell which one it is.

        Raises:
            FormatError: a format that is not known.
            OSError: the file cannot be read.
        """
        try:
            if os.pread(self._file.fileno(), len(PARQUET_MAGIC), 0) == PARQUET_MAGIC:
                yield from self._parquet(wanted, on_bytes)
            else:
                yield from read_items(self._pieces(on_bytes), wanted, make_reader)
        except FormatError as error:
            raise FormatError(f"{self.name}: {error}") from error

    def _parquet(self, wanted: frozenset[str] | None, on_bytes: Callable[[int], object]) -> Iterator[Item]:
        """The same for a format that begins at its end. It needs a package that is loaded only then."""
        from clew.formats.parquet import read_parquet

        told = 0.0

        def tell(part: float) -> None:
            nonlocal told
            on_bytes(round((told + part) * self.size_bytes) - round(told * self.size_bytes))
            told += part

        yield from read_parquet(_Seekable(self._file.fileno(), self.size_bytes), wanted, tell)

    def _pieces(self, on_bytes: Callable[[int], object]) -> Iterator[bytes]:
        """The stored bytes, up to the size that the file had: what is appended meanwhile is not read."""
        at = 0
        while at < self.size_bytes:
            # Not read(): several readers of one file must not move each other.
            piece = os.pread(self._file.fileno(), min(CHUNK_BYTES, self.size_bytes - at), at)
            if not piece:  # truncated meanwhile
                return
            at += len(piece)
            yield piece
            on_bytes(len(piece))


class _Seekable(io.RawIOBase):
    """A file that is read with a position of its own.

    Args:
        descriptor: of the file; it stays open.
        size_bytes: what is behind that is not read.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._size = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        count = os.preadv(self._descriptor, [view[: max(self._size - self._at, 0)]], self._at)
        self._at += count
        return count


def _write_all(spool: RawIOBase, piece: bytes) -> None:
    """Raises: OSError, which says that it is about a copy."""
    import tempfile

    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[spool.write(rest) :]
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, for the copy of it in {tempfile.gettempdir()}") from error


def read_items(
    pieces: Iterator[bytes],
    wanted: frozenset[str] | None = None,
    make_reader: Callable[[frozenset[str] | None], Reader] = AnyReader,
) -> Iterator[Item]:
    """Read blocks and damage from the pieces of a whole file, compressed or not.

    Args: see `TraceFile.items`.
    Raises:
        FormatError: a format that is not known.
    """
    reader = make_reader(wanted)
    try:
        for piece in decompress(pieces):
            yield from reader.feed(piece)
    except DecodeError as error:
        yield Damage(0, 0, str(error))
    yield from reader.finish()
