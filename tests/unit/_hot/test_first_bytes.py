"""The native watch: when a connection's first byte came, whatever the program does with its socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew._hot.first_bytes import FirstBytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pair = tuple[socket.socket, socket.socket]


@contextmanager
def watching(max_watched: int = 8) -> Iterator[FirstBytes]:
    first_bytes = FirstBytes(max_watched)
    thread = threading.Thread(target=first_bytes.run)
    thread.start()
    try:
        yield first_bytes
    finally:
        first_bytes.stop()
        thread.join()


@contextmanager
def connected(family: socket.AddressFamily = socket.AF_INET) -> Iterator[Pair]:
    """The near end, which is watched, and the far end."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as near,
    ):
        far, _ = listener.accept()
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with far:
            yield near, far


def begin(first_bytes: FirstBytes, near: socket.socket, handshakes: dict[int, int]) -> int:
    ticket = first_bytes.watch(near.fileno(), near.getsockname()[1], handshakes)
    assert ticket is not None
    return ticket


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline


def count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_first_byte_after_the_handshake(family: socket.AddressFamily) -> None:
    """The handshake's replies do not count; the time is that of the arrival, whoever reads it and when."""
    with watching() as first_bytes, connected(family) as (near, far):
        far.sendall(b"ab")
        assert near.recv(2) == b"ab"
        ticket = begin(first_bytes, near, {2: 12})
        wait_until(lambda: first_bytes.wakeups == 1)  # it is watched
        far.sendall(b"c" * 10)
        wait_until(lambda: first_bytes.wakeups == 2)
        assert first_bytes.noted == 0
        before = time.time_ns()
        far.sendall(b"payload")
        wait_until(lambda: first_bytes.noted == 1)
        after = time.time_ns()
        far.sendall(b"more")
        assert near.recv(100).startswith(b"c" * 10)
        time_ns = first_bytes.take(ticket)
        assert time_ns is not None
        assert before <= time_ns <= after


def test_a_program_that_is_quicker() -> None:
    """It has read all that came before anybody else could look: noted all the same."""
    with watching() as first_bytes, connected() as (near, far):
        for number in range(1, 51):
            ticket = begin(first_bytes, near, {number - 1: number - 1})
            far.sendall(b"x")
            assert near.recv(1) == b"x"
            wait_until(lambda number=number: first_bytes.noted == number)  # type: ignore[misc]
            assert first_bytes.take(ticket) is not None


def test_a_handful_of_wakeups() -> None:
    """However much comes after the first byte, nobody is woken up by it."""
    with watching() as first_bytes, connected() as (near, far):
        ticket = begin(first_bytes, near, {0: 0})
        far.sendall(b"x")
        wait_until(lambda: first_bytes.noted == 1)
        wakeups = first_bytes.wakeups
        for _ in range(100):
            far.sendall(b"x" * 100)
            near.recv(1000)
        assert first_bytes.wakeups == wakeups <= 3
        assert first_bytes.take(ticket) is not None


def test_the_end_is_no_byte() -> None:
    """A connection that ends without one, in order or not, has none."""
    with watching() as first_bytes:
        for abrupt in (False, True):
            with connected() as (near, far):
                ticket = begin(first_bytes, near, {0: 0})
                if abrupt:
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wakeups = first_bytes.wakeups
                far.close()
                wait_until(lambda wakeups=wakeups: first_bytes.wakeups > wakeups)  # type: ignore[misc]
                assert first_bytes.take(ticket) is None
        assert first_bytes.noted == 0


def test_the_end_right_after_the_handshake() -> None:
    """As after a SOCKS reply that says no: the end is no byte, though it may come while the kernel is being asked."""
    with watching() as first_bytes, socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(4000):
            with socket.create_connection(listener.getsockname()) as near:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
                far, _ = listener.accept()
                ticket = begin(first_bytes, near, {0: 10})
                far.sendall(b"x" * 10)
                far.close()
                assert len(near.recv(100)) == 10
                assert near.recv(1) == b""
                assert first_bytes.take(ticket) is None
        assert first_bytes.noted == 0


def test_a_byte_and_the_end_at_once() -> None:
    """The byte counts."""
    with watching() as first_bytes, connected() as (near, far):
        ticket = begin(first_bytes, near, {0: 0})
        far.sendall(b"x")
        far.close()
        wait_until(lambda: first_bytes.noted == 1)
        assert first_bytes.take(ticket) is not None


def test_what_has_received_something_else_is_not_watched() -> None:
    """It is too late, or no handshake that is known."""
    with watching() as first_bytes, connected() as (near, far):
        far.sendall(b"abc")
        near.recv(3, socket.MSG_WAITALL)
        assert first_bytes.watch(near.fileno(), near.getsockname()[1], {0: 0, 2: 12}) is None
        assert first_bytes.watch(near.fileno(), near.getsockname()[1] ^ 1, {3: 3}) is None  # another's number by now
        assert first_bytes.watch(-1, 1, {0: 0}) is None
        with socket.socket() as unconnected, socket.socket(socket.AF_UNIX) as other:
            assert first_bytes.watch(unconnected.fileno(), 0, {1: 0}) is None
            assert first_bytes.watch(other.fileno(), 0, {0: 0}) is None


def test_a_socket_that_is_closed_and_its_number_used_again() -> None:
    """The new connection is not taken for the old one, and is watched on its own."""
    with watching() as first_bytes, connected() as (near, _), connected() as (other, far):
        ticket = begin(first_bytes, near, {0: 0})
        number = near.fileno()
        near.close()
        os.dup2(other.fileno(), number)
        with socket.socket(fileno=number) as again:
            second = begin(first_bytes, again, {0: 0})
            far.sendall(b"x")
            wait_until(lambda: first_bytes.noted == 1)
            assert first_bytes.take(ticket) is None
            assert first_bytes.take(second) is not None


def test_a_ticket_is_good_once() -> None:
    """Later its place is another connection's."""
    with watching(1) as first_bytes, connected() as (near, far):
        old = begin(first_bytes, near, {0: 0})
        assert first_bytes.watch(near.fileno(), near.getsockname()[1], {0: 0}) is None  # there is one place
        assert first_bytes.take(old) is None
        ticket = begin(first_bytes, near, {0: 0})
        far.sendall(b"x")
        wait_until(lambda: first_bytes.noted == 1)
        assert first_bytes.take(old) is None
        assert first_bytes.take(1 << 40) is None
        assert first_bytes.take(ticket) is not None
        assert first_bytes.take(ticket) is None


def test_many_at_once() -> None:
    """Each place is used again and again, by several threads, while bytes come."""
    with watching(16) as first_bytes:
        noted = []

        def use() -> None:
            for _ in range(30):
                with connected() as (near, far):
                    ticket = first_bytes.watch(near.fileno(), near.getsockname()[1], {0: 0})
                    far.sendall(b"x")
                    near.recv(1)
                    if ticket is not None:
                        noted.append(first_bytes.take(ticket))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(noted) == 240
        assert len([time_ns for time_ns in noted if time_ns is not None]) <= first_bytes.noted <= 240


def test_it_ends_before_it_begins() -> None:
    """`stop` holds, whenever it is called; no file is left open."""
    files = count_files()
    first_bytes = FirstBytes(1)
    first_bytes.stop()
    first_bytes.run()
    del first_bytes
    assert count_files() == files
