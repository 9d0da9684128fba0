"""Times of formats that count microseconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from clew.errors import DecodeError

if TYPE_CHECKING:
    from clew.formats.writing import Losses
    from clew.model import SpanRecord

__all__ = ["Micros", "end_ns", "from_micros", "span_micros", "to_micros"]

_LOST = "time of which what is below a microsecond was cut off"


class Micros(NamedTuple):
    """When a span was, in microseconds."""

    start: int
    duration: int | None  # None: it ended before it started, which cannot be told as a duration


def to_micros(time_ns: int, losses: Losses) -> int:
    """A time; what is cut off counts as a loss."""
    micros, rest = divmod(time_ns, 1000)
    if rest:
        losses.add(_LOST)
    return micros


def span_micros(record: SpanRecord, losses: Losses) -> Micros:
    """A span's times. What took less than a microsecond took one: none would mean that its end is not known."""
    start = to_micros(record.start_time_ns, losses)
    duration_ns = record.end_time_ns - record.start_time_ns
    if duration_ns < 0:
        losses.add("end of a span, which was before its start")
        return Micros(start, None)
    if 0 < duration_ns < 1000:
        losses.add(_LOST)
        return Micros(start, 1)
    return Micros(start, to_micros(duration_ns, losses))


def from_micros(value: Any) -> int:
    """Nanoseconds, from a number of microseconds; fractions, which some tools write, count.

    Raises: DecodeError.
    """
    if type(value) is int:
        time_ns = value * 1000
    elif type(value) is float and math.isfinite(value):
        whole = int(value)
        time_ns = whole * 1000 + round((value - whole) * 1000)
    else:
        raise DecodeError("a time is no number of microseconds")
    if time_ns < 0 or time_ns >> 64:
        raise DecodeError("a time is before 1970 or beyond the year 2554")
    return time_ns


def end_ns(start_time_ns: int, duration_ns: int) -> int:
    """When a span ended.

    Raises: DecodeError.
    """
    end_time_ns = start_time_ns + duration_ns
    if end_time_ns >> 64:
        if end_time_ns - 1000 >> 64:
            raise DecodeError("a span ends beyond the year 2554")
        return (1 << 64) - 1  # only by what was rounded
    return end_time_ns
