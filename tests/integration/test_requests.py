"""What programs do, joined to what a real tor does: each library, 200 requests at once, none joined wrongly.

Every request asks another port of this machine for a path with its own number. The port is what tor calls the target of
the stream, the path is what the server gets: so the trace says which stream is whose, and the server says whether that
is true.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import socket
import struct
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Self, cast

import pytest

from clew import SpanKind, Status, carry
from clew.testing import CapturedSpans, capture_spans
from clew.tor import Privacy, trace_requests
from tests.recording_server import RecordingServer
from tests.socks_clients import ASYNC, BLOCKING, CLIENTS, HTTP_CLIENTS, with_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew import SpanRecord
    from clew.tor.lab import Lab
    from clew.tor.requests import RequestTracing
    from tests.lone_tor import Tor

pytestmark = pytest.mark.tor

AT_ONCE = 200
HOST = "127.0.0.1"


class ManyPorts:
    """A web server on many ports, on one thread, that keeps which path was asked for on which of them."""

    def __init__(self, count: int) -> None:
        self.asked: dict[int, list[str]] = defaultdict(list)  # by the port's number here, from 0 on
        self.answered_ns: dict[int, int] = {}  # likewise, when; wall clock
        self._selector = selectors.DefaultSelector()
        self.ports: list[int] = []
        for number in range(count):
            listener = socket.create_server((HOST, 0), backlog=64)
            self.ports.append(listener.getsockname()[1])
            self._selector.register(listener, selectors.EVENT_READ, (number, None))
        self._end, self._ended = socket.socketpair()
        self._selector.register(self._ended, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            cast("socket.socket", key.fileobj).close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                self._serve(cast("socket.socket", key.fileobj), *key.data)

    def _serve(self, connection: socket.socket, number: int, received: bytearray | None) -> None:
        if received is None:
            client, _ = connection.accept()
            self._selector.register(client, selectors.EVENT_READ, (number, bytearray()))
            return
        try:
            piece = connection.recv(65536)
        except ConnectionError:
            piece = b""
        received += piece
        if b"\r\n\r\n" in received:
            self.asked[number].append(bytes(received).split(b" ")[1].decode())
            received.clear()
            self.answered_ns[number] = time.time_ns()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif not piece:
            self._selector.unregister(connection)
            connection.close()


@pytest.fixture(scope="module")
def web() -> Iterator[ManyPorts]:
    with ManyPorts(AT_ONCE) as web:
        yield web


class Run:
    """Requests of a test, each with its own number, and what became of them."""

    def __init__(self, lab: Lab, web: ManyPorts, captured: CapturedSpans, traced: RequestTracing) -> None:
        self.proxy = (HOST, lab.socks_port)
        self._web = web
        self._captured = captured
        self._traced = traced

    def url(self, number: int) -> str:
        return f"http://{HOST}:{self._web.ports[number]}/{number}"

    def fetch(self, client: Callable[..., bytes], number: int) -> None:
        with self._captured.tracer.start_span("request", attributes={"number": number}):
            assert client(self.proxy, self.url(number)) == b"ok"

    async def fetch_async(self, client: str, number: int) -> None:
        with self._captured.tracer.start_span("request", attributes={"number": number}):
            assert await ASYNC[client](self.proxy, self.url(number)) == b"ok"

    def check(self, count: int = AT_ONCE) -> None:
        """Each request has one stream, which is its own, complete and well."""
        self._traced.close()
        stats = self._traced.stats()
        assert (stats.connections, stats.joined, stats.unclaimed) == (count, count, 0)
        assert (stats.ambiguous, stats.evicted, stats.errors) == (0, 0, 0)
        records = self._captured.records
        requests = {r.span_id: r for r in records if r.name == "request"}
        streams = [r for r in records if r.name == "tor.stream" and r.kind is SpanKind.CLIENT]
        assert len(requests) == len(streams) == count
        ports = {requests[s.parent_id].attributes["number"]: s.attributes["server.port"] for s in streams}
        assert ports == {number: self._web.ports[number] for number in range(count)}
        for stream in streams:
            request = requests[stream.parent_id]
            assert stream.trace_id == request.trace_id
            assert stream.status is Status.UNSET
            assert "clew.unfinished" not in stream.attributes
            assert request.start_time_ns <= stream.start_time_ns
        # The destination's first byte came after the destination had sent it. (Not every one is seen.)
        arrivals = {
            requests[stream.parent_id].attributes["number"]: event.time_ns
            for stream in streams
            for event in stream.events
            if event.name == "first_byte"
        }
        assert len(arrivals) > count / 2
        assert [n for n, time_ns in arrivals.items() if time_ns < self._web.answered_ns[cast("int", n)]] == []
        # Nothing is kept.
        joiner = self._traced._joiner
        assert (joiner._open, joiner.arrivals._tickets, joiner.counts.waiting) == ({}, {}, 0)
        # The server has got each request on its own port: the targets tell the truth.
        assert {number: set(self._web.asked[number]) for number in range(count)} == {
            number: {f"/{number}"} for number in range(count)
        }


@pytest.fixture
def run(lab: Lab, web: ManyPorts) -> Iterator[Run]:
    web.asked.clear()
    with capture_spans() as captured, trace_requests(captured.tracer, lab.control, privacy=Privacy.LAB) as traced:
        yield Run(lab, web, captured, traced)


@pytest.mark.parametrize("client", BLOCKING)
def test_threads(run: Run, client: str) -> None:
    """200 threads, a request each, at once."""
    gate = threading.Barrier(AT_ONCE)

    def fetch(number: int) -> None:
        gate.wait()
        run.fetch(BLOCKING[client], number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, range(AT_ONCE)))
    run.check()


@pytest.mark.parametrize("client", ASYNC)
def test_tasks(run: Run, client: str) -> None:
    """200 tasks of one event loop, a request each, at once."""

    async def fetch_all() -> None:
        await asyncio.gather(*(run.fetch_async(client, number) for number in range(AT_ONCE)))

    asyncio.run(fetch_all())
    run.check()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_pool(run: Run, client: str) -> None:
    """A few threads that take turns: addresses and threads are used again."""
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: run.fetch(CLIENTS[client], number), range(50)))
    run.check(50)


def test_all_at_once(run: Run) -> None:
    """Every library beside every other, threads and tasks, some below the span of a caller that carried it there."""
    blocking, tasks = list(BLOCKING.values()), list(ASYNC)

    async def fetch_async(numbers: range) -> None:
        await asyncio.gather(
            *(run.fetch_async(tasks[index % len(tasks)], number) for index, number in enumerate(numbers))
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [
            pool.submit(carry(run.fetch), blocking[number % len(blocking)], number) for number in range(AT_ONCE // 2)
        ]
        waiting += [
            pool.submit(asyncio.run, fetch_async(range(begin, begin + 25)))
            for begin in range(AT_ONCE // 2, AT_ONCE, 25)
        ]
        for each in waiting:
            each.result()
    run.check()


def test_a_request_is_complete(lab: Lab, web: ManyPorts) -> None:
    """The application's span, tor's stream in its three steps, and the circuit: linked, with its age."""
    with capture_spans() as captured:
        with trace_requests(captured.tracer, lab.control, privacy=Privacy.LAB):
            # Begun after we came, so that its build was seen; or there before, and then there is no link.
            for number in range(2):
                with captured.tracer.start_span("request"):
                    with_socket((HOST, lab.socks_port), f"http://{HOST}:{web.ports[0]}/{number}")
        records = captured.records
    requests = [r for r in records if r.name == "request"]
    for request in requests:
        (stream,) = [r for r in records if r.parent_id == request.span_id]
        steps = [r.name for r in records if r.parent_id == stream.span_id]
        assert steps == ["tor.stream.attach", "tor.stream.connect", "tor.stream.transfer"]
        assert stream.attributes["tor.stream.purpose"] == "USER"
        assert stream.attributes["network.local.address"] == HOST
        assert "tor.circuit.id" in stream.attributes
        assert request.start_time_ns <= stream.start_time_ns


def test_over_the_wire(lab: Lab) -> None:
    """A listed onion service gets the trace, an unlisted one and an exit's destination get nothing."""
    with RecordingServer() as listed, RecordingServer() as other, capture_spans() as captured:
        told = lab.add_onion_service(80, listed.port)
        untold = lab.add_onion_service(80, other.port)
        with trace_requests(
            captured.tracer, lab.control, privacy=Privacy.LAB, propagate_to=[told.address.upper()]
        ) as traced:
            expected = []
            for client in HTTP_CLIENTS.values():
                with captured.tracer.start_span("request", kind=SpanKind.CLIENT) as span:
                    proxy = (HOST, lab.socks_port)
                    assert client(proxy, f"http://{told.address}/") == b"ok"
                    assert client(proxy, f"http://{untold.address}/") == b"ok"
                    assert client(proxy, f"http://{HOST}:{listed.port}/exit") == b"ok"
                    expected.append([f"00-{span.trace_id}-{span.span_id}-03"])
            assert traced.stats().headers == len(HTTP_CLIENTS)
            assert traced.stats().errors == 0
        told_to = list(zip(listed.paths, listed.headers("traceparent"), strict=True))
        assert [values for path, values in told_to if path == "/"] == expected
        assert [values for path, values in told_to if path == "/exit"] == [[]] * len(HTTP_CLIENTS)
        assert other.headers("traceparent") == [[]] * len(HTTP_CLIENTS)
        assert not any(listed.headers("baggage") + other.headers("baggage"))
        streams = [r for r in captured.records if r.name == "tor.stream" and r.kind is SpanKind.CLIENT]
        assert len(streams) == 3 * len(HTTP_CLIENTS)
        assert all(stream.parent_id for stream in streams)


