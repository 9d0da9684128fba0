"""Carries out the actions of the table of streams: what is known of one stream, and its spans.

A stream's spans begin when they are first needed: tor tells of an onion service's directory stream before it tells what
the stream is for, and only then is its parent known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clew import limits
from clew.model import SpanKind, Status
from clew.tor.describing import error_type, extra_attributes
from clew.tor.privacy import LEVEL_ATTRIBUTE
from clew.tor.streams import (
    ATTACH_SPAN,
    CONNECT_SPAN,
    NOTES,
    RESOLVE_SPAN,
    STREAM_SPAN,
    TRANSFER_SPAN,
    Action,
    State,
    Trigger,
    cause_of,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew._hot import Span, TracerCore
    from clew.model import SpanContext
    from clew.tor.circuit_spans import Circuit
    from clew.tor.events import StreamEvent
    from clew.tor.privacy import PrivacyFilter

__all__ = ["Stream", "StreamSpans"]

# A relay as the target of a directory stream: 127.0.0.1.$FINGERPRINT.exit
_RELAY = re.compile(r"(?:\A|.*\.)\$([0-9A-Fa-f]{40})(?:[~=][0-9A-Za-z]{1,19})?\.exit\Z", re.DOTALL)
_USER_PURPOSES = frozenset({"USER", "DNS_REQUEST"})
# Of tor's newer keywords, those whose meaning is known; the rest goes to tor.stream.extra.*.
_KNOWN_EXTRA = ("NYM_EPOCH", "SESSION_GROUP", "ISO_FIELDS")


class Stream:
    """What is known of a stream: its state in the table, and what the actions need."""

    __slots__ = (
        "circuit_id",
        "circuits_failed",
        "conflux_id",
        "first_byte_ns",
        "host",
        "id",
        "is_directory",
        "number",
        "onion",
        "opened",
        "parent",
        "port",
        "read",
        "relay",
        "retries",
        "source",
        "span",
        "start_ns",
        "state",
        "step",
        "step_ns",
        "time_ns",
        "written",
    )

    def __init__(self, event: StreamEvent) -> None:
        self.id = event.stream_id
        self.state = State.UNSEEN
        self.opened = event  # the first event
        self.start_ns = self.time_ns = event.time_ns  # time_ns: of the last event; it does not go back
        self.circuit_id: str | None = None
        self.conflux_id: str | None = None
        self.source = event.source_addr
        self.number = 0  # counts up with every stream that begins to wait; 0 while it does not
        host, _, port = event.target.rpartition(":")
        match = _RELAY.match(host)
        self.relay = match[1].upper() if match else None  # whose directory it is
        self.host: str | None = None if match else host
        self.port = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None
        self.onion = _onion_of(host)
        purpose = event.purpose
        # An unknown purpose, or none: a client's own address tells that a program asked.
        self.is_directory = match is not None or (
            purpose not in _USER_PURPOSES and purpose is not None and event.source_addr is None
        )
        self.parent: Span | SpanContext | None = None
        self.span: Span | None = None
        self.step: Span | None = None  # attach, connect, resolve or transfer, whichever is in progress
        self.step_ns = self.start_ns  # when it began
        self.retries = 0
        self.circuits_failed = 0  # that it may have waited for
        self.read = self.written = 0
        self.first_byte_ns: int | None = None  # until the span is there


class StreamSpans:
    """The actions.

    Thread: one at a time (the mapper's lock).
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._tracer = tracer
        self._filter = privacy
        self.opened = self.done = self.failed = self.cancelled = self.lost = self.partial = 0
        self._actions: dict[Action, Callable[[Stream, Trigger, StreamEvent], None]] = {
            Action.OPEN: self._open,
            Action.OPEN_LATE: self._open_late,
            Action.ATTACH: self._attach,
            Action.DETACH: self._detach,
            Action.CONNECT: self._connect,
            Action.ANSWER: self._answer,
            Action.FAIL: self._fail,
            Action.END: self._end,
            Action.LOSE: self._lose,
            Action.NOTE: self._note,
        }

    def apply(self, actions: tuple[Action, ...], stream: Stream, trigger: Trigger, event: StreamEvent) -> None:
        """Carry the actions out."""
        stream.time_ns = max(stream.time_ns, event.time_ns)
        for action in actions:
            self._actions[action](stream, trigger, event)

    def span(self, stream: Stream) -> Span:
        """The stream's span, which begins now at the latest."""
        if stream.span is not None:
            return stream.span
        kind = SpanKind.INTERNAL if stream.is_directory else SpanKind.CLIENT
        span = self._tracer.start_span(STREAM_SPAN, kind, parent=stream.parent, start_time_ns=stream.start_ns)
        stream.span = span
        if span.is_recording:
            event = stream.opened
            address, _, port = (event.source_addr or "").rpartition(":")
            extra = event.extra
            attributes: dict[str, object] = {
                "server.address": stream.host or None,
                "server.port": stream.port,
                "tor.stream.purpose": event.purpose,
                "tor.stream.id": stream.id,
                "tor.stream.client_protocol": event.client_protocol,
                "network.local.address": address or None,
                "network.local.port": int(port) if port.isascii() and port.isdigit() else None,
                "tor.relay.fingerprint": stream.relay,  # of a directory; it may be the guard
                # Where the first event was not the beginning, the span is made while that event is taken.
                "tor.stream.partial": True if stream.state is State.UNSEEN else None,
                LEVEL_ATTRIBUTE: self._filter.level_name,
            }
            if extra:
                attributes["tor.stream.nym_epoch"] = extra.get("NYM_EPOCH")
                attributes["tor.stream.session_group"] = extra.get("SESSION_GROUP")
                fields = extra.get("ISO_FIELDS")
                attributes["tor.stream.iso_fields"] = tuple(fields.split(",")) if fields else None
                unknown = {key: value for key, value in extra.items() if key not in _KNOWN_EXTRA}
                attributes |= extra_attributes(self._filter, "tor.stream.extra", unknown)
            span.set_attributes(self._filter.attributes(attributes))
            if stream.first_byte_ns is not None:
                span.add_event("first_byte", None, stream.first_byte_ns)
        return span

    def attach_span(self, stream: Stream) -> Span:
        """The span of the wait for a circuit, or whatever else is in progress; it begins now at the latest."""
        if stream.step is None:
            stream.step = self._tracer.start_span(ATTACH_SPAN, parent=self.span(stream), start_time_ns=stream.step_ns)
        return stream.step

    def first_byte(self, stream: Stream, time_ns: int) -> None:
        """The first byte of the destination's arrived at the program."""
        if stream.span is None:
            stream.first_byte_ns = time_ns
        else:
            stream.span.add_event("first_byte", None, time_ns)

    def circuit_failed(self, stream: Stream, attributes: Mapping[str, object], circuit: Circuit) -> None:
        """A circuit that it may have waited for could not be built. The first ones are told of, the others counted."""
        stream.circuits_failed += 1
        if stream.circuits_failed > limits.CIRCUITS_FAILED_TOLD:
            return
        span = self.attach_span(stream)
        if span.is_recording:
            span.add_event("circuit_failed", attributes, circuit.time_ns)
            if circuit.context is not None:
                span.add_link(circuit.context)

    # --- the actions ------------------------------------------------------------------------------------------------

    def _open(self, _stream: Stream, _trigger: Trigger, _event: StreamEvent) -> None:
        self.opened += 1

    def _open_late(self, stream: Stream, _: Trigger, _event: StreamEvent) -> None:
        self.opened += 1
        self.partial += 1
        self.span(stream)

    def _attach(self, stream: Stream, trigger: Trigger, _: StreamEvent) -> None:
        if stream.state is not State.UNSEEN:  # what was not seen must not look as if it had taken no time
            self.attach_span(stream)
        self._end_step(stream)
        self._begin_step(stream, RESOLVE_SPAN if trigger is Trigger.SENTRESOLVE else CONNECT_SPAN)

    def _detach(self, stream: Stream, _: Trigger, event: StreamEvent) -> None:
        stream.retries += 1
        self._fail_step(stream, event)
        if (span := self.span(stream)).is_recording:
            span.add_event(NOTES[Trigger.DETACHED], self._filter.attributes(_reasons(event)), stream.time_ns)
        stream.step_ns = stream.time_ns

    def _connect(self, stream: Stream, _: Trigger, _event: StreamEvent) -> None:
        self._end_step(stream)
        self._begin_step(stream, TRANSFER_SPAN)

    def _answer(self, stream: Stream, _: Trigger, _event: StreamEvent) -> None:
        self.attach_span(stream)
        self._end_step(stream)

    def _fail(self, stream: Stream, _: Trigger, event: StreamEvent) -> None:
        if stream.state is State.WAITING:
            self.attach_span(stream)
        self._fail_step(stream, event)
        self._judge(stream, event)

    def _end(self, stream: Stream, _: Trigger, event: StreamEvent) -> None:
        span = self.span(stream)
        if stream.state is not State.FAILED:
            if stream.state is State.WAITING:
                self.attach_span(stream)
            status = status_of(stream.state, cause_of(event.reason, event.remote_reason))
            if status is Status.UNSET:
                self.done += 1
                self._end_step(stream)
                if span.is_recording:
                    span.set_attributes(self._filter.attributes(_reasons(event)))
            else:
                self._fail_step(stream, event)
                self._judge(stream, event)
        self._finish(stream, span)

    def _lose(self, stream: Stream, _: Trigger, event: StreamEvent) -> None:
        if stream.state is not State.FAILED:  # it is counted already
            self.lost += 1
        span = self.span(stream)
        if stream.state is State.WAITING:
            self.attach_span(stream)
        self._fail_step(stream, event)
        if span.is_recording:
            span.set_attribute("clew.unfinished", True)
            if stream.state is not State.FAILED:  # tor has said why
                span.set_attribute("error.type", error_type(event.reason))
                span.set_status(status_of(State.WAITING, event.reason), self._explain(event.reason))
        self._finish(stream, span)

    def _note(self, stream: Stream, trigger: Trigger, event: StreamEvent) -> None:
        span = self.span(stream)
        if not span.is_recording:
            return
        attributes = _reasons(event)
        if trigger is Trigger.REMAP:
            attributes["server.address"] = event.target.rpartition(":")[0] or None
            attributes["tor.stream.source"] = event.source
        if trigger is Trigger.UNKNOWN:
            attributes["tor.stream.status"] = event.status
        span.add_event(NOTES[trigger], self._filter.attributes(attributes), stream.time_ns)

    # --- parts of them ----------------------------------------------------------------------------------------------

    def _begin_step(self, stream: Stream, name: str) -> None:
        stream.step_ns = stream.time_ns
        stream.step = self._tracer.start_span(name, parent=self.span(stream), start_time_ns=stream.time_ns)

    def _end_step(self, stream: Stream) -> None:
        if stream.step is not None:
            stream.step.end(stream.time_ns)
            stream.step = None

    def _fail_step(self, stream: Stream, event: StreamEvent) -> None:
        step = stream.step
        if step is not None and step.is_recording:
            cause = cause_of(event.reason, event.remote_reason)
            step.set_attributes(self._filter.attributes({"error.type": error_type(cause), **_reasons(event)}))
            step.set_status(status_of(stream.state, cause), self._explain(cause))
        self._end_step(stream)

    def _judge(self, stream: Stream, event: StreamEvent) -> None:
        """How the stream ended, where it did not end well."""
        cause = cause_of(event.reason, event.remote_reason)
        status = status_of(stream.state, cause)
        if status is Status.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
        span = self.span(stream)
        if span.is_recording:
            span.set_attributes(self._filter.attributes({"error.type": error_type(cause), **_reasons(event)}))
            span.set_status(status, self._explain(cause))

    def _finish(self, stream: Stream, span: Span) -> None:
        if span.is_recording:
            attributes: dict[str, object] = {
                "tor.stream.bytes_read": stream.read,
                "tor.stream.bytes_written": stream.written,
                "tor.stream.retries": stream.retries or None,
                "tor.stream.circuits_failed": stream.circuits_failed or None,
            }
            span.set_attributes(self._filter.attributes(attributes))
        span.end(stream.time_ns)

    def _explain(self, cause: str | None) -> str:
        if cause == "CONNECTION_LOST":  # it would be taken for the stream's own
            return "connection_lost: the one to tor's control port, so how this went on was not seen"
        return (self._filter.keyword(cause) or "no reason given").lower()


def _reasons(event: StreamEvent) -> dict[str, object]:
    return {"tor.stream.reason": event.reason, "tor.stream.remote_reason": event.remote_reason}


def _onion_of(host: str) -> str | None:
    """The onion service's address, without ".onion" and what may stand before it."""
    name = host.lower().removesuffix(".")
    return name.removesuffix(".onion").rpartition(".")[2] if name.endswith(".onion") else None
