"""OpenTelemetry's API on clew's core: with one line, libraries that are instrumented for it make their spans here.

    import clew, clew.otel

    clew.otel.install(clew.Tracer("shop", clew.OtlpExporter()))

Needs the extra `clew[otel]`. Nothing else of clew imports opentelemetry.
"""

from __future__ import annotations

try:
    import opentelemetry.trace  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError("clew.otel needs opentelemetry-api: pip install 'clew[otel]'") from error

from clew.otel.exporters import from_otel_exporter, to_otel_exporter
from clew.otel.provider import TracerProvider, install, provider_from_environment
from clew.otel.resources import InstrumentationScope, Resource
from clew.otel.samplers import to_otel_sampler
from clew.otel.spans import OtelSpan, OtelTracer, RuntimeContext, face_for, span_of

__all__ = [
    "InstrumentationScope",
    "OtelSpan",
    "OtelTracer",
    "Resource",
    "RuntimeContext",
    "TracerProvider",
    "face_for",
    "from_otel_exporter",
    "install",
    "provider_from_environment",
    "span_of",
    "to_otel_exporter",
    "to_otel_sampler",
]
