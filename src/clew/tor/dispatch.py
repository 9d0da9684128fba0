"""Events on their way from the reader to the listeners: a bounded queue and the thread that empties it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeVarTuple

from clew.errors import ControlProtocolError, TorError
from clew.limits import CONTROL_EVENTS_QUEUED, CONTROL_EVENTS_QUEUED_BYTES
from clew.tor.events import Event, parse_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.tor.wire import Reply

__all__ = ["ControlStats", "EventDispatcher"]

_Ts = TypeVarTuple("_Ts")
_logger = logging.getLogger(__name__)


class ControlStats(NamedTuple):
    """What became of the events that tor sent: received == dispatched + malformed + dropped + queued."""

    received: int
    dispatched: int  # given to the listeners
    malformed: int  # of a known type and not to be understood: given to nobody
    dropped: int  # the oldest, because the listeners were too slow for the queue or were given up at the end
    queued: int
    listener_errors: int  # exceptions of listeners, kept away from the other listeners


class EventDispatcher:
    """Parses events and calls listeners, on a thread of its own and in order.

    Args:
        max_events: events that may wait; past them the oldest are dropped and counted.
        max_bytes: bytes of events that may wait, likewise.

    Thread: any, except where a method says otherwise. Listeners are called without a lock.
    """

    def __init__(
        self, *, max_events: int = CONTROL_EVENTS_QUEUED, max_bytes: int = CONTROL_EVENTS_QUEUED_BYTES
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        # To append and to take at the other end needs no lock; to wait does, and to count what is dropped.
        self._queue: deque[tuple[Reply, int, int]] = deque()  # reply, time_ns, size in bytes
        self._changed = threading.Condition()  # guards the rest, but for what is the dispatch thread's own
        self._put_bytes = 0
        self._received = self._dropped = 0
        self._ended = False
        self._reason: TorError | None = None
        self._told = False  # the disconnect listeners were called, or never will be
        self._listeners: tuple[Callable[[Event], None], ...] = ()
        self._raw_listeners: tuple[Callable[[Reply, int], None], ...] = ()
        self._disconnect_listeners: tuple[Callable[[TorError], None], ...] = ()
        # The dispatch thread's own:
        self._taken_bytes = 0
        self._dispatched = self._malformed = self._listener_errors = 0
        self._logged: set[object] = set()
        self._thread = threading.Thread(target=self._run, name="clew-tor-events", daemon=True)
        self._thread.start()

    def put(self, replies: list[Reply], time_ns: int) -> None:
        """Queue asynchronous replies that came together. Never waits for a listener."""
        items = [(reply, time_ns, _size(reply)) for reply in replies]
        with self._changed:
            self._received += len(items)
            self._put_bytes += sum(size for _, _, size in items)
            self._queue.extend(items)
            while len(self._queue) > self._max_events or self._put_bytes - self._taken_bytes > self._max_bytes:
                if not self._drop_oldest():
                    break  # the dispatch thread was quicker
            self._changed.notify()

    def _drop_oldest(self) -> bool:
        """With the lock. Whether there was one."""
        try:
            _, _, size = self._queue.popleft()
        except IndexError:
            return False
        self._put_bytes -= size
        self._dropped += 1
        return True

    def end(self, reason: TorError | None) -> None:
        """Nothing will be put any more.

        Args:
            reason: for the disconnect listeners; None if they are not to be called.
        """
        with self._changed:
            self._ended = True
            self._reason = reason
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait until the listeners have what was queued, after `end`.

        Args:
            timeout: seconds; then what is still queued is dropped and counted. A listener that never returns keeps the
                thread; called by a listener, this returns at once.
        """
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout)
        with self._changed:
            while self._drop_oldest():
                pass

    def stats(self) -> ControlStats:
        """The ledger of events; one that is with the listeners right now counts as queued."""
        with self._changed:
            done = self._dispatched + self._malformed + self._dropped
            return ControlStats(
                self._received,
                self._dispatched,
                self._malformed,
                self._dropped,
                self._received - done,
                self._listener_errors,
            )

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Have a function called with each event that is dispatched from now on."""
        with self._changed:
            self._listeners = (*self._listeners, listener)

    def add_raw_listener(self, listener: Callable[[Reply, int], None]) -> None:
        """Have a function called with each event as tor sent it, understood or not, and the time of its arrival."""
        with self._changed:
            self._raw_listeners = (*self._raw_listeners, listener)

    def remove_listener(self, listener: Callable[[Event], None]) -> None:
        """Have a function no longer called; one that is not known is ignored."""
        with self._changed:
            self._listeners = tuple(known for known in self._listeners if known != listener)

    def on_disconnect(self, listener: Callable[[TorError], None]) -> None:
        """Have a function called once after the last event, on the dispatch thread, or at once if that is over."""
        with self._changed:
            if not self._told:
                self._disconnect_listeners = (*self._disconnect_listeners, listener)
                return
            reason = self._reason
        if reason is not None:
            listener(reason)

    def _run(self) -> None:
        while (item := self._take()) is not None:
            reply, time_ns, size = item
            self._taken_bytes += size
            self._dispatch(reply, time_ns)
        with self._changed:
            self._told = True
            reason = self._reason
        if reason is not None:
            for listener in self._disconnect_listeners:
                self._call(listener, reason)

    def _take(self) -> tuple[Reply, int, int] | None:
        """The next event, waiting for it; None if none will come any more."""
        while True:
            try:
                return self._queue.popleft()
            except IndexError:
                with self._changed:
                    while not self._queue:
                        if self._ended:
                            return None
                        self._changed.wait()

    def _dispatch(self, reply: Reply, time_ns: int) -> None:
        for raw_listener in self._raw_listeners:
            self._call(raw_listener, reply, time_ns)
        try:
            event = parse_event(reply, time_ns)
        except ControlProtocolError as error:
            self._malformed += 1
            self._log_once(parse_event, "an event of tor was not understood: %s", error)
            return
        for listener in self._listeners:
            self._call(listener, event)
        self._dispatched += 1

    def _call(self, listener: Callable[[*_Ts], None], *values: *_Ts) -> None:
        try:
            listener(*values)
        except BaseException as error:  # noqa: BLE001 - also SystemExit must not silently end the other listeners
            self._listener_errors += 1
            # Without its text or traceback: they may hold what the privacy levels keep out of traces.
            self._log_once(
                listener,
                "a listener of tor's events raised %s; further errors of it are only counted",
                type(error).__name__,
            )

    def _log_once(self, key: object, message: str, detail: object) -> None:
        if key not in self._logged:
            self._logged.add(key)
            _logger.warning(message, detail)


def _size(reply: Reply) -> int:
    first = reply.lines[0]
    if len(reply.lines) == 1 and first.data is None:
        return len(first.text)
    return sum(len(line.text) + len(line.data or "") for line in reply.lines)
