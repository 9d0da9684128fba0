"""A stem `Controller` that the program holds already, as a source of tor's events.

stem (1.8.2 is its last release) reads the socket; here its messages are parsed anew, from their raw content, because it
does not know all that today's tor says. Nothing here imports stem before a program hands over a controller of it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from clew.errors import (
    ConfigurationError,
    ControlAuthenticationError,
    ControlConnectionError,
    ControlProtocolError,
    ControlReplyError,
    TorError,
)
from clew.limits import CLOSE_TIMEOUT_SECONDS
from clew.tor.dispatch import ControlStats, EventDispatcher
from clew.tor.wire import ControlParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from clew.tor.events import Event
    from clew.tor.wire import Reply

__all__ = ["StemSource", "from_stem"]

_CLOSED = "the stem controller was closed, or tor ended: connect it again and hand it over anew"


def from_stem(controller: Any) -> StemSource:
    """Use the connection to tor that a stem `Controller` has: for `trace_requests`, or with a `TorMapper` of one's own.

    The program goes on using its controller; its own listeners are called as before, and commands are sent as before.
    tor is asked, on top of the program's events, for those that `set_events` names.

    Times are less exact than those of a `ControlClient`. stem itself stamps whole seconds, so an event's time here is
    that of stem calling us, on its thread for events: behind whatever listeners the program added before, behind
    stem's own parsing (some 100 us an event), and late by as much as the interpreter is busy with other threads. An
    event that stem cannot parse does not arrive at all. Where that matters, connect a `ControlClient` beside it.

    Args:
        controller: a `stem.control.Controller`, connected and authenticated.

    Raises:
        ConfigurationError: it is something else.
        ControlConnectionError: it is not connected.
        ControlAuthenticationError: it is not authenticated.

    Thread: any.
    """
    try:
        from stem.control import Controller  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise ConfigurationError("from_stem takes a controller of the package stem: pip install 'clew[stem]'") from None
    if not isinstance(controller, Controller):
        raise ConfigurationError(f"from_stem takes a stem.control.Controller, not a {type(controller).__name__}")
    if not controller.is_alive():
        raise ControlConnectionError("the stem controller is not connected: connect it first")
    if not controller.is_authenticated():
        raise ControlAuthenticationError("the stem controller is not authenticated: call its authenticate() first")
    return StemSource(controller)


class StemSource:
    """What `from_stem` gives: a connection to tor as `ControlClient` is one. A context manager.

    Thread: every method may be called from any thread, also by a listener.
    """

    def __init__(self, controller: Any) -> None:
        from stem.control import State

        self._controller = controller
        self._closed_state = State.CLOSED
        self._lock = Lock()  # of set_events and close; never held where stem calls us
        self._asked: tuple[str, ...] = ()  # what our listener is registered for
        self._wanted: frozenset[str] = frozenset()
        self._is_over = False
        self._end_lock = Lock()  # of that
        self._events = EventDispatcher()
        controller.add_status_listener(self._notice, spawn=False)
        if not controller.is_alive():  # closed before we could be told
            self._end(ControlConnectionError(_CLOSED))

    def close(self, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Let go of the controller, which stays as it is, after the listeners were given what had arrived.

        Args:
            timeout: seconds that the listeners have for it.

        Thread: any; blocks. Called by a listener, it does not wait.
        """
        with self._lock:
            self._controller.remove_status_listener(self._notice)
            self._forget()
        self._end(None)
        self._events.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tor_version(self) -> str:
        """tor's version: "0.4.9.11".

        Raises: TorError.
        """
        return self.get_info("version")["version"].partition(" ")[0]

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there."""
        return not self._is_over and bool(self._controller.is_alive())

    def stats(self) -> ControlStats:
        """How many events came, and what became of them."""
        return self._events.stats()

    # --- listeners, as ControlClient has them -----------------------------------------------------------------------

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Have a function called with each event from now on, in tor's order, on a thread of ours."""
        self._events.add_listener(listener)

    def add_raw_listener(self, listener: Callable[[Reply, int], None]) -> None:
        """Have a function called with each event as tor sent it, and the time at which stem gave it to us."""
        self._events.add_raw_listener(listener)

    def remove_listener(self, listener: Callable[[Event], None]) -> None:
        """Have a function no longer called; one that is not known is ignored."""
        self._events.remove_listener(listener)

    def on_disconnect(self, listener: Callable[[TorError], None]) -> None:
        """Have a function called once, after the last event, when the controller is closed, by whomever.

        If the program connects it again it has to be handed over anew.
        """
        self._events.on_disconnect(listener)

    # --- commands ---------------------------------------------------------------------------------------------------

    def get_info(self, *keys: str) -> dict[str, str]:
        """What tor knows (control-spec 3.9). stem answers some of it from what it asked before.

        Raises: TorError, as `ControlClient.get_info`.
        """
        with _translated():
            answers: dict[str, str] = self._controller.get_info(list(keys))
        return answers

    def get_conf(self, *names: str) -> dict[str, tuple[str, ...]]:
        """Values of tor's options (control-spec 3.3).

        Raises: TorError, as `ControlClient.get_conf`.
        """
        with _translated():
            return {name: tuple(self._controller.get_conf(name, multiple=True)) for name in names}

    def set_events(self, names: Iterable[str]) -> None:
        """Choose the events that the listeners get. The program's own are not touched.

        Raises:
            ControlReplyError: this tor does not know one of them; nothing has changed then.
            TorError: as for other commands.
        """
        wanted = frozenset(names)
        known = self.get_info("events/names")["events/names"].split()
        for name in sorted(wanted.difference(known)):
            raise ControlReplyError(552, f'Unrecognized event "{name}"')  # as tor itself says it
        with self._lock, _translated():
            # What is no longer wanted is left out by us: stem can only take a listener away from all of its events, and
            # tor would send none until it was back.
            more = sorted(wanted.difference(self._asked))
            if more:
                before, self._asked = self._asked, (*self._asked, *more)
                try:
                    self._controller.add_event_listener(self._receive, *more)
                except BaseException:
                    # stem keeps the listener even where tor refused.
                    self._forget()
                    if before:
                        self._controller.add_event_listener(self._receive, *before)
                        self._asked = before
                    raise
            self._wanted = wanted

    # --- called by stem ---------------------------------------------------------------------------------------------

    def _receive(self, message: Any) -> None:
        """On stem's thread for events, under its lock."""
        time_ns = time.time_ns()
        if self._is_over or message.type not in self._wanted:
            return
        parser = ControlParser()
        parser.feed(message.raw_content(get_bytes=True))
        reply = parser.next_reply()
        if reply is not None:
            self._events.put([reply], time_ns)

    def _notice(self, _controller: object, state: object, _timestamp: float) -> None:
        """On whatever thread closed the controller, after its last event, under its locks."""
        if state == self._closed_state:
            self._end(ControlConnectionError(_CLOSED))

    # --- ending -----------------------------------------------------------------------------------------------------

    def _end(self, reason: TorError | None) -> None:
        with self._end_lock:
            if not self._is_over:
                self._is_over = True
                self._events.end(reason)

    def _forget(self) -> None:
        """With the lock: have stem no longer call us."""
        from stem import ControllerError  # type: ignore[import-untyped]

        if self._asked:
            self._asked = ()
            with suppress(ControllerError):  # it is gone, and took us from its list before it noticed
                self._controller.remove_event_listener(self._receive)


@contextmanager
def _translated() -> Iterator[None]:
    """stem's exceptions as ours."""
    import stem

    try:
        yield
    except stem.SocketError as error:
        raise ControlConnectionError(_CLOSED) from error
    except stem.OperationFailed as error:
        raise ControlReplyError(int(error.code) if error.code else 0, str(error.message or error)) from error
    except stem.ControllerError as error:
        raise ControlProtocolError(f"stem could not make sense of tor's answer: {error}") from error
