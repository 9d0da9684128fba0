"""Where spans go: one module each."""

from __future__ import annotations

from clew.exporters.file import FileExporter
from clew.exporters.memory import MemoryExporter
from clew.exporters.multi import MultiExporter
from clew.exporters.noop import NoopExporter
from clew.exporters.otlp import OtlpExporter
from clew.exporters.stdout import StdoutExporter
from clew.exporters.writer import WriterExporter

__all__ = [
    "FileExporter",
    "MemoryExporter",
    "MultiExporter",
    "NoopExporter",
    "OtlpExporter",
    "StdoutExporter",
    "WriterExporter",
]
