"""The report as one page for a browser, which asks nobody for anything: what it shows and how it looks is in it.

The page forbids itself every request (a Content-Security-Policy), and any script and style but its own two, by their
hashes: even a name that got past `markup` would not run.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

from clew._version import __version__
from clew.report.page.markup import Markup, join, tag
from clew.report.page.sections import SECTIONS, overview
from clew.report.wording import describe_files, describe_level, describe_percentiles, describe_time, name_level, shorten

if TYPE_CHECKING:
    from clew.report.findings import Report

__all__ = ["render_page"]


def render_page(report: Report) -> str:
    """The report as HTML, complete and of itself."""
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="generator", content=f"clew {__version__}"),
        tag("title", f"Tor report: {describe_time(report.findings)}"),
        tag("link", rel="icon", href="data:,"),  # or else the browser asks for one
        tag("style", Markup(style)),
    )
    body = tag("body", _header(report), _main(report), _footer(report), tag("script", Markup(script)))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _resource(name: str) -> str:
    return resources.files("clew.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """What the policy calls a script or a style that may be (Content Security Policy level 3, section 2.3.1)."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def _header(report: Report) -> Markup:
    links = [tag("a", section.title, href=f"#{section.key}") for section in SECTIONS if section.has_content(report)]
    return tag(
        "header",
        tag(
            "div",
            _ball_of_thread(),
            tag("h1", "Tor report"),
            tag("span", name_level(report), class_="chip"),
            class_="title",
        ),
        tag("p", describe_time(report.findings), class_="lead"),
        tag("nav", *links, aria_label="sections") if len(links) > 1 else "",
    )


def _ball_of_thread() -> Markup:
    path = "M12 3a9 9 0 1 0 9 9M5 8c5-3 10-2 14 2M4 13c5-3 11-2 14 4M7 19c1-7 5-11 11-13M20 20h-8"
    return tag("svg", tag("path", d=path), viewBox="0 0 24 24", class_="logo", aria_hidden="true")


def _main(report: Report) -> Markup:
    if not report.findings.span_count and not (report.before and report.before.span_count):
        return tag(
            "main",
            tag(
                "section",
                tag("h2", "There is nothing to report"),
                tag("p", "The files hold no span: nothing was traced, or all of it was left out."),
                _remarks(report),
                class_="empty",
            ),
        )
    return tag(
        "main",
        _remarks(report),
        overview(report),
        *(section.render(report) for section in SECTIONS if section.has_content(report)),
    )


def _remarks(report: Report) -> Markup:
    lines = [
        tag("p", tag("bdi", shorten(findings.files[remark.file])), f": {shorten(remark.sentence)}")
        for findings in (report.findings, report.before)
        if findings is not None
        for remark in findings.remarks
    ]
    return tag("div", *lines, class_="remarks", role="note") if lines else join(())


def _footer(report: Report) -> Markup:
    return tag(
        "footer",
        tag("p", describe_level(report)),
        tag("p", *describe_files(report)),
        tag(
            "p",
            describe_percentiles(report),
            " Times are those at which tor's events arrived. A request is the program's span around a stream of its "
            "own, or the stream, if no span claimed it.",
        ),
        tag("p", f"Made by clew {__version__}. This page asks nobody for anything, and may be kept as it is."),
    )
