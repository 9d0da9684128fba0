"""Zipkin's JSON, version 2: the objects of its array to spans.

Source: zipkin2-api.yaml; OpenTelemetry specification, "OpenTelemetry to Zipkin Transformation"; what that leaves open
(resources, links, trace state): the Zipkin translator of the OpenTelemetry collector.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from clew.errors import DecodeError
from clew.formats.blocks import ObjectBlock
from clew.formats.json_stream import Broken, Found, JsonStream
from clew.formats.json_values import from_json, hex_id, list_of, object_of, parse, string_of
from clew.formats.microseconds import end_ns, from_micros
from clew.formats.otel_tags import DROPPED_ATTRIBUTES, STATUS_CODE, status_of_code, take_cancelled, untag
from clew.formats.reading import Damage, Glance, Reader
from clew.model import Event, Link, Resource, SpanContext, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clew.formats.json_stream import Piece
    from clew.formats.reading import Item
    from clew.model import Attributes, AttributeValue

__all__ = [
    "ERROR",
    "FLAGS",
    "LINK",
    "LOCAL_ADDRESS",
    "LOCAL_PORT",
    "NAMES_OF_PEERS",
    "NAMES_OF_SERVERS",
    "PEER_ADDRESS",
    "PEER_PORT",
    "STATUS_DESCRIPTION",
    "UNFINISHED",
    "ZipkinReader",
    "event_of_text",
    "span_from_object",
]

ERROR: Final = "error"
LINK: Final = "otlp.link."
STATUS_DESCRIPTION: Final = "otel.status_description"  # the collector's; the specification has only the tag "error"
UNFINISHED: Final = "clew.unfinished"  # a span of which nobody saw the end
# The flags that are fields of Zipkin's own, and the attributes that they are here.
FLAGS: Final = {"debug": "zipkin.debug", "shared": "zipkin.shared"}

# Who is at the other end, the best source first ("Remote endpoint"). On the side of a server, names such as
# server.address are its own: there, only the peer's count.
NAMES_OF_PEERS: Final = ("peer.service",)
NAMES_OF_SERVERS: Final = (
    *NAMES_OF_PEERS,
    "server.address",
    "net.peer.name",
    "network.peer.address",
    "server.socket.domain",
    "server.socket.address",
    "net.sock.peer.name",
    "net.sock.peer.addr",
    "peer.hostname",
    "peer.address",
    "db.name",
)
PEER_ADDRESS, PEER_PORT = "network.peer.address", "network.peer.port"
LOCAL_ADDRESS, LOCAL_PORT = "network.local.address", "network.local.port"

_KINDS: Final = {kind.name: kind for kind in SpanKind if kind is not SpanKind.INTERNAL}
_UNNAMED: Final = Resource().service_name

_STATUS_TAGS: Final = frozenset((ERROR, STATUS_CODE))
_GLANCED_MICROS: Final = (1 << 64) // 1000 - 1000  # what is later is looked at closely

# How a span begins, written by anybody. Hardly anything within a span begins so.
_START: Final = re.compile(
    r'(\{\s{0,80}"(?:(?:traceId|parentId|id)"\s{0,9}:\s{0,9}"[0-9A-Fa-f]{1,32}"'
    r'|kind"\s{0,9}:\s{0,9}"(?:CLIENT|SERVER|PRODUCER|CONSUMER)"))'
)

# What events become: `"name": {"key": "value"}` in the specification, `{"name": {...}}` of OpenTelemetry's exporter
# for Python, `name|{...}|0` of the collector.
_COLON: Final = re.compile(r"\s*:\s*")
_COLLECTORS_EVENT: Final = re.compile(r"(.*?)\|(\{.*\})\|(\d{1,10})", re.DOTALL | re.ASCII)
_COLLECTORS_LINK: Final = re.compile(r"([0-9a-f]{32})\|([0-9a-f]{16})\|(.*)\|(\d{1,10})", re.DOTALL | re.ASCII)
_scan_string = json.JSONDecoder().raw_decode


class ZipkinReader(Reader):
    """Reads an array of spans; also several arrays, or spans, one after the other.

    Args:
        wanted: spans of other traces than these (lower-case hex) are left out; None reads everything.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._stream = JsonStream({"": "["}, (("", "["),), _START)
        self._number = 0  # of spans, damaged ones included

    def feed(self, data: bytes) -> Iterator[Item]:
        return self._items(self._stream.feed(data))

    def finish(self) -> Iterator[Item]:
        return self._items(self._stream.finish())

    def _items(self, pieces: Iterable[Piece]) -> Iterator[Item]:
        for piece in pieces:
            if isinstance(piece, Found):
                # A list, where an array within an array stands: damage was in front of it.
                for value in piece.value if isinstance(piece.value, list) else (piece.value,):
                    self._number += 1
                    if not isinstance(value, dict):
                        yield Damage(self._number, self._number, "it is no object", "span")
                    elif self._wanted is None or _id_or_none(value.get("traceId")) in self._wanted:
                        yield ObjectBlock(self._number, value, span_from_object, _look)
            elif isinstance(piece, Broken):
                self._number += 1
                yield Damage(self._number, self._number, piece.reason, "span", piece.is_tail)


