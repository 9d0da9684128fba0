"""To any object with a `write` method."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from clew.errors import ConfigurationError, ExportError
from clew.exporters._text import batch_text

if TYPE_CHECKING:
    from clew.otlp import Batch

__all__ = ["BytesWriter", "TextWriter", "WriterExporter"]


class TextWriter(Protocol):
    """What takes text, such as `io.StringIO` or `open(path, "a")`."""

    def write(self, text: str, /) -> object: ...


class BytesWriter(Protocol):
    """What takes bytes, such as `io.BytesIO` or `open(path, "ab")`."""

    def write(self, data: bytes, /) -> object: ...


class WriterExporter:
    """Writes to an object of the program's, and flushes it after each batch if it has `flush`.

    Binary files of `io`, and what says so in its `mode`, get bytes (UTF-8). Anything else gets str; if it refuses the
    first with a TypeError, it gets bytes from then on. One batch is one call of `write`, except for a raw file that
    took only a part. What the writer has of a batch that failed stays there; the next one begins on a line of its own.

    Args:
        writer: stays the program's: it is not closed.
        pretty: an indented tree for people; else OTLP JSON Lines.

    Raises: ConfigurationError.
    """

    leaves_machine = False

    def __init__(self, writer: TextWriter | BytesWriter, *, pretty: bool = False) -> None:
        if not callable(getattr(writer, "write", None)):
            raise ConfigurationError(
                f"WriterExporter takes an object with a write method, such as an open file, not {writer!r}."
            )
        self._writer: Any = writer
        self._pretty = pretty
        self._binary = _is_binary(writer)  # None: not known before the first write
        self._is_torn = False  # a batch was not written to its end, or is being written

    def export(self, batch: Batch) -> None:
        """Write the batch.

        Raises: whatever the writer raises; ExportError, when it takes only a part.
        """
        data = batch_text(batch, pretty=self._pretty)
        if self._is_torn:
            data = b"\n" + data
        self._is_torn = True
        if self._binary:
            self._write_bytes(data)
        elif self._binary is False:
            self._writer.write(data.decode())
        else:
            try:
                self._writer.write(data.decode())
                self._binary = False
            except TypeError:
                self._write_bytes(data)
                self._binary = True
        if flush := getattr(self._writer, "flush", None):
            flush()
        self._is_torn = False

    def _write_bytes(self, data: bytes) -> None:
        if not isinstance(self._writer, io.RawIOBase):
            self._writer.write(data)
            return
        rest = memoryview(data)
        while rest:
            written = self._writer.write(rest)
            if not written:
                raise ExportError("the file takes no more bytes now, and a part of the batch was written")
            rest = rest[written:]

    def close(self) -> None:
        """Do nothing: the writer is the program's, and was flushed after the last batch."""

    def __repr__(self) -> str:
        return f"WriterExporter({self._writer!r}, pretty={self._pretty})"


def _is_binary(writer: object) -> bool | None:
    if isinstance(writer, io.TextIOBase):
        return False
    if isinstance(writer, (io.RawIOBase, io.BufferedIOBase)):
        return True
    mode = getattr(writer, "mode", None)
    return "b" in mode if isinstance(mode, str) else None
