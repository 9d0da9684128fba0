"""The figures in the documents are those that were recorded."""

from __future__ import annotations

import re
import runpy

import pytest

from tests.documents import ROOT

TABLES = runpy.run_path(str(ROOT / "benchmarks/bench_tables.py"))


@pytest.mark.parametrize(
    ("document", "blocks"), [("README.md", {"cost", "price"}), ("docs/performance.md", {"rows", "long-run"})]
)
def test_figures_are_the_recorded_ones(document: str, blocks: set[str]) -> None:
    """README.md and docs/performance.md are what `make bench` and `make longrun` write."""
    text = (ROOT / document).read_text()
    assert set(re.findall(r"^<!-- end of ([\w-]+) -->$", text, re.MULTILINE)) == blocks
    assert TABLES["filled"](text) == text


def test_a_bar_that_is_missed_is_in_the_table() -> None:
    """The table says for each bar whether it was met, and how many times as much the peers take."""
    row = {
        "what": "typical, delivered",
        "unit": "ns",
        "values": {"clew": 1234.5, "otel": 61725.0, "fastotel": 22800.0},
        "floors": 9.87,
        "times": {"otel": 50.0, "fastotel": 18.5},
        "bars": [{"text": "50 x", "met": True}, {"text": "20 x", "met": False}],
    }
    assert TABLES["cells"](row) == (
        "typical, delivered",
        "1.23 µs (9.9 floors)",
        "61.7 µs",
        "22.8 µs",
        "50 x / 18 x",
        "50 x / 20 x",
        "met / NOT MET",
    )
