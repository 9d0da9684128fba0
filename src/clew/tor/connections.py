"""Which of the program's spans opened which connection to tor.

tor tells the address from which a stream's program connected, and nothing else that could be joined. Addresses are used
again, and events come late. So each connection is kept with the time at which it was made, until its stream comes;
connections that no span made are kept too; and in doubt there is no owner: a stream without a parent is a trace of its
own, one with the wrong parent would be a lie.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from socket import SOCK_STREAM
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from clew import limits
from clew.tor.client_ports import NO_PORTS, normal_address, parse_address

if TYPE_CHECKING:
    import socket
    import weakref

    from clew._hot import Span
    from clew.tor.client_ports import Address, ClientPorts, RawAddress
    from clew.tor.events import StreamEvent

__all__ = ["Connection", "ConnectionCounts", "Connections"]


class Connection:
    """A TCP connection of this program to tor."""

    __slots__ = ("check_ns", "doubts", "local", "remote", "socket", "span", "time_ns")

    def __init__(
        self,
        time_ns: int,
        local: Address,
        remote: Address,
        socket: weakref.ref[socket.socket],
        span: Span | None,
    ) -> None:
        self.time_ns = time_ns  # wall clock, after it was made and before anything was sent
        self.local = local
        self.remote = remote
        self.socket = socket
        self.span = span  # None: nobody's
        self.check_ns = time_ns + limits.SOCKS_REQUEST_NS  # look then whether it is still open
        self.doubts = 0  # streams that may have been its own

    @property
    def is_open(self) -> bool:
        """Whether the program still has it."""
        connected = self.socket()
        try:
            return connected is not None and connected.fileno() != -1
        except Exception:  # noqa: BLE001 - a socket of the program's own making
            return False


# What is added is not looked at before it is taken: time, near end, far end, socket, span.
_Added: TypeAlias = "tuple[int, RawAddress, RawAddress, weakref.ref[socket.socket], Span | None]"


class ConnectionCounts(NamedTuple):
    """What became of connections to tor: made == taken + given_up + evicted + waiting."""

    made: int  # to a port like tor's, if nobody has looked closer yet
    taken: int  # a stream of tor's began on them
    given_up: int  # closed without a stream, or replaced by a newer one from the same address
    evicted: int  # forgotten because more than limits.SOCKS_CONNECTIONS_WAITING waited for their stream
    waiting: int
    ambiguous: int  # streams that could have been of any of several connections


class Connections:
    """Connections to tor that wait for their stream.

    Args:
        ports: where this tor listens. Connections to elsewhere are left out.

    Thread: `add` is called by any thread and takes no lock, so that also a signal handler or a finalizer may connect;
        all else by one at a time.
    """

    def __init__(self, ports: ClientPorts = NO_PORTS) -> None:
        self.ports = ports
        self._added: deque[_Added] = deque()
        self._overflow = threading.RLock()
        self._overflowed = 0
        # The taker's own:
        self._waiting: dict[Address, list[Connection]] = {}
        self._order: deque[Connection] = deque()  # by check_ns; some were taken already
        # tor numbers its listeners (SESSION_GROUP) unless its torrc does; learned from streams that are beyond doubt.
        self._groups: dict[Address, str] = {}
        self._seen_overflow = 0
        self._made = self._taken = self._given_up = self._evicted = self._ambiguous = 0

    @property
    def counts(self) -> ConnectionCounts:
        """What happened so far; while connections are being made it may be behind by some."""
        waiting = self._made - self._taken - self._given_up - self._evicted
        added, overflowed = len(self._added), self._overflowed
        return ConnectionCounts(
            self._made + added + overflowed,
            self._taken,
            self._given_up,
            self._evicted + overflowed,
            waiting + added,
            self._ambiguous,
        )

    def add(
        self,
        time_ns: int,
        local: RawAddress,
        remote: RawAddress,
        socket: weakref.ref[socket.socket],
        span: Span | None,
    ) -> None:
        """A connection was made, and nothing was sent on it yet.

        Args:
            time_ns: wall clock.
            span: whose it is; None if it is nobody's.
        """
        self._added.append((time_ns, local, remote, socket, span))
        if len(self._added) > limits.SOCKS_CONNECTIONS_WAITING:
            with self._overflow, suppress(IndexError):  # the taker was quicker
                self._added.popleft()
                self._overflowed += 1

    def take(self, stream: StreamEvent) -> Connection | None:
        """The connection on which a stream began.

        Args:
            stream: its first event.

        Returns: None if it is no connection of this program, or not to be told which.
        """
        self._drain()
        self._look(stream.time_ns)
        local = parse_address(stream.source_addr) if stream.source_addr else None
        # From one local port there can be connections to several ports of tor's at the same time.
        here: dict[Address, list[Connection]] = {}
        for connection in self._waiting.get(local, ()) if local is not None else ():
            if connection.time_ns <= stream.time_ns:
                here.setdefault(connection.remote, []).append(connection)
        # One that was closed long ago may have been followed by another program's.
        possible = [each for each in here.values() if self._is_recent(each[-1], stream) or each[-1].is_open]
        group = stream.extra.get("SESSION_GROUP")
        if len(possible) > 1:
            known = [each for each in possible if group is not None and self._groups.get(each[-1].remote) == group]
            if len(known) != 1:
                self._doubt([each[-1] for each in possible])
                return None
            possible = known
        elif possible and group is not None:
            self._groups[possible[0][-1].remote] = group
        if not possible:
            return None
        *earlier, newest = possible[0]
        if not earlier or not self._is_recent(newest, stream):
            return self._use(newest)
        # The newest was made where an earlier one had been closed without a stream. Or tor was slow to tell of that
        # one's. Whichever it is, a further stream will not be the oldest one's.
        if all(each.span is newest.span for each in earlier):
            return self._use(earlier[0])
        self._doubt(earlier[:1])
        return None

    @staticmethod
    def _is_recent(connection: Connection, stream: StreamEvent) -> bool:
        return stream.time_ns - connection.time_ns <= limits.SOCKS_REQUEST_NS

    def _doubt(self, possible: list[Connection]) -> None:
        """A stream is one of these connections', whichever. After as many streams as they are, each has had its own."""
        self._ambiguous += 1
        for connection in possible:
            connection.doubts += 1
            if connection.doubts >= len(possible):
                self._forget(connection)

    def _use(self, connection: Connection) -> Connection:
        """This one is the stream's; earlier ones between the same addresses will have none."""
        self._forget(connection, and_earlier=True)
        self._taken += 1
        self._given_up -= 1
        return connection

    def clear(self) -> None:
        """Forget all of them: the tor that they lead to is gone."""
        self._drain()
        self._give_up_all()
        self._groups.clear()

    def _give_up_all(self) -> None:
        self._given_up += sum(map(len, self._waiting.values()))
        self._waiting.clear()
        self._order.clear()

    def _drain(self) -> None:
        overflowed = self._overflowed
        added = []
        with suppress(IndexError):
            while True:
                added.append(self._added.popleft())
        if overflowed != self._seen_overflow:
            # Newer ones than those that are known here were lost: an older one must not take their streams.
            self._seen_overflow = overflowed
            self._give_up_all()
        for each in added:
            connection = self._see(*each)
            if connection is None:
                continue
            self._made += 1
            waiting = self._waiting.setdefault(connection.local, [])
            if any(other.socket is connection.socket and other.remote == connection.remote for other in waiting):
                # Who connects without blocking may call connect_ex until it succeeds, in whatever context that is.
                self._given_up += 1
                continue
            waiting.append(connection)
            self._order.append(connection)
        while len(self._order) > limits.SOCKS_CONNECTIONS_WAITING:
            oldest = self._order.popleft()
            if self._is_waiting(oldest):
                self._forget(oldest)
                self._given_up -= 1
                self._evicted += 1

    def _see(
        self,
        time_ns: int,
        local: RawAddress,
        remote: RawAddress,
        socket: weakref.ref[socket.socket],
        span: Span | None,
    ) -> Connection | None:
        """None if it is no connection to this tor."""
        near, far = normal_address(local), normal_address(remote)
        if near is None or far is None or not self.ports.lead_to_tor(far, near):
            return None
        connected = socket()
        if connected is not None and connected.type != SOCK_STREAM:
            return None
        return Connection(time_ns, near, far, socket, span)

    def _look(self, time_ns: int) -> None:
        """Give those up that were closed without a stream."""
        while self._order and self._order[0].check_ns <= time_ns:
            connection = self._order.popleft()
            if not self._is_waiting(connection):
                continue
            if connection.is_open:
                connection.check_ns = time_ns + limits.SOCKS_REQUEST_NS
                self._order.append(connection)
            else:
                self._forget(connection)

    def _is_waiting(self, connection: Connection) -> bool:
        return connection in self._waiting.get(connection.local, ())

    def _forget(self, connection: Connection, *, and_earlier: bool = False) -> None:
        """Give a connection up, and those between the same two addresses that were made earlier, if asked to."""
        waiting = self._waiting[connection.local]
        kept = [
            other
            for other in waiting
            if other is not connection
            and not (and_earlier and other.remote == connection.remote and other.time_ns <= connection.time_ns)
        ]
        self._given_up += len(waiting) - len(kept)
        if kept:
            self._waiting[connection.local] = kept
        else:
            del self._waiting[connection.local]
