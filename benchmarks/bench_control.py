"""The control port: how fast tor's events are read, and how late the times are that they get.

`python benchmarks/bench_control.py` prints microseconds of CPU per event of each step, events per second through a
client, and the lag of arrival times behind the sender's clock: of clew's receiver and of a thread that does the same in
Python, each alone and beside a thread that computes, over both kinds of socket. It writes
benchmarks/results/bench_control.json; `--quick` does little of everything and records nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clew._hot.receiver import Receiver
from clew.tor.control import ControlClient
from clew.tor.events import parse_event
from clew.tor.wire import ControlParser, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).resolve().parent / "results" / "bench_control.json"

PATH = ",".join(f"${letter * 40}~relay{letter}" for letter in "ABC")
LINE = (
    f"650 CIRC %d EXTENDED {PATH} BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL TIME_CREATED=2026-01-31T12:15:33.516254\r\n"
).encode()
HELLO = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
WRAP = 10**15  # a circuit's id has 16 digits at the most: the sender's time, without its first ones

Piece = tuple[bytes, int]


# --- the sender, a process of its own -------------------------------------------------------------------------------


def send(kind: str, path: str, mode: str, count: int) -> None:
    """Listen, take one connection, and send events: at once, or one a millisecond with the time in it."""
    listener = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    listener.bind(path if kind == "unix" else ("127.0.0.1", 0))
    listener.listen()
    print("" if kind == "unix" else listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    if mode == "flood":
        for answer in (HELLO, b"250 OK\r\n", b"250 OK\r\n"):
            connection.recv(4096)
            connection.sendall(answer)
        for number in range(0, count, 100):
            connection.sendall(b"".join(LINE % (number + offset) for offset in range(100)))
        connection.recv(1)  # until the client has gone
    else:
        for _ in range(count):
            connection.sendall(LINE % (time.time_ns() % WRAP))
            time.sleep(0.001)
    connection.close()


class Sender:
    """That process, and where it listens."""

    def __init__(self, kind: str, mode: str, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/socket"
        command = [sys.executable, __file__, "--send", kind, path, mode, str(count)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip() or path

    def connect(self) -> socket.socket:
        """A connection to it."""
        if self.address.isdecimal():
            return socket.create_connection(("127.0.0.1", int(self.address)))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        return connection

    def close(self) -> None:
        """Wait for its end."""
        self._process.communicate()
        self._folder.cleanup()


# --- what is measured -----------------------------------------------------------------------------------------------


def measure_steps(rounds: int) -> dict[str, float]:
    """Microseconds of CPU per event, the median of the rounds."""
    raw = b"".join(LINE % number for number in range(300))
    text = raw.decode()

    def read() -> list[Reply]:
        parser = ControlParser()
        parser.feed(raw)
        return list(iter(parser.next_reply, None))

    replies = read()
    steps: dict[str, Callable[[], object]] = {
        "bytes to replies": read,
        "replies to events": lambda: [parse_event(reply, 1) for reply in replies],
        "a plain split, for comparison": lambda: [
            dict(word.partition("=")[::2] for word in line.split(" ")) for line in text.split("\r\n")
        ],
    }
    figures: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.thread_time_ns()
            step()
            figures[name].append((time.thread_time_ns() - begin) / 300 / 1000)
    return {name: round(statistics.median(values), 2) for name, values in figures.items()}


def measure_client(count: int) -> int:
    """Events per second from the socket to a listener, which were all dispatched."""
    sender = Sender("unix", "flood", count)
    done = threading.Event()
    seen = 0
    first_ns = 0

    def listen(_: object) -> None:
        nonlocal seen, first_ns
        first_ns = first_ns or time.perf_counter_ns()
        seen += 1
        if seen == count:
            done.set()

    with ControlClient.connect(sender.address) as client:
        client.add_listener(listen)
        client.set_events(["CIRC"])
        done.wait(60)
        elapsed_ns = time.perf_counter_ns() - first_ns
        assert client.stats().dropped == 0
    sender.close()
    return round(count / elapsed_ns * 1e9)


def receive_natively(connection: socket.socket) -> list[Piece]:
    """All that comes, received as clew does."""
    receiver = Receiver(connection.fileno(), 8 << 20)
    thread = threading.Thread(target=receiver.run)
    thread.start()
    pieces = list(iter(receiver.take, None))
    thread.join()
    return pieces


def receive_in_python(connection: socket.socket) -> list[Piece]:
    """All that comes, received by a thread of Python that looks at the clock next."""
    pieces: list[Piece] = []

    def run() -> None:
        while data := connection.recv(65536):
            pieces.append((data, time.time_ns()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return pieces


def measure_lag(
    receive: Callable[[socket.socket], list[Piece]], kind: str, *, busy: bool, count: int
) -> dict[str, float]:
    """Microseconds from the sender's look at the clock to the receiver's."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(number * number for number in range(1000))

    sender = Sender(kind, "pace", count)
    computing = threading.Thread(target=compute)
    if busy:
        computing.start()
    with sender.connect() as connection:
        pieces = receive(connection)
    stop.set()
    if busy:
        computing.join()
    sender.close()
    lags = sorted(
        (time_ns % WRAP - int(line.split(b" ")[2])) / 1000 for data, time_ns in pieces for line in data.splitlines()
    )
    return {
        "median": round(statistics.median(lags), 1),
        "p95": round(lags[len(lags) * 95 // 100], 1),
        "max": round(lags[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the control client.")
    parser.add_argument("--quick", action="store_true", help="do little of everything, and record nothing")
    parser.add_argument("--send", nargs=4, metavar=("KIND", "PATH", "MODE", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        kind, path, mode, count = args.send
        send(kind, path, mode, int(count))
        return
    steps = measure_steps(3 if args.quick else 200)
    for name, value in steps.items():
        print(f"{name:45}{value:10.2f} us an event")
    rate = measure_client(1000 if args.quick else 30_000)
    print(f"{'through a client, to a listener':45}{rate:10,} events a second")
    lags: dict[str, dict[str, float]] = {}
    for kind in ("unix", "tcp"):
        for busy in (False, True):
            for who, receive in (("clew", receive_natively), ("Python", receive_in_python)):
                name = f"lag, {kind}, {who}, {'beside a busy thread' if busy else 'alone'}"
                lag = lags[name] = measure_lag(receive, kind, busy=busy, count=50 if args.quick else 2000)
                print(f"{name:45}{lag['median']:10,.0f} us, p95 {lag['p95']:,.0f}, max {lag['max']:,.0f}")
    if not args.quick:
        report = {
            "python": platform.python_version(),
            "microseconds_per_event": steps,
            "events_per_second": rate,
            "lag_microseconds": lags,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
