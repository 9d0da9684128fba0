"""What exporters write: a batch as a line of OTLP JSON, or as a picture for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.pretty import format_tree

if TYPE_CHECKING:
    from clew.otlp import Batch


def batch_text(batch: Batch, *, pretty: bool, encoding: str = "utf-8") -> bytes:
    """Write a batch as text that ends with a newline.

    Args:
        pretty: an indented tree; else one line of OTLP/JSON (a TracesData object), which is UTF-8 by definition.
        encoding: of the picture; what it cannot express is escaped.
    """
    if pretty:
        return format_tree(batch.records).encode(encoding, "backslashreplace")
    return batch.to_json() + b"\n"
