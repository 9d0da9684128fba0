"""A trace is told to the hosts that were listed, through tor, and to nobody else: by the bytes that servers get."""

from __future__ import annotations

import asyncio
import http.client
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import httpcore
import httpx
import pytest
import requests

from clew import NeverSample, SpanContext, attach, with_baggage
from clew.errors import ConfigurationError
from clew.testing import CapturedSpans, capture_spans
from clew.tor.header_hooks import _PLACES, HEADERS
from clew.tor.requests import RequestTracing, trace_requests
from clew.tor.socket_hooks import SOCKETS
from tests.fake_tor import FakeTor, socks_connect
from tests.recording_server import RecordingServer
from tests.socks_clients import HTTP_CLIENTS, with_httpx, with_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTED, OTHER = "listed.onion", "other.onion"
REDIRECTING = sorted(set(HTTP_CLIENTS) - {"http.client"})


@pytest.fixture
def listed() -> Iterator[RecordingServer]:
    with RecordingServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[RecordingServer]:
    with RecordingServer() as server:
        yield server


@pytest.fixture
def tor(listed: RecordingServer, other: RecordingServer) -> Iterator[FakeTor]:
    hosts = {(LISTED, 80): listed.address, (LISTED, 81): listed.address, (OTHER, 80): other.address}
    with FakeTor({**hosts, listed.address: listed.address, ("localhost", listed.port): listed.address}) as tor:
        yield tor


@contextmanager
def telling(tor: FakeTor, *hosts: str) -> Iterator[tuple[CapturedSpans, RequestTracing]]:
    with capture_spans() as captured, trace_requests(captured.tracer, tor.source, propagate_to=hosts) as traced:
        yield captured, traced


def traceparent(context: SpanContext) -> list[str]:
    return [f"00-{context.trace_id}-{context.span_id}-{context.trace_flags:02x}"]


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_a_listed_host_is_told(tor: FakeTor, listed: RecordingServer, client: str) -> None:
    """By each library, the span that is current; on every connection anew."""
    with telling(tor, LISTED) as (captured, traced):
        contexts = []
        for _ in range(2):
            with captured.tracer.start_span("fetch") as span:
                contexts.append(span.context)
                assert HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/") == b"ok"
        assert listed.headers("traceparent") == [traceparent(context) for context in contexts]
        assert listed.headers("baggage") == [[], []]
        assert (traced.stats().headers, traced.stats().errors) == (2, 0)


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_others_are_not_told(tor: FakeTor, listed: RecordingServer, other: RecordingServer, client: str) -> None:
    """Neither another host, nor the host's other port if one was listed."""
    with telling(tor, f"{LISTED}:81") as (captured, traced):
        with captured.tracer.start_span("fetch"):
            HTTP_CLIENTS[client](tor.address, f"http://{OTHER}/")
            HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/")
            assert listed.headers("traceparent") == other.headers("traceparent") == [[]]
            HTTP_CLIENTS[client](tor.address, f"http://{LISTED}:81/")
        assert [len(values) for values in listed.headers("traceparent")] == [0, 1]
        assert traced.stats().errors == 0


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_nobody_is_told_unless_asked(tor: FakeTor, listed: RecordingServer, client: str) -> None:
    """Without propagate_to no library is touched."""
    before = [dict(vars(cls)) for cls in (http.client.HTTPConnection, httpcore.HTTP11Connection)]
    with telling(tor) as (captured, _), captured.tracer.start_span("fetch"):
        HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/")
        assert [dict(vars(cls)) for cls in (http.client.HTTPConnection, httpcore.HTTP11Connection)] == before
    assert listed.headers("traceparent") == [[]]


@pytest.mark.parametrize("client", REDIRECTING)
def test_a_redirect_tells_nobody_else(
    tor: FakeTor, listed: RecordingServer, other: RecordingServer, client: str
) -> None:
    """From a listed host to another, which goes back: each hop is judged on its own."""
    back = f"http://{OTHER}/to/{quote(f'http://{LISTED}/end', safe='')}"
    with telling(tor, LISTED) as (captured, _), captured.tracer.start_span("fetch"):
        assert HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/to/{quote(back, safe='')}") == b"ok"
    assert listed.paths[1] == "/end"
    assert [len(values) for values in listed.headers("traceparent")] == [1, 1]
    assert other.headers("traceparent") == other.headers("tracestate") == [[]]


def direct(url: str) -> None:
    """Fetch it with every library, not through tor."""
    with requests.Session() as session:
        session.trust_env = False
        session.get(url)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url):
        pass
    with httpx.Client(trust_env=False) as client:
        client.get(url)


