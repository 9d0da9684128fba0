"""When the first byte from the destination came to the program, of each stream that was joined.

tor does not tell: STREAM_BW comes once a second. The program's own connection knows, and is watched from outside.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from clew import limits
from clew._hot.first_bytes import FirstBytes
from clew.tor.greenlets import have_replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.tor.connections import Connection
    from clew.tor.events import StreamEvent

__all__ = ["Arrival", "Arrivals"]

# What a connection has received when tor tells of its stream, and what it will have received before the destination's
# first byte: tor's replies (RFC 1928, RFC 1929, SOCKS4; tor's own always has an IPv4 address, whatever was asked for).
# What could be read in two ways is left out: 14 bytes are both of the replies with a password, or those without and two
# bytes more.
_SOCKS5 = {2: 12, 4: 14, 12: 12}
_SOCKS4 = {0: 8, 8: 8}
_HANDSHAKES: dict[str | None, dict[int, int]] = {"SOCKS5": _SOCKS5, "SOCKS4": _SOCKS4, None: _SOCKS5}


class Arrival(NamedTuple):
    """The first byte on a connection."""

    source_addr: str  # as the stream's first event has it
    time_ns: int  # wall clock


class Arrivals:
    """Watches the connections of streams that were joined.

    Thread: one at a time. A thread of its own waits for the kernel, from the first stream on.
    """

    def __init__(self) -> None:
        self._first_bytes: FirstBytes | None = None
        self._thread: threading.Thread | None = None
        self._tickets: dict[str, tuple[int, str]] = {}  # by stream: the ticket, the stream's address

    def begin(self, stream: StreamEvent, connection: Connection) -> None:
        """Watch the connection of a stream.

        Args:
            stream: its first event.

        Raises: OSError: there are no more files.
        """
        handshakes = _HANDSHAKES.get(stream.client_protocol)
        connected = connection.socket()
        if stream.status != "NEW" or stream.source_addr is None or handshakes is None or connected is None:
            return
        fd = connected.fileno()
        if fd == -1:
            return
        if self._first_bytes is None:
            if have_replaced("threading"):
                return
            self._first_bytes = FirstBytes(limits.FIRST_BYTES_WATCHED)
            self._thread = threading.Thread(target=self._first_bytes.run, name="clew-first-bytes", daemon=True)
            self._thread.start()
        if len(self._tickets) >= limits.FIRST_BYTES_WATCHED:
            self.end(next(iter(self._tickets)))
        ticket = self._first_bytes.watch(fd, connection.local.port, handshakes)
        if ticket is not None:
            self._tickets[stream.stream_id] = ticket, stream.source_addr

    def end(self, stream_id: str) -> Arrival | None:
        """Watch it no longer; when its first byte came, if it did."""
        ticket, source_addr = self._tickets.pop(stream_id, (None, ""))
        if ticket is None or self._first_bytes is None:
            return None
        time_ns = self._first_bytes.take(ticket)
        return None if time_ns is None else Arrival(source_addr, time_ns)

    def end_all(self) -> Iterator[Arrival]:
        """`end` for all that are watched."""
        for stream_id in list(self._tickets):
            arrival = self.end(stream_id)
            if arrival is not None:
                yield arrival

    def close(self) -> None:
        """End the thread."""
        if self._first_bytes is not None and self._thread is not None:
            self._first_bytes.stop()
            self._thread.join()
            self._first_bytes = self._thread = None
