"""Types of the native core."""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, final

from clew.model import (
    Attributes,
    Event,
    Link,
    Resource,
    Scope,
    SpanContext,
    SpanKind,
    SpanLimits,
    SpanRecord,
    Stats,
    Status,
)
from clew.protocols import Clock, Sampler

__all__ = [
    "CURRENT",
    "AlwaysSample",
    "ContextScope",
    "NeverSample",
    "ProbabilitySample",
    "Queue",
    "RateLimitSample",
    "Span",
    "TracerCore",
    "attributes_to_json",
    "current_span",
    "fork_count",
    "remote_span",
    "spans_to_json",
    "spans_to_records",
    "split_by_scope",
    "traces_to_records",
    "use_span",
]

CURRENT: Any  # the default of start_span's parent: whatever span is current

@final
class Span:
    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> SpanKind: ...
    @property
    def start_time_ns(self) -> int: ...
    @property
    def end_time_ns(self) -> int | None: ...
    @property
    def duration_ns(self) -> int | None: ...
    @property
    def status(self) -> Status: ...
    @property
    def status_description(self) -> str: ...
    @property
    def attributes(self) -> Attributes: ...
    @property
    def events(self) -> tuple[Event, ...]: ...
    @property
    def links(self) -> tuple[Link, ...]: ...
    @property
    def context(self) -> SpanContext: ...
    @property
    def is_recording(self) -> bool: ...
    def set_attribute(self, key: str, value: object) -> None: ...
    def set_attributes(self, attributes: Mapping[str, object]) -> None: ...
    def add_event(
        self, name: str, attributes: Mapping[str, object] | None = None, time_ns: int | None = None
    ) -> None: ...
    def add_link(self, context: SpanContext | Span, attributes: Mapping[str, object] | None = None) -> None: ...
    def record_error(self, error: BaseException, attributes: Mapping[str, object] | None = None) -> None: ...
    def set_status(self, status: Status, description: str = "") -> None: ...
    def update_name(self, name: str) -> None: ...
    def end(self, end_time_ns: int | None = None) -> None: ...
    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]: ...

class TracerCore:
    """What `clew.Tracer` is built on: makes spans, and puts those that ended into a `Queue`."""

    def __init__(self, queue: Queue, sampler: Sampler, clock: Clock | None = None) -> None: ...
    @property
    def sampler(self) -> Sampler:
        """What decides which traces are recorded."""
    def start_span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        attributes: Mapping[str, object] | None = None,
        links: Iterable[Link | SpanContext | Span] = (),
        parent: Span | SpanContext | None = ...,
        start_time_ns: int | None = None,
    ) -> Span: ...

@final
class Queue:
    """Ended spans as OTLP bytes, bounded by bytes, in chunks that become batches; and the ledger of all spans.

    `put` happens inside `Span.end()`. It never blocks, takes no lock and runs no Python code, except for
    `start_worker()`, once in each process, at the first span that ends there.
    """

    start_worker: Callable[[], None] | None
    closed: bool  # spans that end from now on are dropped as "closed"
    def __new__(
        cls, max_bytes: int, batch_spans: int, batch_bytes: int, limits: SpanLimits = ..., max_spans: int = ...
    ) -> Self: ...
    def take(self, timeout: float) -> tuple[bytes, int] | None:
        """The next batch: (concatenated ScopeSpans.spans fields, number of spans).

        Waits until a batch is full, `wake()` is called, or `timeout` seconds have passed; then gives whatever there
        is, None if there is nothing. What was taken stays in the ledger as queued until `settle` is called.

        Thread: one, the worker. Blocks without the GIL.
        """
    def settle(self, exported: int, failed: int) -> None:
        """The last batch taken was dealt with: so many spans of it delivered, so many not. Worker only."""
    def settle_kept(self, exported: int, failed: int, not_kept: int) -> None:
        """As `settle`, where spans are kept back: so many were dealt with, of the last batch or of earlier ones; the
        rest of the last batch is held by somebody else. Worker only."""
    def wake(self) -> None: ...
    def end_open_spans(self) -> int:
        """End every open span of this process now, marked `clew.unfinished = true`; returns how many."""
    def stats(self) -> Stats: ...
    def count_error(self) -> None:
        """A fault of an exporter or a callback that was kept away from the program. Any thread."""
    @property
    def put_total(self) -> int:
        """Spans put into the queue in this process so far (not those that were dropped)."""
    @property
    def lost_total(self) -> int:
        """Spans that ended and were dropped or failed, in this process so far."""

@final
class AlwaysSample:
    def __init__(self) -> None: ...
    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool: ...

@final
class NeverSample:
    def __init__(self) -> None: ...
    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool: ...

@final
class ProbabilitySample:
    def __init__(self, probability: float) -> None: ...
    @property
    def probability(self) -> float: ...
    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool: ...

@final
class RateLimitSample:
    def __new__(cls, per_second: float, *, clock: Clock | None = None) -> Self: ...
    @property
    def per_second(self) -> float: ...
    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool: ...

@final
class ContextScope:
    """Makes a span current for the length of a `with` block, without ending it."""

    def __init__(self, span: Span) -> None: ...
    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]: ...

def current_span() -> Span:
    """The current span; one that records nothing (all ids zero) where there is none."""

def use_span(span: Span) -> ContextScope: ...
def remote_span(context: SpanContext) -> Span:
    """A span that records nothing and stands for one elsewhere, to be made current."""

def spans_to_json(spans: bytes) -> bytes:
    """Concatenated ScopeSpans.spans fields (OTLP protobuf) as the elements of an OTLP/JSON "spans" array.

    Returns: the elements, comma-separated, without the brackets, in UTF-8, without newlines.
    Raises: DecodeError.
    """

def attributes_to_json(attributes: bytes) -> bytes:
    """Concatenated KeyValue fields of number 1 (Resource.attributes) as the elements of an "attributes" array.

    Returns, Raises: as `spans_to_json`.
    """

def spans_to_records(spans: bytes, resource: Resource, scope: Scope) -> list[SpanRecord]:
    """Concatenated ScopeSpans.spans fields as records. Raises DecodeError."""

def split_by_scope(spans: bytes) -> list[tuple[bytes, int, int]]:
    """What came out of a queue, by scope: tuples of spans, how many they are, and the number of their scope.

    Args:
        spans: concatenated ScopeSpans.spans fields, those of other scopes than number 0 marked.

    Raises: DecodeError.
    """

def traces_to_records(data: bytes) -> list[SpanRecord]:
    """A TracesData message as records. Raises DecodeError."""

def fork_count() -> int:
    """How often this process and its ancestors forked since the core was loaded, seen from this process."""
