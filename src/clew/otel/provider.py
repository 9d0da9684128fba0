"""The tracer provider: what a program sets once, and every instrumented library takes its tracer from."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry import trace as api

from clew.configuration import get_tracer, make_tracer
from clew.errors import ConfigurationError
from clew.exporters.noop import NoopExporter
from clew.model import Scope, SpanLimits
from clew.otel.resources import InstrumentationScope, Resource, detected
from clew.otel.samplers import OtelSampler, is_otel_sampler
from clew.otel.spans import OtelTracer, RuntimeContext, Shared
from clew.samplers import AlwaysSample

if TYPE_CHECKING:
    from clew.keeping import FlightRecorder
    from clew.protocols import Exporter, Sampler
    from clew.tracer import Tracer

__all__ = ["TracerProvider", "install", "provider_from_environment"]

_log = logging.getLogger("clew.otel")
_UNLIMITED = (1 << 31) - 1


class TracerProvider(api.TracerProvider):
    """Tracers of the OpenTelemetry API whose spans are made by clew's core.

    The first six arguments are those of the SDK's provider, in its order. What its tracers share is a `clew.Tracer`:
    the spans that end go to its exporter, and to the span processors that are added here.

    Args:
        sampler: one of clew's, or one of the SDK's interface, which is asked about every span. OTEL_TRACES_SAMPLER by
            default.
        resource: an object with `attributes`, such as the SDK's Resource. The environment's by default.
        shutdown_on_exit: whether `shutdown` is called when the program ends.
        active_span_processor: a processor that others are added to, such as the SDK's ConcurrentMultiSpanProcessor.
        id_generator: makes the ids, by the SDK's interface; random ones of the core by default.
        span_limits: the SDK's SpanLimits or clew's. OTEL_*_LIMIT by default.
        exporter: one of clew's. None by default: spans go to the processors alone.
        tracer: a clew.Tracer to use as it is, instead of a sampler, a resource, limits and an exporter.

    Raises: ConfigurationError.
    Thread: all methods may be called on any thread.
    Source: the OpenTelemetry specification, "Tracing SDK", "Tracer Provider".
    """

    def __init__(
        self,
        sampler: Sampler | Any | None = None,
        resource: Any = None,
        shutdown_on_exit: bool = True,
        active_span_processor: Any = None,
        id_generator: Any = None,
        span_limits: Any = None,
        *,
        exporter: Exporter | FlightRecorder | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        given = [sampler, resource, span_limits, exporter]
        if tracer is not None and any(each is not None for each in given):
            raise ConfigurationError("a TracerProvider has a tracer, or what it makes one of: not both.")
        theirs = sampler if is_otel_sampler(sampler) else None
        if tracer is None:
            tracer = _make(
                None if theirs is not None else sampler, resource, span_limits, exporter, asks=theirs is not None
            )
        self.tracer = tracer
        if resource is None:
            resource = Resource(tracer.resource.attributes)
        self._shared = Shared(tracer, resource, theirs, id_generator)
        self._sampler = theirs
        self.id_generator = id_generator
        self._holder = active_span_processor
        if active_span_processor is not None:
            self._shared.processors = (active_span_processor,)
        self._disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        self._lock = threading.Lock()
        self._tracers: dict[InstrumentationScope, OtelTracer] = {}
        self._at_exit = atexit.register(self.shutdown) if shutdown_on_exit else None
        if "process.pid" in self._shared.resource.attributes:
            renew = weakref.WeakMethod(self._renew_process)
            os.register_at_fork(after_in_child=lambda: (function := renew()) and function())
        _take_over_context()

    @property
    def resource(self) -> Any:
        """What makes the spans."""
        return self._shared.resource

    @property
    def sampler(self) -> Any:
        """Which decides what is recorded, with the SDK's interface."""
        return self._sampler or OtelSampler(self.tracer.sampler)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> api.Tracer:
        """The tracer of a library; the same one for the same library.

        Args:
            instrumenting_module_name: of the library that makes the spans.
            instrumenting_library_version: its version.
            schema_url: of the names that it uses.
            attributes: of the scope.
        """
        if self._disabled:
            return api.NoOpTracer()
        if not instrumenting_module_name:
            instrumenting_module_name = ""
            _log.error("get_tracer called with missing module name.")
        scope = InstrumentationScope(
            instrumenting_module_name,
            instrumenting_library_version or "",
            schema_url or "",
            MappingProxyType(dict(attributes or {})),
        )
        with self._lock:
            tracer = self._tracers.get(scope)
            if tracer is None:
                number = self.tracer.scope_number(Scope(scope.name, scope.version, scope.attributes, scope.schema_url))
                tracer = self._tracers[scope] = OtelTracer(self._shared, scope, number)
        return tracer  # type: ignore[return-value] # it is registered as one

    def add_span_processor(self, span_processor: Any) -> None:
        """Have a processor told of every span that a tracer of this provider begins and ends.

        Args:
            span_processor: an object with `on_start`, `on_end`, `shutdown` and `force_flush`, as the SDK's processors.
        """
        if self._holder is not None:
            self._holder.add_span_processor(span_processor)
            return
        with self._lock:
            self._shared.processors += (span_processor,)

    # Private to the SDK's provider, and read all the same by libraries that look whether their processor is there.

    @property
    def _active_span_processor(self) -> Any:
        return self if self._holder is None else self._holder

    @property
    def _span_processors(self) -> tuple[Any, ...]:
        return self._shared.processors

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Have everything delivered that ended so far.

        Args:
            timeout_millis: milliseconds that it may take, all together.

        Returns: whether it was.
        """
        deadline = monotonic() + timeout_millis / 1000
        flushed = True
        for processor in self._shared.processors:
            left = deadline - monotonic()
            if left <= 0:
                return False
            flushed = self._call(processor, "force_flush", int(left * 1000)) is not False and flushed
        return self.tracer.flush(max(deadline - monotonic(), 0.0)) and flushed

    def shutdown(self) -> None:
        """Deliver everything, and close the processors and the exporter. Once is enough."""
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
            self._at_exit = None
        for processor in self._shared.processors:
            self._call(processor, "shutdown")
        self.tracer.close()

    def _renew_process(self) -> None:
        """In a child that was forked: the detector of processes told of its parent."""
        ids = {"process.pid": os.getpid(), "process.parent_pid": os.getppid()}
        ids = {name: number for name, number in ids.items() if name in self._shared.resource.attributes}
        self._shared.resource = Resource(self._shared.resource.attributes, self._shared.resource.schema_url).merge(
            Resource(ids)
        )
        self.tracer.update_resource(ids)

    def _call(self, processor: Any, method: str, *arguments: Any) -> Any:
        try:
            return getattr(processor, method)(*arguments)
        except Exception:  # noqa: BLE001 - it is somebody else's code
            self._shared.count_error()
            _log.warning("%s of %r failed", method, type(processor), exc_info=True)
            return False

    def __repr__(self) -> str:
        return f"TracerProvider({self.tracer!r})"


def install(tracer: Tracer | None = None) -> TracerProvider:
    """Have every library that is instrumented for OpenTelemetry make its spans with clew.

    Args:
        tracer: whose exporter and sampler they use; `clew.get_tracer()`, from the environment, by default.

    Returns: the provider, which is from now on `opentelemetry.trace.get_tracer_provider()`.
    Raises: ConfigurationError: there is another provider already.
    Thread: any.
    """
    provider = TracerProvider(tracer=get_tracer() if tracer is None else tracer, shutdown_on_exit=False)
    current = getattr(api, "_TRACER_PROVIDER", None)
    if current is None:
        api.set_tracer_provider(provider)
        current = api.get_tracer_provider()
    if current is not provider:
        raise ConfigurationError(f"the process has a tracer provider already, {current!r}: install clew before it.")
    return provider


def provider_from_environment() -> TracerProvider:
    """What `opentelemetry-instrument --tracer_provider clew` and OTEL_PYTHON_TRACER_PROVIDER=clew load.

    Raises: ConfigurationError: a variable of the environment is wrong.
    """
    return TracerProvider(tracer=get_tracer(), shutdown_on_exit=False)


def _make(
    sampler: Sampler | None, resource: Any, limits: Any, exporter: Exporter | FlightRecorder | None, *, asks: bool
) -> Tracer:
    """A clew.Tracer of the SDK's arguments; what is not given, from the environment."""
    options: dict[str, Any] = {}
    if limits is not None:
        options["limits"] = limits if isinstance(limits, SpanLimits) else _own_limits(limits)
    attributes: dict[str, Any] = detected() if resource is None else dict(resource.attributes)
    return make_tracer(
        os.environ,
        exporter=NoopExporter() if exporter is None else exporter,
        sampler=AlwaysSample() if asks else sampler,  # one of theirs decides before clew's is asked
        resource=attributes,
        **options,
    )


def _own_limits(limits: Any) -> SpanLimits:
    def count(limit: int | None) -> int:
        return _UNLIMITED if limit is None else limit

    return SpanLimits(
        count(limits.max_span_attributes),
        count(limits.max_events),
        count(limits.max_links),
        count(limits.max_event_attributes),
        count(limits.max_link_attributes),
        limits.max_span_attribute_length,
        limits.max_attribute_length,
    )


_context_lock = threading.Lock()


def _take_over_context() -> None:
    """From now on the API's current context is kept in one with clew's. What is attached already stays attached."""
    with _context_lock:
        runtime = context_api._RUNTIME_CONTEXT  # noqa: SLF001 - its entry point is read before a program can say anything
        if not isinstance(runtime, RuntimeContext):
            context_api._RUNTIME_CONTEXT = RuntimeContext(runtime)  # type: ignore[assignment] # noqa: SLF001
