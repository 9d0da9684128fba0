"""A receiver of OTLP over gRPC on loopback, made of grpcio and the official messages."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    # What a call is answered with; it may end it otherwise (`context.abort`).
    Answer = Callable[[Any], ExportTraceServiceResponse]

__all__ = ["Call", "GrpcReceiver", "hang", "ok", "refuse"]


class Call(NamedTuple):
    """What came."""

    request: ExportTraceServiceRequest
    metadata: dict[str, str | bytes]


def ok(context: Any) -> ExportTraceServiceResponse:
    """Taken."""
    return ExportTraceServiceResponse()


def refuse(code: grpc.StatusCode, details: str = "", status: bytes = b"") -> Answer:
    """Not taken; `status` is what grpc-status-details-bin holds."""

    def answer(context: Any) -> ExportTraceServiceResponse:
        if status:
            context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(code, details)
        raise AssertionError

    return answer


def hang(context: Any) -> ExportTraceServiceResponse:
    """Nothing, until the other side gives up."""
    while context.is_active():
        time.sleep(0.01)
    return ExportTraceServiceResponse()


class GrpcReceiver(TraceServiceServicer):
    """Answers are given in their order, the last one to all calls that follow."""

    def __init__(self, *answers: Answer, credentials: grpc.ServerCredentials | None = None) -> None:
        self._answers = list(answers) or [ok]
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.url = f"http{'' if credentials is None else 's'}://127.0.0.1:{self.port}"
        self._server.start()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        with self._lock:
            self.calls.append(Call(request, {item.key: item.value for item in context.invocation_metadata()}))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, at once."""
        self._server.stop(None).wait(30)
