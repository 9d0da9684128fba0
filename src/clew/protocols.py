"""What users may implement: samplers, exporters, clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from clew.errors import ConfigurationError

if TYPE_CHECKING:
    from clew.model import Attributes, SpanContext, SpanKind
    from clew.otlp import Batch

__all__ = ["Clock", "Exporter", "Sampler", "check_clock", "check_exporter", "check_sampler"]


@runtime_checkable
class Sampler(Protocol):
    """Decides once per trace, when its first span in this process begins, whether the trace is recorded."""

    def should_sample(
        self,
        trace_id: str,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        parent: SpanContext | None,
    ) -> bool:
        """Whether to record the trace.

        Args:
            trace_id: 32 hex digits.
            name: of the span that begins.
            kind: of the span that begins.
            attributes: given to start_span.
            parent: the remote parent, or None for a root. A trace that comes from elsewhere keeps the decision made
                there; a sampler is asked about it only inside `ParentSample`.

        Thread: called on the thread that starts the span; must not block. What it raises is counted, and the trace is
            then not recorded.
        """
        ...


@runtime_checkable
class Exporter(Protocol):
    """Delivers batches of spans somewhere.

    One that keeps them on this machine may say so by an attribute `leaves_machine = False`. It matters where spans pass
    a level of privacy (`clew.tor`): without it they are taken to leave, and get the strictest.
    """

    def export(self, batch: Batch) -> None:
        """Deliver a batch; return when it is delivered.

        Raises:
            ExportError: with `rejected`, when only a part was delivered. Any other exception counts the whole batch
                as failed. Nothing raised here reaches the traced program.

        Thread: always the tracer's worker thread, one call at a time. It may block; spans queue up meanwhile.
        """
        ...

    def close(self) -> None:
        """Release what the exporter holds; nothing is exported afterwards.

        Thread: the worker thread, after the last batch. Called once.
        """
        ...


@runtime_checkable
class Clock(Protocol):
    """Where a tracer takes its times from; the system's clocks unless a test gives another."""

    def time_ns(self) -> int:
        """Wall-clock nanoseconds since 1970."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back, from any origin."""
        ...


def check_sampler(sampler: Sampler) -> Sampler:
    """The sampler, if it is one.

    Raises: ConfigurationError.
    """
    _check(sampler, ("should_sample",), "a sampler", "ProbabilitySample(0.01)")
    return sampler


def check_exporter(exporter: Exporter) -> Exporter:
    """The exporter, if it is one.

    Raises: ConfigurationError.
    """
    _check(exporter, ("export", "close"), "an exporter", 'FileExporter("traces.jsonl")')
    return exporter


def check_clock(clock: Clock) -> Clock:
    """The clock, if it is one.

    Raises: ConfigurationError.
    """
    _check(clock, ("time_ns", "monotonic_ns"), "a clock", "clew.testing.FakeClock()")
    return clock


def _check(value: object, methods: tuple[str, ...], what: str, example: str) -> None:
    if isinstance(value, type):
        raise ConfigurationError(f"{value.__name__} is a class; pass {what} made of it: {value.__name__}(...).")
    if missing := [name for name in methods if not callable(getattr(value, name, None))]:
        raise ConfigurationError(f"{value!r} is not {what}: it has no method {missing[0]}. Pass one such as {example}.")
