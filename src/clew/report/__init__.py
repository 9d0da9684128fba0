"""The report: what many traces of tor say together, as numbers, on the terminal and as a page.

Its parts are loaded when they are asked for: distributions and axes serve commands that know nothing of tor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.report.analysis import Analysis
    from clew.report.findings import Findings, Remark, Report
    from clew.report.redaction import level_shown, redact
    from clew.report.window import side_by_side, traces

__all__ = ["Analysis", "Findings", "Remark", "Report", "level_shown", "redact", "side_by_side", "traces"]

_MODULES = {
    "Analysis": "analysis",
    "Findings": "findings",
    "Remark": "findings",
    "Report": "findings",
    "level_shown": "redaction",
    "redact": "redaction",
    "side_by_side": "window",
    "traces": "window",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
