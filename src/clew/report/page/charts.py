"""Charts of a page, as SVG: curves, columns over time, bars of parts.

A chart is as wide as its place on the page: positions are shares of the width, so that text keeps its size on a phone.
What a browser stretches are the curves, in a picture of 1000 by 1000 within the picture.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from clew.pretty import format_duration
from clew.report.axis import axis_of
from clew.report.page.markup import Markup, join, tag, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clew.report.axis import Axis
    from clew.report.distribution import Summary
    from clew.report.timeline import Steps

__all__ = ["Curve", "Part", "Stack", "bar", "columns", "curves", "key", "percent", "range_mark", "scale", "swatch"]

_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)  # lines across a chart of curves
_MARKED = ("p50_ns", "p90_ns", "p99_ns")
_COLUMN_TICKS = 4
_CLOCK_TICKS = 5
# A label that begins further to the right would not fit.
_LAST_LABEL = 0.94
_LENGTHS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


class Curve(NamedTuple):
    """A distribution in a chart."""

    label: str
    color: int  # its place among the colours
    summary: Summary
    is_before: bool  # drawn as a dashed line


def curves(title: str, items: Sequence[Curve]) -> Markup:
    """Cumulative distributions on one axis of time."""
    axis = axis_of(curve.summary for curve in items)
    described = "; ".join(
        f"{curve.label}: median {format_duration(curve.summary.p50_ns)}, 90 % within "
        f"{format_duration(curve.summary.p90_ns)}, of {curve.summary.number:,}"
        for curve in items
    )
    grid = [*_grid_lines(axis), *map(_share_line, _SHARES)]
    # What was before lies below what is now.
    paths = [_path(curve, axis) for curve in sorted(items, key=lambda curve: not curve.is_before)]
    dots = [_dot(curve, axis, name) for curve in items if not curve.is_before for name in _MARKED]
    plot = tag("svg", *paths, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%")
    svg = tag(
        "svg",
        *grid,
        plot,
        *dots,
        tag("line", class_="cursor", y1="0", y2="100%"),
        role="img",
        aria_label=f"{title}: cumulative distribution. {described}",
        tabindex="0",
        data_low=axis.low_ns,
        data_high=axis.high_ns,
        data_log=axis.is_log,
    )
    scale = "time, logarithmic" if axis.is_log else "time"
    if any(curve.summary.min_ns < axis.low_ns for curve in items):
        scale += "; what took less stands at the left edge"
    return tag(
        "div", svg, tag("p", "share of all", class_="y title"), tag("p", scale, class_="x title"), class_="plot curves"
    )


def _grid_lines(axis: Axis) -> Iterable[Markup]:
    for mark in axis.ticks():
        at = percent(axis.at(mark.duration_ns))
        yield tag("line", x1=at, x2=at, y1="0", y2="100%", class_="grid" if mark.label else "grid minor")
        if mark.label:
            yield tag("text", mark.label, x=at, y="100%", dy="1.35em", class_="x")


def _share_line(share: float) -> Markup:
    at = percent(1 - share)
    line = tag("line", x1="0", x2="100%", y1=at, y2=at, class_="grid" if share else "grid base")
    return join((line, tag("text", f"{share:.0%}", x="-8", y=at, dy=".33em", class_="y")))


def _path(curve: Curve, axis: Axis) -> Markup:
    """Steps: between two durations that occurred, the share does not change."""
    places = [(round(1000 * axis.at(ns), 1), round(1000 * (1 - share), 1)) for ns, share in curve.summary.curve]
    steps = [f"M{places[0][0]:g} 1000", *(f"H{across:g}V{up:g}" for across, up in places)]
    return tag(
        "path",
        d="".join(steps),
        class_=f"curve c{curve.color}" + (" before" if curve.is_before else ""),
        vector_effect="non-scaling-stroke",
        data_label=curve.label,
    )


def _dot(curve: Curve, axis: Axis, name: str) -> Markup:
    duration_ns: int = getattr(curve.summary, name)
    share = int(name[1:3]) / 100
    title = tag("title", f"{curve.label}: {share:.0%} within {format_duration(duration_ns)}")
    at, up = percent(axis.at(duration_ns)), percent(1 - share)
    return tag("circle", title, cx=at, cy=up, r="3.5", class_=f"dot c{curve.color}")


# --- columns over time ----------------------------------------------------------------------------------------------


class Stack(NamedTuple):
    """What is counted in each step of time, in one colour."""

    label: str
    color: int
    counts: Sequence[int]


def columns(title: str, steps: Steps, stacks: Sequence[Stack]) -> Markup:
    """Counts over time, one upon the other."""
    tops = [sum(stack.counts[at] for stack in stacks) for at in range(steps.number)]
    step = _round_count(max(tops, default=1) / _COLUMN_TICKS)
    high = step * -(-max([1, *tops]) // step)
    marks: list[Markup] = []
    for value in range(0, high + 1, step):
        y = percent(1 - value / high)
        marks.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid" if value else "grid base"))
        marks.append(tag("text", f"{value:,}", x="-8", y=y, dy=".33em", class_="y"))
    for number, at in enumerate(range(0, steps.number, -(-steps.number // _CLOCK_TICKS))):
        x, class_ = percent(at / steps.number), "x first second" if number % 2 else "x first"
        marks.append(tag("text", _clock(steps, at), x=x, y="100%", dy="1.35em", class_=class_))
    for at in range(steps.number):
        marks += _column(steps, stacks, at, high)
    described = "; ".join(f"{stack.label}: {sum(stack.counts):,}" for stack in stacks)
    svg = tag("svg", *marks, role="img", aria_label=f"{title}. {described}")
    x_title = f"time of day, UTC; a column is {_length(steps.width_ns // 1_000_000_000)}"
    return tag(
        "div", svg, tag("p", "failures", class_="y title"), tag("p", x_title, class_="x title"), class_="plot columns"
    )


def _column(steps: Steps, stacks: Sequence[Stack], at: int, high: int) -> Iterable[Markup]:
    bottom = 0
    for stack in stacks:
        if number := stack.counts[at]:
            bottom += number
            yield tag(
                "rect",
                tag("title", f"{_clock(steps, at)}: {stack.label}: {number:,}"),
                x=percent((at + 0.08) / steps.number),
                width=percent(0.84 / steps.number),
                y=percent(1 - bottom / high),
                height=percent(number / high),
                class_=f"c{stack.color}",
            )


def _length(seconds: int) -> str:
    """The width of a column."""
    unit, unit_seconds = next(item for item in _LENGTHS if seconds % item[1] == 0)
    return f"{seconds // unit_seconds:,} {unit}"


def _clock(steps: Steps, at: int) -> str:
    """The beginning of a step, as exact as steps are long."""
    try:
        time = datetime.fromtimestamp((steps.start_ns + at * steps.width_ns) // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return "?"
    is_long = steps.number * steps.width_ns > 86_400_000_000_000
    if steps.width_ns >= 86_400_000_000_000:
        return f"{time:%Y-%m-%d}"
    seconds = ":%S" if steps.width_ns < 60_000_000_000 else ""
    return time.strftime(("%d %b " if is_long else "") + "%H:%M" + seconds)


def _round_count(value: float) -> int:
    power = 1
    while power * 10 < value:
        power *= 10
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= value)


# --- bars -----------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A part of a bar."""

    label: str
    color: int
    duration_ns: int


