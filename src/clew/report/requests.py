"""Which spans of a trace are requests, and what is known of each.

A request is the span below which the program's stream lies, or the stream itself where no span of the program claimed
it. Streams of tor's own (directories) make none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clew.model import SpanKind, Status
from clew.render.reasons import is_reason
from clew.tor.onion import CONNECT_SPAN as ONION_SPAN
from clew.tor.streams import STREAM_SPAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.tree import Node

__all__ = ["FIRST_BYTE", "Request", "below", "find_requests", "is_users_stream", "reason_of"]

# The event (TorMapper.first_byte).
FIRST_BYTE = "first_byte"


class Request(NamedTuple):
    """A request."""

    node: Node  # the program's span, or the stream's
    streams: tuple[Node, ...]  # by start; more than one after a redirect or a retry of the program's
    status: Status  # ERROR also where all streams failed and the program took it calmly; UNSET is a success
    is_claimed: bool  # the program has a span of its own for it
    is_whole: bool  # its beginning was seen
    is_onion: bool  # a connection to an onion service is below it, or its address says so

    @property
    def start_ns(self) -> int:
        return self.node.record.start_time_ns

    @property
    def duration_ns(self) -> int:
        """To the last byte."""
        return self.node.record.duration_ns

    @property
    def first_byte_ns(self) -> int | None:
        """From the start of the request to the first byte of an answer; None if that was not seen.

        Tracing a program's requests puts the event on the stream; a program may put it on its own span.
        """
        spans = {self.node, *self.streams}
        times = [event.time_ns for span in spans for event in span.record.events if event.name == FIRST_BYTE]
        # A negative time is none: a clock was set, or two machines have different ones.
        return min(times) - self.start_ns if times and self.is_whole and min(times) >= self.start_ns else None

    @property
    def reason(self) -> str:
        """Why it failed: error.type of the request, or of its last stream that has one; "" if nobody says."""
        return next(filter(None, map(reason_of, (self.node, *reversed(self.streams)))), "")


def is_users_stream(node: Node) -> bool:
    """Whether a span is a stream that a program asked for, and not tor itself."""
    return node.record.name == STREAM_SPAN and node.record.kind is SpanKind.CLIENT


def find_requests(nodes: Iterable[Node]) -> list[Request]:
    """The requests among the spans of a trace."""
    streams: dict[Node, list[Node]] = {}
    for node in nodes:
        if is_users_stream(node):
            owner = node.parent if node.parent is not None and node.parent.record.name != STREAM_SPAN else node
            streams.setdefault(owner, []).append(node)
    return [_request(owner, tuple(below)) for owner, below in streams.items()]


def _request(node: Node, streams: tuple[Node, ...]) -> Request:
    status = node.record.status
    if status is Status.OK:
        status = Status.UNSET
    if status is Status.UNSET and all(stream.record.status is Status.ERROR for stream in streams):
        status = Status.ERROR
    is_claimed = node is not streams[0]
    return Request(
        node,
        streams,
        status,
        is_claimed,
        is_whole=is_claimed or "tor.stream.partial" not in node.record.attributes,
        is_onion=any(map(_is_onion, streams)),
    )


def _is_onion(stream: Node) -> bool:
    address = stream.record.attributes.get("server.address")
    if isinstance(address, str) and address.lower().rstrip(".").endswith(".onion"):
        return True
    return any(node.record.name == ONION_SPAN for node in below(stream))


def reason_of(node: Node) -> str:
    """`error.type` of a span that failed, or the type of the exception that it recorded; "" where there is none."""
    record = node.record
    if record.status not in (Status.ERROR, Status.CANCELLED):
        return ""
    errors = (event.attributes for event in reversed(record.events) if is_reason(event))
    for attributes in (record.attributes, *errors):
        reason = attributes.get("error.type") or attributes.get("exception.type")
        if isinstance(reason, str) and reason:
            return reason
    return ""


def below(node: Node) -> Iterator[Node]:
    """A span and all below it, a parent before its children."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))
