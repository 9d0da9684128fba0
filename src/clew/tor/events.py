"""Replies -> typed events, which are re-exported from here.

Nothing that a future tor says is an error: "clients MUST tolerate" words, values and lines that they do not know
(control-spec 1.1 and 4.1). They are kept.

The credentials of SOCKS clients (SOCKS_USERNAME, SOCKS_PASSWORD) end here: no event ever holds them.

Source: control-spec section 4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

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
from clew.tor.event_words import (
    Rest,
    cut_credentials,
    frozen,
    is_number,
    parse_path,
    parse_relay,
    parse_time,
    put_back,
    read_words,
    remembered,
    split_fields,
    take_float,
    take_int,
    take_time,
)
from clew.tor.wire import ReplyLine

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
    line = cut_credentials(reply.lines[0].text)  # before anything else looks at it
    keyword = line.partition(" ")[0]
    parser = _PARSERS.get(keyword)
    if parser is None:
        return _unknown(reply, time_ns, keyword)
    count, parse = parser
    if '"' in line or len(reply.lines) > 1:
        words = read_words(line, reply.lines[1:])
        return parse(time_ns, words[:count], tuple(words[count:]))
    words = line.split(" ", count)
    return parse(time_ns, words, words.pop() if len(words) > count else "")


def without_credentials(reply: Reply) -> Reply:
    """The reply without what SOCKS clients gave as user name and password: the same event, fit to be kept."""
    lines = [
        ReplyLine(cut_credentials(text), data if data is None else cut_credentials(data)) for text, data in reply.lines
    ]
    return reply._replace(lines=tuple(lines))


def _unknown(reply: Reply, time_ns: int, keyword: str) -> UnknownEvent:
    parts: list[str] = []
    for line in reply.lines:
        parts.append(line.text)
        if line.data is not None:
            parts.append(line.data)
    return UnknownEvent(time_ns, keyword, cut_credentials("\n".join(parts)))


def _check_id(words: list[str], index: int) -> str:
    """CircuitID, StreamID, ConnID = 1*16 IDChar, IDChar = ALPHA / DIGIT (control-spec 2.4)."""
    value = words[index]
    if len(value) > 16 or not value.isalnum() or not value.isascii():
        raise ControlProtocolError(f"a {words[0]} event has something else where an id belongs")
    return value


def _check_length(words: list[str], count: int) -> None:
    if len(words) < count or ("" in words and not all(words[:count])):
        raise ControlProtocolError(f"a {words[0]} event has fewer than {count - 1} arguments")


# --- one function for each type of event; it gets the words that stand at the line's beginning, and the rest ---------


def _take_path(words: list[str], rest: Rest) -> tuple[tuple[Relay, ...], Rest]:
    """The path of a circuit, if there is one, and the keywords after it."""
    if len(words) < 4:
        return (), rest
    word = words[3]
    if "=" in word and not word.startswith("$"):
        return (), put_back(word, rest)
    return parse_path(word), rest


_CircuitFields: TypeAlias = tuple[
    tuple[str, ...],
    str | None,
    str | None,
    str | None,
    int | None,
    str | None,
    str | None,
    str | None,
    int | None,
]


def _take_circuit_fields(fields: dict[str, str]) -> _CircuitFields:
    """What CIRC and CIRC_MINOR have alike, in the order of their fields."""
    take = fields.pop
    flags = take("BUILD_FLAGS", None)
    return (
        tuple(flags.split(",")) if flags else (),
        take("PURPOSE", None),
        take("HS_STATE", None),
        take("REND_QUERY", None),
        take_time(fields, "TIME_CREATED"),
        take("REASON", None),
        take("REMOTE_REASON", None),
        take("CONFLUX_ID", None),
        take_int(fields, "CONFLUX_RTT"),
    )


@remembered
def _read_circuit(rest: Rest) -> tuple[_CircuitFields, Mapping[str, str]]:
    fields = split_fields(rest)
    return _take_circuit_fields(fields), frozen(fields)


@remembered
def _read_circuit_minor(rest: Rest) -> tuple[_CircuitFields, str | None, str | None, Mapping[str, str]]:
    fields = split_fields(rest)
    take = fields.pop
    return _take_circuit_fields(fields), take("OLD_PURPOSE", None), take("OLD_HS_STATE", None), frozen(fields)


_SOURCE_ADDR = "SOURCE_ADDR="


@remembered
def _read_stream(
    rest: Rest,
) -> tuple[str | None, str | None, str | None, str | None, str | None, str | None, Mapping[str, str]]:
    fields = split_fields(rest)
    take = fields.pop
    return (
        take("REASON", None),
        take("REMOTE_REASON", None),
        take("SOURCE", None),
        take("SOURCE_ADDR", None),
        take("PURPOSE", None),
        take("CLIENT_PROTOCOL", None),
        frozen(fields),
    )


def _parse_circuit(time_ns: int, words: list[str], rest: Rest) -> CircuitEvent:
    _check_length(words, 3)
    path, rest = _take_path(words, rest)
    fields, extra = _read_circuit(rest)
    return CircuitEvent(time_ns, _check_id(words, 1), words[2], path, *fields, extra)


def _parse_circuit_minor(time_ns: int, words: list[str], rest: Rest) -> CircuitMinorEvent:
    _check_length(words, 3)
    path, rest = _take_path(words, rest)
    fields, old_purpose, old_hs_state, extra = _read_circuit_minor(rest)
    return CircuitMinorEvent(time_ns, _check_id(words, 1), words[2], path, *fields, old_purpose, old_hs_state, extra)


def _parse_stream(time_ns: int, words: list[str], rest: Rest) -> StreamEvent:
    _check_length(words, 5)
    source = None
    if isinstance(rest, str) and rest.startswith(_SOURCE_ADDR):  # all else of a line comes again with other streams
        source, _, rest = rest[len(_SOURCE_ADDR) :].partition(" ")
    reason, remote_reason, origin, source_addr, purpose, protocol, extra = _read_stream(rest)
    return StreamEvent(
        time_ns,
        _check_id(words, 1),
        words[2],
        _check_id(words, 3),
        words[4],
        reason,
        remote_reason,
        origin,
        source_addr if source is None else source,
        purpose,
        protocol,
        extra,
    )


def _parse_orconn(time_ns: int, words: list[str], rest: Rest) -> OrConnEvent:
    _check_length(words, 3)
    fields = split_fields(rest)
    circuits = take_int(fields, "NCIRCS")
    take = fields.pop
    return OrConnEvent(time_ns, words[1], words[2], take("REASON", None), circuits, take("ID", None), frozen(fields))


def _parse_status(time_ns: int, words: list[str], rest: Rest) -> StatusEvent | BootstrapEvent:
    _check_length(words, 3)
    fields = split_fields(rest)
    if words[2] != "BOOTSTRAP" or words[0] != "STATUS_CLIENT":
        return StatusEvent(time_ns, words[0], words[1], words[2], frozen(fields))
    progress = take_int(fields, "PROGRESS")
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
        take_int(fields, "COUNT"),
        take("RECOMMENDATION", None),
        host,
        take("HOSTADDR", None),
        frozen(fields),
    )


def _parse_build_timeout(time_ns: int, words: list[str], rest: Rest) -> BuildTimeoutEvent:
    _check_length(words, 2)
    fields = split_fields(rest)
    return BuildTimeoutEvent(
        time_ns,
        words[1],
        take_int(fields, "TOTAL_TIMES"),
        take_int(fields, "TIMEOUT_MS"),
        take_float(fields, "CUTOFF_QUANTILE"),
        take_float(fields, "TIMEOUT_RATE"),
        take_int(fields, "CLOSE_MS"),
        take_float(fields, "CLOSE_RATE"),
        frozen(fields),
    )


def _parse_hs_desc(time_ns: int, words: list[str], rest: Rest) -> HsDescEvent:
    _check_length(words, 3)
    while len(words) > 3 and "=" in words[-1]:  # no DescriptorID has one: base32, base64 unpadded
        rest = put_back(words.pop(), rest)
    auth_type, hs_dir, descriptor_id = (*words[3:], *_NO_WORDS)[:3]
    fields = split_fields(rest)
    replica = take_int(fields, "REPLICA")
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
        frozen(fields),
    )


def _parse_stream_bandwidth(time_ns: int, words: list[str], rest: Rest) -> StreamBandwidthEvent:
    _check_length(words, 4)
    stream_id = _check_id(words, 1)
    if not (is_number(words[2]) and is_number(words[3])):
        raise ControlProtocolError("a STREAM_BW event has something else where numbers belong")
    tor_time_ns = None
    if len(words) > 4:
        try:
            tor_time_ns = parse_time(words[4])
        except ValueError:
            rest = put_back(words[4], rest)
    fields = split_fields(rest) if rest else {}
    return StreamBandwidthEvent(time_ns, stream_id, int(words[2]), int(words[3]), tor_time_ns, frozen(fields))


def _parse_circuit_bandwidth(time_ns: int, words: list[str], rest: Rest) -> CircuitBandwidthEvent:
    fields = split_fields(rest)
    circuit_id = _check_id([words[0], fields.pop("ID", "")], 1)
    return CircuitBandwidthEvent(
        time_ns,
        circuit_id,
        take_int(fields, "READ"),
        take_int(fields, "WRITTEN"),
        take_time(fields, "TIME"),
        frozen(fields),
    )


_NO_WORDS = ("", "", "")
# How many words come before the keywords at the most, the event's own included; and what reads them.
_PARSERS: dict[str, tuple[int, Callable[[int, list[str], Rest], Event]]] = {
    "CIRC": (4, _parse_circuit),
    "CIRC_MINOR": (4, _parse_circuit_minor),
    "STREAM": (5, _parse_stream),
    "ORCONN": (3, _parse_orconn),
    "STATUS_GENERAL": (3, _parse_status),
    "STATUS_CLIENT": (3, _parse_status),
    "STATUS_SERVER": (3, _parse_status),
    "BUILDTIMEOUT_SET": (2, _parse_build_timeout),
    "HS_DESC": (6, _parse_hs_desc),
    "STREAM_BW": (5, _parse_stream_bandwidth),
    "CIRC_BW": (1, _parse_circuit_bandwidth),
}
