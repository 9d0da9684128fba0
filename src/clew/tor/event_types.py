"""tor's events as values.

An event is what tor said and when it arrived, nothing more: what it means for a span is decided elsewhere. Keywords
that are not known are kept in `extra`, values that are not known are kept as they are, an event that is not known is an
`UnknownEvent`.

Source: control-spec section 4.1; the fields CONFLUX_ID, CONFLUX_RTT and HS_POW are newer than some copies of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BootstrapEvent",
    "BuildTimeoutEvent",
    "CircuitBandwidthEvent",
    "CircuitEvent",
    "CircuitMinorEvent",
    "Event",
    "HsDescEvent",
    "OrConnEvent",
    "Relay",
    "StatusEvent",
    "StreamBandwidthEvent",
    "StreamEvent",
    "UnknownEvent",
]

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _value(cls: type[_T]) -> type[_T]:
    """A dataclass that type checkers know as frozen.

    To make one that is frozen at run time, too, takes six times as long: a third of what it takes to read an event.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@_value
class Relay:
    """A relay as a path names it (LongName, control-spec 2.4)."""

    fingerprint: str  # 40 upper-case hex digits, without the dollar sign; "" if tor gave a nickname only
    nickname: str = ""  # "" if tor does not know it


@_value
class Event:
    """What all events have."""

    time_ns: int  # wall-clock nanoseconds since 1970 when the event arrived

    @property
    def raw_type(self) -> str:
        """The event's keyword on the wire: "CIRC"."""
        return ""


@_value
class CircuitEvent(Event):
    """A circuit's status changed.

    Source: control-spec 4.1.1.
    """

    circuit_id: str  # unique within one run of tor; digits today, any letters and digits by the specification
    status: str  # LAUNCHED, BUILT, GUARD_WAIT, EXTENDED, FAILED, CLOSED
    path: tuple[Relay, ...] = ()  # the hops so far, the guard first
    build_flags: tuple[str, ...] = ()  # ONEHOP_TUNNEL, IS_INTERNAL, NEED_CAPACITY, NEED_UPTIME
    purpose: str | None = None  # GENERAL, HS_CLIENT_REND, CONFLUX_LINKED, ...
    hs_state: str | None = None  # HSCR_JOINED, ...
    rend_query: str | None = None  # an onion address, without ".onion"
    time_created_ns: int | None = None  # by tor's clock; it moves when the circuit is cannibalized
    reason: str | None = None  # of FAILED and CLOSED: TIMEOUT, DESTROYED, FINISHED, ...
    remote_reason: str | None = None  # what the relay gave that destroyed or truncated it
    conflux_id: str | None = None  # shared by the legs of a conflux set
    conflux_rtt_us: int | None = None  # microseconds
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)  # the rest; words without "=" map to ""

    @property
    def raw_type(self) -> str:
        return "CIRC"


@_value
class CircuitMinorEvent(Event):
    """A circuit's purpose or state changed, while its status did not.

    Source: control-spec 4.1.19.
    """

    circuit_id: str
    change: str  # PURPOSE_CHANGED, CANNIBALIZED
    path: tuple[Relay, ...] = ()
    build_flags: tuple[str, ...] = ()
    purpose: str | None = None  # the new one
    hs_state: str | None = None  # the new one
    rend_query: str | None = None
    time_created_ns: int | None = None
    reason: str | None = None
    remote_reason: str | None = None
    conflux_id: str | None = None
    conflux_rtt_us: int | None = None
    old_purpose: str | None = None
    old_hs_state: str | None = None
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return "CIRC_MINOR"


@_value
class StreamEvent(Event):
    """A stream's status changed.

    Source: control-spec 4.1.2.
    """

    stream_id: str
    status: str  # NEW, SENTCONNECT, SUCCEEDED, DETACHED, FAILED, CLOSED, ...
    circuit_id: str  # "0" while it is not attached
    target: str  # address:port; the most telling thing that tor says about its user
    reason: str | None = None
    remote_reason: str | None = None
    source: str | None = None  # of REMAP: CACHE, EXIT
    source_addr: str | None = None  # of NEW: the client's own address:port
    purpose: str | None = None  # of NEW: USER, DIR_FETCH, DIR_UPLOAD, DNS_REQUEST, ...
    client_protocol: str | None = None  # SOCKS5, HTTPCONNECT, DNS, ...
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return "STREAM"


