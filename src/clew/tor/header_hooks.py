"""Puts headers on the requests of HTTP libraries, as late as they can be put there.

Each library is wrapped where a request meets the connection that it goes out on: only there is it known where that
connection really leads, and what is added there goes no further. A redirect is a request of its own, which is judged
anew; the program's own headers, which a redirect inherits, never change.

- http.client, and so urllib, requests and urllib3: `HTTPConnection.endheaders`.
- httpcore, and so httpx: `handle_request` of its HTTP/1.1 and HTTP/2 connections, on a copy of the request.
- aiohttp: `ClientRequest.send`.

A library is wrapped when it is there: at the first watcher, or when a later one or a connection has us look again.
"""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from clew.tor.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["HEADERS", "HeaderWatcher"]

_TRACEPARENT = "traceparent"
_DEFAULT_PORTS = {b"http": 80, b"https": 443}


class HeaderWatcher(Protocol):
    """Who adds headers to requests."""

    def may_add(self, host: str, port: int | None) -> bool:
        """Whether it may have some for requests to this host, in the current context. Called for every request."""
        ...

    def headers(self, host: str, port: int | None, connection: object) -> Mapping[str, str]:
        """The headers for a request to this host that goes out on this connection, a socket."""
        ...

    def count_error(self) -> None:
        """Adding them failed: the request goes out without."""


class _HeaderHooks(Hooks[HeaderWatcher]):
    def __init__(self) -> None:
        super().__init__()
        self._missing: tuple[_Place, ...] = ()

    def install(self) -> None:
        self._missing = _PLACES
        self.look_again()

    def look_again(self) -> None:
        """Wrap the libraries that were imported since."""
        for place in self._missing:
            owner = getattr(sys.modules.get(place.module), place.owner, None)
            if owner is not None and hasattr(owner, place.method):
                with self._lock:
                    if self.watchers and place in self._missing:
                        self._missing = tuple(missing for missing in self._missing if missing is not place)
                        self.wrap(owner, place.method, place.wrapper)

    def uninstall(self) -> None:
        self._missing = ()
        super().uninstall()


HEADERS = _HeaderHooks()


def _may_add(host: str | None, port: int | None) -> bool:
    try:
        return host is not None and any(watcher.may_add(host, port) for watcher in HEADERS.watchers)
    except Exception:  # noqa: BLE001 - see _headers
        _count_error()
        return False


def _headers(host: str, port: int | None, connection: object) -> Mapping[str, str]:
    try:
        for watcher in HEADERS.watchers:
            if headers := watcher.headers(host, port, connection):
                return headers
    except Exception:  # noqa: BLE001 - the request goes out, whatever we make of it
        _count_error()
    return {}


def _count_error() -> None:
    for watcher in HEADERS.watchers:
        watcher.count_error()


def _has_traceparent(names: Iterable[Any]) -> bool:
    return any(
        (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower() == _TRACEPARENT for name in names
    )


# --- http.client ----------------------------------------------------------------------------------------------------


def _wrap_endheaders(original: Callable[..., Any]) -> Callable[..., Any]:
    def endheaders(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _may_add(self.host, self.port):
            _add_to_http_client(self)
        return original(self, *args, **kwargs)

    return endheaders


def _add_to_http_client(connection: Any) -> None:
    try:
        buffer: list[bytes] = connection._buffer  # noqa: SLF001 - what putrequest and putheader have said so far
        target = buffer[0].split(b" ")[1]
        # In absolute form it is for an HTTP proxy, in a tunnel it goes by way of one: others than the host see it.
        if target[:1] != b"/" or connection._tunnel_host is not None:  # noqa: SLF001
            return
        if _has_traceparent(line.partition(b":")[0] for line in buffer[1:]):
            return
        must_connect = connection.sock is None and connection.auto_open
    except Exception:  # noqa: BLE001 - a connection of the program's own making
        _count_error()
        return
    if must_connect:
        # As endheaders is about to. Where it leads can only be told then.
        try:
            connection.connect()
        except BaseException:
            buffer.clear()  # as it would be by then
            raise
    for name, value in _headers(connection.host, connection.port, connection.sock).items():
        buffer.append(f"{name}: {value}".encode("latin-1"))


# --- httpcore -------------------------------------------------------------------------------------------------------


def _wrap_handle_request(original: Callable[..., Any]) -> Callable[..., Any]:
    def handle_request(self: Any, request: Any) -> Any:
        return original(self, _add_to_httpcore(self, request))

    return handle_request


def _add_to_httpcore(connection: Any, request: Any) -> Any:
    try:
        url = request.url
        host, port = url.host.decode("ascii"), url.port or _DEFAULT_PORTS.get(url.scheme)
        if not _may_add(host, port):
            return request
        if url.target[:1] != b"/" or _has_traceparent(name for name, _ in request.headers):
            return request
        stream = connection._network_stream  # noqa: SLF001 - the one that this request goes out on
        added = _headers(host, port, stream.get_extra_info("socket"))
        if added:
            request = copy.copy(request)
            request.headers = [*request.headers, *((name.encode(), value.encode()) for name, value in added.items())]
    except Exception:  # noqa: BLE001 - the request goes out, whatever we make of it
        _count_error()
    return request


# --- aiohttp --------------------------------------------------------------------------------------------------------


def _wrap_send(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Any, conn: Any, *args: Any, **kwargs: Any) -> Any:
        _add_to_aiohttp(self, conn)
        return original(self, conn, *args, **kwargs)

    return send


def _add_to_aiohttp(request: Any, connection: Any) -> None:
    try:
        url = request.url
        if not _may_add(url.host, url.port) or request.method == "CONNECT" or request.proxy is not None:
            return
        if not _has_traceparent(request.headers):
            # The headers are this hop's own: a redirect is made from the program's.
            request.headers.update(_headers(url.host, url.port, connection.transport.get_extra_info("socket")))
    except Exception:  # noqa: BLE001 - the request goes out, whatever we make of it
        _count_error()


class _Place(NamedTuple):
    module: str
    owner: str
    method: str
    wrapper: Callable[[Any], Any]


_PLACES = (
    _Place("http.client", "HTTPConnection", "endheaders", _wrap_endheaders),
    _Place("httpcore", "HTTP11Connection", "handle_request", _wrap_handle_request),
    _Place("httpcore", "HTTP2Connection", "handle_request", _wrap_handle_request),
    _Place("httpcore", "AsyncHTTP11Connection", "handle_async_request", _wrap_handle_request),
    _Place("httpcore", "AsyncHTTP2Connection", "handle_async_request", _wrap_handle_request),
    _Place("aiohttp", "ClientRequest", "send", _wrap_send),
)
