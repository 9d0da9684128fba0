"""Colours: what each part of the picture looks like on a terminal."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from clew.pretty import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Line", "Role", "cut", "line_width", "to_segments"]


class Role(Enum):
    """What a piece of text is."""

    PLAIN = auto()
    DIM = auto()
    STRONG = auto()
    TREE = auto()
    ERROR = auto()
    CANCELLED = auto()
    NOTE = auto()
    EVENT = auto()
    LINK = auto()
    # A bar: what the span does there (bars.State), and how it ended.
    PATH = auto()
    OWN = auto()
    WAITING = auto()
    ERROR_PATH = auto()
    ERROR_OWN = auto()
    ERROR_WAITING = auto()
    CANCELLED_PATH = auto()
    CANCELLED_OWN = auto()
    CANCELLED_WAITING = auto()


_STYLES = {
    Role.PLAIN: Style.null(),
    Role.DIM: Style(dim=True),
    Role.STRONG: Style(bold=True),
    Role.TREE: Style(color="bright_black"),
    Role.ERROR: Style(color="red", bold=True),
    Role.CANCELLED: Style(color="yellow", bold=True),
    Role.NOTE: Style(color="yellow"),
    Role.EVENT: Style(color="magenta"),
    Role.LINK: Style(color="blue"),
    Role.PATH: Style(color="bright_cyan"),
    Role.OWN: Style(color="cyan", dim=True),
    Role.WAITING: Style(color="bright_black"),
    Role.ERROR_PATH: Style(color="bright_red"),
    Role.ERROR_OWN: Style(color="red", dim=True),
    Role.ERROR_WAITING: Style(color="red", dim=True),
    Role.CANCELLED_PATH: Style(color="bright_yellow"),
    Role.CANCELLED_OWN: Style(color="yellow", dim=True),
    Role.CANCELLED_WAITING: Style(color="yellow", dim=True),
}

Line: TypeAlias = list[tuple[str, Role]]  # one line of the picture, without a newline


def to_segments(lines: Iterable[Line]) -> Iterator[Segment]:
    """Lines as rich prints them. No text of theirs is taken for markup, nor wrapped."""
    for line in lines:
        for text, role in line:
            yield Segment(text, _STYLES[role])
        yield Segment.line()


def line_width(line: Line) -> int:
    """The columns that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def cut(text: str, width: int, ellipsis: str) -> str:
    """Escape text, and shorten it to a number of columns."""
    # However long it is, only so much need be looked at: more characters than this do not fit (combining ones apart,
    # which nobody reads by the hundred).
    beginning = escape(text[: width * 4])
    if len(text) <= width * 4 and cell_len(beginning) <= width:
        return beginning
    if width <= len(ellipsis):
        return ellipsis[: max(width, 0)]
    return set_cell_size(beginning, width - len(ellipsis)).rstrip(" ") + ellipsis
