"""The native receiver: bytes and the times at which they came."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from clew._hot.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def start(receiver: Receiver) -> threading.Thread:
    """The receiver's thread, running."""
    thread = threading.Thread(target=receiver.run)
    thread.start()
    return thread


def take_all(receiver: Receiver) -> list[tuple[bytes, int]]:
    """Everything until the end."""
    return list(iter(receiver.take, None))


def test_bytes_and_times(pair: tuple[socket.socket, socket.socket]) -> None:
    """All bytes come in order, each piece with a wall-clock time after it was sent and not after it was taken."""
    near, far = pair
    receiver = Receiver(near.fileno(), 1 << 20)
    thread = start(receiver)
    for number in range(100):
        before = time.time_ns()
        far.sendall(b"%d" % number)
        piece = receiver.take()
        assert piece is not None
        data, time_ns = piece
        assert data == b"%d" % number
        assert before <= time_ns <= time.time_ns()
    far.close()
    assert receiver.take() is None
    assert receiver.take() is None
    thread.join()


def test_the_time_is_that_of_the_arrival(pair: tuple[socket.socket, socket.socket]) -> None:
    """What nobody takes for a while keeps the time at which it came."""
    near, far = pair
    receiver = Receiver(near.fileno(), 1 << 20)
    thread = start(receiver)
    far.sendall(b"early")
    far.close()
    thread.join()
    late = time.time_ns()
    assert [(data, time_ns <= late) for data, time_ns in take_all(receiver)] == [(b"early", True)]


def test_more_than_fits(pair: tuple[socket.socket, socket.socket]) -> None:
    """Past its cap the receiver leaves the rest with the sender, and loses nothing of it."""
    near, far = pair
    sent = os.urandom(1_000_000)
    receiver = Receiver(near.fileno(), 1000)
    thread = start(receiver)

    def send() -> None:
        far.sendall(sent)
        far.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert b"".join(data for data, _ in take_all(receiver)) == sent
    sender.join()
    thread.join()


def test_stop(pair: tuple[socket.socket, socket.socket]) -> None:
    """`stop` ends a receiver that waits for room, and wakes whoever takes."""
    near, far = pair
    receiver = Receiver(near.fileno(), 1)
    thread = start(receiver)
    for _ in range(3):
        far.sendall(b"x" * 10)
    receiver.stop()
    near.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert all(set(data) == {ord("x")} for data, _ in take_all(receiver))


def test_never_run(pair: tuple[socket.socket, socket.socket]) -> None:
    """A receiver that was stopped without ever running gives nothing."""
    receiver = Receiver(pair[0].fileno(), 1)
    receiver.stop()
    assert receiver.take() is None


def test_not_a_socket() -> None:
    """What cannot be received from is an end, not an error."""
    receiver = Receiver(-1, 1)
    receiver.run()
    assert receiver.take() is None


def test_released_with_bytes_in_it() -> None:
    """Bytes that nobody takes go with the receiver."""
    for _ in range(50):
        near, far = socket.socketpair()
        with near, far:
            receiver = Receiver(near.fileno(), 1 << 20)
            far.sendall(b"x" * 1000)
            far.close()
            receiver.run()
