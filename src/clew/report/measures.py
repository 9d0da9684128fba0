"""What all parts of the analysis count into: distributions by figure and series, and failures over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.limits import REPORT_KEYS
from clew.model import Status
from clew.report.distribution import Distribution
from clew.report.figures import FIGURES
from clew.report.findings import FailureRow, Failures
from clew.report.timeline import OTHERS, Timeline
from clew.tor.privacy import Privacy, PrivacyFilter

if TYPE_CHECKING:
    from clew.model import SpanRecord
    from clew.report.distribution import Summary

__all__ = ["OWN_REASONS", "Measures", "has_succeeded", "word_of"]

_REQUEST = ("request", "")  # requests as such, on the timeline
_KEYWORD = PrivacyFilter(Privacy.ANONYMOUS).keyword
_OTHER = "other"
_NO_REASON = "no reason given"
_FURTHER_REASONS = "reasons beyond the first ones"
# What stands in place of a reason and is none of tor's or of the program's.
OWN_REASONS = frozenset((_NO_REASON, _FURTHER_REASONS))


class Measures:
    """Distributions and failures."""

    def __init__(self) -> None:
        self._figures: dict[str, dict[str, Distribution]] = {figure.key: {} for figure in FIGURES}
        self._timeline = Timeline()

    def measure(self, figure: str, series: str, duration_ns: int) -> None:
        """Add a duration to a series; a series too many for one figure is part of "other"."""
        distributions = self._figures[figure]
        distribution = distributions.get(series)
        if distribution is None:
            if len(distributions) >= REPORT_KEYS:
                series = _OTHER
            distribution = distributions.setdefault(series, Distribution())
        distribution.add(duration_ns)

    def fail(self, what: str, reason: str, record: SpanRecord) -> None:
        """Count a failure at the end of a span."""
        self._timeline.add((what, reason or _NO_REASON), record.end_time_ns)

    def begin_request(self, start_ns: int) -> None:
        """Count a request."""
        self._timeline.add(_REQUEST, start_ns)

    def figures(self) -> dict[str, dict[str, Summary]]:
        """Every figure, with the series that have values: those that are known by name in their order, then the rest,
        the most frequent first."""
        return {figure.key: self._series(figure.key, tuple(figure.labels)) for figure in FIGURES}

    def _series(self, figure: str, known: tuple[str, ...]) -> dict[str, Summary]:
        def place(item: tuple[str, Distribution]) -> tuple[int, int, str]:
            key, distribution = item
            return (known.index(key), 0, "") if key in known else (len(known), -distribution.count, key)

        series: dict[str, Summary] = {}
        for key, distribution in sorted(self._figures[figure].items(), key=place):
            if (summary := distribution.summary()) is not None:
                series[key] = summary
        return series

    def failures(self) -> Failures:
        """All failures over time."""
        counts = self._timeline.counts()
        steps = self._timeline.steps
        requests = counts.pop(_REQUEST, (0,) * steps.number)
        rows = []
        for key, by_step in counts.items():
            what, reason = (_OTHER, _FURTHER_REASONS) if key == OTHERS else key
            rows.append(FailureRow(what, reason, sum(by_step), by_step))
        return Failures(steps, requests, tuple(sorted(rows, key=lambda row: (-row.total, row.what, row.reason))))


def has_succeeded(record: SpanRecord) -> bool:
    """Whether a span ended neither with an error nor cancelled."""
    return record.status is Status.UNSET or record.status is Status.OK


def word_of(record: SpanRecord, attribute: str) -> str:
    """A word of tor's protocol in an attribute; "other" for what cannot be one, "" where there is nothing."""
    value = record.attributes.get(attribute)
    if value is None:
        return ""
    return (_KEYWORD(value) if isinstance(value, str) else None) or _OTHER
