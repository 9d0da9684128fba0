"""Carries out the actions of the table of onion-service phases: what is known of a phase, and its spans.

A phase's span is made when it is known whose it is, which may be after its end; until then, what happened is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from clew.model import Status
from clew.tor.circuits import status_of
from clew.tor.describing import error_type
from clew.tor.onion import CONNECT_SPAN, NOTES, Action, Phase, Trigger
from clew.tor.privacy import LEVEL_ATTRIBUTE
from clew.tor.streams import cause_of
from clew.tor.streams import status_of as stream_status_of

if TYPE_CHECKING:
    from clew._hot import Span, TracerCore
    from clew.tor.circuit_spans import Circuit
    from clew.tor.events import StreamEvent
    from clew.tor.privacy import PrivacyFilter
    from clew.tor.stream_spans import Stream

__all__ = ["Connection", "Key", "OnionSpans", "Running"]

Key: TypeAlias = tuple[Phase, str]  # the phase, and what identifies it: its circuit's id, its descriptor


class Connection(NamedTuple):
    """A stream's way to an onion service."""

    address: str
    span: Span


class _Step(NamedTuple):
    """Something that happened to a phase."""

    action: Action
    time_ns: int
    reason: str | None


class Running:
    """A phase: one that is open, or one that has ended and has no span yet."""

    __slots__ = (
        "address",
        "attributes",
        "built",
        "circuit",
        "directories",
        "end_ns",
        "key",
        "met_by",
        "refused",
        "span",
        "start_ns",
        "steps",
        "uploads",
    )

    def __init__(
        self,
        key: Key,
        start_ns: int,
        attributes: dict[str, object],
        address: str | None = None,
        circuit: Circuit | None = None,
    ) -> None:
        self.key = key
        self.start_ns = start_ns
        self.end_ns: int | None = None
        self.attributes = attributes
        self.address = address  # of a circuit's phase, tor tells it sooner or later
        self.circuit = circuit
        self.built: Circuit | None = None  # the same, if it was built for this phase and has no spans of that yet
        self.met_by: str | None = None  # the id of the rendezvous circuit that it led to, if tor told
        self.steps: list[_Step] = []  # until the span is there
        self.span: Span | None = None
        # Of a publication:
        self.directories: list[str] = []  # fingerprints of those that have not answered
        self.uploads = 0
        self.refused = 0

    @property
    def phase(self) -> Phase:
        return self.key[0]


class OnionSpans:
    """The actions.

    Thread: one at a time (the mapper's lock).
    """

    def __init__(self, tracer: TracerCore, privacy: PrivacyFilter) -> None:
        self._tracer = tracer
        self._filter = privacy
        self._actions = {
            Action.END: self._end,
            Action.FAIL: self._fail,
            Action.CANCEL: self._cancel,
            Action.LOSE: self._lose,
            Action.NOTE: self._note,
        }

    def apply(self, actions: tuple[Action, ...], running: Running, time_ns: int, reason: str | None) -> None:
        """Carry the actions out, now or when the span is made."""
        time_ns = max(time_ns, running.start_ns)
        for action in actions:
            if action is not Action.NOTE:
                running.end_ns = time_ns
            if running.span is None:
                running.steps.append(_Step(action, time_ns, reason))
            else:
                self._actions[action](running.span, time_ns, reason)

    def open(self, running: Running, connection: Connection | None) -> Span:
        """Make a phase's span, with all that happened so far.

        Args:
            connection: whose it is; None makes it a trace of its own.
        """
        attributes = dict(running.attributes)
        if running.circuit is not None:
            attributes["tor.circuit.id"] = running.circuit.id
        attributes["tor.hs.address"] = running.address
        if connection is None:
            attributes[LEVEL_ATTRIBUTE] = self._filter.level_name
        running.span = span = self._tracer.start_span(
            running.phase,
            attributes=self._filter.attributes(attributes),
            parent=None if connection is None else connection.span,
            start_time_ns=running.start_ns,
        )
        for action, time_ns, reason in running.steps:
            self._actions[action](span, time_ns, reason)
        running.steps.clear()
        return span

    def connect(self, address: str, stream: Stream, wait: Span) -> Connection:
        """Make the span of a connection.

        Args:
            wait: the stream's span that it goes below.
        """
        attributes = self._filter.attributes({"tor.hs.address": address})
        span = self._tracer.start_span(CONNECT_SPAN, attributes=attributes, parent=wait, start_time_ns=stream.step_ns)
        return Connection(address, span)

    def fail(self, connection: Connection, stream: Stream, event: StreamEvent) -> None:
        """A connection fails as its stream did."""
        span = connection.span
        if span.is_recording:
            cause = cause_of(event.reason, event.remote_reason)
            span.set_attributes(self._filter.attributes({"error.type": error_type(cause)}))
            span.set_status(stream_status_of(stream.state, cause), self._explain(cause))

    # --- the actions ------------------------------------------------------------------------------------------------

    def _end(self, span: Span, time_ns: int, _: str | None) -> None:
        span.end(time_ns)

    def _fail(self, span: Span, time_ns: int, reason: str | None) -> None:
        self._end_badly(span, time_ns, reason, Status.ERROR)

    def _cancel(self, span: Span, time_ns: int, reason: str | None) -> None:
        self._end_badly(span, time_ns, reason or "NOT_NEEDED", Status.CANCELLED)

    def _lose(self, span: Span, time_ns: int, reason: str | None) -> None:
        span.set_attribute("clew.unfinished", True)
        self._end_badly(span, time_ns, reason, status_of(reason))

    def _note(self, span: Span, time_ns: int, _: str | None) -> None:
        span.add_event(NOTES[Trigger.NOTE], None, time_ns)

    def _end_badly(self, span: Span, time_ns: int, reason: str | None, status: Status) -> None:
        if span.is_recording:
            attributes = {"error.type": error_type(reason), "tor.hs.reason": reason}
            span.set_attributes(self._filter.attributes(attributes))
            span.set_status(status, self._explain(reason))
        span.end(time_ns)

    def _explain(self, reason: str | None) -> str:
        return (self._filter.keyword(reason) or "no reason given").lower()
