"""What a report shows at a level of privacy. Every text in it passes through here: renderers get nothing else.

Attributes are treated as `clew.tor.privacy` says. Beyond them there is what a program writes into its own spans.
Nothing of it is declared, so it counts as telling:

- names of spans, events and services, unless clew itself or HTTP gives them: a URL may be in them. They are treated as
  destinations are: not shown at ANONYMOUS, a hash at PSEUDONYMOUS unless they are plain words, shown from OPERATOR on;
- what a status or an exception says: as free text, shown at LAB only. The words that clew itself makes of tor's reasons
  always are;
- ids of traces and spans, links, and names of files: not shown at ANONYMOUS. They tell nothing by themselves, but join
  what left the machine to what stayed there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar, cast

from clew.model import Event, Resource, Scope
from clew.report.requests import FIRST_BYTE
from clew.tor.mapping_doc import MACHINES
from clew.tor.privacy import LEVEL_ATTRIBUTE, Privacy, PrivacyFilter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.model import Attributes, SpanRecord
    from clew.report.findings import FailureRow, Findings, GuardRow, RelayRow, SlowRequest

__all__ = ["HIDDEN", "level_shown", "redact"]

# In place of a name that is not shown.
HIDDEN: Final = "(not shown)"

_TORS_SPANS: Final = frozenset(span.name for machine in MACHINES for span in machine.spans)
_TORS_EVENTS: Final = frozenset(
    (
        *(FIRST_BYTE, "circuit_failed", "uploaded", "upload_failed", "exception"),
        *(note for machine in MACHINES for note in machine.notes.values()),
    )
)
# RFC 9110, section 9: without a route, OpenTelemetry has an HTTP client's span called by its method alone.
_HTTP: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "HTTP"))
_CLEWS: Final = frozenset(("build-circuit", "extend-circuit", "close-circuit", "tor", "clew"))
_PUBLIC_NAMES: Final = _TORS_SPANS | _TORS_EVENTS | _HTTP | _CLEWS

# Neither a host (dots), nor a path, a port, a number, an onion address (56 characters).
_PLAIN_WORDS: Final = re.compile(r"[A-Za-z]{1,32}(?:[ _-][A-Za-z]{1,32}){0,5}")
# What clew writes as the description of a status (circuit_spans.py, stream_spans.py).
_WORD: Final = r"(?:[a-z][a-z0-9_]{0,31}|no reason given)"
_TORS_DESCRIPTION: Final = re.compile(rf"(?:hop \d{{1,2}}: )?{_WORD}(?:, and the relay said {_WORD})?")

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


def redact(findings: Findings, level: Privacy | None) -> Findings:
    """The same findings, with what a level shows of them; None: as they are."""
    if level is None or level is Privacy.LAB:
        return findings
    return _Redaction(level).findings(findings)


class _Redaction:
    """One level, applied; equal values have equal hashes throughout."""

    def __init__(self, level: Privacy) -> None:
        self._level = level
        self._filter = PrivacyFilter(level)

    def findings(self, found: Findings) -> Findings:
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
        if not reason or _TORS_DESCRIPTION.fullmatch(reason):
            return reason
        return str(self._filter.attributes({"error.type": reason}).get("error.type", HIDDEN))

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
        is_described = span.name in _TORS_SPANS and _TORS_DESCRIPTION.fullmatch(span.status_description)
        return span._replace(
            name=self._name(span.name),
            status_description=span.status_description if is_described else "",
            attributes=self._attributes(span.attributes),
            events=tuple(self._event(event) for event in span.events),
            links=tuple(link._replace(attributes=self._attributes(link.attributes)) for link in span.links),
            trace_state="",
            resource=Resource({"service.name": self._name(span.service_name)}),
            scope=Scope(),
        )

    def _event(self, event: Event) -> Event:
        return event._replace(name=self._name(event.name), attributes=self._attributes(event.attributes))

    def _attributes(self, attributes: Attributes) -> Attributes:
        kept = self._filter.attributes(attributes)
        kept.pop(LEVEL_ATTRIBUTE, None)  # that of the file; what is left is at the report's
        return cast("Attributes", kept)

    def _name(self, name: str) -> str:
        if name in _PUBLIC_NAMES or self._level >= Privacy.OPERATOR:
            return name
        if self._level is Privacy.ANONYMOUS:
            return HIDDEN
        return name if _PLAIN_WORDS.fullmatch(name) else self._filter.hash("", name)
