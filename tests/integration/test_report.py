"""The report's page in a browser: curves are drawn, a click opens a waterfall, nothing leaves the page."""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests
from selenium.webdriver import ActionChains, Keys

from clew import FileExporter, SpanKind, Tracer
from clew.cli.main import main
from clew.model import Resource
from clew.report import Analysis, Remark, Report
from clew.report.page import render_page
from clew.tor import Privacy, trace_requests
from clew.tor.privacy import LEVEL_ATTRIBUTE
from tests.integration.browser import Browser
from tests.tor_samples import TorSamples
from tests.unit.report.test_page import HOSTILE
from tests.unit.report.test_redaction import telling_spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clew.tor.lab import Lab, OnionService

pytestmark = pytest.mark.browser

REQUESTS = 200


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all of these tests: each opens its own page."""
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 300 made-up requests, compared with others."""
    folder = tmp_path_factory.mktemp("report")
    for name, slow in (("before", 1.5), ("after", 1.0)):
        resource = {LEVEL_ATTRIBUTE: "lab"}
        with Tracer("crawler", FileExporter(folder / name), resource=resource) as tracer:
            TorSamples(tracer, slow=slow).run(300)
    path = folder / "report.html"
    arguments = ["--before", str(folder / "before"), "--privacy", "lab", "--html", str(path)]
    assert main(["tor", "report", str(folder / "after"), *arguments]) == 0
    return path


def check_calm(browser: Browser, path: Path) -> None:
    """Nothing was asked for but the page itself and the empty icon that is in it; nobody complained."""
    assert browser.complaints() == []
    assert set(browser.requests()) <= {path.as_uri(), "data:,"}


def test_curves_are_drawn(browser: Browser, page: Path) -> None:
    """Each curve has steps, is within its chart, and is as high as the chart at its end; texts are readable."""
    browser.open(page)
    curves = browser.run(
        """return [...document.querySelectorAll("path.curve")].map((path) => {
            const box = path.getBoundingClientRect();
            const chart = path.closest(".plot").querySelector("svg").getBoundingClientRect();
            return [path.getTotalLength(), box.width, box.height / chart.height,
                    box.left - chart.left, chart.right - box.right, getComputedStyle(path).stroke];
        })"""
    )
    assert isinstance(curves, list)
    assert len(curves) > 40
    for length, width, height, left, right, stroke in curves:
        assert length > 500
        assert width >= 0
        assert height == pytest.approx(1, abs=0.02)
        assert min(left, right) > -2
        assert re.fullmatch(r"rgb\(.*\)", stroke)
    assert len({curve[-1] for curve in curves}) > 5
    small = browser.run(
        """return [...document.querySelectorAll("svg text, td, th, p, dd")]
            .filter((each) => each.textContent && parseFloat(getComputedStyle(each).fontSize) < 11).length"""
    )
    assert small == 0
    check_calm(browser, page)


def test_a_click_opens_a_waterfall(browser: Browser, page: Path) -> None:
    """A request opens, then a span of it; the keyboard does as well; a link to a request opens it."""
    browser.open(page)
    request = browser.one("#request-1")
    assert not browser.one("#request-1 .waterfall").is_displayed()
    request.find_element("css selector", "summary").click()
    assert browser.one("#request-1 .waterfall").is_displayed()
    rows = request.find_elements("css selector", ".span > summary")
    assert len(rows) > 5
    bars = [row.find_element("css selector", "rect.all").size for row in rows]
    assert bars[0]["width"] > 300
    assert all(0 <= bar["width"] <= bars[0]["width"] + 1 for bar in bars)
    details = request.find_elements("css selector", ".span .more")
    assert not any(each.is_displayed() for each in details)
    rows[1].click()
    assert [each.is_displayed() for each in details][:3] == [False, True, False]
    assert "tor.stream.purpose" in details[1].text
    second = browser.one("#request-2 > summary")
    second.send_keys(Keys.ENTER)
    assert browser.one("#request-2 .waterfall").is_displayed()
    browser.run("location.hash = 'request-4'")
    assert browser.run("return document.getElementById('request-4').open") is True
    check_calm(browser, page)


def test_a_chart_is_read(browser: Browser, page: Path) -> None:
    """Pointing at a chart tells how many were done by then, before and after; arrow keys move on, Escape ends it."""
    browser.open(page)
    chart = browser.one("#time-to-first-byte .plot > svg")
    ActionChains(browser.driver).move_to_element(chart).perform()
    tip = browser.one("#time-to-first-byte .tip").text
    assert re.match(r"within [\d.]+ (µs|ms|s)\n", tip)
    shares = [float(share) for share in re.findall(r"([\d.]+) %", tip)]
    assert len(shares) == 6
    assert 0 < min(shares) < max(shares) <= 100
    chart.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.one("#time-to-first-byte .tip").text != tip
    chart.send_keys(Keys.ESCAPE)
    assert browser.all("#time-to-first-byte .tip") == []
    check_calm(browser, page)


def test_on_a_phone_and_in_the_dark(browser: Browser, page: Path) -> None:
    """Nothing sticks out to the right of a phone; in the dark, the page is dark."""
    browser.open(page)
    try:
        for width in (360, 768, 1280):
            browser.size(width, 800)
            browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert browser.run("return document.documentElement.scrollWidth") == width
        grounds = []
        for scheme in ("light", "dark"):
            browser.color_scheme(scheme)
            color = browser.run("return getComputedStyle(document.body).backgroundColor")
            grounds.append(sum(map(int, re.findall(r"\d+", str(color)))))
        assert grounds[0] > 700
        assert grounds[1] < 100
    finally:
        browser.size(1280, 900)
        browser.color_scheme("light")
    check_calm(browser, page)


