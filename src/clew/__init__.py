"""Distributed tracing for Python that reaches all the way through Tor.

from clew import FileExporter, Tracer

tracer = Tracer("shop", exporter=FileExporter("traces.jsonl"))

with tracer.start_span("checkout") as span:
    span.set_attribute("items", 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew._hot import CURRENT, Span, current_span, use_span
from clew._version import __version__
from clew.errors import ClewError, ConfigurationError, DecodeError, ExportError
from clew.exporters.noop import NoopExporter
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanLimits, SpanRecord, Stats, Status
from clew.otlp import Batch
from clew.propagation import attach, carry, extract, get_baggage, inject, with_baggage
from clew.protocols import Clock, Exporter, Sampler
from clew.samplers import (
    AllOf,
    AlwaysSample,
    AnyOf,
    ByName,
    NeverSample,
    ParentSample,
    ProbabilitySample,
    RateLimitSample,
)
from clew.tracer import Tracer

if TYPE_CHECKING:
    from clew.configuration import configure, flush_on_sigterm, get_tracer
    from clew.exporters.file import FileExporter
    from clew.exporters.memory import MemoryExporter
    from clew.exporters.multi import MultiExporter
    from clew.exporters.otlp import OtlpExporter
    from clew.exporters.stdout import StdoutExporter
    from clew.exporters.writer import WriterExporter
    from clew.keeping import FlightRecorder, TailSample

__all__ = [
    "CURRENT",
    "AllOf",
    "AlwaysSample",
    "AnyOf",
    "Batch",
    "ByName",
    "ClewError",
    "Clock",
    "ConfigurationError",
    "DecodeError",
    "Event",
    "ExportError",
    "Exporter",
    "FileExporter",
    "FlightRecorder",
    "Link",
    "MemoryExporter",
    "MultiExporter",
    "NeverSample",
    "NoopExporter",
    "OtlpExporter",
    "ParentSample",
    "ProbabilitySample",
    "RateLimitSample",
    "Resource",
    "Sampler",
    "Scope",
    "Span",
    "SpanContext",
    "SpanKind",
    "SpanLimits",
    "SpanRecord",
    "Stats",
    "Status",
    "StdoutExporter",
    "TailSample",
    "Tracer",
    "WriterExporter",
    "__version__",
    "attach",
    "carry",
    "configure",
    "current_span",
    "extract",
    "flush_on_sigterm",
    "get_baggage",
    "get_tracer",
    "inject",
    "use_span",
    "with_baggage",
]


# What not every program uses is loaded when it does: `import clew` is to be quick.
_LAZY = {
    "FileExporter": "clew.exporters.file",
    "FlightRecorder": "clew.keeping",
    "MemoryExporter": "clew.exporters.memory",
    "MultiExporter": "clew.exporters.multi",
    "OtlpExporter": "clew.exporters.otlp",
    "StdoutExporter": "clew.exporters.stdout",
    "TailSample": "clew.keeping",
    "WriterExporter": "clew.exporters.writer",
    "configure": "clew.configuration",
    "flush_on_sigterm": "clew.configuration",
    "get_tracer": "clew.configuration",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
