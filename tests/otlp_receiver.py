"""A receiver of OTLP over HTTP on loopback that answers as a test says, byte by byte if it must."""

from __future__ import annotations

import gzip
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

import zstandard

from clew.otlp import decode_json, decode_traces

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from clew import SpanRecord

    # What a receiver does with a request that it has read; it closes the connection if this says so.
    Answer = Callable[[socket.socket], bool]

__all__ = [
    "Receiver",
    "Request",
    "at_once",
    "drip",
    "early",
    "hang",
    "hang_up",
    "raw",
    "reply",
    "reset",
]


class Request(NamedTuple):
    """What came."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the number of the connection it came on

    @property
    def message(self) -> bytes:
        """The body, decompressed."""
        match self.headers.get("content-encoding"):
            case "gzip":
                return gzip.decompress(self.body)
            case "zstd":
                return zstandard.ZstdDecompressor().decompressobj().decompress(self.body)
        return self.body

    @property
    def records(self) -> list[SpanRecord]:
        """The spans in it."""
        if self.headers["content-type"] == "application/json":
            return decode_json(self.message)
        return decode_traces(self.message)


# --- answers ---------------------------------------------------------------------------------------------------------


def raw(data: bytes, *, close: bool = False) -> Answer:
    """These bytes."""

    def answer(connection: socket.socket) -> bool:
        connection.sendall(data)
        return close

    return answer


def reply(status: int = 200, body: bytes = b"", content_type: str = "application/x-protobuf", **headers: str) -> Answer:
    """A response as it should be; underscores in the headers' names become hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join([*lines, "", ""]).encode() + body)


def drip(data: bytes, seconds: float) -> Answer:
    """A byte at a time."""

    def answer(connection: socket.socket) -> bool:
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(seconds)
        return True

    return answer


def hang(connection: socket.socket) -> bool:
    """Nothing, until the other side gives up; what else it sends is not read."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP)
    poll.poll()
    return True


def hang_up(connection: socket.socket) -> bool:
    """The end of the connection, without an answer."""
    return True


def reset(connection: socket.socket) -> bool:
    """A TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return True


class early:  # noqa: N801 - used like the functions above
    """An answer that is given before the request's body is read."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class at_once:  # noqa: N801
    """An answer that is given before anything is read, TLS included."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Receiver:
    """Listens on 127.0.0.1; answers are given in their order, the last one to all requests that follow."""

    def __init__(self, *answers: Answer | early | at_once, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._answers = list(answers) or [reply()]
        self._tls = tls
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def records(self) -> list[SpanRecord]:
        """All spans that came."""
        return [record for request in self.requests for record in request.records]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, as if the process had ended."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)

    def wait_for_spans(self, count: int) -> None:
        """Until so many spans have come, for half a minute at the most."""
        for _ in range(3000):
            if len(self.records) >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"{len(self.records)} of {count} spans came")

    def hang_up_all(self) -> None:
        """End all connections, and wait until they have ended."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(30)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError, EOFError):  # ssl.SSLError is an OSError
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if isinstance(self._answers[0], at_once):
                    self._answers[0].answer(connection)
                    return
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.append(connection)
                with connection.makefile("rb") as stream:
                    while not self._serve_one(connection, stream.readline, stream.read, number):
                        pass
            finally:
                with self._lock:
                    if connection in self._open:
                        self._open.remove(connection)
                    connection.close()

    def _serve_one(
        self,
        connection: socket.socket,
        readline: Callable[[], bytes],
        read: Callable[[int], bytes],
        number: int,
    ) -> bool:
        line = readline().decode().strip()
        if not line:
            raise EOFError
        headers: dict[str, str] = {}
        while field := readline().decode("latin-1").strip():
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        with self._lock:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, at_once):
            raise EOFError
        if isinstance(answer, early):
            self.requests.append(Request(line, headers, b"", number))
            return answer.answer(connection)
        body = read(int(headers["content-length"]))
        if len(body) < int(headers["content-length"]):
            raise EOFError
        self.requests.append(Request(line, headers, body, number))
        return answer(connection)
