"""Decisions taken from bytes, so that whatever mutates bytes (hypothesis, libFuzzer) mutates what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Source", "cuts", "hostile_text"]

_T = TypeVar("_T")


class Source:
    """Bytes, taken from the front. Where they have run out everything is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """So many bytes, or what is left."""
        part = self._data[self._at : self._at + count]
        self._at += len(part)
        return part

    def number(self, bound: int) -> int:
        """A number from 0 to below the bound."""
        size = 1 if bound <= 0x100 else 2 if bound <= 0x10000 else 8
        return int.from_bytes(self.take(size), "big") % bound

    def pick(self, items: Sequence[_T]) -> _T:
        """One of these."""
        return items[self.number(len(items))]

    def piece(self, most: int = 64) -> bytes:
        """Bytes of a length that is decided too."""
        return self.take(self.number(most + 1))

    def text(self, most: int = 64) -> str:
        """The same as text, in which what is no UTF-8 stands as lone surrogates."""
        return hostile_text(self.piece(most))

    def line(self) -> bytes:
        """Up to the next newline, which is taken too."""
        end = self._data.find(b"\n", self._at)
        part = self.take(len(self._data) if end < 0 else end - self._at)
        self.take(1)
        return part

    def rest(self) -> bytes:
        """What is left."""
        return self.take(len(self._data))


def hostile_text(data: bytes) -> str:
    """Text as the control port's parser makes it: nothing is lost, and not all of it can be encoded."""
    return data.decode("utf-8", "surrogateescape")


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The same bytes in pieces, in ways that depend on nothing but the bytes: of one byte each as long as that is not
    too many, and of sizes that follow from what is in them."""
    if len(data) <= 1024:
        yield [data[at : at + 1] for at in range(len(data))]
    pieces = []
    at = 0
    while at < len(data):
        size = 1 + data[at] % 61
        pieces.append(data[at : at + size])
        at += size
    yield pieces
