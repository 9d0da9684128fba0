"""What makes and ends processes, and threads, in ways of its own: gevent, multiprocessing, Celery, uWSGI.

None of them is imported here. A program that uses one has loaded it.
"""

from __future__ import annotations

import _thread
import os
import sys
from typing import TYPE_CHECKING, Any

from clew.limits import CHILD_CLOSE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["allocate_lock", "close_with_celery", "close_with_multiprocessing", "is_master_of_uwsgi", "of_system"]


# --- threads ---------------------------------------------------------------------------------------------------------


def of_system(name: str) -> Any:
    """A function of `_thread` that gevent may have replaced before clew was imported.

    The worker has to be a thread of the system's: it waits without the GIL, which in a greenlet would stop all others.
    """
    monkey = sys.modules.get("gevent.monkey")
    return getattr(_thread, name) if monkey is None else monkey.get_original("_thread", name)


allocate_lock = of_system("allocate_lock")  # for exporters too


def is_master_of_uwsgi() -> bool:
    """Whether uWSGI forks its workers from this process, in C and without Python's lock.

    A thread of ours may hold that lock at this moment; then it is held for ever in the worker, which answers nobody. So
    the master has no thread of ours, and what it traces while it loads the application waits for flush.

    Thread: any, also within a finalizer.
    """
    master = getattr(sys.modules.get("uwsgi"), "masterpid", None)
    return master is not None and bool(master() == os.getpid())


# --- the end of a child ----------------------------------------------------------------------------------------------

_finalizer: Any = None  # multiprocessing's Finalize, in one of its children


def close_with_multiprocessing(close: Callable[[float], None]) -> None:
    """In a child of multiprocessing, be among its finalizers: it leaves by os._exit, which skips atexit.

    They have to be registered in the child itself, which forgets those of its parent when it begins.

    Args:
        close: takes the seconds that it may need.

    Thread: any, also within a finalizer.
    """
    global _finalizer  # noqa: PLW0603 - one for the process
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    try:
        if process is None or util is None or (process.parent_process() is None and not _is_child_of_billiard()):
            return
        if _finalizer is None or not _finalizer.still_active():
            # After multiprocessing's own (priority 0 and more) and the program's: they may still end spans.
            _finalizer = util.Finalize(None, close, (CHILD_CLOSE_SECONDS,), exitpriority=-100)
    except AttributeError:
        # It is being imported at this moment, by a thread that forked nothing yet.
        return


def close_with_celery(close: Callable[[float], None]) -> None:
    """In a process of Celery's pool, end with it: it leaves by os._exit and runs no finalizers, but sends a signal.

    Args:
        close: takes the seconds that it may need. Receivers that the program connected before come before it, and may
            still end spans.

    Thread: not within a finalizer: the signal has a lock.
    """
    signals = sys.modules.get("celery.signals")
    if signals is not None and _is_child_of_billiard():
        signals.worker_process_shutdown.connect(lambda **_: close(CHILD_CLOSE_SECONDS), weak=False, dispatch_uid="clew")


def _is_child_of_billiard() -> bool:
    """Whether Celery's copy of multiprocessing started this process, of which multiprocessing knows nothing."""
    billiard = sys.modules.get("billiard.process")
    return billiard is not None and getattr(billiard.current_process(), "_parent_pid", None) is not None