async def direct_async(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(url)
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        await response.read()


def test_what_does_not_go_through_tor_tells_nobody(tor: FakeTor, listed: RecordingServer) -> None:
    """Not even a listed host: that it is listed says that it may be told through tor."""
    with telling(tor, "127.0.0.1", "localhost") as (captured, traced), captured.tracer.start_span("fetch"):
        url = f"http://127.0.0.1:{listed.port}/"
        direct(url)
        asyncio.run(direct_async(url))
        assert listed.headers("traceparent") == [[]] * 5
        assert traced.stats()[-3:-1] == (0, 0)
        for client in HTTP_CLIENTS.values():
            client(tor.address, url)
        assert all(len(values) == 1 for values in listed.headers("traceparent")[5:])
        assert len(listed.requests) == 5 + len(HTTP_CLIENTS)


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_what_the_program_says_itself_stays(tor: FakeTor, listed: RecordingServer, client: str) -> None:
    """A traceparent of its own is not replaced, and not doubled."""
    with telling(tor, LISTED) as (captured, traced), captured.tracer.start_span("fetch"):
        HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/", {"TraceParent": "mine", "X-Other": "1"})
        assert listed.headers("traceparent") == [["mine"]]
        assert listed.headers("x-other") == [["1"]]
        assert traced.stats().headers == 0


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_where_no_span_is_current_nothing_is_told(tor: FakeTor, listed: RecordingServer, client: str) -> None:
    """There is no trace."""
    with telling(tor, LISTED):
        HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/")
    assert listed.headers("traceparent") == [[]]


def test_baggage_is_never_told(tor: FakeTor, listed: RecordingServer) -> None:
    """What the program carries for its own services, and what a caller gave it."""
    caller = SpanContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1, "vendor=1", True, {"user": "anna"})
    with telling(tor, LISTED) as (captured, traced), attach(caller), with_baggage({"secret": "1"}):
        with captured.tracer.start_span("fetch"):
            with_requests(tor.address, f"http://{LISTED}/")
            headers: dict[str, str] = {}
            assert traced.inject(headers, f"http://{LISTED}/")
        with_httpx(tor.address, f"http://{LISTED}/")  # the caller's span itself is current
    assert listed.headers("baggage") == [[], []]
    assert listed.headers("tracestate") == [["vendor=1"], ["vendor=1"]]
    assert listed.headers("traceparent")[1] == traceparent(caller)
    assert sorted(headers) == ["traceparent", "tracestate"]


def test_that_a_trace_is_not_sampled_is_told_too(tor: FakeTor, listed: RecordingServer) -> None:
    """The service then records none of its own spans in it."""
    with (
        capture_spans(sampler=NeverSample()) as captured,
        trace_requests(captured.tracer, tor.source, propagate_to=[LISTED]),
        captured.tracer.start_span("fetch"),
    ):
        with_requests(tor.address, f"http://{LISTED}/")
    ((value,),) = listed.headers("traceparent")
    assert int(value[-2:], 16) & 1 == 0


def test_a_connection_that_is_kept(tor: FakeTor, listed: RecordingServer) -> None:
    """Each request on it tells its own span."""
    proxy = f"socks5h://{tor.address[0]}:{tor.port}"
    with telling(tor, LISTED) as (captured, traced), requests.Session() as session:
        session.trust_env = False
        contexts = []
        for _ in range(3):
            with captured.tracer.start_span("fetch") as span:
                session.get(f"http://{LISTED}/", proxies={"http": proxy})
                contexts.append(span.context)
        assert listed.headers("traceparent") == [traceparent(context) for context in contexts]
        assert traced.stats().connections == 1


def test_a_proxy_at_the_end_is_not_told(tor: FakeTor, listed: RecordingServer) -> None:
    """Who is asked for another host's page, or to lead there, would hand the header on, or see it."""
    with telling(tor, LISTED, OTHER) as (captured, _), captured.tracer.start_span("fetch"):
        connection = http.client.HTTPConnection(LISTED, 80)
        connection.sock = socks_connect(tor.address, LISTED, 80)
        connection.request("GET", f"http://{OTHER}/")
        connection.getresponse().read()
        connection.request("OPTIONS", "*")
        connection.getresponse().read()
        connection.close()
        with pytest.raises(OSError, match="Tunnel"):
            tunnel(tor)
    assert listed.headers("traceparent") == [[], [], []]


def tunnel(tor: FakeTor) -> None:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socks_connect(tor.address, LISTED, 80)
            self._tunnel()  # type: ignore[attr-defined]
            raise OSError("Tunnel")

    connection = Connection(LISTED, 80)
    connection.set_tunnel(OTHER, 80)
    try:
        connection.request("GET", "/")
    finally:
        connection.close()


