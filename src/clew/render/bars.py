"""The waterfall beside the tree: a bar for each span, drawn in eighths of a character."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from clew.pretty import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.render.timing import Interval

__all__ = ["ASCII_GLYPHS", "UNICODE_GLYPHS", "Glyphs", "Part", "Scale", "State"]


# "1.50 s" is 1.5 s on an axis, "2.00 s" 2 s.
_FRACTION_ZEROS = re.compile(r"\.0+(?= )|(?<=\.\d)0+(?= )")


# Steps of an axis of minutes and hours.
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)


class State(IntEnum):
    """What a span does at a moment, the numbers in the order in which they are painted over each other."""

    ABSENT = 0
    OWN = 1  # it runs
    WAITING = 2  # its children run
    PATH = 3  # it runs, and the whole trace waits for it


class Glyphs(NamedTuple):
    """The characters of a picture."""

    path: str  # by eighths of a character, from 1 to 8, left-aligned
    path_right: str  # an eighth, half, right-aligned
    own: str
    waiting: str
    error: str
    cancelled: str
    event: str
    link: str
    note: str
    tree_line: str  # in front of what stands below a span that has a later sibling
    tree_fork: str
    tree_last: str
    rule: str
    ellipsis: str
    dot: str
    times: str


UNICODE_GLYPHS = Glyphs("▏▎▍▌▋▊▉█", "▕▐", "▒", "─", "✗", "⊘", "◆", "↪", "!", "│ ", "├ ", "└ ", "━", "…", "·", "×")  # noqa: RUF001
ASCII_GLYPHS = Glyphs("||||####", "|#", "=", "-", "x", "o", "*", ">", "!", "| ", "|-", "`-", "=", "..", "-", "x")


class Part(NamedTuple):
    """A piece of a bar in one state."""

    text: str
    state: State


class Scale:
    """Times to columns.

    Args:
        start_ns: the time at the left edge.
        end_ns: the time at the right edge.
        width: columns.
    """

    def __init__(self, start_ns: int, end_ns: int, width: int) -> None:
        self._start_ns = start_ns
        self._length_ns = max(end_ns - start_ns, 1)
        self.width = width

    def _slot(self, time_ns: int) -> int:
        """The eighth of a column in which a moment lies."""
        slots = self.width * 8
        return min(max((time_ns - self._start_ns) * slots // self._length_ns, 0), slots)

    def column(self, time_ns: int) -> int:
        return min(self._slot(time_ns) // 8, self.width - 1)

    def bar(self, span: Interval, waiting: Iterable[Interval], path: Iterable[Interval], glyphs: Glyphs) -> list[Part]:
        """Draw a span; however short it is, something is seen of it."""
        slots = bytearray(self.width * 8)
        first = min(self._slot(span[0]), len(slots) - 1)
        last = max(self._slot(span[1]), first + 1)
        path = list(path)
        # What is too short to be seen has the best state that it has at all.
        slots[first:last] = bytes((State.PATH if path and last == first + 1 else State.OWN,)) * (last - first)
        for intervals, state in ((waiting, State.WAITING), (path, State.PATH)):
            for start, end in intervals:
                begin, finish = self._slot(start), self._slot(end)
                slots[begin:finish] = bytes((state,)) * (finish - begin)
        parts: list[Part] = []
        for at in range(0, len(slots), 8):
            text, state = _cell(slots[at : at + 8], glyphs, is_short=last - first < 8)
            if parts and parts[-1].state is state:
                parts[-1] = Part(parts[-1].text + text, state)
            else:
                parts.append(Part(text, state))
        return parts

    def axis(self) -> str:
        """Labels for round times from the start of the trace, each at its column."""
        step_ns = _round_step(self._length_ns * 9 // self.width)
        line = ""
        for time_ns in range(0, self._length_ns + 1, step_ns):
            label = _FRACTION_ZEROS.sub("", format_duration(time_ns)) if time_ns else "0"
            column = self.column(self._start_ns + time_ns)
            if column + len(label) <= self.width and (not line or column > len(line)):
                line = line.ljust(column) + label
        return line


def _cell(slots: bytearray, glyphs: Glyphs, *, is_short: bool) -> tuple[str, State]:
    """The character for eight eighths: the state that fills most of it; of two the higher."""
    counts = {state: slots.count(state) for state in State}
    filled = 8 - counts[State.ABSENT]
    if not filled:
        return " ", State.ABSENT
    state = max((State.PATH, State.OWN, State.WAITING), key=counts.__getitem__)
    if state is State.WAITING:
        return glyphs.waiting, state
    if state is State.OWN and not is_short:  # shades do not come in eighths
        return (glyphs.own, state) if filled > 3 else (" ", State.ABSENT)
    # At the edge of a bar, draw as much as there is; Unicode has few blocks that are aligned to the right.
    begins, ends = slots[0] == State.ABSENT, slots[7] == State.ABSENT
    if begins and not ends:
        return glyphs.path_right[filled > 2] if filled < 7 else glyphs.path[7], state
    return glyphs.path[filled - 1 if ends else 7], state


def _round_step(least_ns: int) -> int:
    """The next 1, 2 or 5 times a power of ten; beyond half a minute, what divides minutes, hours or days."""
    minute_ns = 60_000_000_000
    if least_ns <= minute_ns // 2:
        return _round_number(least_ns)
    minutes = -(-least_ns // minute_ns)
    days = -(-minutes // 1440)
    return minute_ns * next((step for step in _MINUTES if step >= minutes), 1440 * _round_number(days))


def _round_number(least: int) -> int:
    power = 1
    while power * 10 < least:
        power *= 10
    return power * next(factor for factor in (1, 2, 5, 10) if power * factor >= least)
