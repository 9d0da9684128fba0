"""A pytest plugin for the foreign tests: what became of each, and whether it came to clew's provider, as JSON.

It runs in the environment of `make otel-suite`, where `tests/otel_suite` is in PYTHONPATH: `pytest -p plugin`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_results: dict[str, dict[str, Any]] = {}
_reached = Path(os.environ["CLEW_OTEL_SUITE_REACHED"])


def _made() -> int:
    """How many of clew's providers were made so far."""
    return _reached.stat().st_size if _reached.exists() else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before = _made()
    result = _results[item.nodeid] = {"outcome": "passed", "reached": False, "why": ""}
    done = yield
    result["reached"] = _made() > before
    return done


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    result = _results[report.nodeid]
    if report.failed:
        result["outcome"] = "failed"
        crash = getattr(report.longrepr, "reprcrash", None)
        result["why"] = result["why"] or str(crash.message if crash is not None else report.longrepr)[:500]
    elif report.skipped and result["outcome"] == "passed":
        result["outcome"] = "skipped"


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _results[report.nodeid] = {"outcome": "failed", "reached": True, "why": str(report.longrepr)[-500:]}


def pytest_sessionfinish() -> None:
    Path(os.environ["CLEW_OTEL_SUITE_RESULTS"]).write_text(json.dumps(_results, indent=1))