def test_hostile_names(browser: Browser, tmp_path: Path) -> None:
    """Names that are scripts, markup, or far too long are text; nothing runs, and the page keeps its form."""
    path = tmp_path / "hostile.html"
    heights = []
    for name in ("harmless", *HOSTILE, *("<svg onload=alert(1)>", "${alert(1)}", "javascript:alert(1)")):
        analysis = Analysis(2)
        analysis.add([span._replace(resource=Resource({"service.name": name})) for span in telling_spans(name)])
        findings = analysis.findings([name], [Remark(0, name)])
        path.write_text(render_page(Report(None, findings, findings)))
        browser.open(path)
        browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert browser.run("return document.scripts.length") == 1
        assert browser.run("return document.documentElement.scrollWidth") == 1280
        assert len(browser.all("path.curve")) > 5
        heights.append(browser.run("return document.documentElement.scrollHeight"))
        check_calm(browser, path)
    assert max(heights) < 4 * heights[0]  # type: ignore[type-var, operator]


def test_scripts_of_others_would_not_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    """Even if markup got into the page, its policy would not let it run or reach anybody."""
    path = tmp_path / "broken.html"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        hostile = (
            "<script>document.title = 'run'</script>"
            f"<img src='{address}' onerror=\"document.title = 'run'\">"
            f"<link rel=stylesheet href='{address}'><script src='{address}'></script>"
        )
        path.write_text(page.read_text().replace("</main>", hostile))
        browser.open(path)
        assert browser.driver.title.startswith("Tor report")
        assert any("Content Security Policy" in complaint for complaint in browser.complaints())
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_empty_file(browser: Browser, tmp_path: Path) -> None:
    """The page says so."""
    (tmp_path / "empty.jsonl").touch()
    path = tmp_path / "report.html"
    assert main(["tor", "report", str(tmp_path / "empty.jsonl"), "--html", str(path)]) == 1
    browser.open(path)
    assert browser.one("h2").text == "There is nothing to report"
    check_calm(browser, path)


@pytest.mark.tor
def test_of_the_lab(browser: Browser, lab: Lab, onion_service: OnionService, web_port: int, tmp_path: Path) -> None:
    """Two hundred requests through a real tor: what is on the page is what happened."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        outcomes = run_requests(lab, onion_service, web_port, closed.getsockname()[1], tmp_path / "lab.jsonl")
    failed = sum(not outcome.is_whole for outcome in outcomes)
    assert REQUESTS // 20 <= failed <= REQUESTS // 4, "those to nobody, and what tor gave up on a busy machine"
    path = tmp_path / "report.html"
    assert main(["tor", "report", str(tmp_path / "lab.jsonl"), "--html", str(path), "--privacy", "lab"]) == 0
    browser.open(path)
    assert browser.one(".tile .value").text == str(REQUESTS)
    assert browser.one(".tile .note").text == f"{failed} failed ({failed / REQUESTS:.1%})"
    titles = {each.text for each in browser.all("h3")}
    assert {"Time to first byte", "Circuit build time", "Where a connection's time goes", "Guards"} <= titles
    counts = {
        row.find_element("css selector", "th").text: int(row.find_element("css selector", "td").text)
        for row in browser.all("#time-to-first-byte tbody tr")
    }
    answered = [outcome.to_onion for outcome in outcomes if outcome.has_answer]
    assert counts == {
        "all requests": len(answered),
        "to other destinations": answered.count(False),
        "to onion services": answered.count(True),
    }
    browser.one("#request-1 > summary").click()
    names = [each.text for each in browser.all("#request-1 .span .name")]
    assert names[0].startswith("GET")
    assert any("tor.stream" in name for name in names)
    check_calm(browser, path)


@dataclass
class Outcome:
    """What became of a request, as the program saw it."""

    to_onion: bool
    has_answer: bool = False
    is_whole: bool = False


def run_requests(lab: Lab, service: OnionService, web_port: int, closed_port: int, file: Path) -> list[Outcome]:
    """Trace requests to a web server, an onion service, and a port where nobody listens."""

    def fetch(number: int) -> Outcome:
        outcome = Outcome(to_onion=number % 5 == 0)
        host = service.address if number % 5 == 0 else f"127.0.0.1:{web_port}"
        if number % 20 == 7:
            host = f"127.0.0.1:{closed_port}"
        with suppress(OSError), tracer.start_span("GET", SpanKind.CLIENT) as span, requests.Session() as session:
            session.trust_env = False
            session.proxies["http"] = f"socks5h://127.0.0.1:{lab.socks_port}"
            with session.get(f"http://{host}/?{number * 100}", stream=True, timeout=60) as answer:
                span.add_event("first_byte")
                outcome.has_answer = True
                assert len(answer.content) > number * 100
                outcome.is_whole = True
        return outcome

    with (
        Tracer("program", FileExporter(file)) as tracer,
        trace_requests(tracer, control=lab.control, privacy=Privacy.LAB),
        ThreadPoolExecutor(8) as pool,
    ):
        return list(pool.map(fetch, range(REQUESTS)))
