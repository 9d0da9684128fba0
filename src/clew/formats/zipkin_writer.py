"""Zipkin's JSON, version 2: spans to the objects of its array.

What Zipkin has no field for goes where OpenTelemetry's tools look for it: status, scope and counts into tags, events
with their attributes into annotations, links into tags `otlp.link.0` and so on.

Source: see `zipkin`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from clew.formats.json_values import text_of, to_json, value_to_json
from clew.formats.microseconds import span_micros, to_micros
from clew.formats.otel_tags import DROPPED_ATTRIBUTES, STATUS_CODE, tags_of
from clew.formats.writing import Writer
from clew.formats.zipkin import (
    ERROR,
    FLAGS,
    LINK,
    LOCAL_ADDRESS,
    LOCAL_PORT,
    NAMES_OF_PEERS,
    NAMES_OF_SERVERS,
    PEER_ADDRESS,
    PEER_PORT,
    STATUS_DESCRIPTION,
    UNFINISHED,
    event_of_text,
)
from clew.model import Event, Link, SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from clew.formats.writing import Losses
    from clew.model import Attributes

__all__ = ["ZipkinWriter", "object_from_span"]

_TAKEN: Final = frozenset((ERROR, STATUS_CODE, STATUS_DESCRIPTION))


class ZipkinWriter(Writer):
    """Writes an array, each span on a line of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._is_begun = False

    def encode(self, records: list[SpanRecord]) -> bytes:
        lines = [text_of(object_from_span(record, self.losses)) for record in records]
        if not lines:
            return b""
        start = ",\n" if self._is_begun else "[\n"
        self._is_begun = True
        return (start + ",\n".join(lines)).encode()

    def finish(self) -> bytes:
        return b"\n]\n" if self._is_begun else b"[]\n"


def object_from_span(record: SpanRecord, losses: Losses) -> dict[str, Any]:
    """A span as an object of Zipkin's; what is empty is left out.

    Args:
        losses: where is counted what it cannot hold.
    """
    start, duration = span_micros(record, losses)
    span: dict[str, Any] = {"traceId": record.trace_id}
    if record.parent_id:
        span["parentId"] = record.parent_id
    span["id"] = record.span_id
    if record.kind is not SpanKind.INTERNAL:
        span["kind"] = record.kind.name
    span["name"] = record.name
    if start:
        span["timestamp"] = start
    # Zipkin's way to say that nobody saw the end is to have no duration.
    if duration is not None and (duration or record.attributes.get(UNFINISHED) is not True):
        span["duration"] = duration
    attributes = record.attributes
    span["localEndpoint"] = {"serviceName": record.service_name} | _place(attributes, LOCAL_ADDRESS, LOCAL_PORT)
    if remote := _remote_endpoint(attributes, record.kind):
        span["remoteEndpoint"] = remote
    if record.events:
        span["annotations"] = [_annotation(event, losses) for event in record.events]
    if tags := _tags(record, span, losses):
        span["tags"] = tags
    if record.flags:
        losses.add("span whose W3C flags were left out (Zipkin has none)")
    return span


def _tags(record: SpanRecord, span: dict[str, Any], losses: Losses) -> dict[str, str]:
    values = tags_of(record, losses, _is_taken, with_resource=True, with_cancelled=True)
    if "duration" not in span and values.get(UNFINISHED) is True:
        del values[UNFINISHED]
    for field, key in FLAGS.items():
        if values.get(key) is True:
            del values[key]
            span[field] = True
    tags: dict[str, str] = {}
    texts = 0
    for key, value in values.items():
        if type(value) is str:
            tags[key] = value
        else:
            tags[key] = text_of(value_to_json(value))
            # Of a count or a mark of our own it is known what it was.
            is_known = (key, value) == (UNFINISHED, True) or not (
                key in record.attributes or key in record.resource.attributes
            )
            texts += not is_known
    losses.add("attribute that became text (tags of Zipkin are nothing else)", texts)
    if record.status is Status.OK:
        tags[STATUS_CODE] = "OK"
    elif record.status is not Status.UNSET:
        tags[STATUS_CODE] = "ERROR"
        tags[ERROR] = record.status_description
    if record.status_description and ERROR not in tags:
        losses.add("description of a status that is not an error")
    for number, link in enumerate(record.links):
        tags[f"{LINK}{number}"] = _link_text(link, losses)
    return tags


def _is_taken(key: str) -> bool:
    return key in _TAKEN or key.startswith(LINK)


def _annotation(event: Event, losses: Losses) -> dict[str, Any]:
    attributes = to_json(event.attributes)
    if event.dropped_attributes:
        attributes[DROPPED_ATTRIBUTES] = event.dropped_attributes
    value = event.name
    if attributes or event_of_text(value, 0) != Event(value, 0):
        value = f"{text_of(event.name)}: {text_of(attributes)}"
    return {"timestamp": to_micros(event.time_ns, losses), "value": value}


def _link_text(link: Link, losses: Losses) -> str:
    context = link.context
    if context.trace_flags or context.is_remote:
        losses.add("link whose W3C flags were left out")
    attributes = text_of(to_json(link.attributes))
    return f"{context.trace_id}|{context.span_id}|{context.trace_state}|{attributes}|{link.dropped_attributes}"


def _remote_endpoint(attributes: Attributes, kind: SpanKind) -> dict[str, Any]:
    place = _place(attributes, PEER_ADDRESS, PEER_PORT)
    for key in NAMES_OF_SERVERS if kind in (SpanKind.CLIENT, SpanKind.PRODUCER) else NAMES_OF_PEERS:
        name = attributes.get(key)
        if isinstance(name, str) and name and not (key == PEER_ADDRESS and place):
            return {"serviceName": name, **place}
    return place


def _place(attributes: Attributes, address_key: str, port_key: str) -> dict[str, Any]:
    """The fields of an endpoint for an address, if it is one of IP."""
    address, port = attributes.get(address_key), attributes.get(port_key)
    field = _ip_field(address) if isinstance(address, str) else ""
    if not field:
        return {}
    port = int(port) if isinstance(port, str) and port.isascii() and port.isdecimal() and len(port) < 6 else port
    return {field: address, "port": port} if type(port) is int and 0 < port < 65_536 else {field: address}


@lru_cache(maxsize=1024)
def _ip_field(address: str) -> str:
    from ipaddress import ip_address  # seldom needed

    try:
        return f"ipv{ip_address(address).version}"
    except ValueError:
        return ""
