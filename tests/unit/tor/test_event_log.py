"""The lines of a log, and what is noted about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from clew import limits
from clew.errors import DecodeError
from clew.tor.event_log import LogLines, LogNotes, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(data: bytes, size: int, max_line_bytes: int = 1000) -> tuple[list[str | None], LogNotes]:
    """The lines of some bytes that come in pieces of a size."""
    notes = LogNotes()
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return list(LogLines(pieces, notes, max_line_bytes=max_line_bytes)), notes


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", "é".encode(), b"\xff"])), st.integers(1, 9))
def test_lines(parts: list[bytes], size: int) -> None:
    """Lines are the same in whatever pieces they come; the last counts if it has an end."""
    data = b"".join(parts)
    *whole, torn = data.decode("utf-8", "surrogateescape").split("\n")
    lines, notes = read(data, size)
    assert lines == whole
    assert notes.lines == len(whole)
    assert notes.problems == (torn != "")


def test_long_lines() -> None:
    """A line that is too long takes no memory: nothing of it is kept."""
    for size in (3, 5):
        lines, notes = read(b"abc\n" + b"x" * 50 + b"\ndef\n", size, max_line_bytes=10)
        assert lines == ["abc", None, "def"]
        assert notes.lines == 3


def test_damage() -> None:
    """Where decompressing ends too early, the lines before are given, and where it was is noted."""

    def pieces() -> Iterator[bytes]:
        yield b"abc\nde"
        raise DecodeError("the compressed data ends too early")

    notes = LogNotes()
    assert list(LogLines(pieces(), notes)) == ["abc"]
    assert notes.first_problems == [Problem(2, "is the last that can be read: the compressed data ends too early")]


def test_problems_are_counted() -> None:
    """All are counted, the first are kept."""
    notes = LogNotes()
    for number in range(100):
        notes.add_problem(number, "is wrong")
    assert notes.problems == 100
    assert notes.first_problems == [Problem(number, "is wrong") for number in range(limits.LOG_PROBLEMS_KEPT)]
