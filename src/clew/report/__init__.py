"""The report: what many traces of tor say together, as numbers, on the terminal and as a page."""

from __future__ import annotations

from clew.report.analysis import Analysis
from clew.report.findings import Findings, Remark, Report
from clew.report.redaction import level_shown, redact
from clew.report.window import side_by_side, traces

__all__ = ["Analysis", "Findings", "Remark", "Report", "level_shown", "redact", "side_by_side", "traces"]
