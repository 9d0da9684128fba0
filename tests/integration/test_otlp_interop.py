"""What receivers get of clew is what they get of the OpenTelemetry SDK for the same program, field by field.

One receiver is made of the official messages and grpcio. The other is rotel, a collector in Rust that shares no code
with clew nor with OpenTelemetry: it reads what it got and passes it on in its own words.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as SdkGrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as SdkHttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import NonRecordingSpan, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace import SpanContext as SdkContext
from opentelemetry.trace import SpanKind as SdkKind
from opentelemetry.trace import Status as SdkStatus
from opentelemetry.trace import StatusCode as SdkCode

from clew import Link, OtlpExporter, SpanContext, SpanKind, Status, Tracer, __version__
from tests.grpc_receiver import GrpcReceiver
from tests.otlp_receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, CALLER, ELSEWHERE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
BEGIN = 1_795_000_000_000_000_000
ATTRIBUTES: dict[str, Any] = {
    "text": "Zürich \u2028 \U0001f9f6",
    "empty": "",
    "yes": True,
    "no": False,
    "zero": 0,
    "big": 2**63 - 1,
    "negative": -(2**63),
    "ratio": 0.1,
    "texts": ["a", "b"],
    "numbers": [1, 2, 3],
    "none of them": [],
}
SERVICE: dict[str, Any] = {"service.name": "shop", "service.version": "1.2", "host.cpus": 2}


def clew_program(exporter: OtlpExporter) -> None:
    """A request that comes from elsewhere, a call that fails, and something that is not part of it."""
    with Tracer("shop", exporter, resource=SERVICE) as tracer:
        caller = SpanContext(TRACE, CALLER, 1, "vendor=value", is_remote=True)
        request = tracer.start_span("request", SpanKind.SERVER, parent=caller, start_time_ns=BEGIN)
        request.set_attributes(ATTRIBUTES)
        link = Link(SpanContext(TRACE, ELSEWHERE, 1, is_remote=True), {"why": "retry"})
        call = tracer.start_span("call", SpanKind.CLIENT, parent=request, links=[link], start_time_ns=BEGIN + 10)
        call.add_event("sent", {"bytes": 3}, BEGIN + 20)
        call.add_event("answered", time_ns=BEGIN + 30)
        call.set_status(Status.ERROR, "no answer")
        call.end(BEGIN + 40)
        request.set_status(Status.OK)
        request.end(BEGIN + 50)
        for kind in (SpanKind.INTERNAL, SpanKind.PRODUCER, SpanKind.CONSUMER):
            tracer.start_span("alone", kind, parent=None, start_time_ns=BEGIN).end(BEGIN)


def sdk_program(exporter: Any) -> None:
    """The same."""
    provider = TracerProvider(resource=SdkResource.create(SERVICE), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("clew", __version__)
    trace_id = int(TRACE, 16)
    remote: dict[str, Any] = {"is_remote": True, "trace_flags": TraceFlags(1)}
    caller = SdkContext(trace_id, int(CALLER, 16), trace_state=TraceState([("vendor", "value")]), **remote)
    parent = set_span_in_context(NonRecordingSpan(caller))
    request = tracer.start_span("request", parent, SdkKind.SERVER, start_time=BEGIN)
    request.set_attributes(ATTRIBUTES)
    call = tracer.start_span(
        "call",
        set_span_in_context(request),
        SdkKind.CLIENT,
        links=[SdkLink(SdkContext(trace_id, int(ELSEWHERE, 16), **remote), {"why": "retry"})],
        start_time=BEGIN + 10,
    )
    call.add_event("sent", {"bytes": 3}, BEGIN + 20)
    call.add_event("answered", timestamp=BEGIN + 30)
    call.set_status(SdkStatus(SdkCode.ERROR, "no answer"))
    call.end(BEGIN + 40)
    request.set_status(SdkStatus(SdkCode.OK))
    request.end(BEGIN + 50)
    for kind in (SdkKind.INTERNAL, SdkKind.PRODUCER, SdkKind.CONSUMER):
        tracer.start_span(
            "alone", set_span_in_context(NonRecordingSpan(SdkContext(0, 0, False))), kind, start_time=BEGIN
        ).end(BEGIN)
    provider.shutdown()


# --- what came, in a form that can be compared -----------------------------------------------------------------------

# What differs, on purpose. The maker's name is another, and the SDK draws an id for the process. An empty Status means
# what no Status means (trace.proto: "Unset status is the default"), and clew leaves it out. The W3C flags have their
# place in bits 0 to 7 of `flags`, where the SDK for Python leaves them out: test_flags looks at them.
OF_THE_MAKER = {"telemetry.sdk.name", "telemetry.sdk.version", "service.instance.id"}
W3C_FLAGS = 0xFF


def comparable(requests: list[ExportTraceServiceRequest]) -> dict[str, Any]:
    """All fields of all messages, ids that were drawn replaced by their numbers, attributes in the order of names."""
    ids: dict[bytes, str] = {bytes.fromhex(known): known for known in (TRACE, CALLER, ELSEWHERE)}
    found: dict[str, Any] = {"resource": [], "scope": [], "spans": []}
    for request in requests:
        for resource_spans in request.resource_spans:
            found["resource"].append(_pairs(resource_spans.resource.attributes))
            for scope_spans in resource_spans.scope_spans:
                found["scope"].append((scope_spans.scope.name, scope_spans.scope.version))
                found["spans"] += [_fields(span, ids) for span in scope_spans.spans]
    for part in ("resource", "scope"):
        assert all(each == found[part][0] for each in found[part])
        found[part] = found[part][0]
    return found


def _fields(message: Any, ids: dict[bytes, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        name = descriptor.name
        if name.endswith("_id"):
            fields[name] = ids.setdefault(value, f"id {len(ids)}")
        elif name == "attributes":
            fields[name] = _pairs(value)
        elif name in ("events", "links"):
            fields[name] = [_fields(each, ids) for each in value]
        elif name == "flags":
            fields[name] = value & ~W3C_FLAGS
        elif name == "status":
            if value.ListFields():
                fields[name] = _fields(value, ids)
        else:
            fields[name] = value
    return fields


def _pairs(attributes: Any) -> dict[str, str]:
    return {
        pair.key: json_format.MessageToJson(pair.value, indent=None)
        for pair in sorted(attributes, key=lambda pair: pair.key)
        if pair.key not in OF_THE_MAKER
    }


def of_json(body: bytes) -> ExportTraceServiceRequest:
    """An OTLP/JSON request by the official messages, which want ids in base64, as protobuf's own mapping has them."""

    def convert(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: base64.b64encode(bytes.fromhex(value)).decode() if key.endswith("Id") else convert(value)
                for key, value in node.items()
            }
        return [convert(each) for each in node] if isinstance(node, list) else node

    return json_format.ParseDict(convert(json.loads(body)), ExportTraceServiceRequest())


