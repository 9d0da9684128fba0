"""What the sections of the page are made of: charts with the numbers that are their legend, tables, changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.pretty import format_duration
from clew.report.comparison import change_of, format_change
from clew.report.figures import FIGURES, label_of, series_shown
from clew.report.page.charts import Curve, curves, swatch
from clew.report.page.markup import Markup, join, tag
from clew.report.phases import UNEXPLAINED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clew.report.distribution import Summary
    from clew.report.figures import Figure
    from clew.report.findings import Findings, Report

__all__ = ["OTHERS_COLOR", "change", "figures", "groups", "has_figures", "section", "table"]

OTHERS_COLOR = 7  # the last one, a grey
_CURVES_DRAWN = 8  # of one chart: there are as many colours


def groups(report: Report) -> Iterator[tuple[Findings, str]]:
    """The files, then what they are compared with, each with what its titles end with."""
    yield report.findings, ""
    if report.before is not None:
        yield report.before, ", before"


def section(key: str, title: str, cards: Iterable[Markup], sentences: Sequence[str] = ()) -> Markup:
    """A section: some sentences, then charts and tables, as many side by side as there is room for."""
    note = tag("p", " ".join(sentences), class_="note") if sentences else ""
    return tag("section", tag("h2", title), note, tag("div", *cards, class_="cards"), id=key)


def figures(report: Report, of_section: str) -> list[Markup]:
    """The charts of a section."""
    return [_figure(report, figure) for figure in FIGURES if figure.section == of_section and _has(report, figure)]


def has_figures(report: Report, of_section: str) -> bool:
    """Whether there are any."""
    return any(figure.section == of_section and _has(report, figure) for figure in FIGURES)


def _has(report: Report, figure: Figure) -> bool:
    return any(found.figures[figure.key] for found, _ in groups(report))


def _figure(report: Report, figure: Figure) -> Markup:
    """A chart with its title, a sentence, and the numbers that are its legend."""
    after = series_shown(figure.key, report.findings.figures[figure.key])
    before = {} if report.before is None else series_shown(figure.key, report.before.figures[figure.key])
    drawn: list[Curve] = []
    rows: list[Markup] = []
    for place, key in enumerate(dict.fromkeys((*after, *before))):
        color = OTHERS_COLOR if key == UNEXPLAINED else place
        label = label_of(figure.key, key)
        is_drawn = place < _CURVES_DRAWN
        for summary, is_before in ((after.get(key), False), (before.get(key), True)):
            if summary is not None:
                if is_drawn:
                    drawn.append(Curve(f"{label}, before" if is_before else label, color, summary, is_before))
                old = None if is_before else before.get(key)
                mark = swatch(color, is_before=is_before) if is_drawn else ""
                rows.append(_percentiles(mark, "before" if is_before else label, summary, old, is_before=is_before))
    return tag(
        "figure",
        tag("h3", figure.title),
        tag("figcaption", figure.sentence),
        curves(figure.title, drawn),
        table(("", "count", "median", "p90", "p99", "longest"), rows, "percentiles"),
        id=figure.key.replace("_", "-"),
    )


def _percentiles(mark: str, name: str, summary: Summary, before: Summary | None, *, is_before: bool = False) -> Markup:
    changes = None if before is None else change_of(summary, before)
    cells = [tag("th", mark, tag("span", name), scope="row"), tag("td", f"{summary.number:,}")]
    for duration_ns, share in (
        (summary.p50_ns, changes.p50 if changes else None),
        (summary.p90_ns, changes.p90 if changes else None),
        (summary.p99_ns, changes.p99 if changes else None),
    ):
        cells.append(tag("td", format_duration(duration_ns), " ", change(share)))
    cells.append(tag("td", format_duration(summary.max_ns)))
    return tag("tr", *cells, class_="before" if is_before else None)


def change(share: float | None) -> Markup:
    """By how much something that should be short grew."""
    if share is None:
        return join(())
    kind = "worse" if share > 0.005 else "better" if share < -0.005 else "same"
    return tag("span", format_change(share), class_=f"change {kind}")


def table(titles: Sequence[str], rows: Iterable[Markup], class_: str) -> Markup:
    heads = (tag("th", title, scope="col") if title else tag("td") for title in titles)
    return tag(
        "div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_=class_), class_="scroll"
    )
