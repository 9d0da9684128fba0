"""What a program does, joined to what tor does: against a SOCKS server that tells what tor would tell."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
import socks  # type: ignore[import-untyped]

from clew import NeverSample, carry, limits, use_span
from clew.errors import ConfigurationError, ControlConnectionError
from clew.model import Status
from clew.testing import CapturedSpans, capture_spans
from clew.tor import requests as tor_requests
from clew.tor.control import ControlClient
from clew.tor.privacy import Privacy
from clew.tor.requests import RequestTracing, trace_requests
from tests.fake_tor import FakeSource, FakeTor, socks_connect, stream_event
from tests.recording_server import RecordingServer
from tests.socks_clients import ASYNC, CLIENTS, with_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew import SpanRecord

AT_ONCE = 200


@pytest.fixture(scope="module")
def server() -> Iterator[RecordingServer]:
    with RecordingServer() as server:
        yield server


@pytest.fixture
def tor(server: RecordingServer) -> Iterator[FakeTor]:
    """Leads to the server, whatever port of a.onion is asked for."""
    with FakeTor({("a.onion", port): server.address for port in (80, *range(1000, 1000 + AT_ONCE))}) as tor:
        yield tor


@contextmanager
def tracing(captured: CapturedSpans, tor: FakeTor, **more: object) -> Iterator[RequestTracing]:
    arguments = {"privacy": Privacy.LAB, "public_network": True} | more
    with trace_requests(captured.tracer, tor.source, **arguments) as traced:  # type: ignore[arg-type]
        yield traced


def streams(captured: CapturedSpans) -> list[SpanRecord]:
    return [record for record in captured.records if record.name == "tor.stream"]


def ports_by_request(captured: CapturedSpans) -> dict[str, list[object]]:
    """The ports that the streams below each request went to; those of no request are under ""."""
    names = {record.span_id: record.name for record in captured.records}
    ports: dict[str, list[object]] = {name: [] for name in names.values() if name.startswith("request")}
    for stream in streams(captured):
        ports.setdefault(names.get(stream.parent_id or "", ""), []).append(stream.attributes["server.port"])
    return ports


def everybody_has_their_own(captured: CapturedSpans, count: int) -> bool:
    return ports_by_request(captured) == {f"request {number}": [1000 + number] for number in range(count)}


def test_a_request_is_one_trace(tor: FakeTor) -> None:
    """tor's stream lies below the span that was current when the program connected."""
    with capture_spans() as captured:
        with tracing(captured, tor, privacy=Privacy.ANONYMOUS) as traced:
            with captured.tracer.start_span("fetch"):
                assert with_socket(tor.address, "http://a.onion/") == b"ok"
            traced.close()
            assert traced.stats()[:4] == (1, 1, 0, 0)
        fetch = next(record for record in captured.records if record.name == "fetch")
        (stream,) = streams(captured)
        assert (stream.parent_id, stream.trace_id) == (fetch.span_id, fetch.trace_id)
        assert stream.status is Status.UNSET


@pytest.mark.parametrize("client", CLIENTS)
def test_each_library(tor: FakeTor, client: str) -> None:
    """What programs reach tor with, one after the other."""
    with capture_spans() as captured:
        with tracing(captured, tor) as traced:
            for number in range(3):
                with captured.tracer.start_span(f"request {number}"):
                    assert CLIENTS[client](tor.address, f"http://a.onion:{1000 + number}/") == b"ok"
            traced.close()
            assert traced.stats().errors == 0
        assert everybody_has_their_own(captured, 3)


