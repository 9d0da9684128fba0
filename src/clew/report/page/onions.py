"""The page's section on onion services: where the time of a connection goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.pretty import format_duration
from clew.report.axis import Axis
from clew.report.page.cards import OTHERS_COLOR, figures, groups, has_figures, section, table
from clew.report.page.charts import Part, bar, key, scale
from clew.report.page.markup import Markup, tag
from clew.report.phases import PARTS, UNEXPLAINED
from clew.report.wording import shorten

if TYPE_CHECKING:
    from clew.report.findings import Onions, Report

__all__ = ["has_onions", "onion_section"]

_COLORS = {**{part: color for color, part in enumerate(PARTS, start=1)}, UNEXPLAINED: OTHERS_COLOR}


def has_onions(report: Report) -> bool:
    """Whether there is anything to show."""
    return has_figures(report, "onion") or any(found.onions.total for found, _ in groups(report))


def onion_section(report: Report) -> Markup:
    """All about onion services."""
    cards = [_parts(found.onions, suffix) for found, suffix in groups(report) if found.onions.total]
    return section("onion", "Onion services", [*cards, *figures(report, "onion")])


def _parts(onions: Onions, suffix: str) -> Markup:
    """Connections as bars whose parts add up."""
    bars = [("median", onions.parts, onions.middle_ns, "")] if onions.parts else []
    for number, each in enumerate(onions.slowest, start=1):
        bars.append((f"no. {number}", each.parts, each.duration_ns, each.error))
    longest_ns = max((duration_ns for _, _, duration_ns, _ in bars), default=1) or 1
    axis = Axis(0, longest_ns, is_log=False)
    rows = []
    for name, parts, duration_ns, error in bars:
        pieces = [Part(label, _COLORS[part], parts.get(part, 0)) for part, label in PARTS.items()]
        badge = tag("span", shorten(error), class_="badge") if error else ""
        told = ", ".join(f"{piece.label} {format_duration(piece.duration_ns)}" for piece in pieces)
        rows.append(
            tag(
                "tr",
                tag("th", name, " ", badge, scope="row"),
                tag("td", bar(pieces, longest_ns), tag("span", told, class_="unseen"), class_="wide"),
                tag("td", format_duration(duration_ns)),
            )
        )
    legend = (tag("li", key(_COLORS[part]), label) for part, label in PARTS.items())
    failed = f" {onions.failed:,} did not get there." if onions.failed else ""
    sentence = (
        f"The way to an onion service, of {onions.total:,} connections: which phase was waited for, moment by moment, "
        f"so that the parts of a bar add up.{failed} The first bar is the middle one: the mean of a tenth of all, that "
        "in the middle."
    )
    return tag(
        "figure",
        tag("h3", f"Where a connection's time goes{suffix}"),
        tag("figcaption", sentence),
        tag("ul", *legend, class_="legend"),
        table(("slowest", scale(axis), "time"), rows, "bars"),
    )
