"""OTLP over gRPC, by grpcio: the bytes of a batch are a request as they are, so no generated classes are needed.

gRPC's core has threads and locks of its own, which no child has: one that is forked while they work and then makes a
channel stops for ever, with the interpreter's lock held (seen with grpcio 1.85, with its fork support and without). So
a child whose parent has sent by gRPC sends nothing, and says so.

Source: OTLP specification 1.9, "OTLP/gRPC".
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew._version import __version__
from clew.errors import ConfigurationError
from clew.exporters._otlp_answer import Answer, Verdict, partial_answer, quoted, retry_delay
from clew.limits import OTLP_BACKOFF_MOST_SECONDS, OTLP_BACKOFF_SECONDS, OTLP_REPLY_BYTES, OTLP_REQUEST_BYTES
from clew.pipeline import allocate_lock

if TYPE_CHECKING:
    from clew.exporters._otlp_settings import Settings
    from clew.exporters._patience import Patience

try:
    import grpc
except ImportError as error:
    raise ConfigurationError("OTLP over gRPC needs a package: pip install 'clew[grpc]'.") from error

__all__ = ["GrpcConnection", "GrpcTransport"]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_AFTER_FORK = "gRPC does not work in a process whose parent has used it before the fork; use protocol http/protobuf"
# "Failures". RESOURCE_EXHAUSTED only if the receiver says when it will have recovered.
_LATER_CODES = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


class GrpcTransport:
    """What all channels to an endpoint have in common.

    Raises: ConfigurationError.
    """

    def __init__(self, settings: Settings) -> None:
        self.used = False  # in this process, or in its parent before the fork
        self.target = settings.endpoint.target
        self.credentials = _credentials(settings) if settings.endpoint.secure else None
        given = dict(settings.headers)
        agent = " ".join(filter(None, (given.pop("user-agent", ""), f"clew-OTLP-Exporter-Python/{__version__}")))
        self.metadata = tuple(given.items())
        self.compression = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        self.options = (
            ("grpc.primary_user_agent", agent),
            ("grpc.max_send_message_length", OTLP_REQUEST_BYTES),
            ("grpc.max_receive_message_length", OTLP_REPLY_BYTES),
            ("grpc.enable_http_proxy", 0),  # as by HTTP: a proxy of the environment's would see the headers' keys
            ("grpc.enable_retries", 0),  # what is sent again is decided, and counted, by the exporter
            ("grpc.initial_reconnect_backoff_ms", int(OTLP_BACKOFF_SECONDS * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(OTLP_BACKOFF_MOST_SECONDS * 1000)),
        )

    def open(self) -> GrpcConnection:
        """A channel, which is made when it is needed. For one thread at a time."""
        return GrpcConnection(self)


def _credentials(settings: Settings) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_file("certificate", settings.certificate),
        # gRPC wants both; a certificate's file may hold the key as well.
        private_key=_file("client_key", settings.client_key or settings.client_certificate),
        certificate_chain=_file("client_certificate", settings.client_certificate),
    )


def _file(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{name} cannot be used: {path}: {reason}.") from error


class GrpcConnection:
    """A channel to an endpoint; gRPC keeps its connection, and makes it anew."""

    def __init__(self, transport: GrpcTransport) -> None:
        self._transport = transport
        self._channel: grpc.Channel | None = None
        self._export: Any = None
        self._inherited = transport.used

    def send(self, body: bytes, patience: Patience) -> Answer:
        """Send a message and take the answer.

        Raises: OutOfTimeError.
        """
        transport = self._transport
        if self._inherited:
            return Answer(Verdict.NEVER, _AFTER_FORK)
        if self._channel is None:
            transport.used = True
            _suppress_instrumentation()
            if transport.credentials is None:
                self._channel = grpc.insecure_channel(transport.target, transport.options)
            else:
                self._channel = grpc.secure_channel(transport.target, transport.credentials, transport.options)
            # Without a serializer and a deserializer, bytes are sent and received.
            self._export = self._channel.unary_unary(_METHOD)
        left = patience.left()
        call = self._export.future(
            body,
            timeout=None if left == float("inf") else left,
            metadata=transport.metadata,
            compression=transport.compression,
        )
        done = allocate_lock()
        done.acquire()
        call.add_done_callback(lambda _: done.release())
        try:
            patience.acquire(done)
        except BaseException:
            call.cancel()
            raise
        code = call.code()
        if code is grpc.StatusCode.OK:
            return partial_answer(call.result(), as_json=False)
        return self._failure(code.name, call)

    def _failure(self, code: str, call: Any) -> Answer:
        details = dict(call.trailing_metadata() or ()).get("grpc-status-details-bin")
        wait = retry_delay(details) if isinstance(details, bytes) else None
        later = code in _LATER_CODES or (code == "RESOURCE_EXHAUSTED" and wait is not None)
        text = f"it answered {code}"
        if message := call.details():
            text += f": {quoted(message)}"
        return Answer(Verdict.LATER if later else Verdict.NEVER, text, wait=wait)

    def close(self) -> None:
        """Close the channel; `send` makes another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def forget(self) -> None:
        """Leave a channel alone that the parent of this process goes on using: to free it would be to use it."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._channel))
        self._channel = None


def _suppress_instrumentation() -> None:
    """Keep OpenTelemetry's instrumentation of grpcio, if the program uses it, from tracing this thread's calls."""
    context = sys.modules.get("opentelemetry.context")
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if context is not None and key is not None:
        context.attach(context.set_value(key, True))
