"""The page's section on relays: which of them are slow, or fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.pretty import format_duration
from clew.report.axis import axis_of
from clew.report.page.cards import groups, section, table
from clew.report.page.charts import range_mark
from clew.report.page.markup import Markup, join, tag
from clew.report.wording import shorten
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from clew.report.axis import Axis
    from clew.report.distribution import Summary
    from clew.report.findings import GuardRow, RelayRow, Report

__all__ = ["has_relays", "relay_section"]


def has_relays(report: Report) -> bool:
    """Whether any hop was seen."""
    return any(found.roles for found, _ in groups(report))


def relay_section(report: Report) -> Markup:
    """All about relays."""
    shown = list(groups(report))
    cards = [_guards(found.guards, suffix) for found, suffix in shown if found.guards]
    cards += [_roles(found.roles, suffix) for found, suffix in shown if found.roles]
    cards += [_relays(found.relays, suffix) for found, suffix in shown if found.relays]
    hidden = (
        "Guards and relays are not shown at this level; --privacy 1 shows them as hashes, where they were recorded."
    )
    return section("relays", "Relays", cards, [hidden] if report.level is Privacy.ANONYMOUS else [])


def _roles(rows: tuple[RelayRow, ...], suffix: str) -> Markup:
    axis = axis_of(row.hop for row in rows if row.hop)
    lines = (
        tag("tr", tag("th", row.role, scope="row"), *_counts(row.tries, row.failed), *_times(row.hop, axis))
        for row in rows
    )
    return tag(
        "figure",
        tag("h3", f"Hops by role{suffix}"),
        tag(
            "figcaption",
            "How long a hop took, by what its relay was in the circuit. The mark reaches from the median to p90.",
        ),
        table(("", "hops", "failed", "median", "p90", ""), lines, "relays"),
    )


def _guards(rows: tuple[GuardRow, ...], suffix: str) -> Markup:
    axis = axis_of(row.build for row in rows if row.build)
    lines = (
        tag(
            "tr",
            tag("th", *_name(row), scope="row"),
            *_counts(row.tries, row.failed),
            tag("td", _median(row.hop)),
            *_times(row.build, axis),
            tag("td", _median(row.first_byte)),
        )
        for row in rows
    )
    return tag(
        "figure",
        tag("h3", f"Guards{suffix}"),
        tag(
            "figcaption",
            "What goes over which guard: the hop to it, whole circuits over it, and requests over those to their first "
            "byte, where the circuit of a request is known.",
        ),
        table(
            ("", "circuits", "failed", "hop, median", "circuit, median", "p90", "", "first byte, median"),
            lines,
            "relays",
        ),
        class_="whole",
    )


def _relays(rows: tuple[RelayRow, ...], suffix: str) -> Markup:
    axis = axis_of(row.hop for row in rows if row.hop)
    lines = (
        tag(
            "tr",
            tag("th", *_name(row), " ", tag("span", row.role, class_="note"), scope="row"),
            *_counts(row.tries, row.failed),
            *_times(row.hop, axis),
        )
        for row in rows
    )
    return tag(
        "figure",
        tag("h3", f"The slowest relays{suffix}"),
        tag(
            "figcaption",
            "Relays other than guards, by the median of the hops to them; those seen at least three times.",
        ),
        table(("", "hops", "failed", "median", "p90", ""), lines, "relays"),
    )


def _name(row: GuardRow | RelayRow) -> tuple[Markup, ...]:
    """A relay's nickname, with enough of its fingerprint to tell it from another one of that name."""
    if row.nickname:
        return tag("bdi", shorten(row.nickname)), join((" ",)), tag("code", row.name[:8], title=shorten(row.name))
    return (tag("code", shorten(row.name)),)


def _counts(tries: int, failed: int) -> tuple[Markup, Markup]:
    return tag("td", f"{tries:,}"), tag("td", f"{failed:,}", class_="bad" if failed else None)


def _times(summary: Summary | None, axis: Axis) -> tuple[Markup, ...]:
    if summary is None:
        return tag("td"), tag("td"), tag("td")
    mark = tag("td", range_mark(summary, axis), class_="wide")
    return tag("td", format_duration(summary.p50_ns)), tag("td", format_duration(summary.p90_ns)), mark


def _median(summary: Summary | None) -> str:
    return "" if summary is None else format_duration(summary.p50_ns)
