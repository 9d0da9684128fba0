"""An OTLP/HTTP receiver on loopback that does next to nothing, in a process of its own: what it costs is in no figure.

`with Sink() as sink` starts it; `sink.url` is where to send, and `sink.taken()` says what came since it was asked last:
spans, as protobuf's own library counts them, bytes of bodies as they were sent, and requests. It answers before it
counts, and counts when it is asked, or when much has come.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import zlib
from typing import TYPE_CHECKING, NamedTuple, Self, cast

if TYPE_CHECKING:
    from io import BufferedReader
    from types import TracebackType

KEPT_BYTES = 64 << 20  # of bodies that were not counted yet
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"


class Taken(NamedTuple):
    """What came."""

    spans: int
    size: int  # bytes of bodies, compressed if they were
    requests: int


class Sink:
    """The receiver, for whoever measures."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()

    def taken(self) -> Taken:
        """What came since the last time."""
        with socket.create_connection(("127.0.0.1", self._port)) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: sink\r\nContent-Length: 0\r\n\r\n")
            size = read_head(answer)[1]
            return Taken(*json.loads(answer.read(size)))


# --- the process ----------------------------------------------------------------------------------------------------


class Counter:
    """What came and was not told yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: list[tuple[bytes, bool]] = []
        self._spans = self._size = self._requests = self._kept = 0

    def add(self, body: bytes, *, compressed: bool) -> None:
        with self._lock:
            self._bodies.append((body, compressed))
            self._requests += 1
            self._size += len(body)
            self._kept += len(body)
            if self._kept > KEPT_BYTES:
                self._count()

    def take(self) -> Taken:
        with self._lock:
            self._count()
            taken = Taken(self._spans, self._size, self._requests)
            self._spans = self._size = self._requests = 0
            return taken

    def _count(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        for body, compressed in self._bodies:
            message = ExportTraceServiceRequest.FromString(zlib.decompress(body, wbits=31) if compressed else body)
            self._spans += sum(len(scope.spans) for of in message.resource_spans for scope in of.scope_spans)
        self._bodies.clear()
        self._kept = 0


def read_head(stream: BufferedReader) -> tuple[bytes, int, bool]:
    """The first line, the length of the body, and whether it is compressed; a first line of b"" at the end."""
    first, size, compressed = stream.readline(), 0, False
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.lower().partition(b":")
        if name == b"content-length":
            size = int(value)
        elif name == b"content-encoding":
            compressed = value.strip() == b"gzip"
    return first, size, compressed


def serve(connection: socket.socket, counter: Counter) -> None:
    """Answer the requests of one connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb", buffering=1 << 18) as file:
        stream = cast("BufferedReader", file)
        while True:
            first, size, compressed = read_head(stream)
            body = stream.read(size)
            if not first or len(body) < size:
                return
            if first.startswith(b"GET"):
                told = json.dumps(counter.take()).encode()
                connection.sendall(ANSWER % len(told) + told)
            else:
                connection.sendall(ANSWER % 0)
                counter.add(body, compressed=compressed)


def end_with_parent() -> None:
    """Whoever measures may be killed: then its end of the pipe is closed."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    counter = Counter()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, counter), daemon=True).start()


if __name__ == "__main__":
    main()
