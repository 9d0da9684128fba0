"""Methods are wrapped while somebody watches, and then put back exactly."""

from __future__ import annotations

import os
import warnings
from typing import Any

from clew.tor.hooks import Hooks


class Base:
    def inherited(self) -> str:
        return "inherited"


class Owner(Base):
    def own(self) -> str:
        """What it says."""
        return "own"


class OwnerHooks(Hooks[list[str]]):
    def install(self) -> None:
        self.wrap(Owner, "own", self._tell)
        self.wrap(Owner, "inherited", self._tell)

    def _tell(self, original: Any) -> Any:
        def wrapper(owner: Owner) -> Any:
            for watcher in self.watchers:
                watcher.append(original.__name__)
            return original(owner)

        return wrapper


def test_methods_are_put_back_as_they_were() -> None:
    """What the class had itself it has again, what it inherited it inherits again."""
    before = dict(vars(Owner))
    hooks, calls = OwnerHooks(), list[str]()
    hooks.watch(calls)
    assert (Owner().own(), Owner().inherited(), Base().inherited()) == ("own", "inherited", "inherited")
    assert (Owner.own.__doc__, Owner.own.__qualname__) == ("What it says.", "Owner.own")
    hooks.unwatch(calls)
    assert dict(vars(Owner)) == before
    assert calls == ["own", "inherited"]


def test_they_are_wrapped_once() -> None:
    """However many watch; the last one that leaves has them put back."""
    hooks, first, second = OwnerHooks(), list[str](), ["second"]
    hooks.watch(first)
    wrapped = Owner.own
    hooks.watch(second)
    assert Owner.own is wrapped
    Owner().own()
    hooks.unwatch(first)
    Owner().own()
    hooks.unwatch(second)
    hooks.unwatch(second)
    assert (first, second) == (["own"], ["second", "own", "own"])
    assert Owner.own is not wrapped


def test_what_somebody_else_wrapped_stays_theirs() -> None:
    """Ours passes on below it, is not put back over it, and is no loop when we come again."""
    own = Owner.own
    hooks, calls = OwnerHooks(), list[str]()
    hooks.watch(calls)
    ours = Owner.own

    def theirs(owner: Owner) -> str:
        return f"their {ours(owner)}"

    try:
        setattr(Owner, "own", theirs)  # noqa: B010 - to the type checker a method is no variable
        hooks.unwatch(calls)
        assert Owner.own is theirs
        assert Owner().own() == "their own"
        assert calls == []
        hooks.watch(calls)
        assert Owner().own() == "their own"
        hooks.unwatch(calls)
        assert Owner.own is theirs
    finally:
        setattr(Owner, "own", own)  # noqa: B010


def test_a_forked_child_has_nothing_wrapped() -> None:
    """Who watches is the parent's, also when its lock is held while it forks."""
    hooks, calls = OwnerHooks(), list[str]()
    own = Owner.own
    hooks.watch(calls)
    with hooks._lock:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: this process may have threads
            pid = os.fork()
        if pid == 0:
            is_clean = Owner.own is own and not hooks.watchers
            hooks.watch(calls)  # and can begin anew
            os._exit(0 if is_clean and Owner.own is not own else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert Owner.own is not own
    hooks.unwatch(calls)
