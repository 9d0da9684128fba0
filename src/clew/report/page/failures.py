"""The page's section on failures: when, how many, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.report.page.cards import OTHERS_COLOR, groups, section, table
from clew.report.page.charts import Stack, columns, key
from clew.report.page.markup import Markup, tag
from clew.report.wording import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.report.findings import Failures, Report

__all__ = ["failure_section", "has_failures"]

_REASONS_DRAWN = 7


def has_failures(report: Report) -> bool:
    """Whether anything failed."""
    return any(found.failures.rows for found, _ in groups(report))


def failure_section(report: Report) -> Markup:
    shown = list(groups(report))
    totals: dict[tuple[str, str], list[int]] = {}
    for at, (found, _) in enumerate(shown):
        for row in found.failures.rows:
            totals.setdefault((row.what, row.reason), [0] * len(shown))[at] += row.total
    order = sorted(totals, key=lambda each: -sum(totals[each]))
    colors = {each: color for color, each in enumerate(order[:_REASONS_DRAWN])}
    cards = [_failure_card(found.failures, colors, suffix) for found, suffix in shown if found.failures.rows]
    titles = ("", "reason", "count") if len(shown) == 1 else ("", "reason", "count", "before")
    rows = []
    for what_and_reason in order:
        mark = key(colors.get(what_and_reason, OTHERS_COLOR))
        what, reason = what_and_reason
        counts = (tag("td", f"{count:,}") for count in totals[what_and_reason])
        head = tag("th", mark, tag("span", what), scope="row")
        rows.append(tag("tr", head, tag("td", tag("bdi", shorten(reason)), class_="word"), *counts))
    reasons = tag(
        "figure",
        tag("h3", "Reasons"),
        tag(
            "figcaption",
            "What failed, and why, in tor's words or by the name of the program's exception. One fault may count "
            "several times: as that of a circuit, of the stream that waited for it, and of the request.",
        ),
        table(titles, rows, "reasons"),
    )
    return section("failures", "Failures", [*cards, reasons])


def _failure_card(failures: Failures, colors: Mapping[tuple[str, str], int], suffix: str) -> Markup:
    stacks = [
        Stack(f"{row.what}: {shorten(row.reason)}", colors[row.what, row.reason], row.by_step)
        for row in failures.rows
        if (row.what, row.reason) in colors
    ]
    others = [row for row in failures.rows if (row.what, row.reason) not in colors]
    if others:
        sums = [sum(row.by_step[at] for row in others) for at in range(failures.steps.number)]
        stacks.append(Stack("other reasons", OTHERS_COLOR, sums))
    title = f"Failures over time{suffix}"
    return tag(
        "figure",
        tag("h3", title),
        tag("figcaption", "How much failed, and when; the colours are those of the table of reasons."),
        columns(title, failures.steps, stacks),
    )
