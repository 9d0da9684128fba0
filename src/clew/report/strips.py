"""Curves and counts as a strip of characters, one line high."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.report.axis import Axis
    from clew.report.distribution import Summary

__all__ = ["ASCII_STRIP", "UNICODE_STRIP", "counts_strip", "curve_strip", "scale_strip"]

# From nearly none to all.
UNICODE_STRIP = "▁▂▃▄▅▆▇█"
ASCII_STRIP = "_.:-=+*#"


def curve_strip(summary: Summary, axis: Axis, width: int, levels: str) -> str:
    """A cumulative distribution: in each column, how large a share was done by then.

    Args:
        axis: what the columns stand for.
        width: columns; with 0 there is no strip.
        levels: characters, the lowest first.
    """
    shares = (summary.share_within(axis.duration((column + 1) / width)) for column in range(width))
    return "".join(_level(share, levels) for share in shares)


def counts_strip(counts: Sequence[int], width: int, levels: str) -> str:
    """Counts over time: in each column, those of as many steps as it takes to fit."""
    if not width or not counts:
        return ""
    steps = -(-len(counts) // width)
    sums = [sum(counts[at : at + steps]) for at in range(0, len(counts), steps)]
    return "".join(_level(number / max(sums), levels) for number in sums)


def scale_strip(axis: Axis, width: int) -> str:
    """Labels of round durations, each beginning at its column."""
    line = ""
    for mark in axis.ticks(max(width // 8, 2)) if width else ():
        column = round(axis.at(mark.duration_ns) * width)
        if mark.label and column + len(mark.label) <= width and (not line or column > len(line)):
            line = line.ljust(column) + mark.label
    return line


def _level(share: float, levels: str) -> str:
    """Nothing is blank, and all is full; what is little is seen."""
    return levels[min(max(round(share * len(levels)), 1), len(levels)) - 1] if share > 0 else " "
