"""Waiting until another process waits."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["wait_until_asleep"]


def wait_until_asleep(pid: int) -> None:
    """Return once the main thread of a process waits in the kernel, where a signal interrupts it.

    One that comes a moment earlier, when Python has looked for signals and is about to call the kernel, is noticed only
    when that call returns. Who presses Ctrl-C cannot hit that moment, but a test whose own doing brought it about can.
    """
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":  # proc(5): behind the name in brackets
        assert time.monotonic() < deadline
        time.sleep(0.001)
