"""A SOCKS server on loopback that tells of its streams as tor does, without a tor: for tests of what joins the two."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from clew.errors import ControlConnectionError, ControlReplyError
from clew.tor.events import StreamEvent, UnknownEvent
from clew.tor.mapper import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from clew.errors import TorError
    from clew.tor.events import Event

Place = tuple[str, int]
_Socket = socket.socket  # a test may put another in its place


class FakeSource:
    """A control connection whose events the test makes."""

    def __init__(self, listeners: str = "") -> None:
        self.info = {
            "events/names": " ".join((*EVENTS, "CONF_CHANGED", "ADDRMAP")),
            "net/listeners/socks": listeners,
            "circuit-status": "",
        }
        self.events: list[str] = []
        self.listeners: list[Callable[[Event], None]] = []
        self.disconnect_listeners: list[Callable[[TorError], None]] = []
        self._lock = threading.Lock()

    def add_listener(self, listener: Callable[[Event], None], /) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Callable[[Event], None], /) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def on_disconnect(self, listener: Callable[[TorError], None], /) -> None:
        self.disconnect_listeners.append(listener)

    def get_info(self, *keys: str) -> dict[str, str]:
        if any(key not in self.info for key in keys):
            raise ControlReplyError(552, f'Unrecognized key "{keys[0]}"')
        return {key: self.info[key] for key in keys}

    def set_events(self, names: Iterable[str], /) -> None:
        self.events = list(names)

    def emit(self, *events: Event) -> None:
        """Tell the listeners, on this thread, one event at a time."""
        with self._lock:
            for event in events:
                for listener in tuple(self.listeners):
                    listener(event)

    def configuration_changed(self) -> None:
        self.emit(UnknownEvent(time.time_ns(), "CONF_CHANGED", "CONF_CHANGED\nSocksPort=9050"))

    def disconnect(self) -> None:
        for listener in self.disconnect_listeners:
            listener(ControlConnectionError("gone"))


def stream_event(
    stream_id: str,
    status: str,
    *,
    source_addr: str | None = None,
    target: str = "www.example:80",
    time_ns: int | None = None,
    group: str | None = None,
    reason: str | None = None,
) -> StreamEvent:
    """An event as tor would send it now."""
    extra: Mapping[str, str] = MappingProxyType({} if group is None else {"SESSION_GROUP": group})
    return StreamEvent(
        time.time_ns() if time_ns is None else time_ns,
        stream_id,
        status,
        "0" if status.startswith("NEW") else "1",
        target,
        reason=reason,
        source_addr=source_addr,
        purpose="USER" if status == "NEW" else None,
        client_protocol="SOCKS5",
        extra=extra,
    )


class FakeTor:
    """Listens for SOCKS5 on loopback, leads every connection to a server of the test, and tells of it.

    Args:
        hosts: where destinations really are. What is not in there is refused.
        address: of the listener.
    """

    def __init__(
        self,
        hosts: Mapping[Place, Place] | None = None,
        *,
        address: str = "127.0.0.1",
        source: FakeSource | None = None,
        group: str = "-4",
        password: tuple[str, str] | None = None,
    ) -> None:
        self.hosts = dict(hosts or {})
        self.targets: list[str] = []
        self._password = password
        self._group = group
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=512)
        self.address: Place = (address, self._listener.getsockname()[1])
        self.source = FakeSource() if source is None else source
        text = f"[{address}]" if ":" in address else address
        listeners = self.source.info["net/listeners/socks"]
        self.source.info["net/listeners/socks"] = f'{listeners} "{text}:{self.port}"'.strip()
        self._ids = count(1)
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def proxy(self) -> str:
        return f"socks5h://{self.address[0]}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for client in tuple(self._open):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self.join()

    def join(self) -> None:
        """Wait until every connection so far has ended."""
        while self._threads:
            self._threads.pop().join()

    def _accept(self) -> None:
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client, address))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, address: tuple[str, int]) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError, EOFError):
            stream_id = f"{self.port}x{next(self._ids)}"
            place, command = self._handshake(client)
            target = f"{place[0]}:{place[1]}"
            self.targets.append(target)

            def tell(status: str, reason: str | None = None) -> None:
                source = f"{address[0]}:{address[1]}" if status.startswith("NEW") else None
                event = stream_event(
                    stream_id, status, source_addr=source, target=target, reason=reason, group=self._group
                )
                self.source.emit(event)

            tell("NEWRESOLVE" if command == 0xF0 else "NEW")
            try:
                self._lead(client, place, tell)
            finally:
                tell("CLOSED", "DONE")
        self._open.discard(client)

    def _lead(self, client: socket.socket, place: Place, tell: Callable[[str], None]) -> None:
        tell("SENTCONNECT")
        where = self.hosts.get(place)
        if where is None:
            client.sendall(b"\x05\x05\x00\x01" + bytes(6))
            return
        with _Socket(socket.AF_INET) as server:
            server.connect(where)
            tell("SUCCEEDED")
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_copy, args=(server, client))
            back.start()
            _copy(client, server)
            back.join()

    def _handshake(self, client: socket.socket) -> tuple[Place, int]:
        """RFC 1928 and 1929."""
        _, methods = _receive(client, 2)
        _receive(client, methods)
        if self._password is None:
            client.sendall(b"\x05\x00")
        else:
            client.sendall(b"\x05\x02")
            _, size = _receive(client, 2)
            user = _receive(client, size)
            password = _receive(client, _receive(client, 1)[0])
            client.sendall(b"\x01\x00")
            assert (user.decode(), password.decode()) == self._password
        _, command, _, kind = _receive(client, 4)
        host = socket.inet_ntoa(_receive(client, 4)) if kind == 1 else _receive(client, _receive(client, 1)[0]).decode()
        return (host, int.from_bytes(_receive(client, 2), "big")), command


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def socks_connect(proxy: Place, host: str, port: int, *, command: int = 1) -> socket.socket:
    """What a program with a plain socket does (RFC 1928)."""
    client = socket.create_connection(proxy)
    try:
        client.sendall(b"\x05\x01\x00")
        assert _receive(client, 2) == b"\x05\x00"
        name = host.encode()
        client.sendall(bytes([5, command, 0, 3, len(name)]) + name + port.to_bytes(2, "big"))
        reply = _receive(client, 10)
        if reply[1]:
            raise ConnectionRefusedError(f"the proxy said {reply[1]}")
    except BaseException:
        client.close()
        raise
    return client
