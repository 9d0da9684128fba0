"""The tracer: ties service name, sampler and exporter together, and makes spans."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import wraps
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from clew._hot import AlwaysSample, Queue, TracerCore, current_span, use_span
from clew._version import __version__
from clew.errors import ConfigurationError
from clew.exporters.noop import NoopExporter
from clew.limits import BATCH_BYTES, BATCH_DELAY_SECONDS, BATCH_SPANS, CLOSE_TIMEOUT_SECONDS, QUEUE_BYTES
from clew.model import Resource, Scope, SpanKind, SpanLimits
from clew.pipeline import Pipeline
from clew.protocols import check_clock, check_exporter, check_sampler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType

    from clew._hot import Span
    from clew.keeping import FlightRecorder, Stage
    from clew.model import AttributeValue, Stats
    from clew.protocols import Clock, Exporter, Sampler

__all__ = ["Tracer"]

_F = TypeVar("_F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[..., Any]")


class Tracer(TracerCore):
    """Makes spans, and delivers those that ended to an exporter, on a thread of its own.

    A context manager: leaving the block closes it. What is not closed is closed when the program ends, within
    `close_timeout`.

    Args:
        service_name: what the program is called among all that are traced (`service.name`).
        exporter: where the spans go; nowhere by default.
        sampler: which traces are recorded; all by default. With a `TailSample`, which of the recorded are kept.
        resource: more attributes of what makes the spans, such as `{"service.version": "1.2"}`.
        clock: where times come from; the system's by default.
        max_queue_bytes: of spans that wait for the exporter; those that end beyond it are dropped and counted.
        max_queue_spans: the same bound in spans; by default the bytes alone count.
        batch_spans: spans of one batch, at the most.
        batch_delay: seconds after which a batch is exported that is not full.
        close_timeout: seconds that `flush` and `close` wait if they are not told how long, and the end of the program.
        limits: of what one span holds.
        export_timeout: seconds that an exporter may take for a batch; by default its own time-outs alone count. Only an
            exporter that asks for it (`OtlpExporter`) can be held to it; none ever holds the program up.

    Raises: ConfigurationError.
    Thread: all methods may be called on any thread.
    """

    def __init__(
        self,
        service_name: str,
        exporter: Exporter | FlightRecorder | None = None,
        sampler: Sampler | None = None,
        *,
        resource: Mapping[str, AttributeValue] | None = None,
        clock: Clock | None = None,
        max_queue_bytes: int = QUEUE_BYTES,
        max_queue_spans: int | None = None,
        batch_spans: int = BATCH_SPANS,
        batch_delay: float = BATCH_DELAY_SECONDS,
        close_timeout: float = CLOSE_TIMEOUT_SECONDS,
        limits: SpanLimits | None = None,
        export_timeout: float | None = None,
    ) -> None:
        if not isinstance(service_name, str) or not service_name.strip():
            raise ConfigurationError(
                f'A tracer has the name of its service, as in Tracer("shop"), not {service_name!r}.'
            )
        sampler = AlwaysSample() if sampler is None else check_sampler(sampler)
        if exporter is None:
            exporter = NoopExporter()
        if clock is not None:
            check_clock(clock)
        _check_count("max_queue_bytes", max_queue_bytes)
        if max_queue_spans is not None:
            _check_count("max_queue_spans", max_queue_spans)
        _check_count("batch_spans", batch_spans)
        _check_seconds("batch_delay", batch_delay)
        _check_seconds("close_timeout", close_timeout, zero=True)
        if export_timeout is not None:
            _check_seconds("export_timeout", export_timeout)
        self.resource = _resource(service_name, resource)
        max_spans = sys.maxsize if max_queue_spans is None else min(max_queue_spans, sys.maxsize)
        # A batch that the queue cannot hold would never be full.
        batch_spans, batch_bytes = min(batch_spans, max_spans), min(BATCH_BYTES, max_queue_bytes)
        self._queue = Queue(max_queue_bytes, batch_spans, batch_bytes, _limits(limits), max_spans)
        self._close_timeout = float(close_timeout)
        stages: list[Stage] = []
        # Both only where they are used: `import clew` is to be quick.
        if (make_stage := getattr(sampler, "make_stage", None)) is not None:
            stages.append(make_stage())
            sampler = AlwaysSample()  # which the core asks without Python
        if (make_stage := getattr(exporter, "make_stage", None)) is not None:
            queue = self._queue
            stages.append(make_stage(queue.wake, lambda: queue.put_total))
            exporter = cast("FlightRecorder", exporter).exporter
        super().__init__(self._queue, sampler, clock)
        self._pipeline = Pipeline(
            self._queue,
            check_exporter(cast("Exporter", exporter)),
            self.resource,
            Scope("clew", __version__),
            float(batch_delay),
            self._close_timeout,
            tuple(stages),
            float("inf") if export_timeout is None else float(export_timeout),
        )

    @property
    def exporter(self) -> Exporter:
        """Where the spans go.

        Another may be put in its place at any moment, such as one that wraps it: what waits goes there too. The one
        that was there is not closed. Raises ConfigurationError for what is no exporter.
        """
        return self._pipeline.exporter

    @exporter.setter
    def exporter(self, exporter: Exporter) -> None:
        self._pipeline.exporter = check_exporter(exporter)

    @overload
    def trace(self, function: _F, /) -> _F: ...

    @overload
    def trace(
        self,
        name: str | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, object] | None = None,
    ) -> Callable[[_F], _F]: ...

    def trace(
        self,
        name: object = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, object] | None = None,
    ) -> Any:
        """A decorator: every call of the function is a span, current while the function's body runs.

        `@tracer.trace` or `@tracer.trace("name", kind=..., attributes=...)`, on functions, methods, coroutines,
        generators and async generators. The span of a generator lasts from its first step to its end, and is not
        current in the loop that consumes it.

        Args:
            name: of the spans; the function's qualified name by default.
            kind: of the spans.
            attributes: of every span, copied now.

        Raises: ConfigurationError, when it decorates what is not a function.
        """
        copied = None if attributes is None else dict(attributes)
        if name is None or isinstance(name, str):
            given = name
            return lambda function: self._decorate(function, given, kind, copied)
        return self._decorate(name, None, kind, copied)

    def _decorate(
        self, function: Any, name: str | None, kind: SpanKind, attributes: Mapping[str, object] | None
    ) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self._decorate(function.__func__, name, kind, attributes))
        if isinstance(function, type) or not callable(function):
            raise ConfigurationError(f"trace decorates functions and methods, not {function!r}.")
        if name is None:
            # "fetch" for a function within another, not "main.<locals>.fetch".
            name = getattr(function, "__qualname__", type(function).__qualname__).rpartition("<locals>.")[2]

        def start() -> Span:
            return self.start_span(name, kind, attributes=attributes)

        flags = _code_flags(function)
        for flag, wrap in _WRAPPERS:
            if flags & flag:
                return wrap(function, start)
        return _trace_call(function, start)

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver now what ended so far.

        Args:
            timeout: seconds to wait at the most; the tracer's close_timeout by default.

        Returns: True only if everything that ended before the call was delivered, and nothing was lost (dropped, or
            failed to be delivered) since the flush before.
        Thread: any. Blocks; Ctrl-C interrupts it.
        """
        return self._pipeline.flush(self._seconds(timeout))

    def close(self, timeout: float | None = None) -> bool:
        """End the spans that are open, marked `clew.unfinished`, deliver everything, and close the exporter.

        Spans that end later are dropped, and counted. To close again does no harm.

        Args:
            timeout: seconds to wait at the most; the tracer's close_timeout by default.

        Returns: True only if all that ended before was delivered, nothing was lost since the last flush, and the
            exporter is closed.
        Thread: any. Blocks; Ctrl-C interrupts it.
        """
        return self._pipeline.close(self._seconds(timeout))

    def update_resource(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Have the spans that are exported from now on come from a resource with these attributes too.

        Raises: ConfigurationError. Thread: any.
        """
        self.resource = _resource(self.resource.service_name, {**self.resource.attributes, **attributes})
        self._pipeline.resource = self.resource

    def scope_number(self, scope: Scope) -> int:
        """The number by which the native core knows a library in whose name spans are made. For clew.otel.

        Thread: any. Does not block.
        """
        return self._pipeline.scope_number(scope)

    def stats(self) -> Stats:
        """The ledger of this tracer's spans in this process.

        Thread: any. Does not block.
        """
        return self._queue.stats()

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._close_timeout
        try:
            seconds = float(timeout)
        except (TypeError, ValueError, OverflowError):
            # Not a time, and not a reason to fail the program that is traced.
            self._queue.count_error()
            return self._close_timeout
        return max(seconds, 0.0) if seconds == seconds else 0.0  # noqa: PLR0124 - NaN is unlike itself

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not there if the construction failed.
        pipeline = getattr(self, "_pipeline", None)
        if pipeline is not None:
            pipeline.abandon()

    def __repr__(self) -> str:
        return f"Tracer({self.resource.service_name!r})"


# --- the constructor's checks ----------------------------------------------------------------------------------------


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ConfigurationError(f"{name} is a whole number above 0, not {value!r}.")


def _check_seconds(name: str, value: float, *, zero: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf") or (value == 0 and not zero):
        raise ConfigurationError(f"{name} is a number of seconds{'' if zero else ' above 0'}, not {value!r}.")


def _limits(limits: SpanLimits | None) -> SpanLimits:
    if limits is None:
        return SpanLimits()
    if not isinstance(limits, SpanLimits):
        raise ConfigurationError(f"limits is a SpanLimits, as in SpanLimits(attributes=64), not {limits!r}.")
    for name, value in zip(limits._fields, limits, strict=True):
        if value is None and name.endswith("value_length"):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            raise ConfigurationError(f"{name} of SpanLimits is a whole number, 0 or more, not {value!r}.")
    return limits


def _resource(service_name: str, more: Mapping[str, AttributeValue] | None) -> Resource:
    attributes: dict[str, AttributeValue] = {}
    if more is not None:
        if not isinstance(more, Mapping):
            raise ConfigurationError(f'resource is a mapping, as in {{"service.version": "1.2"}}, not {more!r}.')
        for key, value in more.items():
            if not isinstance(key, str) or not key:
                raise ConfigurationError(f"resource has names that are strings, not {key!r}.")
            attributes[key] = _resource_value(key, value)
    attributes["service.name"] = service_name
    attributes["telemetry.sdk.name"] = "clew"
    attributes["telemetry.sdk.language"] = "python"
    attributes["telemetry.sdk.version"] = __version__
    return Resource(MappingProxyType(attributes))


def _resource_value(key: str, value: object) -> AttributeValue:
    if value is None or isinstance(value, (str, bool, int, float, bytes)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_resource_value(key, item) for item in value)
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _resource_value(key, item) for name, item in value.items()}
    raise ConfigurationError(
        f"resource[{key!r}] is a str, bool, int, float, bytes, None, or a list or mapping of these, not {value!r}."
    )


# --- the decorator ---------------------------------------------------------------------------------------------------

# Flags of code objects, as in `inspect`, which costs 10 ms to import (CPython's Include/cpython/code.h).
_GENERATOR = 0x20
_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100
_ASYNC_GENERATOR = 0x200


def _code_flags(function: Any) -> int:
    """What calling it gives: flags of its code, also where that is behind functools.partial or a `__call__`."""
    while not hasattr(function, "__code__") and hasattr(function, "func"):
        function = function.func
    if not hasattr(function, "__code__"):
        function = type(function).__call__
    code = getattr(function, "__code__", None)
    return code.co_flags if isinstance(code, CodeType) else 0


def _trace_call(function: Callable[..., Any], start: Callable[[], Span]) -> Callable[..., Any]:
    @wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with start():
            return function(*args, **kwargs)

    return traced


def _trace_coroutine(function: Callable[..., Any], start: Callable[[], Span]) -> Callable[..., Any]:
    @wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        with start():
            return await function(*args, **kwargs)

    return traced


class _Body:
    """What is current inside the body of a generator: entered at each step, left at each yield.

    What the body made current before a yield is current again after it, and the consumer's loop sees none of it. So
    both ends set what is to be current, whatever the other left behind, also when another task takes the next step.
    """

    __slots__ = ("_inside", "_outside")

    def __init__(self, span: Span) -> None:
        self._inside = span
        self._outside = span

    def __enter__(self) -> None:
        self._outside = current_span()
        use_span(self._inside).__enter__()

    def __exit__(self, *error: object) -> None:
        self._inside = current_span()
        use_span(self._outside).__enter__()


def _trace_generator(
    function: Callable[..., Generator[Any, Any, Any]], start: Callable[[], Span]
) -> Callable[..., Generator[Any, Any, Any]]:
    @wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        span = start()
        body = _Body(span)
        # As `yield from` does (PEP 380), but for what is current.
        try:
            generator = function(*args, **kwargs)
            with body:
                item = next(generator)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    with body:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown into the body, which raises it or not
                    with body:
                        item = generator.throw(error)
                else:
                    with body:
                        item = generator.send(sent)
        except StopIteration as stop:
            span.end()
            return stop.value
        except BaseException:
            with span:  # which records the error and ends it
                raise

    return traced


def _trace_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], start: Callable[[], Span]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    @wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        span = start()
        body = _Body(span)
        try:
            generator = function(*args, **kwargs)
            with body:
                item = await anext(generator)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    with body:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown into the body, which raises it or not
                    with body:
                        item = await generator.athrow(error)
                else:
                    with body:
                        item = await generator.asend(sent)
        except StopAsyncIteration:
            span.end()
        except BaseException:
            with span:  # which records the error and ends it
                raise

    return traced


_WRAPPERS = cast(
    "tuple[tuple[int, Callable[[Callable[..., Any], Callable[[], Span]], Callable[..., Any]]], ...]",
    (
        (_COROUTINE | _ITERABLE_COROUTINE, _trace_coroutine),
        (_ASYNC_GENERATOR, _trace_async_generator),
        (_GENERATOR, _trace_generator),
    ),
)
