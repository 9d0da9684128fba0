"""OTLP over HTTP/1.1: one request after the other, on a connection that is kept, each within its time.

Not by way of `http.client`: its timeouts begin anew with every byte, so that a server that drips is waited for without
end, and no wait of it can be cut short; it loads 27 ms of modules; a request takes twice the CPU
(docs/decisions/0008-otlp-over-http.md).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import zlib
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from clew._version import __version__
from clew.errors import ConfigurationError
from clew.exporters._http_reply import BadReplyError, ReplyReader
from clew.exporters._otlp_answer import Answer, Verdict, http_answer
from clew.exporters._patience import OutOfTimeError, of_system
from clew.limits import OTLP_IDLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.exporters._http_reply import Reply
    from clew.exporters._otlp_settings import Settings
    from clew.exporters._patience import Patience
    from clew.exporters._tls import Tls, TlsSocket

__all__ = ["HttpConnection", "HttpTransport"]

_RECEIVE_BYTES = 64 * 1024
_GZIP_LEVEL = 1  # a batch shrinks to an eighth at a fifth of the default level's cost
_CONTENT_TYPES = {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}


class HttpTransport:
    """What all connections to an endpoint have in common.

    Loads at once whatever connections need: the worker imports nothing, because a child that is forked meanwhile would
    have half of it.

    Raises: ConfigurationError.
    """

    # Errors of TLS. Nothing is an instance of no class, so without TLS these are never met.
    want_read: tuple[type[OSError], ...] = ()
    want_write: tuple[type[OSError], ...] = ()
    tls_ended: tuple[type[OSError], ...] = ()
    tls_failed: tuple[type[OSError], ...] = ()
    # The connection has ended.
    broken: tuple[type[OSError], ...] = (ConnectionError,)

    def __init__(self, settings: Settings) -> None:
        endpoint = settings.endpoint
        default = endpoint.port == (443 if endpoint.secure else 80)
        host = endpoint.target.rpartition(":")[0] if default else endpoint.target
        headers = {
            "host": host,
            "user-agent": USER_AGENT,
            "accept-encoding": "identity",
            "content-type": _CONTENT_TYPES[settings.protocol],
        }
        given = dict(settings.headers)
        if "user-agent" in given:
            given["user-agent"] += f" {USER_AGENT}"
        lines = [f"POST {endpoint.path} HTTP/1.1", *(f"{name}: {value}" for name, value in (headers | given).items())]
        self.head = "\r\n".join([*lines, ""]).encode("latin-1")
        self.endpoint = endpoint
        self.tls: Tls | None = None
        if endpoint.secure:
            # Only now: it costs as much as all of clew.
            from clew.exporters._tls import TLS_ENDED, TLS_FAILED, WANT_READ, WANT_WRITE, Tls, tls_reason

            self.tls, self.tls_reason = Tls(settings), tls_reason
            self.want_read, self.want_write = (WANT_READ,), (WANT_WRITE,)
            self.tls_ended, self.tls_failed = TLS_ENDED, (TLS_FAILED,)
            self.broken = (ConnectionError, *TLS_ENDED)
        # What to try, the next when a receiver takes none of the one before (it must take the last).
        self.encodings: tuple[str, ...] = ("identity",)
        if settings.compression != "none":
            self.encodings = ("gzip", "identity")
        if settings.compression == "zstd":
            self.compress_zstd = _zstd()
            self.encodings = ("zstd", "gzip", "identity")
        self.getaddrinfo = of_system("socket", "getaddrinfo")

    def open(self) -> HttpConnection:
        """A connection, which is made when it is needed. For one thread at a time."""
        return HttpConnection(self)

    def request(self, body: bytes, encoding: str) -> bytes:
        """A whole request."""
        label = b""
        if encoding != "identity":
            label = f"content-encoding: {encoding}\r\n".encode()
            body = self.compress_zstd(body) if encoding == "zstd" else zlib.compress(body, _GZIP_LEVEL, wbits=31)
        return b"".join((self.head, label, b"content-length: %d\r\n\r\n" % len(body), body))


USER_AGENT = f"clew-OTLP-Exporter-Python/{__version__}"


def _zstd() -> Callable[[bytes], bytes]:
    try:
        from compression.zstd import compress  # type: ignore[import-not-found,unused-ignore] # Python 3.14
    except ImportError:
        try:
            import zstandard
        except ImportError as error:
            raise ConfigurationError("compression by zstd needs a package: pip install 'clew[zstd]'.") from error
        return zstandard.ZstdCompressor().compress
    found: Callable[[bytes], bytes] = compress
    return found


class HttpConnection:
    """One connection at a time to an endpoint, made anew when it is gone.

    Thread: one at a time.
    """

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._encodings = transport.encodings
        self._socket: socket.socket | TlsSocket | None = None
        self._used = 0.0  # when its last answer came, a time of `monotonic()`

    def send(self, body: bytes, patience: Patience) -> Answer:
        """Send a message and take the answer.

        Raises: OutOfTimeError.
        """
        while True:
            try:
                reply = self._exchange(self._transport.request(body, self._encodings[0]), patience)
            except BadReplyError as error:
                return Answer(Verdict.NEVER, str(error))
            except OSError as error:
                return self._failure(error)
            if reply.status == 415 and len(self._encodings) > 1:
                self._encodings = self._encodings[1:]
                continue
            return http_answer(reply, datetime.now(UTC))

    def close(self) -> None:
        """Close the connection; `send` makes another."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def forget(self) -> None:
        """Close our end of a connection that the parent of this process goes on using."""
        self.close()  # which says nothing to the other side, also with TLS

    def __del__(self) -> None:
        self.close()

    def _failure(self, error: OSError) -> Answer:
        if isinstance(error, self._transport.tls_ended):
            return Answer(Verdict.LATER, "it closed the connection without an answer")
        if isinstance(error, self._transport.tls_failed):
            return Answer(Verdict.NEVER, f"TLS with it is not possible: {self._transport.tls_reason(error)}")
        if isinstance(error, socket.gaierror):
            return Answer(Verdict.LATER, f"its name cannot be resolved: {error.strerror}")
        return Answer(Verdict.LATER, _PLAIN.get(error.errno or 0) or str(error.strerror or error))

    # --- a request and its answer ------------------------------------------------------------------------------------

    def _exchange(self, request: bytes, patience: Patience) -> Reply:
        kept = self._socket is not None and self._is_idle()
        try:
            if not kept:
                self._connect(patience)
            try:
                return self._round_trip(request, patience)
            except self._transport.broken:
                if not kept:
                    raise
                # It closed a connection that it had kept, just when we used it: that is no refusal.
                self._connect(patience)
                return self._round_trip(request, patience)
        except BaseException:
            self.close()
            raise

    def _round_trip(self, request: bytes, patience: Patience) -> Reply:
        sent: OSError | None = None
        try:
            complete = self._send(request, patience)
        except self._transport.broken as error:
            # Often it has said why before: an answer may wait for us.
            complete, sent = False, error
        reader = ReplyReader()
        reply = None
        while reply is None:
            try:
                reply = reader.feed(self._receive(patience))
            except ConnectionResetError as error:
                raise (sent or error) from None
        self._used = monotonic()
        if not (complete and reply.reusable):
            self.close()
        return reply

    def _is_idle(self) -> bool:
        """Whether the connection can be used again; if not, it is closed."""
        assert self._socket is not None
        poll = of_system("select", "poll")()
        poll.register(self._socket.fileno(), select.POLLIN)
        # What can be read now is its end, or what nobody asked for.
        if monotonic() - self._used > OTLP_IDLE_SECONDS or poll.poll(0):
            self.close()
            return False
        return True

    def _send(self, data: bytes, patience: Patience) -> bool:
        """Whether all of it was sent: the receiver may answer before that."""
        assert self._socket is not None
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except self._transport.want_read:
                patience.wait(self._socket.fileno(), select.POLLIN)
            except self._transport.want_write:
                patience.wait(self._socket.fileno(), select.POLLOUT)
            except BlockingIOError:
                if patience.wait(self._socket.fileno(), select.POLLIN | select.POLLOUT) == select.POLLIN:
                    return False
        return True

    def _receive(self, patience: Patience) -> bytes:
        assert self._socket is not None
        if self._transport.tls is None:
            patience.wait(self._socket.fileno(), select.POLLIN)
        while True:
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except self._transport.want_write:
                patience.wait(self._socket.fileno(), select.POLLOUT)
            except BlockingIOError:
                patience.wait(self._socket.fileno(), select.POLLIN)
            except self._transport.want_read:
                patience.wait(self._socket.fileno(), select.POLLIN)

    # --- connecting --------------------------------------------------------------------------------------------------

    def _connect(self, patience: Patience) -> None:
        self.close()
        endpoint = self._transport.endpoint
        patience.left()
        # The one wait that nothing can cut short; resolvers have a limit of their own.
        found = self._transport.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        problem: Exception = OSError("its name has no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            share = patience.share(len(found) - number)
            try:
                self._socket = plain = _connected(socket.socket(family, kind, protocol), address, share)
                if self._transport.tls is not None:
                    self._socket = secure = self._transport.tls.wrap(plain, endpoint.host)
                    self._shake_hands(secure, share)
            except (OSError, OutOfTimeError) as error:
                self.close()
                problem = error
            else:
                return
        raise problem

    def _shake_hands(self, connection: TlsSocket, patience: Patience) -> None:
        while True:
            try:
                connection.do_handshake()
            except self._transport.want_read:
                patience.wait(connection.fileno(), select.POLLIN)
            except self._transport.want_write:
                patience.wait(connection.fileno(), select.POLLOUT)
            else:
                return


def _connected(connection: socket.socket, address: Any, patience: Patience) -> socket.socket:
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = connection.connect_ex(address)
        if code == errno.EINPROGRESS:
            patience.wait(connection.fileno(), select.POLLOUT)
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # It is None from a socket that another library put in the place of Python's, to go through a proxy.
        if code not in (0, None):
            raise OSError(code, os.strerror(code))  # noqa: TRY301 - as connect does
    except BaseException:
        connection.close()
        raise
    return connection


_PLAIN = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.ECONNRESET: "it broke off the connection",
    errno.EPIPE: "it broke off the connection",
}
