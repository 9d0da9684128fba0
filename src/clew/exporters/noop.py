"""Nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clew.otlp import Batch

__all__ = ["NoopExporter"]


class NoopExporter:
    """Takes every span and keeps none; in the ledger they are exported."""

    leaves_machine = False

    def export(self, batch: Batch) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "NoopExporter()"
