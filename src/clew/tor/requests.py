"""Joins what a program does to what tor does: a stream's spans go below the span that asked for it.

tor says from which address a stream's client connected. So the program's connections to tor's ports are watched
(`socket_hooks`), each is kept with the span that was current (`connections`), and when tor tells of a stream the mapper
asks whose it is. Nothing is added to the program's connections, and nothing is read from them.

Over the wire a trace goes only to hosts that the operator listed (`destinations`), on requests that go out on a
connection to tor (`header_hooks`).
"""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from clew._hot import fork_count
from clew.errors import ControlReplyError, TorError
from clew.limits import CONTROL_HEARTBEAT_SECONDS
from clew.tor.client_ports import ClientPorts, normal_host
from clew.tor.control import ControlClient
from clew.tor.destinations import Destinations
from clew.tor.events import StreamEvent, UnknownEvent
from clew.tor.header_hooks import HEADERS
from clew.tor.joining import StreamJoiner
from clew.tor.mapper import EVENTS, TorMapper
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.protection import allow_level, protect
from clew.tor.socket_hooks import SOCKETS
from clew.tor.traceparents import Traceparents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping
    from types import TracebackType

    from clew._hot import TracerCore
    from clew.tor.events import Event
    from clew.tor.source import EventSource

__all__ = ["RequestStats", "RequestTracing", "trace_requests"]

# What tor tells when its listeners may have changed (control-spec 4.1.18).
_CONFIGURATION_CHANGED = "CONF_CHANGED"
# tor tells within milliseconds that a stream has ended whose program closed its connection.
_LAST_EVENTS_SECONDS = 1.0
# Between attempts to connect to a tor that went away; the last one is repeated.
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)


class RequestStats(NamedTuple):
    """What was joined so far."""

    connections: int  # of this program to tor's ports
    joined: int  # streams that got a span of this program as their parent
    unclaimed: int  # streams of programs that did not: of other programs, or made where no span was current
    ambiguous: int  # of them: could have been of either of two connections of this program
    evicted: int  # connections forgotten because too many waited for their stream
    headers: int  # traceparents that were written
    errors: int  # faults of ours, kept away from the program
    is_connected: bool  # to tor's control port


class RequestTracing:
    """Traces the program's requests through tor, until it is closed. Made by `trace_requests`; a context manager.

    Thread: every method may be called from any thread, but not by a listener of the control connection.
    """

    def __init__(
        self,
        tracer: TracerCore,
        source: EventSource,
        privacy: PrivacyFilter,
        ports: ClientPorts | None,
        destinations: Destinations,
        connect: Callable[[], ControlClient] | None,
    ) -> None:
        self._given_ports = ports
        self._connect = connect  # None: the connection is not ours to close, nor to make again
        self._joiner = StreamJoiner()
        self._traceparents = Traceparents(destinations, self._joiner)
        self._mapper = TorMapper(tracer, privacy, owner=self._joiner.owner)
        self._forks = fork_count()
        self._closing = threading.Event()
        self._lock = threading.RLock()  # guards these, and that nothing is handled after the end:
        self._source = source
        self._is_connected = False
        self._attach(source)
        SOCKETS.watch(self._joiner)
        if destinations:
            import http.client  # noqa: F401 - it writes headers before it connects, so it must be wrapped before that

            HEADERS.watch(self._traceparents)
            SOCKETS.watch(self._traceparents)

    # --- for the program --------------------------------------------------------------------------------------------

    @property
    def mapper(self) -> TorMapper:
        """What turns tor's events into spans here; a `CircuitManager` can be given its `circuits`."""
        return self._mapper

    def inject(self, headers: MutableMapping[str, str], url: str) -> bool:
        """Write `traceparent` and `tracestate` for a request that goes through tor, if its host was listed.

        For HTTP clients that are not known here, WebSockets, whatever has headers. Call it for each hop of a redirect:
        headers that were made for one host are not for another. A traceparent that is there is left alone.

        Args:
            headers: to be sent.
            url: where to.

        Returns: whether they were written.
        Raises: nothing.
        """
        return self._traceparents.inject(headers, url)

    def stats(self) -> RequestStats:
        """What was joined so far.

        Thread: any. Does not block.
        """
        counts = self._joiner.counts
        return RequestStats(
            connections=counts.made,
            joined=self._joiner.joined,
            unclaimed=self._joiner.unclaimed,
            ambiguous=counts.ambiguous,
            evicted=counts.evicted,
            headers=self._traceparents.written,
            errors=self._joiner.errors + self._traceparents.errors,
            is_connected=self._is_connected,
        )

    def close(self) -> None:
        """Put everything back, and end what is open. A second call does nothing.

        Streams whose connections the program has closed get a second at the most for tor to tell how they ended. In a
        forked child only the copy of a connection to tor is closed: all else is the parent's.

        Thread: blocks.
        """
        is_child = fork_count() != self._forks
        if not is_child:
            SOCKETS.unwatch(self._joiner)
            SOCKETS.unwatch(self._traceparents)
            HEADERS.unwatch(self._traceparents)
            if self._is_connected:
                self._joiner.wait(_LAST_EVENTS_SECONDS)
            with self._lock:
                self._closing.set()
                self._source.remove_listener(self._handle)
        if self._connect is not None:
            cast("ControlClient", self._source).close()
        if not is_child:
            with self._lock:
                self._end_all("DETACHED")
                self._joiner.arrivals.close()
            self._is_connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- the connection to tor --------------------------------------------------------------------------------------

    def _attach(self, source: EventSource) -> None:
        """Have this one tell us all that we follow.

        Raises: TorError.
        """
        known = set(source.get_info("events/names")["events/names"].split())
        self._read_ports(source)
        source.add_listener(self._handle)
        try:
            source.set_events([name for name in (*EVENTS, _CONFIGURATION_CHANGED) if name in known])
            self._mapper.preload(source.get_info("circuit-status")["circuit-status"])
        except TorError:
            source.remove_listener(self._handle)
            raise
        self._source = source
        self._is_connected = True
        source.on_disconnect(self._disconnected)

    def _read_ports(self, source: EventSource) -> None:
        if self._given_ports is not None:
            self._joiner.ports = self._given_ports
            return
        answers = []
        for key in ("net/listeners/socks", "net/listeners/httptunnel"):
            try:
                answers.append(source.get_info(key)[key])
            except ControlReplyError:
                continue  # an older tor, which has no ports of this kind
        address = source.address if isinstance(source, ControlClient) else ""
        self._joiner.ports = ClientPorts.parse(answers, normal_host(address.rpartition(":")[0]) or "")

    def _handle(self, event: Event) -> None:
        """Thread: that of the events."""
        if isinstance(event, UnknownEvent):
            if event.keyword == _CONFIGURATION_CHANGED:
                with suppress(TorError):  # if it is gone, we are told of that too
                    self._read_ports(self._source)
            return
        if isinstance(event, StreamEvent) and event.status == "NEW":
            HEADERS.look_again()  # a connection of a library's that was made where we do not see it
        with self._lock:
            if not self._closing.is_set():
                if isinstance(event, StreamEvent) and event.status == "CLOSED":
                    arrival = self._joiner.arrivals.end(event.stream_id)
                    if arrival is not None:
                        self._mapper.first_byte(*arrival)
                self._mapper.handle(event)
        self._joiner.handled(event)

    def _disconnected(self, _: TorError) -> None:
        """Thread: that of the events, after the last one."""
        with self._lock:
            if self._closing.is_set():
                return
            self._is_connected = False
            self._end_all("CONNECTION_LOST")
            self._joiner.forget()
        if self._connect is not None:
            cast("ControlClient", self._source).close()
            threading.Thread(target=self._reconnect, args=[self._connect], name="clew-tor-connect", daemon=True).start()

    def _end_all(self, reason: str) -> None:
        for arrival in self._joiner.arrivals.end_all():
            self._mapper.first_byte(*arrival)
        self._mapper.close(reason)

    def _reconnect(self, connect: Callable[[], ControlClient]) -> None:
        for seconds in chain(_RETRY_SECONDS, repeat(_RETRY_SECONDS[-1])):
            if self._closing.wait(seconds):
                return
            with suppress(TorError):
                client = connect()
                if self._adopt(client):
                    return
                client.close()

    def _adopt(self, client: ControlClient) -> bool:
        """Go on with this connection, unless the end came first or it is lost again."""
        with self._lock, suppress(TorError):
            if not self._closing.is_set():
                self._attach(client)
                return True
        return False


