"""Tells a trace to the hosts that the operator listed, on requests that go out through tor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew._hot import current_span
from clew.propagation import inject
from clew.tor.header_hooks import HEADERS
from clew.tor.joining import NOBODY
from clew.tor.socket_hooks import ends_of

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from clew.tor.destinations import Destinations
    from clew.tor.joining import StreamJoiner

__all__ = ["Traceparents"]


class Traceparents:
    """Writes `traceparent` and `tracestate`, never baggage. A `HeaderWatcher`, and a `SocketWatcher`.

    Thread: any.
    """

    def __init__(self, destinations: Destinations, joiner: StreamJoiner) -> None:
        self.written = self.errors = 0
        self._destinations = destinations
        self._joiner = joiner  # knows where tor listens

    @property
    def port_numbers(self) -> frozenset[int]:
        """See `SocketWatcher`."""
        return self._joiner.port_numbers

    def socket_connected(self, *_: object) -> None:
        """See `SocketWatcher`. Whatever makes a request on this connection has been imported by now."""
        HEADERS.look_again()

    def may_add(self, host: str, port: int | None) -> bool:
        """See `HeaderWatcher`."""
        return self._destinations.allow(host, port) and current_span() is not NOBODY

    def headers(self, host: str, port: int | None, connection: object) -> Mapping[str, str]:
        """See `HeaderWatcher`."""
        if not self._destinations.allow(host, port):
            return {}
        ends = ends_of(connection)
        if ends is None or not self._joiner.ports.lead_to_tor(local=ends[0], remote=ends[1]):
            return {}
        return self._write()

    def count_error(self) -> None:
        """See `HeaderWatcher`, `SocketWatcher`."""
        self.errors += 1

    def inject(self, headers: MutableMapping[str, str], url: str) -> bool:
        """See `RequestTracing.inject`."""
        try:
            if not self._destinations.allow_url(url) or any(str(name).lower() == "traceparent" for name in headers):
                return False
            written = self._write()
            headers.update(written)
        except Exception:  # noqa: BLE001 - no URL, or headers that refuse to be written: the request goes out without
            self.count_error()
            return False
        return bool(written)

    def _write(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        span = current_span()
        if span is not NOBODY:
            # What a program has in its baggage is for its own services.
            inject(headers, span.context._replace(baggage={}))
            self.written += 1
        return headers