# A tor that looks for a network where there is none: it tells of streams, which then wait for ever.
NO_NETWORK = (
    "DisableNetwork 0",
    "TestingTorNetwork 1",
    f"DirAuthority nobody orport=1 no-v2 v3ident={'A' * 40} 127.0.0.1:1 {'B' * 40}",
    "OutboundBindAddress 127.0.0.1",
    "CookieAuthentication 1",
)


def connection_to(proxy: tuple[str, int], near_port: int = 0) -> socket.socket:
    """A connection, from a port of ours if one is given. When it is closed its address is free at once."""
    client = socket.socket(socket.AF_INET6 if ":" in proxy[0] else socket.AF_INET)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if near_port:
        client.bind((proxy[0], near_port))
    client.connect(proxy)
    return client


def ask(client: socket.socket, port: int = 80, command: int = 1) -> None:
    """Ask tor for something, without waiting for an answer, which does not come (RFC 1928)."""
    client.sendall(b"\x05\x01\x00")
    assert client.recv(2) == b"\x05\x00"
    client.sendall(bytes([5, command]) + b"\x00\x03\x07example" + port.to_bytes(2, "big"))


def asked_of(proxy: tuple[str, int], command: int = 1) -> socket.socket:
    """A connection on which tor was asked for something."""
    client = connection_to(proxy)
    ask(client, command=command)
    return client


