"""How far a lab is on its way up, for whoever waits for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LabProgress", "Reporter"]


@dataclass(frozen=True, slots=True)
class LabProgress:
    """How far a lab is on its way up.

    Args:
        fraction: 0 to 1; never less than before.
        what: what is happening, in a few words.
        seconds: since it began.
    """

    fraction: float
    what: str
    seconds: float


class Reporter:
    """Tells a function of the progress, unless nothing has changed.

    Args:
        progress: the function; None if nobody wants to know.
    """

    def __init__(self, progress: Callable[[LabProgress], None] | None = None) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._fraction = 0.0
        self._last = (-1.0, "")

    def __call__(self, fraction: float, what: str) -> None:
        """Report that `fraction` of the way is done and `what` is happening."""
        self._fraction = max(self._fraction, fraction)
        now = (round(self._fraction, 2), what)
        if self._progress is not None and now != self._last:
            self._last = now
            self._progress(LabProgress(self._fraction, what, time.monotonic() - self._started))
