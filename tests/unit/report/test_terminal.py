"""clew.report.terminal: the report on a terminal of any kind."""

from __future__ import annotations

from io import BytesIO, TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from clew.model import Resource
from clew.report import Analysis, Report, redact, traces
from clew.report.terminal import TerminalReport
from clew.testing import capture_spans
from clew.tor.privacy import Privacy
from tests.tor_samples import TorSamples
from tests.unit.report.test_redaction import telling_spans


def sample_report(*, with_before: bool = False, level: Privacy | None = None) -> Report:
    groups = []
    for slow in (1.0, 0.5)[: 1 + with_before]:
        analysis = Analysis(1)
        with capture_spans() as captured:
            TorSamples(captured.tracer, slow=slow).run(60)
            for spans in traces([captured.records]):
                analysis.add(spans)
        groups.append(analysis.findings(["a.jsonl"]))
    groups = redact(groups, level)
    return Report(level, groups[0], groups[1] if with_before else None)


def draw(report: Report, width: int = 120, encoding: str = "utf-8") -> str:
    """What is printed where nothing is known of the terminal but its width and letters."""
    stream = TextIOWrapper(BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, color_system=None, markup=False, emoji=False, highlight=False)
    console.print(TerminalReport(report))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.fixture(scope="module")
def drawn() -> str:
    """A report of sixty requests."""
    return draw(sample_report())


def test_all_of_it(drawn: str) -> None:
    """Every part has its title, columns their names, curves their axis."""
    for title in (
        *("Tor report", "60 requests in ", "Time to first byte", "Time to last byte", "Steps of a stream"),
        *("Circuit build time", "Time per hop", "Onion connection phases", "Where an onion connection's time goes"),
        *("Failures", "Hops by role", "Guards", "Slowest relays", "Slowest requests", "the trace waited for it"),
        *("count   median      p90      p99  longest", "The strips are cumulative", "as recorded (level 3 lab)"),
    ):
        assert title in drawn
    hop = next(line for line in drawn.splitlines() if line.startswith("  hop 1"))
    assert hop.split()[:4] == ["hop", "1", hop.split()[2], hop.split()[3]]
    assert hop.endswith("██")


def test_before_and_after() -> None:
    """What changed stands below both."""
    lines = draw(sample_report(with_before=True)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("Time to last byte"))
    after, before, change = (line.split() for line in lines[at + 1 : at + 4])
    assert (after[:2], before[0], change[0]) == (["all", "requests"], "before", "change")
    assert all(share.startswith("+") for share in change[1:])


@pytest.mark.parametrize("width", [20, 60, 84, 100, 200])
def test_any_width(width: int) -> None:
    """No line is longer than the terminal is wide, from 60 columns on."""
    assert max(cell_len(line) for line in draw(sample_report(), width).splitlines()) <= max(width, 60)


def test_ascii_only() -> None:
    """A terminal without other letters gets none."""
    text = draw(sample_report(with_before=True), encoding="ascii")
    assert text.isascii()
    assert "#" in text


def test_at_level_0() -> None:
    """It says what is not shown."""
    text = draw(sample_report(level=Privacy.ANONYMOUS))
    assert "Privacy level 0, anonymous" in text
    assert "Guards and relays are not shown at this level." in text
    assert "snail" not in text


def test_a_sample_is_called_one() -> None:
    """Where not all values were kept, it says so."""
    report = sample_report()
    assert "drawn by lot" not in draw(report)
    series = report.findings.figures["circuit_hop"]
    sampled = {**series, "1": series["1"]._replace(drawn=10)}
    findings = report.findings._replace(figures={**report.findings.figures, "circuit_hop": sampled})
    assert "drawn by lot" in " ".join(draw(report._replace(findings=findings)).split())


def test_nothing() -> None:
    """An empty file says so."""
    text = draw(Report(None, Analysis(3).findings(["a.jsonl"]), None))
    assert "There is nothing to report: the files hold no span." in text
    assert len(text.splitlines()) < 8


@given(st.text(min_size=1, max_size=40) | st.sampled_from(["\x1b[2J", "\u202e", "x" * 10_000, "\x9b31m", "a\nb"]))
def test_hostile_names(name: str) -> None:
    """Whatever names are made of, nothing but text is printed."""
    analysis = Analysis(2)
    analysis.add([span._replace(resource=Resource({"service.name": name})) for span in telling_spans(name)])
    text = draw(Report(None, analysis.findings([name]), None), 100)
    assert all(char.isprintable() or char in "\n\u00a0\u3000\u200c\u200d" for char in text)
    assert max(map(len, text.splitlines())) <= 200
