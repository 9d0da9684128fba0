"""To standard output."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING

from clew.errors import ExportError
from clew.exporters._text import batch_text

if TYPE_CHECKING:
    from clew.otlp import Batch

__all__ = ["StdoutExporter"]


class StdoutExporter:
    """Writes to whatever `sys.stdout` is at the time of a batch.

    Args:
        pretty: an indented tree for people; else OTLP JSON Lines.
    """

    leaves_machine = False

    def __init__(self, *, pretty: bool = False) -> None:
        self._pretty = pretty
        self._is_torn = False  # a batch was not written to its end, or is being written

    def export(self, batch: Batch) -> None:
        """Write the batch.

        Raises: ExportError, OSError or ValueError, when standard output is closed or nobody reads it any more.
        """
        out = sys.stdout
        if out is None:
            raise ExportError("the program has no standard output")
        encoding = getattr(out, "encoding", None) or "utf-8"
        data = batch_text(batch, pretty=self._pretty, encoding=encoding)
        # What the program printed before comes first.
        out.flush()
        if self._is_torn:
            data = b"\n" + data  # a piece that is left costs no other line
        self._is_torn = True
        descriptor = _descriptor(out)
        if descriptor is None:
            out.write(data.decode(encoding if self._pretty else "utf-8"))
            out.flush()
        else:
            _write_all(descriptor, data)
        self._is_torn = False

    def close(self) -> None:
        """Do nothing: standard output is the program's."""

    def __repr__(self) -> str:
        return f"StdoutExporter(pretty={self._pretty})"


def _descriptor(out: object) -> int | None:
    """The descriptor of a stream that Python itself made for one; None for any other object in its place.

    Writing past the stream's buffer leaves nothing in it for a forked child to write once more, and does not hold its
    lock, without which the child could never print again, while whoever reads the other end makes us wait.
    """
    if type(out) is not io.TextIOWrapper:
        return None
    try:
        return out.fileno()
    except OSError:  # made on something else than a file
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # A terminal shared with a program that made it non-blocking.
            select.select([], [descriptor], [])
