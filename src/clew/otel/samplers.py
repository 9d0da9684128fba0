"""clew's samplers, as the SDK's users know samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api

from clew.model import SpanContext, SpanKind

if TYPE_CHECKING:
    from clew.protocols import Sampler

__all__ = ["OtelSampler", "is_otel_sampler", "to_otel_sampler"]


def is_otel_sampler(sampler: object) -> bool:
    """Whether it has the SDK's interface, which also describes itself."""
    return callable(getattr(sampler, "get_description", None)) and callable(getattr(sampler, "should_sample", None))


class OtelSampler:
    """A sampler of clew's, asked and described as the SDK does.

    Args:
        sampler: which decides once per trace; a span with a parent in this process keeps the parent's decision.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: api.SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,  # noqa: ARG002 - the SDK gives them; clew's samplers do not ask
        trace_state: Any = None,  # noqa: ARG002 - as the links
    ) -> Any:
        """Decide.

        Returns: a SamplingResult of the SDK, which has to be installed.
        """
        from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

        parent = api.get_current_span(parent_context).get_span_context()
        if not parent.is_valid:
            sampled = self._ask(trace_id, name, kind, attributes, None)
        elif parent.is_remote and getattr(self.sampler, "decides_remote", False):
            sampled = self._ask(trace_id, name, kind, attributes, parent)
        else:
            sampled = parent.trace_flags.sampled
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
        return SamplingResult(
            decision, attributes if sampled else None, parent.trace_state if parent.is_valid else None
        )

    def _ask(
        self, trace_id: int, name: str, kind: api.SpanKind | None, attributes: Any, parent: api.SpanContext | None
    ) -> bool:
        context = None
        if parent is not None:
            state = parent.trace_state.to_header() if parent.trace_state else ""
            ids = api.format_trace_id(parent.trace_id), api.format_span_id(parent.span_id)
            context = SpanContext(*ids, int(parent.trace_flags), state, is_remote=True)
        own_kind = SpanKind.INTERNAL if kind is None else SpanKind(kind.value + 1)
        return bool(
            self.sampler.should_sample(api.format_trace_id(trace_id), name, own_kind, attributes or {}, context)
        )

    def get_description(self) -> str:
        """As it would be written in Python: `ProbabilitySample(0.01)`."""
        return repr(self.sampler)

    def __repr__(self) -> str:
        return f"OtelSampler({self.sampler!r})"


def to_otel_sampler(sampler: Sampler) -> OtelSampler:
    """A sampler of clew's for the stock SDK."""
    return OtelSampler(sampler)
