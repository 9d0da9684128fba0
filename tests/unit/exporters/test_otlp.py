"""OtlpExporter by HTTP: what a receiver on loopback gets, and what becomes of its answers."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from clew import Batch, ConfigurationError, ExportError, OtlpExporter, Resource, Scope, Tracer, __version__
from clew.exporters import _otlp_sender, otlp
from clew.exporters._patience import Patience
from clew.exporters._tls import TlsSocket
from clew.model import SpanRecord
from clew.otlp import encode_span
from tests.otlp_receiver import Receiver, raw, reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 30.0
RESOURCE, SCOPE = Resource({"service.name": "test", "n": 1}), Scope("clew", "1")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests says, exporters go where the test says."""
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "HEADERS", "TRACES_HEADERS", "PROTOCOL", "COMPRESSION", "TIMEOUT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, in seconds, none of which is waited."""
    made: list[float] = []

    def sleep_until(patience: Patience, time: float) -> None:
        if time > monotonic():
            made.append(time - monotonic())
            patience.left()

    monkeypatch.setattr(Patience, "sleep_until", sleep_until)
    return made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes everything."""
    with Receiver() as receiver:
        yield receiver


def records(count: int, name: str = "span") -> list[SpanRecord]:
    return [
        SpanRecord(f"{1:032x}", f"{number + 1:016x}", "", f"{name} {number}", resource=RESOURCE, scope=SCOPE)
        for number in range(count)
    ]


def batch(count: int, name: str = "span") -> Batch:
    return Batch(b"".join(map(encode_span, records(count, name))), count, RESOURCE, SCOPE)


def failure(exporter: OtlpExporter, count: int = 3) -> tuple[int | None, str]:
    """Of an export: how many spans were not delivered, and what is said of it, without the receiver's name."""
    with pytest.raises(ExportError) as caught:
        exporter.export(batch(count))
    return caught.value.rejected, str(caught.value).partition("/v1/traces: ")[2]


def partial(rejected: int, message: str = "") -> bytes:
    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=success).SerializeToString()


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_a_request(receiver: Receiver, protocol: str, compression: str) -> None:
    """The spans arrive as they are, and the head says what the body is."""
    exporter = OtlpExporter(receiver.url, protocol=protocol, compression=compression, headers={"X-Key": "a b"})
    exporter.export(batch(3))
    exporter.close()
    (request,) = receiver.requests
    assert request.records == records(3)
    assert request.line == "POST /v1/traces HTTP/1.1"
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": f"clew-OTLP-Exporter-Python/{__version__}",
        "accept-encoding": "identity",
        "content-type": "application/json" if protocol == "http/json" else "application/x-protobuf",
        "x-key": "a b",
        "content-length": str(len(request.body)),
        **({} if compression == "none" else {"content-encoding": compression}),
    }


def test_the_environment_alone(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, the standard variables say where the spans go."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url + "/base/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "host=collector.example,user-agent=shop%2F1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")
    exporter = OtlpExporter()
    exporter.export(batch(1))
    exporter.close()
    (request,) = receiver.requests
    assert request.line == "POST /base/v1/traces HTTP/1.1"
    assert request.headers["host"] == "collector.example"
    assert request.headers["user-agent"] == f"shop/1 clew-OTLP-Exporter-Python/{__version__}"
    assert request.records == records(1)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [("http://a.example", "a.example"), ("https://a.example:443/x", "a.example"), ("http://[::1]", "[::1]"),
     ("http://a.example:443", "a.example:443"), ("http://[::1]:4318", "[::1]:4318")],
)  # fmt: skip
def test_the_host(endpoint: str, host: str) -> None:
    """A port that is the scheme's own is left out (RFC 9110, section 4.2.3)."""
    exporter: Any = OtlpExporter(endpoint)
    assert f"\r\nhost: {host}\r\n" in exporter._sender._transport.head.decode()


