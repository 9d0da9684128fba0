"""`tracer.start_as_current_span(...)` as a decorator."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["decorate"]


def decorate(block: Any, function: Callable[..., Any], is_coroutine: bool) -> Callable[..., Any]:
    """A function of which each call has such a block around it, to the end of the coroutine if it makes one."""
    if is_coroutine:

        @wraps(function)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            with block.again():
                return await function(*args, **kwargs)

        return traced_coroutine

    @wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with block.again():
            return function(*args, **kwargs)

    return traced
