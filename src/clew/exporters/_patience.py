"""The time that an export has, and waiting within it."""

from __future__ import annotations

import math
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from clew.limits import OTLP_WAIT_SECONDS
from clew.pipeline import time_left

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

__all__ = ["OutOfTimeError", "Patience", "of_system"]


def of_system(module: str, name: str) -> Any:
    """What a module of Python's has, also where gevent put something of its own in its place.

    Exporters run on a thread of the system's, which gevent's loops have no business on.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(__import__(module), name)


_poll: Callable[[], Any] = of_system("select", "poll")


class OutOfTimeError(Exception):
    """The export's time is up, or the program ends."""


class Patience:
    """How long an export may still take. All waiting is done in slices: the program may end meanwhile.

    Args:
        seconds: from now; less when the program ends before.
    """

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Seconds, above 0.

        Raises: OutOfTimeError.
        """
        left = min(self._end - monotonic(), time_left())
        if left <= 0:
            raise OutOfTimeError
        return left

    def share(self, of: int) -> Patience:
        """An equal part of what is left, for the first of so many tries."""
        return Patience(self.left() / of)

    def wait(self, descriptor: int, events: int) -> int:
        """Until something happens on a descriptor; returns what (see `select.poll`)."""
        poll = _poll()
        poll.register(descriptor, events)
        while not (found := poll.poll(_slice_ms(self.left()))):
            pass
        happened: int = found[0][1]
        return happened

    def acquire(self, lock: LockType) -> None:
        """Take a lock."""
        while not lock.acquire(timeout=min(self.left(), OTLP_WAIT_SECONDS)):
            pass

    def sleep_until(self, time: float) -> None:
        """Sleep until a time of `monotonic()`."""
        poll = _poll()
        while (rest := time - monotonic()) > 0:
            poll.poll(_slice_ms(min(rest, self.left())))


def _slice_ms(seconds: float) -> int:
    return math.ceil(min(seconds, OTLP_WAIT_SECONDS) * 1000)
