"""Whether Python's threads are threads, and its sockets sockets."""

from __future__ import annotations

import sys

__all__ = ["have_replaced"]


def have_replaced(*modules: str) -> bool:
    """Whether gevent has put its own in the place of one of these modules of Python's.

    A greenlet in the place of a thread stops the whole program when it waits in C; a socket of gevent's never waits.
    """
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(monkey.is_module_patched(module) for module in modules)