def test_the_connection_is_kept(receiver: Receiver) -> None:
    """One batch after the other goes over it, until the exporter is closed; then there would be another."""
    exporter = OtlpExporter(receiver.url)
    for _ in range(3):
        exporter.export(batch(1))
    exporter.close()
    exporter.export(batch(1))
    exporter.close()
    assert [request.connection for request in receiver.requests] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        reply(connection="close"),
        raw(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nand more"),
        raw(b"HTTP/1.1 200 OK\r\n\r\n", close=True),
    ],
)
def test_a_connection_that_cannot_be_kept(answer: Any) -> None:
    """It is made anew where the receiver says that it closes it, or sent more than it should."""
    with Receiver(answer) as receiver:
        exporter = OtlpExporter(receiver.url)
        exporter.export(batch(1))
        exporter.export(batch(1))
        exporter.close()
        assert [request.connection for request in receiver.requests] == [1, 2]


def test_a_connection_that_was_not_used_for_long(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not trusted: what stands between may have forgotten it without a word."""
    monkeypatch.setattr("clew.exporters._http.OTLP_IDLE_SECONDS", 0.0)
    exporter = OtlpExporter(receiver.url)
    exporter.export(batch(1))
    exporter.export(batch(1))
    exporter.close()
    assert receiver.connections == 2


def test_a_tracer_delivers(receiver: Receiver) -> None:
    """From the spans of a program to the receiver; the resource travels along."""
    with Tracer("shop", OtlpExporter(receiver.url), resource={"a": 1}, batch_spans=100) as tracer:
        for number in range(250):
            with tracer.start_span(f"checkout {number}") as span:
                span.set_attribute("items", number)
        assert tracer.flush(SECONDS)
        assert tracer.stats().exported == 250
    found = receiver.records
    assert [(record.name, record.attributes["items"]) for record in found] == [(f"checkout {n}", n) for n in range(250)]
    assert found[0].resource.attributes["a"] == 1
    assert found[0].service_name == "shop"


def test_each_batch_has_its_own_resource_and_scope(receiver: Receiver) -> None:
    """What is the same in every message is encoded once, and never taken for that of another batch."""
    exporter = OtlpExporter(receiver.url)
    resources, scopes = [Resource({"service.name": name}) for name in "ab"], [Scope("x"), Scope("y", schema_url="u")]
    batches = [Batch(b"", 0, resource, scope) for resource in resources for scope in scopes]
    batches += batches[::-1]
    for batch in batches:
        exporter.export(batch)
    exporter.close()
    assert [request.body for request in receiver.requests] == [batch.to_protobuf() for batch in batches]


def test_two_tracers_share_an_exporter(receiver: Receiver) -> None:
    """Their batches take turns on one connection; closing one does not stop the other."""
    exporter = OtlpExporter(receiver.url)
    with Tracer("a", exporter, batch_spans=5) as a:
        with Tracer("b", exporter, batch_spans=5) as b:
            for _ in range(50):
                a.start_span("a").end()
                b.start_span("b").end()
        a.start_span("a").end()
    assert sorted(record.name for record in receiver.records) == ["a"] * 51 + ["b"] * 50


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_large_batches_are_cut(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """Into requests of so many bytes of spans, or of one span; all arrive, in their order."""
    monkeypatch.setattr(otlp, "OTLP_SPLIT_BYTES", 300)
    spans = [*records(10), records(1, "x" * 400)[0], *records(10, "y")]
    exporter = OtlpExporter(receiver.url, protocol=protocol)
    exporter.export(Batch(b"".join(map(encode_span, spans)), 21, RESOURCE, SCOPE))
    exporter.close()
    assert receiver.records == spans
    sizes = [len(b"".join(map(encode_span, request.records))) for request in receiver.requests]
    assert [size > 300 for size in sizes] == [len(request.records) == 1 for request in receiver.requests]
    assert len(sizes) < 10


def test_json_is_cut_by_its_own_size(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be many times as large as the bytes of the spans."""
    monkeypatch.setattr(otlp, "OTLP_REQUEST_BYTES", 3000)
    spans = records(8, "\x01" * 100)
    exporter = OtlpExporter(receiver.url, protocol="http/json")
    exporter.export(Batch(b"".join(map(encode_span, spans)), 8, RESOURCE, SCOPE))
    exporter.close()
    assert receiver.records == spans
    assert max(len(request.body) for request in receiver.requests) <= 3000


def test_a_span_that_is_too_large(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is failed, and the others are delivered."""
    monkeypatch.setattr(otlp, "OTLP_REQUEST_BYTES", 1000)
    monkeypatch.setattr(otlp, "OTLP_SPLIT_BYTES", 500)
    spans = [*records(3), records(1, "x" * 2000)[0], *records(3)]
    exporter = OtlpExporter(receiver.url)
    with pytest.raises(ExportError, match="a span does not fit into the") as caught:
        exporter.export(Batch(b"".join(map(encode_span, spans)), 7, RESOURCE, SCOPE))
    exporter.close()
    assert caught.value.rejected == 1
    assert receiver.records == [*records(3), *records(3)]


def test_a_kept_connection_that_ends_while_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By TLS as without: the message goes out on another at once, with no pause and no word."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setattr(_otlp_sender, "_pause", lambda *_: pytest.fail("it paused"))
    with Receiver(tls=context) as receiver:
        exporter = OtlpExporter(receiver.url, certificate=tmp_path / "ca.pem")
        exporter.export(batch(1))
        send, ends = TlsSocket.send, [ssl.SSLEOFError(8, "EOF occurred in violation of protocol")]

        def ended(self: TlsSocket, data: memoryview) -> int:
            if ends:
                with socket.socket(fileno=os.dup(self.fileno())) as same:
                    same.shutdown(socket.SHUT_RDWR)
                raise ends.pop()
            return send(self, data)

        monkeypatch.setattr(TlsSocket, "send", ended)
        exporter.export(batch(1))
        exporter.close()
        assert [request.connection for request in receiver.requests] == [1, 2]


def test_a_receiver_that_rejects_more_than_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a message's own spans are failed by its answer."""
    monkeypatch.setattr(otlp, "OTLP_SPLIT_BYTES", 1)
    with Receiver(reply(body=partial(99, "all")), reply()) as receiver:
        exporter = OtlpExporter(receiver.url)
        with pytest.raises(ExportError) as caught:
            exporter.export(batch(3))
        exporter.close()
        assert caught.value.rejected == 1
        assert len(receiver.requests) == 3


# --- answers ---------------------------------------------------------------------------------------------------------


def test_what_is_rejected_is_failed_and_not_sent_again() -> None:
    """Scenario 22: the ledger counts what the receiver did not take."""
    with Receiver(reply(body=partial(2, "too old"))) as receiver:
        tracer = Tracer("test", OtlpExporter(receiver.url))
        for _ in range(5):
            tracer.start_span("span").end()
        assert not tracer.close(SECONDS)
        stats = tracer.stats()
        assert (stats.exported, stats.failed, len(receiver.requests)) == (3, 2, 1)


def test_a_warning_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """All spans were taken; what the receiver has to say is logged."""
    with Receiver(reply(body=partial(0, "use TLS"))) as receiver, Tracer("test", OtlpExporter(receiver.url)) as tracer:
        tracer.start_span("span").end()
        assert tracer.flush(SECONDS)
        assert tracer.stats().failed == 0
        assert tracer.stats().errors == 1
    assert 'it took them, with a warning: "use TLS"' in caplog.text


def test_another_try(pauses: list[float]) -> None:
    """Scenario 23: the same request again after a pause that grows, until it is taken."""
    with Receiver(reply(503), reply(429), reply(502), reply(504), reply()) as receiver:
        exporter = OtlpExporter(receiver.url)
        exporter.export(batch(3))
        exporter.close()
        assert [request.body for request in receiver.requests] == [batch(3).to_protobuf()] * 5
        assert {request.connection for request in receiver.requests} == {1}
    bounds = [(0.24, 0.5), (0.49, 1.0), (0.99, 2.0), (1.99, 4.0)]
    assert all(low < pause <= high for pause, (low, high) in zip(pauses, bounds, strict=True))


def test_pauses_are_bounded_and_drawn() -> None:
    """However many tries there were."""
    for tries, most in ((1, 0.5), (5, 8.0), (6, 16.0), (1_000_000, 16.0)):
        drawn = {_otlp_sender._pause(tries, None) for _ in range(50)}
        assert len(drawn) > 1
        assert all(most / 2 <= pause <= most for pause in drawn)
    assert 300 <= _otlp_sender._pause(1, 1e12) < 301, "who asks for centuries gets minutes"


def test_the_receivers_time_is_kept(pauses: list[float]) -> None:
    """Retry-After, in seconds, goes before our own idea."""
    with Receiver(reply(503, Retry_After="7"), reply()) as receiver:
        exporter = OtlpExporter(receiver.url)
        exporter.export(batch(1))
        exporter.close()
    assert 6.9 < pauses[0] < 7.1


def test_the_next_batch_waits_as_well() -> None:
    """A receiver that asks for more time than a batch has gets it, from the batches after that one."""
    with Receiver(reply(429, Retry_After="3600"), reply()) as receiver:
        exporter = OtlpExporter(receiver.url, timeout=0.05)
        assert failure(exporter) == (3, "it answered 429 Too Many Requests")
        assert failure(exporter) == (3, "it answered 429 Too Many Requests")
        assert len(receiver.requests) == 1
        exporter.close()


def test_tries_end_with_the_time(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said at the end is what the receiver said last."""
    with Receiver(reply(503)) as receiver:
        exporter = OtlpExporter(receiver.url, timeout=0.05)
        rejected, text = failure(exporter)
        exporter.close()
    assert rejected == 3
    assert text.startswith("it answered 503 Service Unavailable (given up after ")


@pytest.mark.parametrize("status", [400, 401, 404, 405, 408, 413, 500, 501, 505, 301, 302, 303, 307, 308])
def test_a_refusal_is_final(status: int) -> None:
    """Scenario 23: every other status is not tried again, and no redirect followed."""
    with Receiver(reply(status, Location="/elsewhere", Retry_After="0")) as receiver:
        exporter = OtlpExporter(receiver.url)
        rejected, text = failure(exporter)
        assert (rejected, text[:15]) == (3, f"it answered {status}")
        assert len(receiver.requests) == 1
        exporter.close()


def test_a_receiver_that_does_not_take_a_compression() -> None:
    """After 415 the next one is tried, at once, and kept (RFC 9110, section 15.5.16)."""
    with Receiver(reply(415), reply(415), reply()) as receiver:
        exporter = OtlpExporter(receiver.url, compression="zstd")
        exporter.export(batch(3))
        exporter.export(batch(3))
        exporter.close()
        encodings = [request.headers.get("content-encoding") for request in receiver.requests]
        assert encodings == ["zstd", "gzip", None, None]
        assert receiver.requests[2].records == receiver.requests[3].records == records(3)
    with Receiver(reply(415)) as receiver:
        exporter = OtlpExporter(receiver.url)
        assert failure(exporter) == (3, "it answered 415 Unsupported Media Type")
        exporter.close()


def test_nobody_learns_a_header(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a repr nor an error nor the log has what is in headers or the query, also if the receiver repeats it."""
    caplog.set_level(logging.DEBUG)
    with Receiver(reply(401, b"s3cret and query-k3y are wrong", content_type="text/plain")) as receiver:
        exporter = OtlpExporter(f"{receiver.url}/v1/traces?key=query-k3y", headers={"authorization": "Bearer s3cret"})
        with Tracer("test", exporter) as tracer:
            tracer.start_span("span").end()
        assert receiver.requests[0].line == "POST /v1/traces?key=query-k3y HTTP/1.1"
        assert receiver.requests[0].headers["authorization"] == "Bearer s3cret"
    expected = f'{receiver.url}/v1/traces: it answered 401 Unauthorized: "*** and *** are wrong"'
    assert expected in caplog.text
    assert "s3cret" not in caplog.text + repr(exporter) + repr(vars(exporter))
    assert repr(exporter) == f"OtlpExporter('{receiver.url}/v1/traces', protocol='http/protobuf')"


# --- construction ----------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_or_opened_before_it_is_needed() -> None:
    """Making an exporter needs no receiver; and its spans leave the machine."""
    exporter = OtlpExporter("http://127.0.0.1:9")
    assert exporter.leaves_machine
    exporter.close()


@pytest.mark.parametrize(
    ("package", "arguments", "words"),
    [
        ("zstandard", {"compression": "zstd"}, "pip install 'clew[zstd]'"),
        ("grpc", {"protocol": "grpc"}, "pip install 'clew[grpc]'"),
    ],
)
def test_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, package: str, arguments: dict[str, str], words: str
) -> None:
    """The error says how to get it."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.delitem(sys.modules, "clew.exporters._grpc", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        OtlpExporter(**arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
