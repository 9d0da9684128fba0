"""OtlpExporter by gRPC, against a receiver of grpcio's."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from clew import Batch, ConfigurationError, ExportError, OtlpExporter, Resource, Scope, Tracer, __version__
from clew.exporters import _otlp_sender
from clew.model import SpanRecord
from clew.otlp import encode_span
from tests.grpc_receiver import GrpcReceiver, hang, ok, refuse
from tests.otlp_messages import records_of

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 30.0
RESOURCE, SCOPE = Resource({"service.name": "test"}), Scope("clew", "1")
RECORDS = [
    SpanRecord(f"{1:032x}", f"{number + 1:016x}", "", f"span {number}", resource=RESOURCE, scope=SCOPE)
    for number in range(3)
]
BATCH = Batch(b"".join(map(encode_span, RECORDS)), 3, RESOURCE, SCOPE)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that nobody notices, and nothing of the environment's."""
    monkeypatch.setattr(_otlp_sender, "OTLP_BACKOFF_SECONDS", 0.001)
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "HEADERS", "PROTOCOL", "COMPRESSION", "INSECURE"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


def failure(exporter: OtlpExporter) -> tuple[int | None, str]:
    """Of an export: how many spans were not delivered, and what is said of it."""
    with pytest.raises(ExportError) as caught:
        exporter.export(BATCH)
    exporter.close()
    return caught.value.rejected, str(caught.value)


def retry_info(seconds: int) -> bytes:
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
    status: bytes = Status(code=8, details=[detail]).SerializeToString()
    return status


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_call(compression: str) -> None:
    """The spans arrive as they are, the headers as metadata."""
    with GrpcReceiver() as receiver:
        exporter = OtlpExporter(
            receiver.url, protocol="grpc", compression=compression, headers={"X-Key": "a b", "User-Agent": "shop/1"}
        )
        exporter.export(BATCH)
        exporter.close()
        (call,) = receiver.calls
        assert records_of(TracesData.FromString(call.request.SerializeToString())) == RECORDS
        assert call.metadata["x-key"] == "a b"
        assert str(call.metadata["user-agent"]).startswith(
            f"shop/1 clew-OTLP-Exporter-Python/{__version__} grpc-python"
        )


def test_a_target_of_grpcs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scheme, `insecure` or its variable says that there is no TLS."""
    with GrpcReceiver() as receiver:
        with Tracer(
            "test", OtlpExporter(f"dns:///127.0.0.1:{receiver.port}", protocol="grpc", insecure=True)
        ) as tracer:
            tracer.start_span("span").end()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"127.0.0.1:{receiver.port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        with Tracer("test", OtlpExporter()) as tracer:
            tracer.start_span("span").end()
            assert tracer.flush(SECONDS)
        assert len(receiver.calls) == 2


def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names for others is not used: the headers hold keys."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with GrpcReceiver() as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc", timeout=SECONDS)
        exporter.export(BATCH)
        exporter.close()
        assert len(receiver.calls) == 1


def test_partial_success() -> None:
    """Scenario 22: what was rejected is failed and not sent again."""
    response = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=2))
    with GrpcReceiver(lambda _: response) as receiver:
        rejected, text = failure(OtlpExporter(receiver.url, protocol="grpc"))
        assert (rejected, text) == (2, f"{receiver.url}: it rejected 2")
        assert len(receiver.calls) == 1


LATER = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_codes(code: grpc.StatusCode) -> None:
    """Those of the specification's table are tried again, the others are final."""
    with GrpcReceiver(refuse(code, "no \x1b[31mspans"), ok) as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc")
        if code.name in LATER:
            exporter.export(BATCH)
            exporter.close()
            assert len(receiver.calls) == 2
        else:
            said = f'{receiver.url}: it answered {code.name}: "no \\x1b[31mspans"'
            assert failure(exporter) == (3, said)
            assert len(receiver.calls) == 1


def test_a_receiver_that_is_exhausted_and_will_recover() -> None:
    """RESOURCE_EXHAUSTED is tried again only if the receiver says when."""
    with GrpcReceiver(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "", retry_info(0)), ok) as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc")
        exporter.export(BATCH)
        exporter.close()
        assert len(receiver.calls) == 2


def test_the_receivers_time_is_kept() -> None:
    """RetryInfo: here it asks for more time than there is."""
    with GrpcReceiver(refuse(grpc.StatusCode.UNAVAILABLE, "busy", retry_info(3600)), ok) as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc", timeout=0.5)
        assert failure(exporter) == (3, f'{receiver.url}: it answered UNAVAILABLE: "busy"')
        assert len(receiver.calls) == 1


def test_a_receiver_that_hangs() -> None:
    """The time is that of the delivery."""
    with GrpcReceiver(hang) as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc", timeout=0.3)
        rejected, text = failure(exporter)
        assert rejected == 3
        assert "it did not answer in time" in text or "DEADLINE_EXCEEDED" in text
        assert len(receiver.calls) == 1


def test_nobody_listens() -> None:
    """It is said in gRPC's words."""
    receiver = GrpcReceiver()
    receiver.close()
    rejected, text = failure(OtlpExporter(receiver.url, protocol="grpc", timeout=0.3))
    assert rejected == 3
    assert "UNAVAILABLE" in text


def test_a_channel_is_made_anew_after_close() -> None:
    """As tracers that share an exporter need it."""
    with GrpcReceiver() as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc")
        for _ in range(3):
            exporter.export(BATCH)
            exporter.close()
        assert len(receiver.calls) == 3


def test_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    """The files are the same as for HTTP."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@test.example")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "both.pem").write_bytes(client.private_key_and_cert_chain_pem.bytes())
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with GrpcReceiver(credentials=credentials) as receiver:
        arguments: dict[str, Any] = {"protocol": "grpc", "certificate": tmp_path / "ca.pem"}
        exporter = OtlpExporter(receiver.url, client_certificate=tmp_path / "both.pem", **arguments)
        exporter.export(BATCH)
        exporter.close()
        assert len(receiver.calls) == 1
        assert failure(OtlpExporter(receiver.url, timeout=0.3, **arguments))[0] == 3
        with pytest.raises(ConfigurationError, match="certificate cannot be used"):
            OtlpExporter(receiver.url, protocol="grpc", certificate=tmp_path / "missing.pem")


def test_opentelemetrys_instrumentation_is_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 14: where the program instruments grpcio, our calls are not traced."""
    attached: list[object] = []
    context = SimpleNamespace(
        _SUPPRESS_INSTRUMENTATION_KEY="suppress", set_value=lambda key, value: (key, value), attach=attached.append
    )
    monkeypatch.setitem(sys.modules, "opentelemetry.context", context)
    with GrpcReceiver() as receiver:
        exporter = OtlpExporter(receiver.url, protocol="grpc")
        exporter.export(BATCH)
        exporter.close()
    assert attached == [("suppress", True)]
