"""clew.formats.compression: gzip and xz in pieces."""

from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DecodeError
from clew.formats import compression
from clew.formats.compression import decompress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Compress = Callable[[bytes], bytes]

TEXT = b"".join(b"%d line %d\n" % (number * number, number) for number in range(200))
both = pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces of a size."""
    return (data[at : at + size] for at in range(0, len(data), size))


def read(pieces: Iterator[bytes]) -> tuple[bytes, str | None]:
    """What is given, and the error that ends it."""
    given = b""
    try:
        for piece in decompress(pieces):
            given += piece
    except DecodeError as error:
        return given, str(error)
    return given, None


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_plain(size: int) -> None:
    """What is not compressed comes as it is, even if it has fewer bytes than a header."""
    assert read(cut(TEXT, size)) == (TEXT, None)
    assert read(cut(TEXT[:2], size)) == (TEXT[:2], None)
    assert read(iter([])) == (b"", None)


@both
@pytest.mark.parametrize("members", [1, 3])
def test_members(compress: Compress, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One member or several, padded between and behind or not, in pieces of any length."""
    monkeypatch.setattr(compression, "CHUNK_BYTES", 100)  # so that one piece unfolds to several
    length = len(TEXT) // members + 1
    for padding in (b"", b"\0" * 20):
        data = b"".join(compress(part) + padding for part in cut(TEXT, length))
        for size in (1, 7, len(data)):
            assert read(cut(data, size)) == (TEXT, None)


@both
def test_torn(compress: Compress) -> None:
    """Of a file that ends too early all that can be had is given, then it is said."""
    data = compress(TEXT) + compress(TEXT)
    for size in (7, len(data)):
        given, error = read(cut(data[: len(data) * 9 // 10], size))
        assert error == "the compressed data ends too early"
        assert (TEXT + TEXT).startswith(given)
        assert len(given) > len(TEXT)


@both
def test_damaged(compress: Compress) -> None:
    """What comes before the damage is given, then it is said."""
    data = compress(TEXT)
    given, error = read(iter([data, data[:60] + bytes(100) + data[160:]]))
    assert error == "the compressed data is damaged, and what follows cannot be read"
    assert given.startswith(TEXT)


@both
def test_a_bomb_unfolds_in_pieces(compress: Compress) -> None:
    """However much a piece unfolds to, it is handed on in small pieces."""
    sizes = [len(piece) for piece in decompress(iter([compress(bytes(20_000_000))]))]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= compression.CHUNK_BYTES


def test_a_dictionary_for_which_there_is_no_memory() -> None:
    """An xz file that asks for more memory than we give is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}]
    data = bytearray(lzma.compress(TEXT, filters=filters))
    assert read(iter([bytes(data)]))[1] is not None


@both
@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes(compress: Compress, data: bytes, size: int) -> None:
    """Whatever follows a header raises nothing but DecodeError."""
    for head in (compress(b"")[:6], compress(b"x")):
        read(cut(head + data, size))
