"""What the tests of clew.otel share: a provider whose spans land in a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew import MemoryExporter, Tracer
from clew.otel import TracerProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.trace import Tracer as OtelTracer

    from clew import SpanRecord


@pytest.fixture
def memory() -> MemoryExporter:
    return MemoryExporter()


@pytest.fixture
def own(memory: MemoryExporter) -> Iterator[Tracer]:
    """A tracer of clew's."""
    with Tracer("shop", memory) as tracer:
        yield tracer


@pytest.fixture
def provider(own: Tracer) -> TracerProvider:
    """A provider on it."""
    return TracerProvider(tracer=own, shutdown_on_exit=False)


@pytest.fixture
def tracer(provider: TracerProvider) -> OtelTracer:
    """A library's tracer of that provider."""
    return provider.get_tracer("library", "1.0")


@pytest.fixture
def records(own: Tracer, memory: MemoryExporter) -> Callable[[], list[SpanRecord]]:
    """What has ended so far."""

    def read() -> list[SpanRecord]:
        assert own.flush()
        return list(memory.records)

    return read
