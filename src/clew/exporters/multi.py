"""To several exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.errors import ConfigurationError, ExportError
from clew.protocols import check_exporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.otlp import Batch
    from clew.protocols import Exporter

__all__ = ["MultiExporter"]


class MultiExporter:
    """Gives every batch to each of its exporters, in their order, whether or not those before could deliver it.

    A span is exported when every exporter delivered it. So a batch that one of them could not deliver is failed, and is
    not offered again to those that did; of one that rejected a part, that part is failed.

    Args:
        exporters: at least one.

    Raises: ConfigurationError.
    """

    def __init__(self, *exporters: Exporter) -> None:
        if not exporters:
            raise ConfigurationError("MultiExporter takes at least one exporter: MultiExporter(StdoutExporter()).")
        self.exporters = tuple(check_exporter(exporter) for exporter in exporters)

    def export(self, batch: Batch) -> None:
        """Deliver to each.

        Raises: ExportError, when one or more could not deliver all of it.
        """
        self._each(lambda exporter: exporter.export(batch), batch.count)

    def close(self) -> None:
        """Close each, also when another's close fails.

        Raises: ExportError, when one or more failed to.
        """
        self._each(lambda exporter: exporter.close(), 0)

    def _each(self, call: Callable[[Exporter], None], count: int) -> None:
        faults: list[str] = []
        rejected = 0
        for exporter in self.exporters:
            try:
                call(exporter)
            except Exception as error:  # noqa: BLE001 - whatever one raises, it must not stop the others
                faults.append(f"{exporter!r}: {type(error).__name__}: {error}")
                # Which spans were rejected is not known, so two exporters may mean different ones: the sum is safe.
                part = error.rejected if isinstance(error, ExportError) else None
                rejected += count if part is None else part
        if faults:
            raise ExportError("; ".join(faults), rejected=min(rejected, count))

    def __repr__(self) -> str:
        return f"MultiExporter({', '.join(map(repr, self.exporters))})"
