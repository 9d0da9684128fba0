"""What options hold: points in time, numbers of things."""

from __future__ import annotations

import argparse
from datetime import datetime

__all__ = ["point_in_time", "positive"]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def point_in_time(text: str) -> int:
    """A point in time, in nanoseconds since 1970, from a duration until now or a date and time (local, if it does not
    say)."""
    number = text.rstrip("msdh")
    unit = text[len(number) :]
    try:
        if unit in _UNITS:
            return max(int((datetime.now().astimezone().timestamp() - float(number) * _UNITS[unit]) * 1e9), 0)
        return max(int(datetime.fromisoformat(text).astimezone().timestamp() * 1e9), 0)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            "it is neither a duration (90s, 10m, 2h, 1d) nor a time (2026-01-31T03:00)"
        ) from None


def positive(text: str) -> int:
    """A number of things, at least one."""
    number = int(text) if text.isdecimal() else 0
    if not 0 < number <= 1_000_000:
        raise argparse.ArgumentTypeError("it must be a whole number from 1 on")
    return number
