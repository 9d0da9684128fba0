"""Into a list, for tests and for programs that look at their own spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clew.model import SpanRecord
    from clew.otlp import Batch

__all__ = ["MemoryExporter"]


class MemoryExporter:
    """Keeps all spans until `clear()`. There is no limit: not for a program that runs long.

    A tracer exports on its own time: `tracer.flush()` first, to find what ended so far.
    """

    leaves_machine = False

    def __init__(self) -> None:
        self._batches: list[Batch] = []

    @property
    def records(self) -> list[SpanRecord]:
        """The spans in the order in which they ended; a list of the caller's own.

        Thread: any.
        """
        return [record for batch in tuple(self._batches) for record in batch.records]

    def clear(self) -> None:
        """Forget all spans.

        Thread: any.
        """
        self._batches.clear()

    def export(self, batch: Batch) -> None:
        """Keep the batch, as bytes; it is decoded when somebody asks for `records`."""
        self._batches.append(batch)

    def close(self) -> None:
        """Do nothing: the spans stay."""

    def __repr__(self) -> str:
        return "MemoryExporter()"
