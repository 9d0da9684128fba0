"""Drawing traces on a terminal, with rich. No I/O: records in, something to print out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.pretty import escape
from clew.render.bars import ASCII_GLYPHS, UNICODE_GLYPHS, Glyphs
from clew.render.styles import Line, Role, to_segments
from clew.render.timing import Timing
from clew.render.waterfall import Legend, Totals, Waterfall
from clew.tree import Node, Trace, assemble

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from clew.model import SpanRecord

__all__ = [
    "ASCII_GLYPHS",
    "UNICODE_GLYPHS",
    "Glyphs",
    "Legend",
    "Line",
    "Node",
    "Role",
    "Timing",
    "Totals",
    "Trace",
    "Waterfall",
    "assemble",
    "escape",
    "render_text",
    "to_segments",
]


def render_text(
    records: Iterable[SpanRecord],
    *,
    width: int = 100,
    details: bool = False,
    glyphs: Glyphs = UNICODE_GLYPHS,
    timezone: tzinfo | None = None,
) -> str:
    """Draw traces as plain text without colour.

    Args:
        records: of any number of traces, in any order.
        width: in columns.
        details: draw every attribute, event and link.
        timezone: in which times of day are written; None for the machine's own.
    """
    pictures = (Waterfall(trace, details=details, timezone=timezone) for trace in assemble(records))
    return "\n".join(
        "".join("".join(text for text, _ in line) + "\n" for line in picture.lines(width, glyphs))
        for picture in pictures
    )
