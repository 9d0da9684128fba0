"""What every reader of a trace file gives: blocks with spans in them, and damage.

A reader takes the bytes of a file as they come, in pieces of any length, and does no I/O. It never raises for what the
bytes are: what cannot be read is a `Damage`, and what follows is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.model import SpanRecord

__all__ = ["Block", "Damage", "Glance", "Item", "Reader"]


class Glance(NamedTuple):
    """As much of a span as it takes to choose a trace."""

    trace_id: str  # 32 lower-case hex digits
    name: str
    start_time_ns: int
    end_time_ns: int
    is_error: bool  # status ERROR; a cancelled span is none


class Damage(NamedTuple):
    """A part of a file that could not be read."""

    first: int  # number of its first line, from 1; of the message in a binary file
    last: int
    reason: str  # half a sentence
    is_tail: bool = False  # the unfinished end of a file that somebody may still be writing


class Block(ABC):
    """A part of a file that holds spans, decoded as far as somebody asks."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number  # of its first line or of the message

    @abstractmethod
    def glances(self) -> list[Glance]:
        """Every span of the block, at a glance.

        Raises: DecodeError.
        """

    @abstractmethod
    def records(self) -> list[SpanRecord]:
        """Every span of the block.

        Raises: DecodeError.
        """


Item: TypeAlias = Block | Damage


class Reader(ABC):
    """Bytes in, blocks and damage out. Thread: one."""

    @property
    @abstractmethod
    def format(self) -> str:
        """Its name, for people."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """What blocks and damage are counted in: "line" or "message"."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterator[Item]:
        """Read on; the iterator must be exhausted before the next call."""

    @abstractmethod
    def finish(self) -> Iterator[Item]:
        """Nothing follows: read what has no end of its own, and tell of an unfinished tail."""