def test_a_connection_that_fails_is_as_without_us(tor: FakeTor) -> None:
    """The error is the library's, and the connection can be used again."""
    tor.hosts[LISTED, 80] = ("127.0.0.1", 1)
    with telling(tor, LISTED) as (captured, traced), captured.tracer.start_span("fetch"):
        connection = http.client.HTTPConnection(LISTED, 80)

        def refuse() -> None:
            raise ConnectionRefusedError("nobody there")

        connection.connect = refuse  # type: ignore[method-assign]
        with pytest.raises(ConnectionRefusedError, match="nobody there"):
            connection.request("GET", "/first")
        assert connection._buffer == []  # type: ignore[attr-defined]
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            connection.request("GET", "/second")
        connection.close()
        assert traced.stats().errors == 0
        with pytest.raises(requests.ConnectionError):
            with_requests(tor.address, f"http://{LISTED}/")


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_a_fault_of_ours_does_not_stop_a_request(
    tor: FakeTor, listed: RecordingServer, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes out without, and the fault is counted."""
    with telling(tor, LISTED) as (captured, traced), captured.tracer.start_span("fetch"):
        monkeypatch.setattr(traced._traceparents, "headers", None)
        assert HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/") == b"ok"
        assert traced.stats().errors == 1
        monkeypatch.setattr(traced._traceparents, "may_add", None)
        assert HTTP_CLIENTS[client](tor.address, f"http://{LISTED}/") == b"ok"
        assert traced.stats().errors == 2
    assert listed.headers("traceparent") == [[], []]


def test_nothing_is_left(tor: FakeTor, listed: RecordingServer) -> None:
    """Every library is as it was, and tells nothing."""
    classes = [
        http.client.HTTPConnection,
        aiohttp.ClientRequest,
        httpcore.HTTP11Connection,
        httpcore.AsyncHTTP11Connection,
    ]
    before = [dict(vars(cls)) for cls in classes]
    with telling(tor, LISTED) as (captured, traced):
        assert all(dict(vars(cls)) != old for cls, old in zip(classes, before, strict=True))
        traced.close()
        assert [dict(vars(cls)) for cls in classes] == before
        with captured.tracer.start_span("fetch"):
            for client in HTTP_CLIENTS.values():
                client(tor.address, f"http://{LISTED}/")
    assert listed.headers("traceparent") == [[]] * len(HTTP_CLIENTS)


def test_a_library_that_is_imported_later(
    tor: FakeTor, listed: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is wrapped before its first request through tor."""
    monkeypatch.delitem(sys.modules, "httpcore")
    original = httpcore.HTTP11Connection.handle_request
    with telling(tor, LISTED) as (captured, _), captured.tracer.start_span("fetch"):
        assert httpcore.HTTP11Connection.handle_request is original
        monkeypatch.setitem(sys.modules, "httpcore", httpcore)
        with_httpx(tor.address, f"http://{LISTED}/")
        # HTTP/2 is there if the package h2 is.
        assert {place.owner for place in HEADERS._missing} <= {"HTTP2Connection", "AsyncHTTP2Connection"}
    assert [len(values) for values in listed.headers("traceparent")] == [1]
    assert httpcore.HTTP11Connection.handle_request is original


def test_a_library_whose_connections_are_not_seen(
    tor: FakeTor, listed: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on uvloop: it is wrapped when tor tells of its first stream, whose answer it waits for."""
    with telling(tor, LISTED) as (captured, traced), captured.tracer.start_span("fetch"):
        SOCKETS.unwatch(traced._traceparents)
        HEADERS.uninstall()
        HEADERS._missing = _PLACES  # as if nothing had been imported then
        with_httpx(tor.address, f"http://{LISTED}/")
    assert [len(values) for values in listed.headers("traceparent")] == [1]


def test_by_hand(tor: FakeTor) -> None:
    """For other clients: the same list, the same headers, and what is no URL is none."""
    with telling(tor, LISTED) as (captured, traced):
        headers: dict[str, str] = {}
        assert not traced.inject(headers, f"http://{LISTED}/")
        with captured.tracer.start_span("fetch") as span:
            assert traced.inject(headers, f"ws://{LISTED.upper()}/socket")
            assert headers == {"traceparent": traceparent(span.context)[0]}
            assert not traced.inject(headers, f"http://{LISTED}/")  # it is there already
            for url in (f"http://{OTHER}/", f"http://{LISTED}.example/", "", "http://[", None):
                fresh: dict[str, str] = {}
                assert not traced.inject(fresh, url)  # type: ignore[arg-type]
                assert fresh == {}
            assert not traced.inject(None, f"http://{LISTED}/")  # type: ignore[arg-type]


def test_patterns_are_refused(tor: FakeTor) -> None:
    """Before anything is begun."""
    with capture_spans() as captured, pytest.raises(ConfigurationError, match="takes no patterns"):
        trace_requests(captured.tracer, tor.source, propagate_to=["*.onion"])
    assert tor.source.listeners == []
