"""To an OTLP receiver: an OpenTelemetry collector, or whatever else speaks the protocol."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from clew.errors import ExportError
from clew.limits import OTLP_REQUEST_BYTES, OTLP_SPLIT_BYTES
from clew.otlp import Batch
from clew.otlp.protobuf import encode_resource, encode_scope, traces_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clew.model import Resource, Scope

__all__ = ["OtlpExporter"]


class OtlpExporter:
    """Sends spans by the OpenTelemetry protocol, over HTTP (protobuf or JSON) or gRPC.

    What no argument says, the environment says: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or else
    `OTEL_EXPORTER_OTLP_ENDPOINT`, and in the same way `..._PROTOCOL`, `..._HEADERS`, `..._TIMEOUT` (milliseconds),
    `..._COMPRESSION`, `..._INSECURE`, `..._CERTIFICATE`, `..._CLIENT_CERTIFICATE` and `..._CLIENT_KEY`.

    A batch is sent again, after a while that grows, when there is no connection and when the receiver says that it may
    succeed later (HTTP 429, 502, 503 and 504), for `timeout` seconds in all; spans queue up meanwhile. What the
    receiver rejects is counted as failed and not sent again. Redirects are not followed, proxies not used.

    Args:
        endpoint: a URL, such as "https://collector.example:4318"; `/v1/traces` is added where it has no path. With gRPC
            also any target that gRPC knows. By default the receiver on this machine: "http://localhost:4318", with gRPC
            "http://localhost:4317".
        protocol: "http/protobuf" (the default), "http/json", or "grpc", which needs `pip install 'clew[grpc]'`.
        headers: sent with each request; they are in no log and no error.
        timeout: seconds that the delivery of one batch may take; 10 by default.
        compression: "none" (the default), "gzip" or "zstd" (HTTP only, and where the receiver takes it; before Python
            3.14 it needs `pip install 'clew[zstd]'`).
        insecure: gRPC without TLS, for targets that are no URL.
        certificate: a file with the certificates (PEM) to trust in place of the system's.
        client_certificate: a file with the certificate (PEM) that the receiver asks of us.
        client_key: the file with its key, if that is another.
        environ: the variables; those of this process by default.

    Raises: ConfigurationError.
    """

    leaves_machine = True  # a receiver on this machine, too, passes on what it gets

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        compression: str | None = None,
        insecure: bool | None = None,
        certificate: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        # Sockets, TLS and gRPC are loaded here: `import clew` is to be quick.
        from clew.exporters._otlp_sender import make_sender
        from clew.exporters._otlp_settings import settle

        self._settings = settle(
            os.environ if environ is None else environ,
            endpoint=endpoint,
            protocol=protocol,
            headers=headers,
            timeout=timeout,
            compression=compression,
            insecure=insecure,
            certificate=certificate,
            client_certificate=client_certificate,
            client_key=client_key,
        )
        self._sender = make_sender(self._settings)
        # The last resource and scope, encoded: nearly every batch has the same. Replaced as a whole, by any thread.
        self._encoded: tuple[Resource, Scope, bytes, bytes] | None = None

    def export(self, batch: Batch) -> None:
        """Send the batch, in several requests if it is very large.

        Raises: ExportError, when spans were not delivered; with none of them rejected, when the receiver took all and
            has a warning.
        """
        failed, problem = self._sender.send(self._messages(batch, batch.spans, batch.count, OTLP_SPLIT_BYTES))
        if problem:
            raise ExportError(f"{self._settings.endpoint.shown}: {self._settings.hide(problem)}", rejected=failed)

    def close(self) -> None:
        """Close the connection."""
        self._sender.close()

    def __repr__(self) -> str:
        return f"OtlpExporter({self._settings.endpoint.shown!r}, protocol={self._settings.protocol!r})"

    def _messages(self, batch: Batch, spans: bytes, count: int, most: int) -> Iterator[tuple[bytes | None, int]]:
        """What to send, each with the number of its spans, and None for one that is too large."""
        if len(spans) > most and count > 1:
            for part, part_count in _split(spans, most):
                yield from self._messages(batch, part, part_count, most)
            return
        if self._settings.protocol == "http/json":
            body = Batch(spans, count, batch.resource, batch.scope).to_json()
        else:
            body = self._to_protobuf(spans, batch.resource, batch.scope)
        if len(body) <= OTLP_REQUEST_BYTES:
            yield body, count
        elif count > 1:
            yield from self._messages(batch, spans, count, len(spans) // 2)  # how much larger JSON is depends
        else:
            yield None, count

    def _to_protobuf(self, spans: bytes, resource: Resource, scope: Scope) -> bytes:
        """As `Batch.to_protobuf`, with what is the same in every message encoded once."""
        encoded = self._encoded
        if encoded is None or encoded[0] is not resource or encoded[1] is not scope:
            encoded = self._encoded = resource, scope, encode_resource(resource), encode_scope(scope)
        return traces_message(encoded[2], encoded[3], spans, scope.schema_url)


def _split(spans: bytes, most: int) -> Iterator[tuple[bytes, int]]:
    """Cut concatenated spans into parts of so many bytes at the most, or of one span."""
    begin = at = count = 0
    while at < len(spans):
        size = shift = 0
        end = at + 1  # past the tag of ScopeSpans.spans, which is one byte
        while True:
            byte = spans[end]
            size |= (byte & 0x7F) << shift
            shift, end = shift + 7, end + 1
            if byte < 0x80:
                break
        end += size
        if count and end - begin > most:
            yield spans[begin:at], count
            begin, count = at, 0
        at, count = end, count + 1
    yield spans[begin:], count