def bar(parts: Iterable[Part], longest_ns: int) -> Markup:
    """A bar of parts that add up, on an axis from 0 to the longest of several such bars."""
    marks, at_ns = [], 0
    for part in parts:
        if part.duration_ns > 0:
            title = tag("title", f"{part.label}: {format_duration(part.duration_ns)}")
            x, width = percent(at_ns / longest_ns), percent(part.duration_ns / longest_ns)
            marks.append(tag("rect", title, x=x, width=width, y="0", height="100%", class_=f"c{part.color}"))
            at_ns += part.duration_ns
    return tag("svg", *marks, class_="bar", aria_hidden="true")


def scale(axis: Axis, most: int = 5) -> Markup:
    """The axis above bars: labels for round durations."""
    marks = [mark for mark in axis.ticks(most) if axis.at(mark.duration_ns) < _LAST_LABEL]
    return tag(
        "svg", *(tag("text", mark.label, x=percent(axis.at(mark.duration_ns)), y="75%") for mark in marks), class_="bar"
    )


def percent(share: float) -> str:
    """A place in a chart."""
    return f"{round(100 * share, 2):g}%"


def range_mark(summary: Summary | None, axis: Axis) -> Markup:
    """Where the median is, and how far it is from there to p90."""
    if summary is None:
        return text("")
    low, high = percent(axis.at(summary.p50_ns)), percent(axis.at(summary.p90_ns))
    return tag(
        "svg",
        tag("line", x1="0", x2="100%", y1="50%", y2="50%", class_="grid"),
        tag("line", x1=low, x2=high, y1="50%", y2="50%", class_="range"),
        tag("circle", cx=low, cy="50%", r="4", class_="dot c0"),
        class_="mark",
        aria_hidden="true",
    )


def swatch(color: int, *, is_before: bool = False) -> Markup:
    """What a legend shows of a curve."""
    class_ = f"curve c{color}" + (" before" if is_before else "")
    line = tag("line", x1="0", x2="100%", y1="50%", y2="50%", class_=class_)
    return tag("svg", line, class_="swatch", aria_hidden="true")


def key(color: int) -> Markup:
    """What a legend shows of an area."""
    area = tag("rect", width="100%", height="100%", rx="2", class_=f"c{color}")
    return tag("svg", area, class_="key", aria_hidden="true")