def set_conf(tor: Tor, setting: str) -> None:
    """As an operator does by hand: clew's own client has no such command."""
    with socket.socket(socket.AF_UNIX) as control, control.makefile("rb") as answers:
        control.connect(tor.socket)
        for command in (f"AUTHENTICATE {tor.cookie.read_bytes().hex()}", f"SETCONF {setting}"):
            control.sendall(f"{command}\r\n".encode())
            answer = answers.readline()
            assert answer.startswith(b"250"), answer


def parents(records: list[SpanRecord]) -> list[str | None]:
    names = {record.span_id: record.name for record in records}
    return [names.get(r.parent_id or "") for r in records if r.name == "tor.stream" and r.kind is SpanKind.CLIENT]


def free_ports(*hosts: str) -> list[int]:
    """A port of each host that nobody has, of those that the system gives to no outgoing connection."""
    ports: list[int] = []
    while len(ports) < len(hosts):
        host, port = hosts[len(ports)], random.randrange(20_000, 32_000)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with suppress(OSError), socket.create_server((host, port), family=family):
            if port not in ports:
                ports.append(port)
    return ports


def test_every_listener(make_tor: Callable[..., Tor]) -> None:
    """IPv4, IPv6, all addresses of the machine, a look-up of a name; a listener that is opened while we are there."""
    first, second, third, later = free_ports(HOST, "::1", HOST, HOST)
    tor = make_tor(*NO_NETWORK, f"SocksPort {HOST}:{first}", f"SocksPort [::1]:{second}", f"SocksPort 0.0.0.0:{third}")
    with capture_spans() as captured, trace_requests(captured.tracer, tor.socket, privacy=Privacy.LAB) as traced:

        def ask_below(name: str, proxy: tuple[str, int], command: int = 1) -> None:
            with captured.tracer.start_span(name):
                asked_of(proxy, command).close()
            traced._joiner.wait(30)

        ask_below("IPv4", (HOST, first))
        ask_below("IPv6", ("::1", second))
        ask_below("any", (HOST, third))
        ask_below("RESOLVE", (HOST, first), 0xF0)
        set_conf(tor, f"SocksPort={HOST}:{later}")
        deadline = time.monotonic() + 30
        while later not in traced._joiner.port_numbers:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ask_below("later", (HOST, later))
        assert parents(captured.records) == ["IPv4", "IPv6", "any", "RESOLVE", "later"]
        assert traced.stats()[1:4] == (5, 0, 0)


