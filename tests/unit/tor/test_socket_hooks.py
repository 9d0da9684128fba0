"""The connections that the program makes are seen, and are what they would be without us."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import socks  # type: ignore[import-untyped]

from clew.tor.client_ports import normal_address
from clew.tor.socket_hooks import SOCKETS, ends_of
from tests.fake_tor import FakeTor

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterator

    from clew.tor.client_ports import RawAddress


class Watcher:
    """Writes down what it is told."""

    def __init__(self, *ports: int) -> None:
        self.port_numbers = frozenset(ports)
        self.seen: list[tuple[Any, Any, Any]] = []
        self.errors = 0

    def socket_connected(
        self, time_ns: int, local: RawAddress, remote: RawAddress, connection: weakref.ref[socket.socket]
    ) -> None:
        self.seen.append((normal_address(local), normal_address(remote), connection()))

    def count_error(self) -> None:
        self.errors += 1


@contextmanager
def watching(*ports: int) -> Iterator[Watcher]:
    watcher = Watcher(*ports)
    SOCKETS.watch(watcher)
    try:
        yield watcher
    finally:
        SOCKETS.unwatch(watcher)


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_nothing_is_left_when_nobody_watches(server: tuple[str, int]) -> None:
    """The socket class is as it was: it inherits both methods from the C type."""
    before = dict(vars(socket.socket))
    with watching(server[1]):
        assert vars(socket.socket) != before
        assert socket.socket.connect.__doc__
    assert vars(socket.socket) == before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connect(server: tuple[str, int], host: str) -> None:
    """Both ends are told in numbers, and the socket; the call returns what it would."""
    with watching(server[1]) as watcher, socket.socket() as client:
        assert client.connect((host, server[1])) is None  # type: ignore[func-returns-value]
        assert watcher.seen == [(client.getsockname(), server, client)]


def test_connect_without_blocking(server: tuple[str, int]) -> None:
    """A connection that is being made is seen too: nothing was sent yet."""
    with watching(server[1]) as watcher, socket.socket() as client, socket.socket() as other:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.connect(server)
        other.setblocking(False)
        assert other.connect_ex(server) == errno.EINPROGRESS
        assert [near for near, _, _ in watcher.seen] == [client.getsockname(), other.getsockname()]


def test_connect_ex(server: tuple[str, int]) -> None:
    """A connection that is made is seen; one that fails is not."""
    with watching(server[1]) as watcher, socket.socket() as client, socket.socket() as failing:
        assert client.connect_ex(server) == 0
        assert failing.connect_ex(("127.0.0.1", unused_port())) == errno.ECONNREFUSED
        assert len(watcher.seen) == 1


def test_other_ports_are_not_looked_at(server: tuple[str, int]) -> None:
    """Nor are other families."""
    with watching(1) as watcher, socket.create_connection(server), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(FileNotFoundError):
            client.connect("/nowhere")
        with pytest.raises(FileNotFoundError):
            client.connect(b"\x01\x01")
        assert watcher.seen == []
        assert watcher.errors == 0


def test_errors_are_the_programs_own() -> None:
    """The exception is the same, and its traceback has one frame more."""
    port = unused_port()
    with watching(port) as watcher, socket.socket() as client:
        with pytest.raises(ConnectionRefusedError) as caught:
            client.connect(("127.0.0.1", port))
        assert [frame.name for frame in traceback.extract_tb(caught.tb)][1:] == ["connect"]
        assert caught.value.__context__ is None
        with pytest.raises(TypeError):
            client.connect()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            client.connect(["127.0.0.1", port])  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            client.connect(("127.0.0.1", [port]))
        assert watcher.seen == []
        assert watcher.errors == 0


def test_a_fault_of_a_watcher_stays_there(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is made; the fault is counted."""
    with watching(server[1]) as watcher, socket.socket() as client:
        monkeypatch.setattr(watcher, "socket_connected", None)
        client.connect(server)
        assert client.getpeername() == server
        assert watcher.errors == 1


def test_what_asyncio_connects_is_seen(server: tuple[str, int]) -> None:
    """Streams of asyncio go by way of the same method."""

    async def connect() -> None:
        _, writer = await asyncio.open_connection(*server)
        writer.close()
        await writer.wait_closed()

    with watching(server[1]) as watcher:
        asyncio.run(connect())
        assert [far for _, far, _ in watcher.seen] == [server]


def test_with_pysocks_the_connection_to_the_proxy_is_seen() -> None:
    """Its socket says that it is connected to the destination; it is not."""
    with FakeTor({("a.onion", 80): ("127.0.0.1", 1)}) as tor, watching(tor.port) as watcher:
        client = socks.socksocket()
        with client:
            client.set_proxy(socks.SOCKS5, *tor.address, rdns=True)
            with pytest.raises(socks.ProxyError):
                client.connect(("b.onion", 80))
        assert [far for _, far, _ in watcher.seen] == [tor.address]


def test_with_pysocks_in_the_place_of_all_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of old: socket.socket is replaced, and every connection goes through the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
        with FakeTor({("a.onion", 80): where}) as tor:
            monkeypatch.setattr(socks.socksocket, "default_proxy", (socks.SOCKS5, *tor.address, True, None, None))
            monkeypatch.setattr(socket, "socket", socks.socksocket)
            with watching(tor.port) as watcher:
                # As socket.create_connection would after a look-up of the name, which PySocks cannot prevent.
                with socket.socket() as client:
                    client.connect(("a.onion", 80))
                    ends = ends_of(client)
                    assert ends is not None
                    assert client.getpeername() != tor.address
                    assert ends[1] == tor.address
                assert [far for _, far, _ in watcher.seen] == [tor.address]
            monkeypatch.undo()


def test_the_ends_of_what_is_no_connection() -> None:
    """None, whatever it is."""
    with socket.socket() as client:
        assert ends_of(client) is None
    assert ends_of(client) is None
    assert ends_of(None) is None
    assert ends_of(object()) is None


def test_threads_at_once(server: tuple[str, int]) -> None:
    """Each connection is seen once, whoever makes it."""
    with watching(server[1]) as watcher:
        ports = []

        def connect() -> None:
            for _ in range(20):
                with socket.create_connection(server) as client:
                    ports.append(client.getsockname())

        threads = [threading.Thread(target=connect) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(near for near, _, _ in watcher.seen) == sorted(ports)
