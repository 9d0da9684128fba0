"""What a report says, as values: what the analysis found, and what is shown of it at a level of privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.model import SpanRecord, Status
    from clew.report.distribution import Summary
    from clew.report.timeline import Steps
    from clew.tor.privacy import Privacy

__all__ = [
    "FailureRow",
    "Failures",
    "Findings",
    "GuardRow",
    "OnionConnection",
    "Onions",
    "RelayRow",
    "Remark",
    "Report",
    "RequestCounts",
    "SlowRequest",
]


class RequestCounts(NamedTuple):
    """How many requests there were."""

    total: int  # = succeeded + failed + cancelled
    succeeded: int
    failed: int
    cancelled: int  # given up by the program
    onion: int  # of the total: to onion services
    unclaimed: int  # of the total: streams that no span of the program claimed, each taken for a request
    first_byte: int  # of the total: it is known when the first byte came
    cut: int  # of the total: their beginning was not seen, so they have no times
    strays: int  # of the unclaimed: they name a span of the program, which is not in the files


class FailureRow(NamedTuple):
    """What failed for one reason."""

    what: str  # "request", "stream", "circuit", "descriptor", ...
    reason: str  # tor's, in lower case, or the name of the program's exception
    total: int
    by_step: tuple[int, ...]


class Failures(NamedTuple):
    """What failed, over time."""

    steps: Steps
    requests: tuple[int, ...]  # how many of them began in each step, failed or not
    rows: tuple[FailureRow, ...]  # the most frequent first


class OnionConnection(NamedTuple):
    """The way to an onion service, in parts that add up (`phases.PARTS`)."""

    start_ns: int
    duration_ns: int
    error: str  # "" if it got there
    parts: Mapping[str, int]


class Onions(NamedTuple):
    """Connections to onion services."""

    total: int
    failed: int
    middle_ns: int  # the mean of the tenth in the middle, by duration, of those that got there; 0 if none did
    parts: Mapping[str, int]  # the same of each part, so that they add up
    slowest: tuple[OnionConnection, ...]


class GuardRow(NamedTuple):
    """What went over one guard."""

    name: str  # its fingerprint, or a hash of it; the nickname, where there is no more
    nickname: str
    tries: int  # first hops, whether they succeeded or not
    failed: int
    hop: Summary | None  # time to the guard itself
    build: Summary | None  # of whole circuits over it
    first_byte: Summary | None  # of requests over it


class RelayRow(NamedTuple):
    """Hops of one role, or those to one relay, which is no guard."""

    name: str
    nickname: str
    role: str  # the role; of a relay all of its roles
    tries: int
    failed: int
    hop: Summary | None


class SlowRequest(NamedTuple):
    """One of the slowest requests, with its spans."""

    start_ns: int
    duration_ns: int
    first_byte_ns: int | None
    status: Status
    reason: str  # why it failed
    is_onion: bool
    spans_total: int
    spans: tuple[SpanRecord, ...]  # the request's own first; where there are too many, the shorter ones are left out

    @property
    def name(self) -> str:
        return self.spans[0].name

    @property
    def target(self) -> str:
        """Where it went, "" if the spans do not say."""
        for span in self.spans:
            address, port = span.attributes.get("server.address"), span.attributes.get("server.port")
            if isinstance(address, str):
                return f"{address}:{port}" if isinstance(port, int) else address
        return ""


class Remark(NamedTuple):
    """What is to be known of a file: damage, mostly."""

    file: int  # its place among the files
    sentence: str


class Findings(NamedTuple):
    """All that is said about a group of files."""

    files: tuple[str, ...]
    levels: tuple[Privacy, ...]  # those that the spans name, the lowest first
    span_count: int
    start_ns: int  # since 1970; 0 if there is no span
    end_ns: int
    remarks: tuple[Remark, ...]
    requests: RequestCounts
    figures: Mapping[str, Mapping[str, Summary]]  # figure -> series -> distribution; see figures.py
    failures: Failures
    onions: Onions
    roles: tuple[RelayRow, ...]
    guards: tuple[GuardRow, ...]
    relays: tuple[RelayRow, ...]  # the slowest, of those that were measured a few times
    slowest: tuple[SlowRequest, ...]


class Report(NamedTuple):
    """What is shown."""

    level: Privacy | None  # what was hidden; None if everything is as it was recorded
    findings: Findings
    before: Findings | None  # what they are compared with