def trace_requests(
    tracer: TracerCore,
    control: str | EventSource,
    *,
    privacy: Privacy | PrivacyFilter = Privacy.PSEUDONYMOUS,
    password: str | Callable[[], str] | None = None,
    cookie_path: str | None = None,
    socks: str | Iterable[str] | None = None,
    propagate_to: Iterable[str] = (),
    public_network: bool = False,
) -> RequestTracing:
    """Trace what tor does for this program's requests, each below the span that was current when it connected to tor.

    Example:
        with trace_requests(tracer, control="9051"), tracer.start_span("fetch"):
            requests.get("http://abc.onion/", proxies={"http": "socks5h://127.0.0.1:9050"})

    Args:
        tracer: makes the spans.
        control: where tor's control port is ("9051", "127.0.0.1:9051", "unix:/run/tor/control"); if tor goes away, the
            connection is made again when it is back. Or a connection that the program has, a `ControlClient` or
            `from_stem(controller)`: what tor tells on it is chosen here, and it is left open at the end.
        privacy: the level of what the spans tell, or a filter that is shared with others. A `Tracer` is protected: its
            other spans pass the same level before they are exported, and level 0 where they leave this machine (see
            `clew.tor.protection.protect`).
        password: tor's control password, or a function that asks for it.
        cookie_path: tor's cookie, if it is not where tor says.
        socks: the addresses of tor's SOCKS ports as the program has them, if they are not those that tor knows; tor is
            asked by default.
        propagate_to: hosts that are told of the trace, with a `traceparent` header on requests that go to them through
            tor: "abc...xyz.onion" or "abc...xyz.onion:8080". Nobody by default.
        public_network: with `Privacy.LAB`, which keeps everything: this tor may be on the public network.

    Returns: what is to be closed in the end.
    Raises:
        ConfigurationError: an address or a host is none, or the level is not for this tor.
        TorError: tor cannot be reached, or does not let us in.
    Thread: any; blocks until tor has answered.
    """
    destinations = Destinations(propagate_to)
    ports = None if socks is None else ClientPorts.of(socks)
    level = privacy.level if isinstance(privacy, PrivacyFilter) else privacy

    def start(source: EventSource, connect: Callable[[], ControlClient] | None) -> RequestTracing:
        allow_level(source, level, public_network=public_network)
        shared = protect(tracer, privacy)
        return RequestTracing(tracer, source, shared, ports, destinations, connect)

    if not isinstance(control, str):
        return start(control, None)

    def connect() -> ControlClient:
        return ControlClient.connect(
            control, password=password, cookie_path=cookie_path, heartbeat=CONTROL_HEARTBEAT_SECONDS
        )

    client = connect()
    try:
        return start(client, connect)
    except BaseException:
        client.close()
        raise
