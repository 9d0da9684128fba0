"""What is recorded of an exception. Plain Python: by the time it is needed, something slow has happened already."""

from __future__ import annotations

import sys

__all__ = ["is_cancellation", "stack_trace", "type_name"]


def type_name(error: BaseException) -> str:
    """The name of its class, with the module unless it is built in."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def stack_trace(error: BaseException) -> str:
    """As the interpreter would print it."""
    import traceback  # not above: it costs more to import than all of clew

    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - the exception's own code: its trace is lost, the rest is recorded
        return "<no stack trace>"


def is_cancellation(error: BaseException) -> bool:
    """Whether it says that somebody ended the operation, not that it failed."""
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return True
    # Without importing it: who did not import asyncio cannot be cancelled by it.
    asyncio = sys.modules.get("asyncio.exceptions")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