def test_threads_at_once(tor: FakeTor) -> None:
    """200 threads, each with its request; none gets another one's stream."""
    with capture_spans() as captured, tracing(captured, tor):

        def fetch(number: int) -> None:
            with captured.tracer.start_span(f"request {number}"):
                assert with_socket(tor.address, f"http://a.onion:{1000 + number}/") == b"ok"

        threads = [threading.Thread(target=fetch, args=(number,)) for number in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tor.join()
        assert everybody_has_their_own(captured, AT_ONCE)


@pytest.mark.parametrize("client", ASYNC)
def test_tasks_at_once(tor: FakeTor, client: str) -> None:
    """200 tasks of one thread."""
    with capture_spans() as captured, tracing(captured, tor):

        async def fetch(number: int) -> None:
            with captured.tracer.start_span(f"request {number}"):
                assert await ASYNC[client](tor.address, f"http://a.onion:{1000 + number}/") == b"ok"

        async def fetch_all() -> None:
            await asyncio.gather(*map(fetch, range(AT_ONCE)))

        asyncio.run(fetch_all())
        tor.join()
        assert everybody_has_their_own(captured, AT_ONCE)


def test_a_pool(tor: FakeTor) -> None:
    """Threads that are used again, with the context carried to them."""
    with capture_spans() as captured, tracing(captured, tor), ThreadPoolExecutor(8) as pool:

        def fetch(number: int) -> bytes:
            return with_socket(tor.address, f"http://a.onion:{1000 + number}/")

        spans = []
        results = []
        for number in range(AT_ONCE):
            span = captured.tracer.start_span(f"request {number}")
            spans.append(span)
            with use_span(span):
                results.append(pool.submit(carry(fetch), number))
        assert {result.result() for result in results} == {b"ok"}
        for span in spans:
            span.end()
        tor.join()
        assert everybody_has_their_own(captured, AT_ONCE)


def test_a_stream_that_nobody_claims_is_a_trace_of_its_own(tor: FakeTor) -> None:
    """It was made where no span is current, or by another program."""
    with capture_spans() as captured, tracing(captured, tor) as traced:
        with_socket(tor.address, "http://a.onion/")
        tor.join()
        tor.source.emit(stream_event("7", "NEW", source_addr="127.0.0.1:1"), stream_event("7", "CLOSED", reason="DONE"))
        tor.source.emit(stream_event("8", "NEW"), stream_event("8", "CLOSED", reason="DONE"))
        assert [record.parent_id for record in streams(captured)] == ["", "", ""]
        assert traced.stats()[:3] == (1, 0, 2)  # what has no address is tor's own


def test_an_unsampled_span_has_an_unsampled_stream(tor: FakeTor) -> None:
    """The decision is the trace's: no stream of it is recorded, not even as a trace of its own."""
    with capture_spans(sampler=NeverSample()) as captured, tracing(captured, tor) as traced:
        with captured.tracer.start_span("fetch"):
            with_socket(tor.address, "http://a.onion/")
        traced.close()
        assert traced.stats().joined == 1
        assert captured.records == []


def test_a_circuit_from_before(tor: FakeTor) -> None:
    """tor is asked which circuits there are: a stream that takes one of them tells its age."""
    tor.source.info["circuit-status"] = (
        f"1 BUILT ${'A' * 40}~guard PURPOSE=GENERAL TIME_CREATED=2020-01-01T00:00:00.000000"
    )
    with capture_spans() as captured, tracing(captured, tor):
        with captured.tracer.start_span("fetch"):
            with_socket(tor.address, "http://a.onion/")
        tor.join()
    (stream,) = streams(captured)
    assert int(str(stream.attributes["tor.circuit.age_ms"])) > 1000 * 3600 * 24 * 365


def test_looking_a_name_up(tor: FakeTor) -> None:
    """tor's own SOCKS command RESOLVE is joined too."""
    with capture_spans() as captured, tracing(captured, tor):
        with captured.tracer.start_span("request"), pytest.raises(ConnectionRefusedError):
            socks_connect(tor.address, "b.onion", 0, command=0xF0)
        tor.join()
        (stream,) = streams(captured)
        assert stream.parent_id != ""


def test_several_ports(server: RecordingServer) -> None:
    """Also of IPv6; each is known by what tor says of its listeners."""
    source = FakeSource()
    hosts = {("a.onion", 1000 + number): server.address for number in range(3)}
    with (
        FakeTor(hosts, source=source, group="-4") as first,
        FakeTor(hosts, source=source, group="-5") as second,
        FakeTor(hosts, source=source, group="-6", address="::1") as third,
        capture_spans() as captured,
        tracing(captured, first),
    ):
        for number, tor in enumerate((first, second, third)):
            with captured.tracer.start_span(f"request {number}"):
                assert with_socket(tor.address, f"http://a.onion:{1000 + number}/") == b"ok"
            tor.join()
        assert everybody_has_their_own(captured, 3)


def test_a_port_that_tor_opens_later(tor: FakeTor) -> None:
    """When tor says that its configuration has changed, it is asked for its listeners again."""
    listeners, tor.source.info["net/listeners/socks"] = tor.source.info["net/listeners/socks"], '"unix:/run/tor/socks"'
    with capture_spans() as captured, tracing(captured, tor) as traced:
        assert "CONF_CHANGED" in tor.source.events
        assert "ADDRMAP" not in tor.source.events
        with captured.tracer.start_span("request 1"):
            with_socket(tor.address, "http://a.onion:1001/")
        tor.join()
        tor.source.info["net/listeners/socks"] = listeners
        tor.source.configuration_changed()
        with captured.tracer.start_span("request 0"):
            with_socket(tor.address, "http://a.onion:1000/")
        tor.join()
        assert ports_by_request(captured) == {"request 0": [1000], "request 1": [], "": [1001]}
        assert traced.stats().connections == 1


def test_a_port_that_the_program_knows_better(tor: FakeTor) -> None:
    """tor's own answer is not asked for."""
    del tor.source.info["net/listeners/socks"]
    with capture_spans() as captured:
        with tracing(captured, tor, socks=f"127.0.0.1:{tor.port}"):
            tor.source.configuration_changed()
            with captured.tracer.start_span("request 0"):
                with_socket(tor.address, "http://a.onion:1000/")
        assert everybody_has_their_own(captured, 1)
        with pytest.raises(ConfigurationError, match="no address of tor's SOCKS port"):
            trace_requests(captured.tracer, tor.source, socks="tor.example:9050")


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline


def first_bytes(captured: CapturedSpans) -> list[int]:
    return [event.time_ns for stream in streams(captured) for event in stream.events if event.name == "first_byte"]


@pytest.mark.parametrize("password", [None, ("anna", "secret")])
def test_when_the_first_byte_came(server: RecordingServer, password: tuple[str, str] | None) -> None:
    """Of what the destination sent, not of what the proxy did, with a password or without."""
    with (
        FakeTor({("a.onion", 80): server.address}, password=password) as tor,
        capture_spans() as captured,
        tracing(captured, tor) as traced,
    ):
        with captured.tracer.start_span("fetch"), socks.socksocket() as client:
            client.set_proxy(socks.SOCKS5, *tor.address, True, *(password or ()))
            client.connect(("a.onion", 80))
            before = time.time_ns()
            client.sendall(b"GET / HTTP/1.1\r\nHost: a.onion\r\n\r\n")
            assert client.recv(100).endswith(b"ok")
            wait_until(lambda: noted(traced) == 1)
            after = time.time_ns()
        tor.join()
        (first_byte,) = first_bytes(captured)
        assert before <= first_byte <= after
        assert traced.stats().errors == 0


def noted(traced: RequestTracing) -> int:
    native = traced._joiner.arrivals._first_bytes
    return 0 if native is None else native.noted


def test_the_first_byte_of_a_stream_that_stays_open(tor: FakeTor) -> None:
    """It is told when the tracing ends, or when tor goes away."""
    for goes_away in (False, True):
        with capture_spans() as captured:
            with tracing(captured, tor) as traced, captured.tracer.start_span("fetch"):
                client = socks_connect(tor.address, "a.onion", 80)
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                wait_until(lambda traced=traced: noted(traced) == 1)  # type: ignore[misc]
                if goes_away:
                    tor.source.disconnect()
            assert len(first_bytes(captured)) == 1
        client.close()
        tor.join()
        tor.source.disconnect_listeners.clear()


def test_what_is_kept_of_streams_is_bounded(tor: FakeTor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tor does not tell how they ended, the oldest are let go."""
    monkeypatch.setattr(limits, "STREAMS_OPEN", 3)
    monkeypatch.setattr(limits, "FIRST_BYTES_WATCHED", 2)
    with capture_spans() as captured, tracing(captured, tor) as traced, ExitStack() as stack:
        for _ in range(6):
            with captured.tracer.start_span("fetch"):
                stack.enter_context(socks_connect(tor.address, "a.onion", 80))
        joiner = traced._joiner
        assert (len(joiner._open), len(joiner.arrivals._tickets)) == (3, 2)
        assert list(joiner._open)[1:] == list(joiner.arrivals._tickets)
        assert traced.stats().joined == 6


def test_where_no_first_byte_is_waited_for(tor: FakeTor) -> None:
    """Nothing is to come, nobody would be told, or nobody knows what tor's own bytes are."""
    handshakes = {"SOCKS4": True, "HTTPCONNECT": False, None: True}
    with capture_spans() as captured, tracing(captured, tor) as traced:
        with captured.tracer.start_span("fetch"), pytest.raises(ConnectionRefusedError):
            socks_connect(tor.address, "b.onion", 0, command=0xF0)
        tor.join()
        assert traced._joiner.arrivals._tickets == {}
        for number, (protocol, is_waited_for) in enumerate(handshakes.items()):
            with captured.tracer.start_span("fetch"), socket.create_connection(tor.address) as client:
                if protocol is None:
                    client.sendall(b"\x05\x01\x00")
                    client.recv(2)
                near = client.getsockname()
                event = stream_event(f"s{number}", "NEW", source_addr=f"{near[0]}:{near[1]}")
                tor.source.emit(replace(event, client_protocol=protocol))
                assert (f"s{number}" in traced._joiner.arrivals._tickets) is is_waited_for
            tor.source.emit(stream_event(f"s{number}", "CLOSED", reason="DONE"))
    with capture_spans(sampler=NeverSample()) as captured, tracing(captured, tor) as traced:
        with captured.tracer.start_span("fetch"):
            with_socket(tor.address, "http://a.onion/")
        assert traced.stats().joined == 1
        assert traced._joiner.arrivals._first_bytes is None


def test_what_is_open_ends_when_tor_goes_away(tor: FakeTor) -> None:
    """With that reason; nothing is joined to a tor that is gone."""
    with capture_spans() as captured, tracing(captured, tor) as traced:
        with captured.tracer.start_span("fetch"):
            client = socks_connect(tor.address, "a.onion", 80)
        tor.source.disconnect()
        (stream,) = streams(captured)
        assert (stream.attributes["error.type"], stream.attributes["clew.unfinished"]) == ("connection_lost", True)
        assert not traced.stats().is_connected
        with captured.tracer.start_span("later"), socket.create_connection(tor.address):
            pass
        assert traced.stats().connections == 1
        client.close()


def test_what_is_open_ends_with_the_tracing(tor: FakeTor) -> None:
    """A connection that the program keeps is not waited for."""
    with capture_spans() as captured:
        with tracing(captured, tor), captured.tracer.start_span("fetch"):
            client = socks_connect(tor.address, "a.onion", 80)
        (stream,) = streams(captured)
        assert (stream.attributes["error.type"], stream.status) == ("detached", Status.CANCELLED)
        client.close()
        assert tor.source.listeners == []


def test_the_end_of_a_stream_is_waited_for(tor: FakeTor) -> None:
    """tor tells it a moment after the program closed its connection, which most often is the end of the program."""
    emit, held = tor.source.emit, threading.Event()

    def late(*events: object) -> None:
        if any(getattr(event, "status", "") == "CLOSED" for event in events):
            held.wait()
        emit(*events)  # type: ignore[arg-type]

    tor.source.emit = late  # type: ignore[method-assign]
    with capture_spans() as captured:
        with tracing(captured, tor), captured.tracer.start_span("fetch"):
            with_socket(tor.address, "http://a.onion/")
            threading.Timer(0.05, held.set).start()
        (stream,) = streams(captured)
        assert stream.status is Status.UNSET
        assert "clew.unfinished" not in stream.attributes


def test_nothing_is_left(tor: FakeTor) -> None:
    """The socket class is as it was; a second close does nothing; later connections are not looked at."""
    before = dict(vars(socket.socket))
    with capture_spans() as captured:
        first = trace_requests(captured.tracer, tor.source)
        second = trace_requests(captured.tracer, tor.source)
        first.close()
        assert vars(socket.socket) != before
        second.close()
        second.close()
        assert vars(socket.socket) == before
        with socket.create_connection(tor.address):
            pass
        assert first.stats().connections == second.stats().connections == 0


def test_a_tor_that_refuses_to_tell(tor: FakeTor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the caller's, and nothing is left."""
    before = dict(vars(socket.socket))

    def refuse(_: object) -> None:
        raise ControlConnectionError("gone")

    monkeypatch.setattr(tor.source, "set_events", refuse)
    with capture_spans() as captured, pytest.raises(ControlConnectionError):
        trace_requests(captured.tracer, tor.source)
    assert tor.source.listeners == []
    assert vars(socket.socket) == before


def test_faults_of_ours_stay_ours(tor: FakeTor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's request goes its way, the stream is traced on its own, the faults are counted."""
    monkeypatch.setattr(tor_requests, "_LAST_EVENTS_SECONDS", 0.0)
    with capture_spans() as captured, tracing(captured, tor) as traced:
        connections = traced._joiner._connections
        monkeypatch.setattr(connections, "take", None)
        with captured.tracer.start_span("fetch"):
            assert with_socket(tor.address, "http://a.onion/") == b"ok"
        tor.join()
        assert traced.stats().errors == 1
        monkeypatch.setattr(connections, "add", None)
        with captured.tracer.start_span("fetch"):
            assert with_socket(tor.address, "http://a.onion/") == b"ok"
        tor.join()
        assert traced.stats().errors == 3
        assert [record.parent_id for record in streams(captured)] == ["", ""]


def test_a_forked_child_forgets(tor: FakeTor) -> None:
    """It watches nothing and ends nothing of its parent's."""
    before = dict(vars(socket.socket))
    with capture_spans() as captured:
        with tracing(captured, tor) as traced:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: this process has threads
                child = os.fork()
            if child == 0:
                is_clean = vars(socket.socket) == before
                traced.close()
                os._exit(0 if is_clean else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            with captured.tracer.start_span("request 0"):
                with_socket(tor.address, "http://a.onion:1000/")
        assert everybody_has_their_own(captured, 1)


class FakeClient(FakeSource):
    """A connection that we make ourselves."""

    address = "/run/tor/control"

    def __init__(self, listeners: str) -> None:
        super().__init__(listeners)
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_tor_comes_back(tor: FakeTor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of our own is made again, until it succeeds; the next streams are joined."""
    clients: list[FakeClient] = []
    came_back = threading.Event()
    attempts = count()

    def connect(*_: object, **__: object) -> FakeClient:
        if next(attempts) == 1:
            raise ControlConnectionError("nothing listens there")
        client = FakeClient(tor.source.info["net/listeners/socks"])
        if clients:
            client.on_disconnect = lambda _: came_back.set()  # type: ignore[method-assign]
        clients.append(client)
        return client

    monkeypatch.setattr(ControlClient, "connect", connect)
    monkeypatch.setattr(tor_requests, "_RETRY_SECONDS", (0.0,))
    with capture_spans() as captured:
        with trace_requests(captured.tracer, "9051") as traced:
            tor.source = clients[0]
            clients[0].disconnect()
            assert came_back.wait(30)
            tor.source = clients[1]
            with captured.tracer.start_span("request"):
                with_socket(tor.address, "http://a.onion/")
            traced.close()
            assert traced.stats()[:2] == (1, 1)
        assert clients[1].is_closed
        assert clients[1].listeners == []


def test_nobody_comes_back_after_the_end(tor: FakeTor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is closed while tor is away does not look for it any more."""
    client = FakeClient(tor.source.info["net/listeners/socks"])
    monkeypatch.setattr(ControlClient, "connect", lambda *_, **__: client)
    threads = threading.active_count()
    with capture_spans() as captured:
        with trace_requests(captured.tracer, "9051"):
            client.disconnect()
        deadline = time.monotonic() + 30
        while any(thread.name == "clew-tor-connect" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
    assert threading.active_count() <= threads + 1


def test_it_is_what_clew_tor_offers() -> None:
    """The names of the package, each imported when it is used."""
    import clew.tor

    assert clew.tor.trace_requests is trace_requests
    assert clew.tor.RequestTracing is RequestTracing
    assert set(clew.tor.__all__) <= set(dir(clew.tor))
    for name in clew.tor.__all__:
        assert getattr(clew.tor, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        clew.tor.nothing  # noqa: B018
