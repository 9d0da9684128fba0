"""Replies -> typed events.

An event is what tor said and when it arrived, nothing more: what it means for a span is decided elsewhere. Keywords
that are not known are kept in `extra`, values that are not known are kept as they are, an event that is not known is an
`UnknownEvent`; "clients MUST tolerate" each of them (control-spec 1.1 and 4.1).

The credentials of SOCKS clients (SOCKS_USERNAME, SOCKS_PASSWORD) end here: no event ever holds them.

Source: control-spec section 4.1; the fields CONFLUX_ID, CONFLUX_RTT and HS_POW are newer than some copies of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from clew.errors import ControlProtocolError
from clew.tor.wire import split_arguments, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew.tor.wire import Reply

__all__ = [
    "BootstrapEvent",
    "BuildTimeoutEvent",
    "CircuitEvent",
    "CircuitMinorEvent",
    "Event",
    "OrConnEvent",
    "Relay",
    "StatusEvent",
    "StreamEvent",
    "UnknownEvent",
    "parse_event",
]

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay as a path names it (LongName, control-spec 2.4)."""

    fingerprint: str  # 40 upper-case hex digits, without the dollar sign; "" if tor gave a nickname only
    nickname: str = ""  # "" if tor does not know it


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have."""

    time_ns: int  # wall-clock nanoseconds since 1970 when the event arrived

    @property
    def raw_type(self) -> str:
        """The event's keyword on the wire: "CIRC"."""
        return ""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event of any other type."""

    keyword: str
    line: str  # all lines, without status codes, joined with "\n"; without the credentials of SOCKS clients

    @property
    def raw_type(self) -> str:
        return self.keyword


def parse_event(reply: Reply, time_ns: int) -> Event:
    """What an asynchronous reply says.

    Args:
        time_ns: wall-clock nanoseconds since 1970 when the reply was received.

    Raises:
        ControlProtocolError: an event of a known type lacks what it cannot be understood without (an id, a status).
            The text tells nothing of the event's content. The connection is still in step.

    Source: control-spec 4.1.
    """
    text = reply.lines[0].text
    keyword = text.partition(" ")[0]
    parse = _PARSERS.get(keyword)
    if parse is None:
        return _unknown(reply, time_ns, keyword)
    if "SOCKS_" in text:
        text = _SECRET_FIELD.sub("", text)  # before anything else looks at it
    words = split_arguments(text)
    if '"' in text:
        words = [_unquote_value(word) for word in words]
    return parse(time_ns, words, reply)


# --- what all of them share -----------------------------------------------------------------------------------------

# A quoted value that is never closed takes the rest of the line with it.
_SECRET_FIELD = re.compile(r'SOCKS_(?:USERNAME|PASSWORD)=(?:"(?:[^"\\]|\\.)*+(?:"|\Z)|[^ ]*) ?', re.DOTALL)
_LONG_NAME = re.compile(r"\$([0-9A-Fa-f]{40})(?:[~=](.*))?", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Longer ones than tor ever writes are parsed, but not remembered: a cache must not hold what a hostile peer likes.
_CACHED_PATH_CHARACTERS = 1024


def _unknown(reply: Reply, time_ns: int, keyword: str) -> UnknownEvent:
    parts: list[str] = []
    for line in reply.lines:
        parts.append(line.text)
        if line.data is not None:
            parts.append(line.data)
    text = "\n".join(parts)
    if "SOCKS_" in text:
        text = _SECRET_FIELD.sub("", text)
    return UnknownEvent(time_ns, keyword, text)


def _unquote_value(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{key}={unquote(value)}" if equals else unquote(word)


def _fields(words: list[str], start: int, reply: Reply) -> dict[str, str]:
    """The KEYWORD=VALUE arguments from `start` on, and those on further lines (control-spec 4.1)."""
    fields: dict[str, str] = {}
    for word in words[start:]:
        if word:
            key, _, value = word.partition("=")
            fields[key] = value
    for line in reply.lines[1:]:
        key, _, value = _SECRET_FIELD.sub("", line.text).partition("=")
        if key:
            fields[key] = unquote(value) if line.data is None else _SECRET_FIELD.sub("", line.data)
    return fields


def _extra(fields: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(fields) if fields else _NOTHING


def _take_int(fields: dict[str, str], key: str) -> int | None:
    """A number is taken out of the fields; what is not one stays there, and thus in `extra`."""
    value = fields.get(key)
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 18):
        return None
    del fields[key]
    return int(value)


def _take_float(fields: dict[str, str], key: str) -> float | None:
    try:
        number = float(fields[key])
    except (KeyError, ValueError):
        return None
    del fields[key]
    return number


def _take_time(fields: dict[str, str], key: str) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    try:
        time_ns = _parse_time(value)
    except ValueError:
        return None
    del fields[key]
    return time_ns


@lru_cache(maxsize=1024)
def _parse_time(text: str) -> int:
    """ISOTime2Frac, in UTC (control-spec 2.4), as nanoseconds."""
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _parse_path(text: str) -> tuple[Relay, ...]:
    """LongName *("," LongName) (control-spec 2.4); a name of another form is kept as a nickname."""
    relays = []
    for name in text.split(","):
        match = _LONG_NAME.fullmatch(name)
        relays.append(Relay(match[1].upper(), match[2] or "") if match else Relay("", name))
    return tuple(relays)


_parse_path_cached = lru_cache(maxsize=1024)(_parse_path)


def _take_path(words: list[str]) -> tuple[tuple[Relay, ...], int]:
    """The path of a circuit, if there is one, and where its keywords begin."""
    if len(words) < 4:
        return (), 3
    word = words[3]
    if not word.startswith("$") and "=" in word:
        return (), 3
    return (_parse_path_cached if len(word) <= _CACHED_PATH_CHARACTERS else _parse_path)(word), 4


@lru_cache(maxsize=256)
def _parse_flags(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _check_id(words: list[str], index: int) -> str:
    """CircuitID, StreamID, ConnID = 1*16 IDChar, IDChar = ALPHA / DIGIT (control-spec 2.4)."""
    value = words[index]
    if len(value) > 16 or not value.isalnum() or not value.isascii():
        raise ControlProtocolError(f"a {words[0]} event has something else where an id belongs")
    return value


def _check_length(words: list[str], count: int) -> None:
    if len(words) < count or not all(words[:count]):
        raise ControlProtocolError(f"a {words[0]} event has fewer than {count - 1} arguments")


# --- one function for each type of event ----------------------------------------------------------------------------


def _parse_circuit(time_ns: int, words: list[str], reply: Reply) -> CircuitEvent:
    _check_length(words, 3)
    circuit_id = _check_id(words, 1)
    path, start = _take_path(words)
    fields = _fields(words, start, reply)
    take = fields.pop
    flags = take("BUILD_FLAGS", None)
    return CircuitEvent(
        time_ns,
        circuit_id,
        words[2],
        path,
        _parse_flags(flags) if flags else (),
        take("PURPOSE", None),
        take("HS_STATE", None),
        take("REND_QUERY", None),
        _take_time(fields, "TIME_CREATED"),
        take("REASON", None),
        take("REMOTE_REASON", None),
        take("CONFLUX_ID", None),
        _take_int(fields, "CONFLUX_RTT"),
        _extra(fields),
    )


def _parse_circuit_minor(time_ns: int, words: list[str], reply: Reply) -> CircuitMinorEvent:
    _check_length(words, 3)
    circuit_id = _check_id(words, 1)
    path, start = _take_path(words)
    fields = _fields(words, start, reply)
    take = fields.pop
    flags = take("BUILD_FLAGS", None)
    return CircuitMinorEvent(
        time_ns,
        circuit_id,
        words[2],
        path,
        _parse_flags(flags) if flags else (),
        take("PURPOSE", None),
        take("HS_STATE", None),
        take("REND_QUERY", None),
        _take_time(fields, "TIME_CREATED"),
        take("REASON", None),
        take("REMOTE_REASON", None),
        take("CONFLUX_ID", None),
        _take_int(fields, "CONFLUX_RTT"),
        take("OLD_PURPOSE", None),
        take("OLD_HS_STATE", None),
        _extra(fields),
    )


def _parse_stream(time_ns: int, words: list[str], reply: Reply) -> StreamEvent:
    _check_length(words, 5)
    stream_id = _check_id(words, 1)
    circuit_id = _check_id(words, 3)
    fields = _fields(words, 5, reply)
    take = fields.pop
    return StreamEvent(
        time_ns,
        stream_id,
        words[2],
        circuit_id,
        words[4],
        take("REASON", None),
        take("REMOTE_REASON", None),
        take("SOURCE", None),
        take("SOURCE_ADDR", None),
        take("PURPOSE", None),
        take("CLIENT_PROTOCOL", None),
        _extra(fields),
    )


def _parse_orconn(time_ns: int, words: list[str], reply: Reply) -> OrConnEvent:
    _check_length(words, 3)
    fields = _fields(words, 3, reply)
    circuits = _take_int(fields, "NCIRCS")
    take = fields.pop
    return OrConnEvent(time_ns, words[1], words[2], take("REASON", None), circuits, take("ID", None), _extra(fields))


def _parse_status(time_ns: int, words: list[str], reply: Reply) -> StatusEvent | BootstrapEvent:
    _check_length(words, 3)
    fields = _fields(words, 3, reply)
    if words[2] != "BOOTSTRAP" or words[0] != "STATUS_CLIENT":
        return StatusEvent(time_ns, words[0], words[1], words[2], _extra(fields))
    progress = _take_int(fields, "PROGRESS")
    if progress is None:
        raise ControlProtocolError("a STATUS_CLIENT BOOTSTRAP event has no PROGRESS")
    take = fields.pop
    return BootstrapEvent(
        time_ns,
        words[1],
        progress,
        take("TAG", ""),
        take("SUMMARY", ""),
        take("WARNING", None),
        take("REASON", None),
        _take_int(fields, "COUNT"),
        take("RECOMMENDATION", None),
        take("HOST", None),
        take("HOSTADDR", None),
        _extra(fields),
    )


def _parse_build_timeout(time_ns: int, words: list[str], reply: Reply) -> BuildTimeoutEvent:
    _check_length(words, 2)
    fields = _fields(words, 2, reply)
    return BuildTimeoutEvent(
        time_ns,
        words[1],
        _take_int(fields, "TOTAL_TIMES"),
        _take_int(fields, "TIMEOUT_MS"),
        _take_float(fields, "CUTOFF_QUANTILE"),
        _take_float(fields, "TIMEOUT_RATE"),
        _take_int(fields, "CLOSE_MS"),
        _take_float(fields, "CLOSE_RATE"),
        _extra(fields),
    )


_PARSERS: dict[str, Callable[[int, list[str], Reply], Event]] = {
    "CIRC": _parse_circuit,
    "CIRC_MINOR": _parse_circuit_minor,
    "STREAM": _parse_stream,
    "ORCONN": _parse_orconn,
    "STATUS_GENERAL": _parse_status,
    "STATUS_CLIENT": _parse_status,
    "STATUS_SERVER": _parse_status,
    "BUILDTIMEOUT_SET": _parse_build_timeout,
}
