"""What is measured of circuits and their hops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clew.limits import REPORT_BUILDS_HELD
from clew.model import Status
from clew.report.figures import ALL, CIRCUIT_BUILD, CIRCUIT_HOP, HOPS_NAMED
from clew.report.measures import has_succeeded, word_of
from clew.report.relays import GUARD_ROLE, Relays, name_of
from clew.report.requests import reason_of

if TYPE_CHECKING:
    from clew.report.measures import Measures
    from clew.tree import Node

__all__ = ["Circuits", "Known"]


class Known(NamedTuple):
    """What a circuit tells about the streams on it."""

    guard: str  # "" if its first hop was not seen
    purpose: str


class Circuits:
    """Counts circuits and hops. Of one trace, the hops are to be added before their builds."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._known: dict[str, Known] = {}  # by the id of the build's span, the oldest first
        self.relays = Relays()

    def add_hop(self, hop: Node) -> None:
        """Take a `tor.circuit.extend`."""
        record = hop.record
        index = record.attributes.get("tor.hop.index")
        if has_succeeded(record) and isinstance(index, int) and index >= 1:
            series = str(index) if index <= HOPS_NAMED else "further hops"
            self._measures.measure(CIRCUIT_HOP, series, record.duration_ns)
        self.relays.add(hop, word_of(record, "tor.hop.role"))

    def add_build(self, build: Node) -> None:
        """Take a `tor.circuit.build`."""
        record = build.record
        guard = next((name_of(hop) for hop in build.children if word_of(hop.record, "tor.hop.role") == GUARD_ROLE), "")
        purpose = word_of(record, "tor.circuit.purpose") or "unknown"
        self._known[record.span_id] = Known(guard, purpose)
        if len(self._known) > REPORT_BUILDS_HELD:
            del self._known[next(iter(self._known))]
        if record.status is Status.ERROR:
            self._measures.fail("circuit", reason_of(build), record)
        # Where the beginning was not seen, or the circuit was there before, this is only a part of the way.
        is_whole = not (record.attributes.get("tor.circuit.partial") or record.attributes.get("tor.circuit.reused"))
        if has_succeeded(record) and is_whole:
            for series in (ALL, purpose):
                self._measures.measure(CIRCUIT_BUILD, series, record.duration_ns)
            self.relays.add_build(guard, record.duration_ns)

    def of_stream(self, stream: Node) -> list[Known]:
        """What is known of the circuits that a stream was on: those built for it, and those it has links to."""
        ids = [link.context.span_id for node in (stream, *stream.children) for link in node.record.links]
        ids += [below.record.span_id for child in stream.children for below in child.children]
        return [self._known[span_id] for span_id in ids if span_id in self._known]
