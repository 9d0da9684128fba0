"""Where tor's events come from: what whoever follows a tor needs of a connection to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from clew.errors import TorError
    from clew.tor.events import Event

__all__ = ["EventSource"]


class EventSource(Protocol):
    """A connection to a tor, whoever made it. `ControlClient` is one.

    Thread: every method may be called from any thread, also by a listener.
    """

    def add_listener(self, listener: Callable[[Event], None], /) -> None:
        """Have a function called with each event from now on, in tor's order, on one thread."""

    def remove_listener(self, listener: Callable[[Event], None], /) -> None:
        """Have a function no longer called; one that is not known is ignored."""

    def on_disconnect(self, listener: Callable[[TorError], None], /) -> None:
        """Have a function called once, after the last event, when the connection is lost."""

    def get_info(self, *keys: str) -> dict[str, str]:
        """What tor knows (control-spec 3.9).

        Raises: TorError.
        """
        ...

    def set_events(self, names: Iterable[str], /) -> None:
        """Choose the events that tor sends (control-spec 3.4).

        Raises: TorError.
        """
