"""The report as a page for a browser."""

from __future__ import annotations

from clew.report.page.document import render_page

__all__ = ["render_page"]
