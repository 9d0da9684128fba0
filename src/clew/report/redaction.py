"""What a report shows at a level of privacy. Every text in it passes through here: renderers get nothing else.

Spans pass as they do on their way to an exporter (`clew.tor.scrub`), so that a page says no more than spans do that
left the machine at the same level. At ANONYMOUS ids of traces and spans, links and names of files go too: they tell
nothing by themselves, but join what left the machine to what stayed there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from clew.model import Resource, Scope
from clew.report.measures import OWN_REASONS
from clew.tor.privacy import LEVEL_ATTRIBUTE, Privacy, PrivacyFilter
from clew.tor.scrub import Scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clew.model import SpanRecord
    from clew.report.findings import FailureRow, Findings, GuardRow, RelayRow, SlowRequest

__all__ = ["HIDDEN", "level_shown", "redact"]

# In place of a reason that is not shown, as clew.tor.scrub has it for names.
HIDDEN: Final = "hidden"

_Row = TypeVar("_Row", "GuardRow", "RelayRow")


def level_shown(wanted: Privacy | None, findings: Iterable[Findings]) -> Privacy | None:
    """The level of a report.

    Args:
        wanted: by whoever asked for the report; None shows everything as it was recorded.
        findings: of all files.

    Returns: what was wanted, but never more than was recorded: the lowest level that any of the spans names.
    """
    recorded = [level for found in findings for level in found.levels]
    return None if wanted is None else min([wanted, *recorded])


def redact(groups: Sequence[Findings], level: Privacy | None) -> list[Findings]:
    """The same findings, with what a level shows of them; None: as they are. Equal values have equal hashes in all."""
    if level is None:
        return list(groups)
    redaction = _Redaction(level)
    return [redaction.findings(found) for found in groups]


class _Redaction:
    """One level, applied."""

    def __init__(self, level: Privacy) -> None:
        self._level = level
        self._filter = PrivacyFilter(level)
        self._scrubber = Scrubber(self._filter)

    def findings(self, found: Findings) -> Findings:
        for request in found.slowest:
            for span in request.spans:  # so that the hosts in it are recognised in texts
                self._filter.attributes(span.attributes)
        is_anonymous = self._level is Privacy.ANONYMOUS
        files = tuple(f"file {number}" for number in range(1, len(found.files) + 1)) if is_anonymous else found.files
        return found._replace(
            files=files,
            failures=found.failures._replace(rows=tuple(map(self._failure, found.failures.rows))),
            onions=found.onions._replace(
                slowest=tuple(each._replace(error=self._reason(each.error)) for each in found.onions.slowest)
            ),
            guards=self._relays(found.guards, hop=1),
            relays=self._relays(found.relays, hop=2),
            slowest=tuple(self._request(request, number) for number, request in enumerate(found.slowest, start=1)),
        )

    def _failure(self, row: FailureRow) -> FailureRow:
        return row._replace(reason=self._reason(row.reason))

    def _reason(self, reason: str) -> str:
        if not reason or reason in OWN_REASONS:
            return reason
        return str(self._scrubber.attributes({"error.type": reason}).get("error.type", HIDDEN))

    def _relays(self, rows: tuple[_Row, ...], hop: int) -> tuple[_Row, ...]:
        """Relays by what may be shown of them; those of which nothing may be are left out."""
        shown: list[_Row] = []
        for row in rows:
            names = {"tor.hop.index": hop, "tor.relay.fingerprint": row.name, "tor.relay.nickname": row.nickname}
            kept = self._filter.attributes(names)
            if "tor.relay.fingerprint" in kept:
                name, nickname = str(kept["tor.relay.fingerprint"]), str(kept.get("tor.relay.nickname", ""))
                shown.append(row._replace(name=name, nickname=nickname))
        return tuple(shown)

    # --- slow requests ----------------------------------------------------------------------------------------------

    def _request(self, request: SlowRequest, number: int) -> SlowRequest:
        ids = {span.span_id: f"{at:016x}" for at, span in enumerate(request.spans, start=1)}
        spans = (self._span(span) for span in request.spans)
        if self._level is Privacy.ANONYMOUS:
            spans = (
                span._replace(
                    trace_id=f"{number:032x}",
                    span_id=ids[span.span_id],
                    parent_id=ids.get(span.parent_id, ""),
                    links=(),
                )
                for span in spans
            )
        return request._replace(reason=self._reason(request.reason), spans=tuple(spans))

    def _span(self, span: SpanRecord) -> SpanRecord:
        resource = self._scrubber.resource(span.resource)
        span = self._scrubber.record(span)
        # The level of the file: what is left is at the report's.
        attributes = {key: value for key, value in span.attributes.items() if key != LEVEL_ATTRIBUTE}
        return span._replace(
            attributes=attributes, resource=Resource({"service.name": resource.service_name}), scope=Scope()
        )