@_value
class OrConnEvent(Event):
    """A connection to another relay changed.

    Source: control-spec 4.1.3.
    """

    target: str  # "$FINGERPRINT~nickname", or address:port of one that came in
    status: str  # NEW, LAUNCHED, CONNECTED, FAILED, CLOSED
    reason: str | None = None
    circuits: int | None = None  # NCIRCS: established and pending
    connection_id: str | None = None
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return "ORCONN"


@_value
class StatusEvent(Event):
    """Something about tor as a whole.

    Source: control-spec 4.1.10.
    """

    keyword: str  # STATUS_GENERAL, STATUS_CLIENT, STATUS_SERVER
    severity: str  # NOTICE, WARN, ERR
    action: str  # CIRCUIT_ESTABLISHED, CLOCK_SKEW, ...
    arguments: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return self.keyword


@_value
class BootstrapEvent(Event):
    """tor came nearer to the network, or could not.

    Source: control-spec 4.1.10 (STATUS_CLIENT BOOTSTRAP) and 5.5 (the tags).
    """

    severity: str  # NOTICE; WARN for a problem
    progress: int  # percent
    tag: str  # conn, handshake_done, done, ...
    summary: str = ""  # for people: what tor does next
    warning: str | None = None
    reason: str | None = None
    count: int | None = None  # problems in this phase so far
    recommendation: str | None = None  # warn, ignore
    host: str | None = None  # the fingerprint of the relay that it could not reach
    host_address: str | None = None
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return "STATUS_CLIENT"


@_value
class BuildTimeoutEvent(Event):
    """tor changed how long it waits for a circuit.

    Source: control-spec 4.1.16.
    """

    kind: str  # COMPUTED, RESET, SUSPENDED, DISCARD, RESUME
    total_times: int | None = None
    timeout_ms: int | None = None
    quantile: float | None = None  # CUTOFF_QUANTILE
    timeout_rate: float | None = None  # 0 to 1
    close_ms: int | None = None
    close_rate: float | None = None  # 0 to 1
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)  # XM and ALPHA are here too

    @property
    def raw_type(self) -> str:
        return "BUILDTIMEOUT_SET"


@_value
class HsDescEvent(Event):
    """An onion service's descriptor was asked for, came, was made or went out.

    Source: control-spec 4.1.25.
    """

    action: str  # REQUESTED, RECEIVED, FAILED, IGNORE; CREATED, UPLOAD, UPLOADED
    address: str | None = None  # the onion address, without ".onion"; None if tor does not know it
    auth_type: str = "UNKNOWN"  # NO_AUTH, ...
    hs_dir: Relay | None = None  # the directory; None where there is none (CREATED)
    descriptor_id: str | None = None  # of a v3 address: the blinded key, which all directories of a period share
    reason: str | None = None  # of FAILED: NOT_FOUND, QUERY_RATE_LIMITED, UPLOAD_REJECTED, ...
    replica: int | None = None
    index: str | None = None  # HSDIR_INDEX: where in the ring of directories this one was looked for
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return "HS_DESC"


@_value
class StreamBandwidthEvent(Event):
    """The application's bytes on a stream since the last event about it: at most one a second, the last at its end.

    Source: control-spec 4.1.13.
    """

    stream_id: str
    written: int  # bytes that the application sent
    read: int  # bytes that it was given
    tor_time_ns: int | None = None  # by tor's clock; older tors do not say it
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)

    @property
    def raw_type(self) -> str:
        return "STREAM_BW"


@_value
class CircuitBandwidthEvent(Event):
    """Bytes of cells on a circuit since the last event about it.

    Source: control-spec 4.1.22.
    """

    circuit_id: str
    read: int | None = None  # bytes, whole cells
    written: int | None = None
    tor_time_ns: int | None = None
    extra: Mapping[str, str] = field(default_factory=_nothing, hash=False)  # DELIVERED_READ, OVERHEAD_READ, CWND, ...

    @property
    def raw_type(self) -> str:
        return "CIRC_BW"


@_value
class UnknownEvent(Event):
    """An event of any other type."""

    keyword: str
    line: str  # all lines, without status codes, joined with "\n"; without the credentials of SOCKS clients

    @property
    def raw_type(self) -> str:
        return self.keyword
