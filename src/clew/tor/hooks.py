"""Methods of other people's classes, wrapped while somebody watches, and then put back exactly."""

from __future__ import annotations

import os
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hooks"]

_W = TypeVar("_W")
_INHERITED: Any = object()


class _Patch(NamedTuple):
    owner: type[Any]
    name: str
    ours: object
    before: object  # what the class's own dictionary had; _INHERITED if it had none


class Hooks(Generic[_W]):
    """Wrapped once, however many watch; put back when the last one leaves.

    Thread: any. After a fork the child has no watchers, and nothing is wrapped there.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come while this thread has it
        self._patches: list[_Patch] = []
        self.watchers: tuple[_W, ...] = ()
        os.register_at_fork(after_in_child=self._forget)

    def install(self) -> None:
        """Call `wrap` for each method. The first watcher has come."""
        raise NotImplementedError

    def watch(self, watcher: _W) -> None:
        """Tell this one too from now on."""
        with self._lock:
            self.watchers = (*self.watchers, watcher)
            if len(self.watchers) == 1:
                self.install()

    def unwatch(self, watcher: _W) -> None:
        """Tell it nothing any more. One that does not watch is ignored."""
        with self._lock:
            self.watchers = tuple(other for other in self.watchers if other is not watcher)
            if not self.watchers:
                self.uninstall()

    def wrap(self, owner: type[Any], name: str, wrapper: Callable[[Any], Any]) -> None:
        """Put a wrapper in the place of a method.

        Args:
            wrapper: given the method, returns what is called instead. Each time a new one: somebody else may have
                wrapped the last one, which then stays below theirs and finds nobody watching.
        """
        method = getattr(owner, name)
        ours = wraps(method)(wrapper(method))
        self._patches.append(_Patch(owner, name, ours, vars(owner).get(name, _INHERITED)))
        setattr(owner, name, ours)

    def uninstall(self) -> None:
        """Put everything back. The last watcher has gone."""
        while self._patches:
            patch = self._patches.pop()
            if vars(patch.owner).get(patch.name) is not patch.ours:
                continue  # wrapped again by somebody else
            if patch.before is _INHERITED:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.before)

    def _forget(self) -> None:
        """In a forked child: those who watch are the parent's, and so may be the lock."""
        self._lock = threading.RLock()
        self.watchers = ()
        self.uninstall()
