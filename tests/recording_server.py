"""An HTTP server on loopback that keeps the bytes of every request, and redirects whoever asks for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import unquote


class RecordingServer:
    """Answers "ok"; "/to/<quoted URL>" is a redirect there. Connections are kept alive."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []  # the heads, in the order of their arrival
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def port(self) -> int:
        return self.address[1]

    def headers(self, name: str) -> list[list[str]]:
        """The values of a header in each request."""
        wanted = name.lower().encode()
        return [
            [line.partition(b":")[2].strip().decode() for line in lines if line.partition(b":")[0].lower() == wanted]
            for lines in (request.split(b"\r\n")[1:] for request in self.requests)
        ]

    @property
    def paths(self) -> list[str]:
        return [request.split(b" ")[1].decode() for request in self.requests]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        with self._lock:
            for client in self._open:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        with client, contextlib.suppress(OSError):
            pending = b""
            while True:
                while b"\r\n\r\n" not in pending:
                    piece = client.recv(65536)
                    if not piece:
                        break
                    pending += piece
                else:
                    head, _, pending = pending.partition(b"\r\n\r\n")
                    self.requests.append(head)
                    client.sendall(self._answer(head))
                    continue
                break
        with self._lock:
            self._open.discard(client)

    def _answer(self, head: bytes) -> bytes:
        path = head.split(b" ")[1].decode()
        if path.startswith("/to/"):
            location = unquote(path.removeprefix("/to/"))
            return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
