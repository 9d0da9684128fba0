"""Where a control port is, and how to reach it."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple, Self

from clew.errors import ConfigurationError, ControlConnectionError

__all__ = ["ControlAddress"]


class ControlAddress(NamedTuple):
    """A Unix socket (with `path`) or a TCP port."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "9051", "127.0.0.1:9051", "[::1]:9051", "unix:/run/tor/control" or "/run/tor/control".

        Raises:
            ConfigurationError: it is none of these.
        """
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls("", 0, text.removeprefix("unix:"))
        if text.startswith(("/", "./", "../")):
            return cls("", 0, text)
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = port = ""  # an IPv6 address without its brackets
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
            raise ConfigurationError(
                f"{text!r} is no address of a control port: give a port (9051), host:port or the path of a Unix socket"
            )
        return cls(host or "127.0.0.1", int(port))

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def open(self, timeout: float) -> socket.socket:
        """A connected socket, in blocking mode; only what it sends may not take longer than `timeout`.

        Args:
            timeout: seconds, also to wait for the connection.

        Raises:
            ControlConnectionError: nobody is there, or it is not allowed, or it took too long.
        """
        # A tor that no longer reads must not hold a sender for ever. A timeout of Python's would also hit who receives.
        limit = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
        try:
            if self.path:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                _connect(connection, self.path)
            else:
                connection = socket.create_connection((self.host, self.port), timeout)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                connection.settimeout(None)
                if connection.getsockname() == connection.getpeername():
                    # On loopback a port that nobody listens on can be chosen as the near end, and meets itself.
                    connection.close()
                    raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
        except OSError as error:
            raise ControlConnectionError(self._describe(error, timeout)) from None
        return connection

    def _describe(self, error: OSError, timeout: float) -> str:
        if isinstance(error, (TimeoutError, BlockingIOError)):  # the latter is how Unix sockets time out
            return f"{self} did not accept a connection within {timeout:g} s: check the address of tor's control port"
        if isinstance(error, PermissionError):
            return (
                f"no permission to open tor's control socket {self}: "
                "join the group debian-tor (sudo adduser $USER debian-tor, then log in again)"
            )
        if isinstance(error, FileNotFoundError):
            return (
                f"there is no socket {self}: start tor with ControlSocket {self} in its torrc, or give another address"
            )
        if isinstance(error, ConnectionRefusedError):
            option = f"ControlSocket {self}" if self.path else f"ControlPort {self.port}"
            return f"nothing listens on {self}: start tor with {option} in its torrc, or give another address"
        return f"no connection to {self} ({error.strerror or error}): check the address of tor's control port"


def _connect(connection: socket.socket, path: str) -> None:
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
