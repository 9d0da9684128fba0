"""Sees the TCP connections that this program makes.

`connect` and `connect_ex` of Python's socket class are wrapped. All that connects by way of that class is seen: plain
sockets, http.client, PySocks, asyncio, trio. What connects in C is not: uvloop's `create_connection`, pycurl, other
processes.

The program's connection is made first, exactly as without us; then we look, and whatever goes wrong with that stays
here.
"""

from __future__ import annotations

import _socket
import errno
import socket
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from clew.tor.client_ports import normal_address
from clew.tor.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.tor.client_ports import Address, RawAddress

__all__ = ["SOCKETS", "SocketWatcher", "ends_of"]

_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN})


class SocketWatcher(Protocol):
    """Who wants to know of connections."""

    @property
    def port_numbers(self) -> frozenset[int]:
        """Of the remote ends of those that it wants to know of."""
        ...

    def socket_connected(
        self, time_ns: int, local: RawAddress, remote: RawAddress, connection: weakref.ref[socket.socket]
    ) -> None:
        """A connection was made, or is being made.

        Args:
            time_ns: wall clock, before anything was sent.
            local: its near end, as sockets call it.
            remote: its far end.

        Thread: the program's own, in the context of the connection. Must neither block nor take a lock.
        """

    def count_error(self) -> None:
        """Looking at a connection failed."""


def socket_class() -> type[Any]:
    """Python's socket class. A program may have put another in its place: one made from it (PySocks'), or one that is
    none of its kind (gevent's), which is then the one to look at.
    """
    for cls in socket.socket.__mro__:
        if _socket.socket in cls.__bases__:
            return cls
    return socket.socket


def ends_of(connection: Any) -> tuple[Address, Address] | None:
    """The near and the far end of a socket's connection as the system has them; None if it is not connected.

    (PySocks' own answer to what the far end is would be the destination instead of the proxy.)
    """
    cls = socket_class()
    asked: Any = cls if isinstance(connection, cls) else type(connection)
    try:
        near, far = normal_address(asked.getsockname(connection)), normal_address(asked.getpeername(connection))
    except (AttributeError, OSError):
        return None
    return None if near is None or far is None else (near, far)


def _wrap_connect(cls: type[Any], original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def connect(self: Any, address: Any, /) -> Any:
        try:
            result = original(self, address)
        except BlockingIOError:
            _look(cls, self, address, is_made=False)
            raise
        _look(cls, self, address, is_made=True)
        return result

    return connect


def _wrap_connect_ex(cls: type[Any], original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def connect_ex(self: Any, address: Any, /) -> Any:
        result = original(self, address)
        if result == 0:
            _look(cls, self, address, is_made=True)
        elif result in _IN_PROGRESS:
            _look(cls, self, address, is_made=False)
        return result

    return connect_ex


def _look(cls: type[Any], connection: Any, address: Any, *, is_made: bool) -> None:
    for watcher in SOCKETS.watchers:
        try:
            if not isinstance(address, tuple) or address[1] not in watcher.port_numbers:
                continue
            time_ns = time.time_ns()
            # This is the program's time: what can be found out later is not done here.
            host = address[0]
            if is_made and not (host[:1].isdigit() or ":" in host):
                address = cls.getpeername(connection)  # what the name meant
            watcher.socket_connected(time_ns, cls.getsockname(connection), address, weakref.ref(connection))
        except Exception:  # noqa: BLE001 - the program's connection is made, whatever we make of it
            watcher.count_error()


class _SocketHooks(Hooks[SocketWatcher]):
    def install(self) -> None:
        cls = socket_class()
        self.wrap(cls, "connect", partial(_wrap_connect, cls))
        self.wrap(cls, "connect_ex", partial(_wrap_connect_ex, cls))


SOCKETS = _SocketHooks()