def _id_or_none(value: Any) -> str | None:
    try:
        return _id(value, 32)
    except DecodeError:
        return None


def _look(span: Mapping[str, Any]) -> Glance | None:
    get = span.get
    name, start, duration, tags, local = (
        get("name"),
        get("timestamp"),
        get("duration"),
        get("tags"),
        get("localEndpoint"),
    )
    if (
        type(name) is not str
        or type(start) is not int
        or type(duration) is not int
        or type(local) is not dict
        or type(service := local.get("serviceName")) is not str
        or not 0 <= start <= start + duration <= _GLANCED_MICROS
        or not (tags is None or (type(tags) is dict and _STATUS_TAGS.isdisjoint(tags)))
    ):
        return None
    trace_id = _id(get("traceId"), 32)
    if not trace_id:
        return None
    return Glance(trace_id, name, start * 1000, (start + duration) * 1000, False, False, service or _UNNAMED)


def span_from_object(span: Mapping[str, Any]) -> SpanRecord:
    """Read one object. A span without a duration, which nobody saw end, is marked as unfinished.

    Raises: DecodeError.
    """
    if "binaryAnnotations" in span:
        raise DecodeError("it is Zipkin's JSON of version 1, and only version 2 is read")
    attributes = _attributes(span.get("tags"))
    status, description = _take_status(attributes)
    links = _take_links(attributes)
    told = untag(attributes)
    for field, key in FLAGS.items():
        if span.get(field) is True:
            attributes[key] = True
    local, remote = object_of(span.get("localEndpoint")), object_of(span.get("remoteEndpoint"))
    _add_place(attributes, local, LOCAL_ADDRESS, LOCAL_PORT)
    _add_place(attributes, remote, PEER_ADDRESS, PEER_PORT)
    peer = string_of(remote.get("serviceName"))
    if peer and not any(attributes.get(key) == peer for key in NAMES_OF_SERVERS):
        attributes.setdefault("peer.service", peer)
    start_time_ns = from_micros(span.get("timestamp") or 0)
    duration = span.get("duration")
    if duration is None or attributes.get(UNFINISHED) == "true":
        attributes[UNFINISHED] = True
    kind = string_of(span.get("kind"))
    if kind and kind not in _KINDS:
        attributes["zipkin.kind"] = kind
    service = string_of(local.get("serviceName"))
    span_id, parent_id = _id(span.get("id"), 16), _id(span.get("parentId"), 16)
    trace_id = _id(span.get("traceId"), 32)
    if not trace_id or not span_id:
        raise DecodeError("a span has no id")
    return SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_id="" if parent_id == span_id else parent_id,
        name=string_of(span.get("name")),
        kind=_KINDS.get(kind, SpanKind.INTERNAL),
        start_time_ns=start_time_ns,
        end_time_ns=end_ns(start_time_ns, from_micros(duration or 0)),
        status=status,
        status_description=description,
        attributes=attributes,
        events=tuple([_event(annotation) for annotation in list_of(span.get("annotations"))]),
        links=links,
        trace_state=told.trace_state,
        dropped_attributes=told.dropped_attributes,
        dropped_events=told.dropped_events,
        dropped_links=told.dropped_links,
        resource=_resource(service),
        scope=told.scope,
    )


@lru_cache(maxsize=64)
def _resource(service: str) -> Resource:
    return Resource({"service.name": service}) if service and service != _UNNAMED else Resource()


def _id(value: Any, digits: int) -> str:
    """An id, filled up with zeros: 64-bit trace ids are allowed, and tools leave out leading zeros."""
    if isinstance(value, str) and 0 < len(value) < digits:
        value = value.rjust(digits, "0")
    return hex_id(value, digits)


