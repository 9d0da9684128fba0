"""The service that W3C's trace-context harness talks to: it calls whom it is told to, as part of the caller's trace.

Source: w3c/trace-context, test/README.md, "Implement Test Service".
"""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from clew import NoopExporter, SpanKind, Tracer, extract, inject

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Service"]

_SECONDS = 30


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tracer: Tracer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS

    def do_POST(self) -> None:
        """An array of {"url": ..., "arguments": ...}: to each URL a request with its arguments."""
        calls = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tracer = self.server.tracer
        with tracer.start_span("asked", SpanKind.SERVER, parent=extract(self.headers)):
            for call in calls:
                with tracer.start_span("call", SpanKind.CLIENT):
                    self._call(call["url"], call["arguments"])
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def _call(self, url: str, arguments: Any) -> None:
        headers = {"content-type": "application/json"}
        inject(headers)
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)
        try:
            connection.request("POST", parts.path, json.dumps(arguments), headers)
            connection.getresponse().read()
        finally:
            connection.close()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
        """Nothing: a test prints what it has to say."""


class Service:
    """Listens on 127.0.0.1, on a port that is free."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tracer = Tracer("trace-context", NoopExporter())
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/test"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(_SECONDS)
        self._server.server_close()
        self._server.tracer.close()
