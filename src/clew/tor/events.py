"""Replies -> typed events, which are re-exported from here.

Nothing that a future tor says is an error: "clients MUST tolerate" words, values and lines that they do not know
(control-spec 1.1 and 4.1). They are kept.

The credentials of SOCKS clients (SOCKS_USERNAME, SOCKS_PASSWORD) end here: no event ever holds them.

Source: control-spec section 4.1.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from clew.errors import ControlProtocolError
from clew.tor.event_types import (
    BootstrapEvent,
    BuildTimeoutEvent,
    CircuitBandwidthEvent,
    CircuitEvent,
    CircuitMinorEvent,
    Event,
    HsDescEvent,
    OrConnEvent,
    Relay,
    StatusEvent,
    StreamBandwidthEvent,
    StreamEvent,
    UnknownEvent,
)
from clew.tor.wire import ReplyLine, split_arguments, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew.tor.wire import Reply

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
    "parse_event",
    "parse_relay",
]


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


def without_credentials(reply: Reply) -> Reply:
    """The reply without what SOCKS clients gave as user name and password: the same event, fit to be kept."""
    if not any("SOCKS_" in line.text or "SOCKS_" in (line.data or "") for line in reply.lines):
        return reply
    cut = _SECRET_FIELD.sub
    lines = [(cut("", line.text), line.data if line.data is None else cut("", line.data)) for line in reply.lines]
    return reply._replace(lines=tuple(ReplyLine(*line) for line in lines))


# --- what all of them share -----------------------------------------------------------------------------------------

# A quoted value that is never closed takes the rest of the line with it.
_SECRET_FIELD = re.compile(r'SOCKS_(?:USERNAME|PASSWORD)=(?:"[^"\\]*+(?:\\.[^"\\]*+)*(?:"|\\?\Z)|[^ ]*) ?', re.DOTALL)
_LONG_NAME = re.compile(r"\$([0-9A-Fa-f]{40})(?:[~=](.*))?", re.DOTALL)
_NOTHING: Mapping[str, str] = MappingProxyType({})
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
    if value is None or not _is_number(value):
        return None
    del fields[key]
    return int(value)


def _is_number(text: str) -> bool:
    return len(text) <= 18 and text.isascii() and text.isdigit()


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


def _parse_time(text: str) -> int:
    """ISOTime2Frac, in UTC (control-spec 2.4), as nanoseconds.

    Raises: ValueError: it is none.
    """
    fraction = text[20:]
    if len(fraction) == 6 and text[19] == "." and _is_number(fraction):
        return _parse_second(text[:19]) + int(fraction) * 1000  # many times share their second, few more than that
    return _parse_second(text)


@lru_cache(maxsize=1024)
def _parse_second(text: str) -> int:
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def parse_relay(text: str) -> Relay:
    """A LongName (control-spec 2.4); a name of another form is kept as a nickname."""
    match = _LONG_NAME.fullmatch(text)
    return Relay(match[1].upper(), match[2] or "") if match else Relay("", text)


def _parse_path(text: str) -> tuple[Relay, ...]:
    """LongName *("," LongName) (control-spec 2.4)."""
    return tuple(parse_relay(name) for name in text.split(","))


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
    host = take("HOSTID", None) or take("HOST", None)  # what tor 0.4 writes, or the plainer name
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
        host,
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


def _parse_hs_desc(time_ns: int, words: list[str], reply: Reply) -> HsDescEvent:
    _check_length(words, 3)
    start = 3
    while start < min(len(words), 6) and "=" not in words[start]:  # no DescriptorID has one: base32, base64 unpadded
        start += 1
    auth_type, hs_dir, descriptor_id = (*words[3:start], *_NO_WORDS)[:3]
    fields = _fields(words, start, reply)
    replica = _take_int(fields, "REPLICA")
    take = fields.pop
    return HsDescEvent(
        time_ns,
        words[1],
        None if words[2] == "UNKNOWN" else words[2],
        auth_type or "UNKNOWN",
        None if hs_dir in ("", "UNKNOWN") else parse_relay(hs_dir),
        descriptor_id or None,
        take("REASON", None),
        replica,
        take("HSDIR_INDEX", None),
        _extra(fields),
    )


def _parse_stream_bandwidth(time_ns: int, words: list[str], reply: Reply) -> StreamBandwidthEvent:
    _check_length(words, 4)
    stream_id = _check_id(words, 1)
    if not (_is_number(words[2]) and _is_number(words[3])):
        raise ControlProtocolError("a STREAM_BW event has something else where numbers belong")
    start = 4
    tor_time_ns = None
    if len(words) > 4:
        try:
            tor_time_ns = _parse_time(words[4])
            start = 5
        except ValueError:
            pass  # it goes with the fields
    fields = _fields(words, start, reply) if len(words) > start or len(reply.lines) > 1 else {}
    return StreamBandwidthEvent(time_ns, stream_id, int(words[2]), int(words[3]), tor_time_ns, _extra(fields))


def _parse_circuit_bandwidth(time_ns: int, words: list[str], reply: Reply) -> CircuitBandwidthEvent:
    fields = _fields(words, 1, reply)
    circuit_id = _check_id(["CIRC_BW", fields.pop("ID", "")], 1)
    return CircuitBandwidthEvent(
        time_ns,
        circuit_id,
        _take_int(fields, "READ"),
        _take_int(fields, "WRITTEN"),
        _take_time(fields, "TIME"),
        _extra(fields),
    )


_NO_WORDS = ("", "", "")
_PARSERS: dict[str, Callable[[int, list[str], Reply], Event]] = {
    "CIRC": _parse_circuit,
    "CIRC_MINOR": _parse_circuit_minor,
    "STREAM": _parse_stream,
    "ORCONN": _parse_orconn,
    "STATUS_GENERAL": _parse_status,
    "STATUS_CLIENT": _parse_status,
    "STATUS_SERVER": _parse_status,
    "BUILDTIMEOUT_SET": _parse_build_timeout,
    "HS_DESC": _parse_hs_desc,
    "STREAM_BW": _parse_stream_bandwidth,
    "CIRC_BW": _parse_circuit_bandwidth,
}