def _attributes(tags: Any) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    for key, value in object_of(tags).items():
        # Text it has to be; but who wrote a number meant that number.
        if value is not None and not isinstance(value, (str, bool, int, float)):
            raise DecodeError("a tag is no text")
        attributes[key] = value
    return attributes


def _take_status(attributes: dict[str, AttributeValue]) -> tuple[Status, str]:
    """Take the status and its description out of the tags ("Status")."""
    code = attributes.get(STATUS_CODE)
    status = status_of_code(code)
    if status is not None:
        del attributes[STATUS_CODE]
    error = attributes.get(ERROR)
    if status is None and ERROR in attributes and error not in (False, "false"):
        status = Status.ERROR
    if status is not Status.ERROR:
        return status or Status.UNSET, ""
    attributes.pop(ERROR, None)
    description = attributes.pop(STATUS_DESCRIPTION, None)
    if description is None:
        # By the specification it is the description; others, such as the collector, only say that there is an error.
        description = error if code == "ERROR" or error not in (True, "true") else ""
    return take_cancelled(attributes), description if isinstance(description, str) else ""


def _take_links(attributes: dict[str, AttributeValue]) -> tuple[Link, ...]:
    links: list[Link] = []
    while (key := f"{LINK}{len(links)}") in attributes:
        link = _link_of_text(attributes[key])
        if link is None:
            break
        del attributes[key]
        links.append(link)
    return tuple(links)


def _link_of_text(value: AttributeValue) -> Link | None:
    """A link as the collector writes it: trace id, span id, trace state, attributes, count of the dropped ones."""
    match = _COLLECTORS_LINK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    trace_id, span_id, rest, count = match.groups()
    dropped = int(count)
    at = rest.find("|{")  # a trace state might have the same characters
    while at >= 0 and not dropped >> 32:
        if (attributes := _attributes_of_text(rest[at + 1 :])) is not None:
            return Link(SpanContext(trace_id, span_id, 0, rest[:at]), attributes, dropped)
        at = rest.find("|{", at + 1)
    return None


def _attributes_of_text(text: str) -> Attributes | None:
    try:
        return from_json(parse(text))
    except DecodeError:
        return None


def _event(annotation: Any) -> Event:
    annotation = object_of(annotation)
    return event_of_text(string_of(annotation.get("value")), from_micros(annotation.get("timestamp") or 0))


def event_of_text(text: str, time_ns: int) -> Event:
    """What an annotation tells, in any of the ways in which an event with attributes is written."""
    if text.startswith('"'):
        try:
            name, end = _scan_string(text)
        except ValueError:
            return Event(text, time_ns)
        colon = _COLON.match(text, end)
        if colon and (attributes := _attributes_of_text(text[colon.end() :])) is not None:
            return _counted(Event(parse(text[:end]), time_ns, attributes))
    elif text.startswith("{"):
        attributes = _attributes_of_text(text)
        if attributes is not None and len(attributes) == 1:
            ((name, inner),) = attributes.items()
            if isinstance(inner, dict):
                return _counted(Event(name, time_ns, inner))
    elif match := _COLLECTORS_EVENT.fullmatch(text):
        attributes = _attributes_of_text(match[2])
        dropped = int(match[3])
        if attributes is not None and not dropped >> 32:
            return Event(match[1], time_ns, attributes, dropped)
    return Event(text, time_ns)


def _counted(event: Event) -> Event:
    """The event, with the count of dropped attributes that stands among its attributes."""
    count = event.attributes.get(DROPPED_ATTRIBUTES)
    if type(count) is not int or count < 1 or count >> 32:
        return event
    rest = {key: value for key, value in event.attributes.items() if key != DROPPED_ATTRIBUTES}
    return event._replace(attributes=rest, dropped_attributes=count)


def _add_place(
    attributes: dict[str, AttributeValue], endpoint: Mapping[str, Any], address_key: str, port_key: str
) -> None:
    """Keep an endpoint's address, unless the tags have it."""
    address = endpoint.get("ipv4") or endpoint.get("ipv6")
    if address is None:
        return
    attributes.setdefault(address_key, string_of(address))
    port = endpoint.get("port")
    if type(port) is int and port > 0 and port_key not in attributes:
        attributes[port_key] = port
