"""Traces in, numbers out: what is counted and measured of tor's spans.

What is kept does not grow with the files, but for numbers, of which only so many are kept (`clew.limits`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.limits import REPORT_SPANS_DRAWN
from clew.model import Status
from clew.report import figures
from clew.report.circuits import Circuits
from clew.report.findings import Findings, Remark, RequestCounts, SlowRequest
from clew.report.longest import Longest
from clew.report.measures import Measures, has_succeeded
from clew.report.onions import OnionConnections
from clew.report.requests import Request, below, find_requests, is_users_stream, reason_of
from clew.tor.bootstrap import BOOTSTRAP_SPAN
from clew.tor.circuits import BUILD_SPAN, EXTEND_SPAN
from clew.tor.onion import CONNECT_SPAN as ONION_SPAN
from clew.tor.onion import Phase
from clew.tor.orconn import ORCONN_SPAN
from clew.tor.privacy import LEVEL_ATTRIBUTE, Privacy
from clew.tor.streams import ATTACH_SPAN, CONNECT_SPAN, RESOLVE_SPAN, STREAM_SPAN, TRANSFER_SPAN
from clew.tree import assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from clew.model import SpanRecord
    from clew.tree import Node

__all__ = ["Analysis"]

_LEVELS = {level.name.lower(): level for level in Privacy}
_ONION_PURPOSE = "HS_CLIENT_REND"

# Spans that are one duration of one series, and may fail: the figure, and what a failure is one of.
_STEPS = {
    Phase.FETCH: (figures.ONION_PHASES, "descriptor"),
    Phase.ESTABLISH: (figures.ONION_PHASES, "rendezvous point"),
    Phase.INTRODUCE: (figures.ONION_PHASES, "introduction"),
    Phase.JOIN: (figures.ONION_PHASES, "join"),
    Phase.PUBLISH: (figures.SERVICE_PHASES, "publication"),
    Phase.INTRO_ESTABLISH: (figures.SERVICE_PHASES, "introduction point"),
    Phase.RENDEZVOUS: (figures.SERVICE_PHASES, "service's rendezvous"),
    ORCONN_SPAN: (figures.LINKS, "connection to a relay"),
    BOOTSTRAP_SPAN: (figures.LINKS, "bootstrap"),
}
_STREAM_STEPS = (ATTACH_SPAN, CONNECT_SPAN, RESOLVE_SPAN, TRANSFER_SPAN)


class Analysis:
    """Takes traces, one after the other.

    Args:
        slowest: how many of the slowest requests and onion connections are kept one by one.
    """

    def __init__(self, slowest: int) -> None:
        self._measures = Measures()
        self._circuits = Circuits(self._measures)
        self._onions = OnionConnections(self._measures, slowest)
        self._span_count = 0
        self._start_ns = self._end_ns = 0
        self._levels: set[Privacy] = set()
        self._counts = dict.fromkeys(RequestCounts._fields, 0)
        self._slowest: Longest[SlowRequest] = Longest(slowest)
        self._handlers: dict[str, Callable[[Node], None]] = {
            BUILD_SPAN: self._circuits.add_build,
            EXTEND_SPAN: self._circuits.add_hop,
            STREAM_SPAN: self._add_stream,
            ONION_SPAN: self._onions.add,
            **dict.fromkeys(_STREAM_STEPS, self._add_stream_step),
            **dict.fromkeys(_STEPS, self._add_step),
        }

    def add(self, records: Sequence[SpanRecord]) -> None:
        """Take the spans of a trace, or as many of them as are known."""
        self._span_count += len(records)
        for record in records:
            level = record.attributes.get(LEVEL_ATTRIBUTE) or record.resource.attributes.get(LEVEL_ATTRIBUTE)
            if level in _LEVELS:
                self._levels.add(_LEVELS[level])
            if record.end_time_ns:
                self._start_ns = min(self._start_ns or record.start_time_ns, record.start_time_ns)
                self._end_ns = max(self._end_ns, record.end_time_ns)
        for trace in assemble(records):
            nodes = list(trace.walk())
            for node in reversed(nodes):  # what is below a span before the span
                handler = self._handlers.get(node.record.name)
                if handler is not None:
                    handler(node)
            for request in find_requests(nodes):
                self._add_request(request)
            for node in nodes:  # or else parents and children would hold each other, and all of their spans
                node.children.clear()

    def findings(self, files: Iterable[str], remarks: Iterable[Remark] = ()) -> Findings:
        """What was found so far.

        Args:
            files: what the spans came from.
            remarks: on the files.
        """
        relays = self._circuits.relays
        return Findings(
            files=tuple(files),
            levels=tuple(sorted(self._levels)),
            span_count=self._span_count,
            start_ns=self._start_ns,
            end_ns=self._end_ns,
            remarks=tuple(remarks),
            requests=RequestCounts(**self._counts),
            figures=self._measures.figures(),
            failures=self._measures.failures(),
            onions=self._onions.findings(),
            roles=relays.roles(),
            guards=relays.guards(),
            relays=relays.slowest(),
            slowest=tuple(self._slowest.items()),
        )

    # --- spans ------------------------------------------------------------------------------------------------------

    def _add_stream(self, stream: Node) -> None:
        if stream.record.status is Status.ERROR:
            what = "stream" if is_users_stream(stream) else "tor's own stream"
            self._measures.fail(what, reason_of(stream), stream.record)

    def _add_stream_step(self, step: Node) -> None:
        if step.parent is None or not is_users_stream(step.parent):
            return
        if has_succeeded(step.record):
            self._measures.measure(figures.STREAM_STEPS, step.record.name, step.record.duration_ns)
        elif step.record.status is Status.ERROR and has_succeeded(step.parent.record):
            self._measures.fail("stream, before a retry", reason_of(step), step.record)

    def _add_step(self, step: Node) -> None:
        record = step.record
        figure, what = _STEPS[record.name]
        if has_succeeded(record):
            self._measures.measure(figure, record.name, record.duration_ns)
        elif record.status is Status.ERROR:
            self._measures.fail(what, reason_of(step), record)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _add_request(self, request: Request) -> None:
        counts, node = self._counts, request.node
        circuits = [known for stream in request.streams for known in self._circuits.of_stream(stream)]
        # A request may find the circuit to its onion service open.
        is_onion = request.is_onion or any(known.purpose == _ONION_PURPOSE for known in circuits)
        first_byte_ns = request.first_byte_ns
        counts["total"] += 1
        counts["onion"] += is_onion
        if request.status is Status.ERROR:
            counts["failed"] += 1
            if request.is_claimed:
                self._measures.fail("request", request.reason, node.record)
        elif request.status is Status.CANCELLED:
            counts["cancelled"] += 1
        else:
            counts["succeeded"] += 1
        if not request.is_claimed:
            counts["unclaimed"] += 1
            counts["strays"] += node.record.parent_id != "" and node.parent is None
        self._measures.begin_request(request.start_ns)
        if not request.is_whole:
            counts["cut"] += 1
            return
        if first_byte_ns is not None:
            counts["first_byte"] += 1
            self._measure(figures.FIRST_BYTE, first_byte_ns, is_onion=is_onion)
            for guard in {known.guard for known in circuits if known.guard}:
                self._circuits.relays.add_first_byte(guard, first_byte_ns)
        if request.status is Status.UNSET:
            self._measure(figures.LAST_BYTE, request.duration_ns, is_onion=is_onion)
        self._keep_slow(request, first_byte_ns, is_onion=is_onion)

    def _measure(self, figure: str, duration_ns: int, *, is_onion: bool) -> None:
        for series in (figures.ALL, figures.ONION if is_onion else figures.EXIT):
            self._measures.measure(figure, series, duration_ns)

    def _keep_slow(self, request: Request, first_byte_ns: int | None, *, is_onion: bool) -> None:
        if not self._slowest.wants(request.duration_ns):
            return
        own, *others = (node.record for node in below(request.node))
        own = own._replace(parent_id="")  # what is above it is no part of this
        # Of too many: errors and the longest.
        telling = sorted(others, key=lambda span: (span.status is not Status.ERROR, -span.duration_ns))
        chosen = set(map(id, telling[: REPORT_SPANS_DRAWN - 1]))
        slow = SlowRequest(
            start_ns=request.start_ns,
            duration_ns=request.duration_ns,
            first_byte_ns=first_byte_ns,
            status=request.status,
            reason=request.reason,
            is_onion=is_onion,
            spans_total=len(others) + 1,
            spans=(own, *(span for span in others if id(span) in chosen)),
        )
        self._slowest.add(request.duration_ns, slow)
