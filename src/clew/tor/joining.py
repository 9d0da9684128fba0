"""Whose a stream is: the program's connections to one tor, watched, and asked for when that tor tells of a stream."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING

from clew import limits
from clew._hot import current_span
from clew.tor.arrivals import Arrivals
from clew.tor.client_ports import NO_PORTS
from clew.tor.connections import Connections
from clew.tor.events import StreamEvent

if TYPE_CHECKING:
    import socket
    import weakref

    from clew._hot import Span
    from clew.tor.client_ports import ClientPorts, RawAddress
    from clew.tor.connections import Connection, ConnectionCounts
    from clew.tor.events import Event

__all__ = ["NOBODY", "StreamJoiner"]

NOBODY: Span = contextvars.Context().run(current_span)  # what is current where no span is


class StreamJoiner:
    """Joins streams to spans. A `SocketWatcher`.

    Thread: `socket_connected` is called by the program's threads, `owner`, `handled` and `forget` by the thread of the
        events, all else by any.
    """

    def __init__(self) -> None:
        self.port_numbers: frozenset[int] = frozenset()
        self.joined = self.unclaimed = self.errors = 0
        self.arrivals = Arrivals()
        self._connections = Connections()
        self._newest = 0.0  # when the program last connected, on the monotonic clock
        self._changed = threading.Condition()  # guards and announces:
        self._open: dict[str, Connection] = {}  # of streams that were joined and have not ended

    @property
    def ports(self) -> ClientPorts:
        """Where this tor listens."""
        return self._connections.ports

    @ports.setter
    def ports(self, ports: ClientPorts) -> None:
        self._connections.ports = ports
        self.port_numbers = ports.numbers

    @property
    def counts(self) -> ConnectionCounts:
        """What became of the connections so far."""
        return self._connections.counts

    def socket_connected(
        self, time_ns: int, local: RawAddress, remote: RawAddress, connection: weakref.ref[socket.socket]
    ) -> None:
        """See `SocketWatcher`."""
        span = current_span()
        self._newest = time.monotonic()
        self._connections.add(time_ns, local, remote, connection, None if span is NOBODY else span)

    def count_error(self) -> None:
        """See `SocketWatcher`."""
        self.errors += 1

    def owner(self, event: StreamEvent) -> Span | None:
        """The span that a stream belongs to, at its first event. Never raises."""
        try:
            connection = self._connections.take(event)
            if connection is None or connection.span is None:
                self.unclaimed += event.source_addr is not None
                return None
            self.joined += 1
            with self._changed:
                self._open[event.stream_id] = connection
                if len(self._open) > limits.STREAMS_OPEN:
                    del self._open[next(iter(self._open))]  # its end was not told
        except Exception:  # noqa: BLE001 - the stream is traced all the same, on its own
            self.count_error()
            return None
        try:
            if connection.span.context.is_sampled:
                self.arrivals.begin(event, connection)
        except Exception:  # noqa: BLE001 - the stream is joined all the same
            self.count_error()
        return connection.span

    def handled(self, event: Event) -> None:
        """An event was dealt with."""
        if isinstance(event, StreamEvent):
            with self._changed:
                if event.status == "CLOSED":
                    self._open.pop(event.stream_id, None)
                self._changed.notify_all()

    def forget(self) -> None:
        """This tor is gone, and all that it had open."""
        self.ports = NO_PORTS
        self._connections.clear()
        with self._changed:
            self._open.clear()
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        """Wait until tor has told the end of each stream whose connection the program has closed.

        Args:
            timeout: seconds, at the most.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while (left := deadline - time.monotonic()) > 0 and self._is_incomplete(timeout):
                self._changed.wait(left)

    def _is_incomplete(self, timeout: float) -> bool:
        if any(not connection.is_open for connection in self._open.values()):
            return True
        # A connection that was just made is about to become a stream. An older one would have: nothing was asked on it.
        return self._connections.counts.waiting > 0 and time.monotonic() - self._newest < timeout
