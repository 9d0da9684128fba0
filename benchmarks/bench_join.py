"""The join: what it costs a program to connect, and how late the first byte's time is.

`python benchmarks/bench_join.py` prints what `connect` takes with nobody watching, with a watcher of another port, and
to a port of tor's; and how long after the server sent it the first byte was noted, by clew and by the program itself,
alone and beside threads that compute. It writes benchmarks/results/bench_join.json; `--quick` does little and records
nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clew._hot.first_bytes import FirstBytes
from clew.tor.client_ports import ClientPorts
from clew.tor.joining import StreamJoiner
from clew.tor.socket_hooks import SOCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).resolve().parent / "results" / "bench_join.json"
HOST = "127.0.0.1"
BUSY = (0, 1, 4)  # threads that compute


def serve() -> None:
    """A process of its own: answers each connection with the time, after 5 ms."""
    listener = socket.create_server((HOST, 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        if not connection.recv(100):
            return
        time.sleep(0.005)
        connection.sendall(b"%019d" % time.time_ns() + b"x" * 500)
        connection.close()


def measure_connect(rounds: int) -> dict[str, float]:
    """Microseconds of a call, the quickest of the rounds.

    A datagram socket is connected: that sends nothing, so that the call is all there is. To us it is a connection.
    """
    figures: dict[str, list[float]] = {}

    def measure(what: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            begin = time.perf_counter_ns()
            for _ in range(2000):
                client.connect((HOST, 9050))
            figures.setdefault(what, []).append((time.perf_counter_ns() - begin) / 2000 / 1000)

    for _ in range(rounds):
        measure("nobody watches")
        joiner = StreamJoiner()
        joiner.ports = ClientPorts.of("9")
        SOCKETS.watch(joiner)
        measure("another port is watched")
        joiner.ports = ClientPorts.of("9050")
        measure("a port of tor's")
        SOCKETS.unwatch(joiner)
    return {what: round(min(values), 2) for what, values in figures.items()}


@contextmanager
def busy(threads: int) -> Iterator[None]:
    """Threads that compute, and want the interpreter for it."""
    end = threading.Event()

    def compute() -> None:
        while not end.is_set():
            sum(range(1000))

    running = [threading.Thread(target=compute) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in running:
            thread.join()


def measure_first_bytes(count: int, threads: int, port: int) -> dict[str, object]:
    """Milliseconds from the server's clock to ours."""
    native = FirstBytes(8)
    thread = threading.Thread(target=native.run)
    thread.start()
    noted, read = [], []
    with busy(threads):
        for _ in range(count):
            with socket.create_connection((HOST, port)) as client:
                ticket = native.watch(client.fileno(), client.getsockname()[1], {0: 0})
                client.sendall(b"x")
                answer = client.recv(1000)
                now_ns = time.time_ns()
                sent_ns = int(answer[:19])
                time.sleep(0.001)
                time_ns = None if ticket is None else native.take(ticket)
                read.append((now_ns - sent_ns) / 1e6)
                if time_ns is not None:
                    noted.append((time_ns - sent_ns) / 1e6)
    native.stop()
    thread.join()
    return {
        "busy_threads": threads,
        "count": count,
        "noted": len(noted),
        "noted_ms": summary(noted),
        "read_ms": summary(read),
    }


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
        "max": round(ordered[-1], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    connect = measure_connect(2 if options.quick else 50)
    for what, microseconds in connect.items():
        print(f"connect, {what:<26} {microseconds:6.2f} µs")
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    rows = [measure_first_bytes(10 if options.quick else 500, threads, port) for threads in BUSY]
    for row in rows:
        for who, key in (("clew", "noted_ms"), ("the program", "read_ms")):
            figures = row[key]
            assert isinstance(figures, dict)
            print(
                f"first byte, beside {row['busy_threads']} busy threads, {who:<12} "
                f"median {figures['median']:8.3f}  p95 {figures['p95']:8.3f}  max {figures['max']:8.3f} ms"
            )
        print(f"  noted {row['noted']} of {row['count']}")
    with socket.create_connection((HOST, port)):
        pass  # says nothing: the server ends
    server.communicate()
    if not options.quick:
        machine = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
        RESULTS.write_text(json.dumps({"machine": machine, "connect_us": connect, "first_byte": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
