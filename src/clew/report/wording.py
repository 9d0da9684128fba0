"""Sentences that the page and the terminal share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from clew.limits import REPORT_NAME_CHARS, REPORT_VALUES
from clew.pretty import format_duration
from clew.report.comparison import change_of
from clew.report.figures import ALL, CIRCUIT_BUILD, FIRST_BYTE, LAST_BYTE, ONION_PHASES
from clew.tor.onion import CONNECT_SPAN as ONION_SPAN
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from clew.report.distribution import Summary
    from clew.report.findings import Findings, Report

__all__ = [
    "Headline",
    "describe_files",
    "describe_level",
    "describe_percentiles",
    "describe_time",
    "headlines",
    "name_level",
    "request_remarks",
    "shorten",
]

_LEVELS = {
    Privacy.ANONYMOUS: "no destinations, no relays, no names but tor's own words",
    Privacy.PSEUDONYMOUS: "destinations and relays as hashes",
    Privacy.OPERATOR: "destinations and relays in clear, the guard as a hash",
    Privacy.LAB: "everything that was recorded",
}


class Headline(NamedTuple):
    """One of the numbers that stand first."""

    title: str
    value: str
    note: str
    change: float | None = None  # since before; a share


def describe_time(found: Findings) -> str:
    """How many requests and spans, and when: one line."""
    if not found.span_count:
        return "no span"
    length = format_duration(found.end_ns - found.start_ns)
    return (
        f"{_count(found.requests.total, 'request')} in {_count(found.span_count, 'span')}, "
        f"{_date(found.start_ns)}, over {length}"
    )


def name_level(report: Report) -> str:
    """The level in a few words."""
    if report.level is None:
        return "everything as recorded"
    return f"privacy level {report.level.value}: {report.level.name.lower()}"


def describe_level(report: Report) -> str:
    """What is not shown."""
    recorded = sorted({level for found in _groups(report) for level in found.levels})
    names = " and ".join(f"{level.value} {level.name.lower()}" for level in recorded)
    if report.level is None:
        return (
            f"Privacy level: as recorded (level {names})."
            if names
            else "Privacy level: as recorded; the files name none."
        )
    line = f"Privacy level {report.level.value}, {report.level.name.lower()}: {_LEVELS[report.level]}."
    return f"{line} The files were recorded at level {names}." if names else line


def describe_files(report: Report) -> list[str]:
    """Which files, in parts of a sentence."""
    parts = [f"Made of {_names(report.findings)}"]
    if report.before is not None:
        parts.append(f", compared with {_names(report.before)}, {describe_time(report.before)}")
    return [*parts, "."]


def headlines(report: Report) -> list[Headline]:
    """The numbers that stand first."""
    found, before = report.findings, report.before
    counts = found.requests
    notes = [f"{counts.failed:,} failed ({counts.failed / max(counts.total, 1):.1%})"]
    if counts.cancelled:
        notes.append(f"{counts.cancelled:,} cancelled")
    if before is not None:
        old = before.requests
        notes.append(f"before: {old.failed:,} of {old.total:,}")
    lines = [Headline("Requests", f"{counts.total:,}", " · ".join(notes))] if counts.total else []
    for title, figure, series in (
        ("Time to first byte", FIRST_BYTE, ALL),
        ("Time to last byte", LAST_BYTE, ALL),
        ("Circuit build", CIRCUIT_BUILD, ALL),
        ("Onion connection", ONION_PHASES, ONION_SPAN),
    ):
        summary = found.figures[figure].get(series)
        if summary is not None:
            lines.append(_headline(title, summary, None if before is None else before.figures[figure].get(series)))
    return lines


def request_remarks(found: Findings) -> list[str]:
    """What is to be known of the requests as such, in sentences."""
    counts = found.requests
    total = f"{counts.total:,}"
    seen = f"for {counts.first_byte:,} of them" if counts.first_byte else "for none of them"
    sentences = (
        (counts.onion, f"{counts.onion:,} of {total} requests went to onion services."),
        (counts.total - counts.first_byte, f"When the first byte came was seen {seen}."),
        (counts.unclaimed, f"{counts.unclaimed:,} are streams that no span of a program claimed."),
        (counts.strays, f"{counts.strays:,} of those name a span that is not in the files: give the program's too."),
        (counts.cut, f"{counts.cut:,} had begun before the recording did: they are left out of the times."),
    )
    return [sentence for number, sentence in sentences if number]


def shorten(content: str) -> str:
    """A name of any length: its beginning, if it is too long to be shown."""
    return content if len(content) <= REPORT_NAME_CHARS else content[: REPORT_NAME_CHARS - 1] + "…"


def describe_percentiles(report: Report) -> str:
    """What a percentile is, and of what."""
    sentence = "A percentile is a duration that was measured: p90 is the shortest within which 90 % were done."
    series = (each for found in _groups(report) for each in found.figures.values())
    if all(summary.drawn == summary.number for each in series for summary in each.values()):
        return sentence
    return (
        f"{sentence} Where there are more than {REPORT_VALUES:,} values, percentiles and curves are those of a sample, "
        "drawn by lot; counts, means and extremes are those of all."
    )


def _headline(title: str, summary: Summary, before: Summary | None) -> Headline:
    note = f"median of {summary.number:,} · p90 {format_duration(summary.p90_ns)}"
    if before is None:
        return Headline(title, format_duration(summary.p50_ns), note)
    note = f"median; before {format_duration(before.p50_ns)}"
    return Headline(title, format_duration(summary.p50_ns), note, change_of(summary, before).p50)


def _groups(report: Report) -> list[Findings]:
    return [found for found in (report.findings, report.before) if found is not None]


def _names(found: Findings) -> str:
    names = [shorten(name) for name in found.files]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _date(time_ns: int) -> str:
    try:
        return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return "at an unknown time"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
