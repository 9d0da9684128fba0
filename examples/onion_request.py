"""A request to an onion service as one trace, from the program through tor to the handler in the service.

Run it: python examples/onion_request.py      (needs tor: sudo apt-get install tor; the first start takes half a minute)
It brings a private Tor network up on this machine, shows where the time of the first request went, and writes
onion_request.jsonl in the current folder: clew view onion_request.jsonl
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from clew import FileExporter, MemoryExporter, MultiExporter, SpanKind, Tracer, extract
from clew.pretty import format_duration
from clew.render import render_text
from clew.tor import ControlClient, Lab, Privacy, TorMapper, trace_requests

if TYPE_CHECKING:
    from clew import SpanRecord
    from clew.tor.lab import OnionService

# What a stream waits for, one after the other or at the same time, and what that means.
PHASES = {
    "tor.hs.connect.descriptor.fetch": "ask a directory how to reach the service",
    "tor.hs.connect.rendezvous.establish": "have a relay at which to meet it",
    "tor.hs.connect.introduce": "tell the service where, through its introduction point",
    "tor.hs.connect.rendezvous.join": "wait until the service has come there",
    "tor.stream.connect": "open the stream",
    "tor.stream.transfer": "send the request, receive the answer",
}


class Service:
    """A web server that is going to be an onion service. A context manager."""

    def __init__(self, tracer: Tracer) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # The traceparent came through tor: the span is a part of the client's trace.
                with tracer.start_span("GET /", kind=SpanKind.SERVER, parent=extract(self.headers.items())):
                    time.sleep(0.02)  # what making the page takes
                    body = b"welcome\n" * 4096
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Say nothing: the trace tells it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class OnionConnection(http.client.HTTPConnection):
    """HTTP through tor's SOCKS port (RFC 1928). Any library that speaks SOCKS5 is traced as well."""

    def __init__(self, host: str, port: int, socks_port: int) -> None:
        super().__init__(host, port, timeout=60)
        self._socks_port = socks_port

    def connect(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self._socks_port), self.timeout)
        name = self.host.encode()
        self.sock.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x03" + bytes([len(name)]) + name + self.port.to_bytes(2))
        with self.sock.makefile("rb", buffering=0) as replies:
            if replies.read(2) != b"\x05\x00" or (reply := replies.read(10) or b"")[1:2] != b"\x00":
                raise ConnectionError(f"tor did not connect: {reply.hex()}")


def fetch(tracer: Tracer, service: OnionService, socks_port: int) -> None:
    """What the program does: it knows nothing of circuits."""
    with tracer.start_span("fetch-page", kind=SpanKind.CLIENT):
        connection = OnionConnection(service.address, service.port, socks_port)
        connection.request("GET", "/")
        connection.getresponse().read()
        connection.close()


def trace_request(lab: Lab, *paths: str) -> list[SpanRecord]:
    """Make a request to a new onion service in the lab.

    Args:
        paths: files where the spans are kept too.

    Returns: all spans: the program's, tor's, the service's and its tor's.
    """
    memory = MemoryExporter()

    def make_tracer(name: str) -> Tracer:
        return Tracer(name, exporter=MultiExporter(memory, *map(FileExporter, paths)))

    # The service's tor is traced too. What it does is a trace of its own: it is not told whose request that is for.
    with (
        make_tracer("program") as program,
        make_tracer("web server") as web_server,
        make_tracer("the service's tor") as its_tor,
        Service(web_server) as server,
    ):
        service = lab.add_onion_service(80, server.port)
        mapper = TorMapper(its_tor, Privacy.LAB)
        with (
            ControlClient.connect(service.control) as control,
            trace_requests(program, lab.control, privacy=Privacy.LAB, propagate_to=[service.address]),
        ):
            control.add_listener(mapper.handle)
            control.set_events(["CIRC", "CIRC_MINOR"])
            fetch(program, service, lab.socks_port)
        mapper.close("DETACHED")
    return memory.records


def table(records: list[SpanRecord]) -> str:
    """Where the time of the request went.

    Phases may overlap, so every moment of the request is counted once: for the phase under way that began first. What
    lies in no phase is unexplained: the program's own time before and after. So the column adds up to the request.
    """
    (request,) = (record for record in records if record.name == "fetch-page")
    (stream,) = (record for record in records if record.parent_id == request.span_id and record.name == "tor.stream")
    parents = {record.span_id: record.parent_id for record in records}

    def is_of_stream(record: SpanRecord) -> bool:
        """Not of the directory's stream, which is a part of the first phase."""
        return stream.span_id in (record.parent_id, parents.get(parents.get(record.parent_id, ""), ""))

    phases = [record for record in records if record.name in PHASES and is_of_stream(record)]
    lines, reached, explained = [], request.start_time_ns, 0
    for phase in sorted(phases, key=lambda record: (record.start_time_ns, record.end_time_ns)):
        end = min(phase.end_time_ns, request.end_time_ns)
        counted = max(0, end - max(phase.start_time_ns, reached))
        reached, explained = max(end, reached), explained + counted
        lines.append(line(PHASES[phase.name], phase.duration_ns, counted, request))
    lines.append(line("(unexplained)", request.duration_ns - explained, request.duration_ns - explained, request))
    lines.append(line("the whole request", request.duration_ns, request.duration_ns, request))
    handlers = [record for record in records if record.name == "GET /" and record.trace_id == request.trace_id]
    lines += [f"    of it in the service's handler {format_duration(each.duration_ns):>31}" for each in handlers]
    return "\n".join([f"{'':<56} took   counted once", *lines])


def line(words: str, took_ns: int, counted_ns: int, request: SpanRecord) -> str:
    share = counted_ns / request.duration_ns
    return f"{words:<56} {format_duration(took_ns):>8} {format_duration(counted_ns):>8} {share:6.1%}"


def main() -> None:
    print("bringing up a private Tor network and an onion service on this machine ...", flush=True)
    with Lab() as lab:
        records = trace_request(lab, "onion_request.jsonl")
    for name, words in (
        ("fetch-page", "The request, from the program to the handler in the service:"),
        ("tor.hs.rendezvous", "How the service's tor came to the rendezvous, as it tells itself:"),
    ):
        traces = {record.trace_id for record in records if record.name == name}
        print(f"\n{words}\n")
        print(render_text([record for record in records if record.trace_id in traces], width=116))
    print("Where the time of the request went:\n")
    print(table(records))


if __name__ == "__main__":
    main()