def of_http(receiver: Receiver) -> dict[str, Any]:
    return comparable(
        [
            of_json(request.message)
            if request.headers["content-type"] == "application/json"
            else ExportTraceServiceRequest.FromString(request.message)
            for request in receiver.requests
        ]
    )


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What the SDK sends, by HTTP and, the same, by gRPC."""
    with Receiver() as receiver:
        sdk_program(SdkHttpExporter(f"{receiver.url}/v1/traces"))
        by_http = of_http(receiver)
    with GrpcReceiver() as grpc_receiver:
        sdk_program(SdkGrpcExporter(grpc_receiver.url, insecure=True))
        by_grpc = comparable([call.request for call in grpc_receiver.calls])
    assert by_http == by_grpc
    assert len(by_http["spans"]) == 5
    return by_http


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_by_http(expected: dict[str, Any], protocol: str, compression: str) -> None:
    """Every field that the official messages find is as the SDK sends it."""
    with Receiver() as receiver:
        clew_program(OtlpExporter(receiver.url, protocol=protocol, compression=compression))
        assert of_http(receiver) == expected


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_by_grpc(expected: dict[str, Any], compression: str) -> None:
    """The same by gRPC."""
    with GrpcReceiver() as receiver:
        clew_program(OtlpExporter(receiver.url, protocol="grpc", compression=compression))
        assert comparable([call.request for call in receiver.calls]) == expected


def test_by_tls(expected: dict[str, Any], tmp_path: Path) -> None:
    """The same by TLS, to receivers that ask for a certificate, all of it by the standard variables."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("shop")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    server.configure_cert(context)
    authority.configure_trust(context)
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())], authority.cert_pem.bytes(), True
    )
    environ = {}
    for name, pem in (
        ("CERTIFICATE", authority.cert_pem),
        ("CLIENT_CERTIFICATE", client.cert_chain_pems[0]),
        ("CLIENT_KEY", client.private_key_pem),
    ):
        pem.write_to_path(str(tmp_path / name))
        environ[f"OTEL_EXPORTER_OTLP_{name}"] = str(tmp_path / name)
    with Receiver(tls=context) as receiver, GrpcReceiver(credentials=credentials) as grpc_receiver:
        for protocol in ("http/protobuf", "http/json", "grpc"):
            environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
            environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = (grpc_receiver if protocol == "grpc" else receiver).url
            clew_program(OtlpExporter(environ=environ))
        assert len(receiver.records) == 10
        del receiver.requests[1:]
        assert of_http(receiver) == expected
        assert comparable([call.request for call in grpc_receiver.calls]) == expected


