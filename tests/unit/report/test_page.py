"""clew.report.page: one page that asks nobody for anything, in which data is never markup."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.pretty import escape
from clew.report import Analysis, Remark, Report, redact, traces
from clew.report.figures import FIGURES
from clew.report.page import render_page
from clew.report.page.markup import join, tag, text
from clew.testing import capture_spans
from clew.tor.privacy import Privacy
from tests.tor_samples import TorSamples
from tests.unit.report.test_redaction import telling_spans

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "</style>",
    "\u2028alert(1)\u2029",
    "\u202egnp.exe",
    "\x00\x1b[2J",
    "x" * 10_000,
]


class Page(HTMLParser):
    """A page, taken apart as a browser would."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.code: dict[str, str] = {}  # of <style> and <script>
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        self._open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.code[self._open[-1]] = data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")

    @property
    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        """Elements and the names of their attributes."""
        return [(name, tuple(attributes)) for name, attributes in self.elements]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def sample_report(level: Privacy | None = None, *, with_before: bool = False) -> Report:
    groups = []
    for slow in (1.0, 0.5)[: 1 + with_before]:
        analysis = Analysis(4)
        with capture_spans() as captured:
            TorSamples(captured.tracer, slow=slow).run(80)
            for spans in traces([captured.records]):
                analysis.add(spans)
        groups.append(analysis.findings(["a.jsonl"]))
    groups = redact(groups, level)
    return Report(level, groups[0], groups[1] if with_before else None)


@pytest.fixture(scope="module")
def page() -> Page:
    """The page of eighty requests, at every level shown as recorded."""
    return Page(render_page(sample_report()))


def test_it_asks_nobody(page: Page) -> None:
    """Nothing in it leads elsewhere: no address but places within the page, and no way to load anything."""
    leading = {"src", "href", "xlink:href", "action", "data", "srcset", "poster", "background", "ping", "formaction"}
    targets = {value for _, attributes in page.elements for name, value in attributes.items() if name in leading}
    assert targets
    assert all(target is not None and (target.startswith("#") or target == "data:,") for target in targets)
    assert "url(" not in page.code["style"]
    assert "@import" not in page.code["style"]
    assert not re.search(r"fetch|XMLHttp|import\(|WebSocket|innerHTML|eval|insertAdjacent", page.code["script"])
    names = {name for name, _ in page.elements}
    assert names.isdisjoint({"img", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image"})


def test_it_forbids_itself_the_rest(page: Page) -> None:
    """The policy allows its own style and script, by their hashes, and nothing else; it stands before both."""
    places = [name for name, attributes in page.elements if name in ("style", "script") or "http-equiv" in attributes]
    assert places == ["meta", "style", "script"]
    policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{b64encode(sha256(page.code['style'].encode()).digest()).decode()}'",
        "script-src": f"'sha256-{b64encode(sha256(page.code['script'].encode()).digest()).decode()}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert all("style" not in attributes for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_all_of_it(page: Page) -> None:
    """Each chart has its title, its sentence, an axis with units, counts; each section is led to from the top."""
    for figure in FIGURES:
        if figure.key != "service_phases":  # there is no service in the samples
            assert figure.title in page.texts
            assert figure.sentence in page.texts
    paths = [attributes for name, attributes in page.elements if name == "path" and "data-label" in attributes]
    assert len(paths) > 25
    assert all(re.fullmatch(r"M[\d.]+ 1000(H[\d.]+V[\d.]+)+", attributes["d"] or "") for attributes in paths)
    charts = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert all(attributes["aria-label"] for attributes in charts)
    assert {"0%", "50%", "100%", "100 ms", "1 s", "count", "median", "p99"} <= set(page.texts)
    links = [attributes["href"] for name, attributes in page.elements if name == "a"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(link)[1:] for link in links} <= set(ids)
    assert len(links) == 6


def test_the_slowest_open(page: Page) -> None:
    """Each is an element that opens on a click, with a line for each of its spans, which open too."""
    requests = [attributes for name, attributes in page.elements if name == "details" and "id" in attributes]
    assert [attributes["id"] for attributes in requests] == [f"request-{number}" for number in range(1, 5)]
    spans = [attributes for _, attributes in page.elements if attributes.get("class") == "span"]
    assert len(spans) == sum(request.spans_total for request in sample_report().findings.slowest)


def test_before_and_after() -> None:
    """Both curves are in each chart, and the changes in the tables."""
    page = Page(render_page(sample_report(with_before=True)))
    labels = [attributes["data-label"] for name, attributes in page.elements if "data-label" in attributes]
    assert labels.count("all requests") == labels.count("all requests, before") == 2
    changes = [data for data in page.texts if re.fullmatch(r"\+\d+ %|[\d.]+ times", data)]
    assert len(changes) > 50
    assert "before" in page.texts


@pytest.mark.parametrize("level", [None, *Privacy])
def test_it_says_its_level(level: Privacy | None) -> None:
    """At the top and at the bottom."""
    page = Page(render_page(sample_report(level)))
    name = "everything as recorded" if level is None else f"privacy level {level.value}: {level.name.lower()}"
    assert name in page.texts
    assert any(data.startswith("Privacy level") for data in page.texts[-8:])


def test_nothing() -> None:
    """An empty file says so, and what could not be read of it."""
    analysis = Analysis(3)
    report = Report(Privacy.ANONYMOUS, analysis.findings(["a"], [Remark(0, "3 damaged lines left out")]), None)
    page = Page(render_page(report))
    assert "There is nothing to report" in page.texts
    assert ": 3 damaged lines left out" in page.texts
    assert "svg" in {name for name, _ in page.elements}
    assert "nav" not in {name for name, _ in page.elements}


def hostile_page(name: str) -> Page:
    analysis = Analysis(2)
    analysis.add(telling_spans(name))
    found = analysis.findings([name], [Remark(0, name)])
    return Page(render_page(Report(None, found, None)))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    """They are text, and the page has the same elements and attributes as with a harmless name."""
    page = hostile_page(name)
    assert page.structure == hostile_page("harmless").structure
    assert not any(char in page.text for char in "\u202e\u2028\u2029\x00\x1b")
    assert max(map(len, page.texts)) < 500


@given(st.text(max_size=60))
def test_any_name(name: str) -> None:
    """Of whatever characters."""
    page = hostile_page(f"n{name}")
    assert page.structure == hostile_page("harmless").structure


@given(st.text(), st.text())
def test_markup(content: str, value: str) -> None:
    """Text and values of attributes come back from a parser as they went in, but for what is not printable."""
    page = Page(tag("p", content, title=value, class_="x"))
    ((name, attributes),) = page.elements
    assert (name, list(attributes)) == ("p", ["title", "class"])
    assert "".join(page.texts) == escape(content)
    assert attributes["title"] == escape(value)


def test_elements() -> None:
    """Only what was made here is put in as it is."""
    assert tag("b", "1 < 2", tag("i", "&")) == "<b>1 &lt; 2<i>&amp;</i></b>"
    assert tag("path", d="M0 0", data_label="<") == '<path d="M0 0" data-label="&lt;"/>'
    assert tag("svg", width=12.5, hidden=True, role=None, data_x=3, data_y=2.0) == (
        '<svg width="12.5" hidden data-x="3" data-y="2"></svg>'
    )
    assert join(("<", tag("b"))) == "&lt;<b></b>"
    assert text(text("<")) == "&lt;"
