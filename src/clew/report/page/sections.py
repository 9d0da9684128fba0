"""The sections of the page, and the numbers that stand before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clew.report.page.cards import change, figures, has_figures, section
from clew.report.page.charts import key
from clew.report.page.failures import failure_section, has_failures
from clew.report.page.markup import Markup, tag
from clew.report.page.onions import has_onions, onion_section
from clew.report.page.relays import has_relays, relay_section
from clew.report.page.slow_request import KINDS, slow_request
from clew.report.wording import headlines, request_remarks

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.report.findings import Report

__all__ = ["SECTIONS", "Section", "overview"]


class Section(NamedTuple):
    """A part of the page, with a link to it at the top."""

    key: str
    title: str
    has_content: Callable[[Report], bool]
    render: Callable[[Report], Markup]


def overview(report: Report) -> Markup:
    """The numbers that stand first."""
    tiles = (
        tag(
            "div",
            tag("p", line.title, class_="label"),
            tag("p", line.value, " ", change(line.change), class_="value"),
            tag("p", line.note, class_="note"),
            class_="tile",
        )
        for line in headlines(report)
    )
    return tag("section", *tiles, class_="tiles", aria_label="overview")


def _requests(report: Report) -> Markup:
    return section("requests", "Requests", figures(report, "requests"), request_remarks(report.findings))


def _circuits(report: Report) -> Markup:
    return section("circuits", "Circuits", figures(report, "circuits"))


def _slowest(report: Report) -> Markup:
    requests = report.findings.slowest
    longest_ns = max(max((request.duration_ns for request in requests), default=1), 1)
    kinds = (tag("li", key(color), title) for title, color in KINDS.items())
    lines = (slow_request(number, each, longest_ns) for number, each in enumerate(requests, start=1))
    return tag(
        "section",
        tag("h2", "Slowest requests"),
        tag(
            "p",
            "Open one to see where its time went, and a line of that to see what is known of it. The strong part of a "
            "bar is the time in which the request waited for this and for nothing below it; a ring is an event, such "
            "as the first byte.",
            class_="note",
        ),
        tag("ul", *kinds, class_="legend"),
        tag("div", *lines, class_="requests"),
        id="slowest",
    )


SECTIONS = (
    Section("requests", "Requests", lambda report: has_figures(report, "requests"), _requests),
    Section("slowest", "Slowest requests", lambda report: bool(report.findings.slowest), _slowest),
    Section("onion", "Onion services", has_onions, onion_section),
    Section("circuits", "Circuits", lambda report: has_figures(report, "circuits"), _circuits),
    Section("failures", "Failures", has_failures, failure_section),
    Section("relays", "Relays", has_relays, relay_section),
)
