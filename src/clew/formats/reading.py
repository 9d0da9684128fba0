"""What every reader of a trace file gives: blocks with spans in them, and damage.

A reader takes the bytes of a file as they come, in pieces of any length, and does no I/O. It never raises for what the
bytes are: what cannot be read is a `Damage`, and what follows is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias, TypeVar

from clew.errors import DecodeError
from clew.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clew.model import SpanRecord

__all__ = ["Block", "Damage", "Glance", "Item", "Reader", "decoded", "glances_of", "records_of"]


class Glance(NamedTuple):
    """As much of a span as it takes to choose a trace, or to count."""

    trace_id: str  # 32 lower-case hex digits
    name: str
    start_time_ns: int
    end_time_ns: int
    is_error: bool  # status ERROR; a cancelled span is none
    is_cancelled: bool = False
    service: str = ""  # its name

    @staticmethod
    def of(record: SpanRecord) -> Glance:
        """A record, at a glance."""
        return Glance(
            record.trace_id,
            record.name,
            record.start_time_ns,
            record.end_time_ns,
            record.status is Status.ERROR,
            record.status is Status.CANCELLED,
            record.service_name,
        )


class Damage(NamedTuple):
    """A part of a file that could not be read."""

    first: int  # number of its first line, from 1; of the message or span where there are no lines
    last: int
    reason: str  # half a sentence
    unit: str = "line"  # what is numbered: "line", "message" or "span"
    is_tail: bool = False  # the unfinished end of a file that somebody may still be writing


class Block(ABC):
    """A part of a file that holds spans, decoded as far as somebody asks."""

    __slots__ = ("number",)
    unit: ClassVar[str] = "line"  # what is numbered
    is_single: ClassVar[bool] = False  # it is one span, which is better written together with others

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

    def json_lines(self) -> tuple[bytes, int] | None:
        """The block as OTLP JSON Lines and the number of its spans, if that can be had without making records.

        Raises: DecodeError.
        """
        return None


Item: TypeAlias = Block | Damage

_Spans = TypeVar("_Spans")


def glances_of(items: Iterable[Item], on_damage: Callable[[Damage], object]) -> Iterator[list[Glance]]:
    """Look at the spans of each block that a reader gave.

    Args:
        on_damage: is given the damage among the items, and that of blocks that cannot be decoded.
    """
    return decoded(items, lambda block: block.glances(), on_damage)


def records_of(items: Iterable[Item], on_damage: Callable[[Damage], object]) -> Iterator[list[SpanRecord]]:
    """Decode each block that a reader gave. Args: see `glances_of`."""
    return decoded(items, lambda block: block.records(), on_damage)


def decoded(
    items: Iterable[Item], read: Callable[[Block], _Spans], on_damage: Callable[[Damage], object]
) -> Iterator[_Spans]:
    """Give what a function makes of each block that a reader gave. Args: see `glances_of`."""
    for item in items:
        if isinstance(item, Damage):
            on_damage(item)
            continue
        try:
            spans = read(item)
        except DecodeError as error:
            on_damage(Damage(item.number, item.number, str(error), item.unit))
        else:
            yield spans


class Reader(ABC):
    """Bytes in, blocks and damage out. Thread: one."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterator[Item]:
        """Read on; the iterator must be exhausted before the next call."""

    @abstractmethod
    def finish(self) -> Iterator[Item]:
        """Nothing follows: read what has no end of its own, and tell of an unfinished tail."""