def test_flags() -> None:
    """Sampled (1), and for traces that clew began also random (2), by W3C trace context level 2."""
    with Receiver() as receiver:
        clew_program(OtlpExporter(receiver.url))
        flags = [(record.name, record.flags & W3C_FLAGS) for record in receiver.records]
    assert flags == [("call", 1), ("request", 1), *[("alone", 3)] * 3]


@contextmanager
def rotel(sink: Receiver) -> Iterator[dict[str, str]]:
    """A collector that passes everything on to the sink; its endpoints by protocol."""
    spec = find_spec("rotel")
    if spec is None or spec.origin is None:
        pytest.skip("there is no rotel for this Python")
    program = str(Path(spec.origin).parent / "rotel-agent")
    for _ in range(5):
        grpc_port, http_port = _free_ports()
        command = [
            *(program, "start", "--disable-batching", "--exporter", "otlp"),
            *("--otlp-exporter-endpoint", sink.url, "--otlp-exporter-protocol", "http"),
            *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}", "--otlp-http-endpoint", f"127.0.0.1:{http_port}"),
        ]
        # Of the environment nothing: it can configure the collector, too.
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, env={"PATH": os.defpath}, stdout=log, stderr=log)
            try:
                if _listens(process, grpc_port, http_port):
                    url = "http://127.0.0.1:{}".format
                    yield {"grpc": url(grpc_port), "http/protobuf": url(http_port), "http/json": url(http_port)}
                    return
            finally:
                process.terminate()
                process.wait(30)
                log.seek(0)
                print(log.read())
    pytest.fail("rotel does not start")


def _free_ports() -> tuple[int, int]:
    """Two that are free now; whoever takes one of them meanwhile has the collector try others."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def _listens(process: subprocess.Popen[bytes], *ports: int) -> bool:
    for port in ports:
        for _ in range(3000):
            if process.poll() is not None:
                return False
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10):
                break
            time.sleep(0.01)
        else:
            return False
    return True


def test_by_a_collector_that_is_nobodys_relative() -> None:
    """rotel takes what clew sends, however it is sent, and passes on the same as of what the SDK sends."""
    with Receiver() as sink, rotel(sink) as endpoints:
        sdk_program(SdkHttpExporter(f"{endpoints['http/protobuf']}/v1/traces"))
        sink.wait_for_spans(5)
        expected = of_http(sink)
        for protocol, endpoint in endpoints.items():
            for compression in ("none", "gzip"):
                sink.requests.clear()
                clew_program(OtlpExporter(endpoint, protocol=protocol, compression=compression))
                sink.wait_for_spans(5)
                assert of_http(sink) == expected, (protocol, compression)
