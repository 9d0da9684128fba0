"""clew.formats.files: reading files, compressed or not, and what cannot be read twice."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import FormatError
from clew.formats.files import TraceFile, read_items
from clew.formats.reading import Damage, Item

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[2] / "data" / "traces"
NAMES = ["select-guard", "fetch", "extend-circuit", "build-circuit", "GET /"]


def tell(items: list[Item]) -> list[object]:
    return [
        told
        for item in items
        for told in (
            [f"damage: {item.reason}"] if isinstance(item, Damage) else [record.name for record in item.records()]
        )
    ]


def test_a_file_is_read_as_often_as_needed() -> None:
    """Two passes over one file see the same, even at the same time, and tell how far they are."""
    with TraceFile(str(DATA / "otlp.jsonl")) as file:
        seen: list[int] = []
        both = list(zip(file.items(on_bytes=seen.append), file.items(), strict=True))
        assert tell([first for first, _ in both]) == tell([second for _, second in both]) == NAMES
        assert sum(seen) == file.size_bytes


def test_what_is_appended_later_is_not_read(tmp_path: Path) -> None:
    """A file is read as it was when it was opened, so that both passes see the same."""
    path = tmp_path / "traces.jsonl"
    text = (DATA / "otlp.jsonl").read_bytes()
    path.write_bytes(text)
    with TraceFile(str(path)) as file:
        path.write_bytes(text + text)
        assert tell(list(file.items())) == NAMES


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    """A file that is truncated between two passes ends where it ends."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes((DATA / "otlp.jsonl").read_bytes())
    with TraceFile(str(path)) as file:
        path.write_bytes(b"")
        assert tell(list(file.items())) == []


def test_a_pipe_is_read_twice() -> None:
    """What comes through a pipe is kept in a temporary file, so that it can be read again."""
    reading, writing = os.pipe()
    os.write(writing, (DATA / "otlp.jsonl").read_bytes())
    os.close(writing)
    with TraceFile(f"/dev/fd/{reading}") as file:
        assert tell(list(file.items())) == tell(list(file.items())) == NAMES
    os.close(reading)


def test_an_unknown_format_is_told_with_the_name(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" * 10)
    with TraceFile(str(path)) as file, pytest.raises(FormatError, match=r"picture\.png: it is in no format"):
        list(file.items())


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_compressed(compress: Callable[[bytes], bytes]) -> None:
    """Compressed files are read; of a damaged one what comes before the damage, and the damage is told."""
    data = compress((DATA / "otlp.jsonl").read_bytes())
    assert tell(list(read_items(iter([data])))) == NAMES
    assert "damage: the compressed data ends too early" in tell(list(read_items(iter([data[:-20]]))))


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_gzip_header(data: bytes) -> None:
    """Damaged compressed data raises nothing but FormatError."""
    for head in (b"\x1f\x8b", gzip.compress(b'{"TraceID":"1","SpanID":"2"}\n')):
        with contextlib.suppress(FormatError):
            list(read_items(iter([head + data])))