def test_a_tor_that_comes_back(make_tor: Callable[..., Tor]) -> None:
    """What was open ends with that reason; then the connection is made again, and requests are joined again."""
    (port,) = free_ports(HOST)
    tor = make_tor(*NO_NETWORK, f"SocksPort {HOST}:{port}")
    with capture_spans() as captured, trace_requests(captured.tracer, tor.socket, privacy=Privacy.LAB) as traced:
        with captured.tracer.start_span("before"), asked_of((HOST, port)):
            deadline = time.monotonic() + 30
            while not traced.stats().joined:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            tor.stop()
            tor.start()
            while not traced.stats().is_connected:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with captured.tracer.start_span("after"):
            asked_of((HOST, port)).close()
        traced._joiner.wait(30)
        assert parents(captured.records) == ["before", "after"]
        before, after = (r for r in captured.records if r.name == "tor.stream" and r.kind is SpanKind.CLIENT)
        assert before.attributes["clew.unfinished"] is True
        assert "clew.unfinished" not in after.attributes


@pytest.mark.parametrize("waits", [True, False], ids=["waits-for-tor", "does-not-wait"])
def test_an_address_that_is_used_again(make_tor: Callable[..., Tor], waits: bool) -> None:
    """Hundreds of connections from one port, one after the other, below spans and below none, with a request and
    without: each stream is its own connection's, or nobody's. It is its own where each has a request that tor had got
    to know before the next connection was made, as programs do who wait for its answer.
    """
    port, near = free_ports(HOST, HOST)
    tor = make_tor(*NO_NETWORK, f"SocksPort {HOST}:{port}")
    dice = random.Random(3)
    expected: dict[object, str | None] = {}
    with capture_spans() as captured, trace_requests(captured.tracer, tor.socket, privacy=Privacy.LAB) as traced:
        for number in range(1, 300):
            has_span, has_stream = dice.random() < 0.7, waits or dice.random() < 0.7
            span = captured.tracer.start_span(f"request {number}") if has_span else nullcontext()
            with span, connection_to((HOST, port), near) as client:
                if has_stream:
                    ask(client, number)
                    expected[number] = f"request {number}" if has_span else None
                    deadline = time.monotonic() + 30
                    while waits and sum(traced.stats()[1:3]) < len(expected):
                        assert time.monotonic() < deadline
        traced.close()
        assert sum(traced.stats()[1:3]) == len(expected)
        records = captured.records
    names = {record.span_id: record.name for record in records}
    streams = [r for r in records if r.name == "tor.stream" and r.kind is SpanKind.CLIENT]
    found = {s.attributes["server.port"]: names.get(s.parent_id) for s in streams}
    assert found.keys() == expected.keys()
    if waits:
        assert found == expected
    assert {number: name for number, name in found.items() if name not in (expected[number], None)} == {}


def test_one_address_and_two_ports_of_tors(make_tor: Callable[..., Tor]) -> None:
    """At the same time: tor does not tell which of the two a stream came by, but numbers them."""
    first, second, near = free_ports(HOST, HOST, HOST)
    tor = make_tor(*NO_NETWORK, f"SocksPort {HOST}:{first}", f"SocksPort {HOST}:{second}")
    with capture_spans() as captured, trace_requests(captured.tracer, tor.socket, privacy=Privacy.LAB) as traced:

        def ask_both() -> None:
            with captured.tracer.start_span("first"):
                one = connection_to((HOST, first), near)
            with captured.tracer.start_span("second"):
                other = connection_to((HOST, second), near)
            with one, other:
                ask(one, 1)
                ask(other, 2)
                deadline = time.monotonic() + 30
                while traced.mapper.counts.streams.open < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            traced._joiner.wait(1)

        ask_both()
        assert traced.stats()[1:4] == (0, 2, 2)  # in doubt there is no owner
        for proxy in (first, second):
            asked_of((HOST, proxy)).close()  # teaches which number is which
        ask_both()
        traced.close()
        assert traced.stats()[1:4] == (2, 4, 2)
        names = {record.span_id: record.name for record in captured.records}
        streams = [r for r in captured.records if r.name == "tor.stream" and r.parent_id in names]
        assert sorted((s.attributes["server.port"], names[s.parent_id]) for s in streams) == [
            (1, "first"),
            (2, "second"),
        ]
