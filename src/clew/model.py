"""What clew is about, as immutable values: contexts, records, events, links, resources.

Records are what exporters, readers and renderers see. They are decoded from OTLP on demand (`clew.otlp`); the span
that a program holds while it runs is `clew.Span`, a native object.

All times are wall-clock nanoseconds since 1970 (UTC) as `int`.
"""

# Without `from __future__ import annotations`: NamedTuple compiles each annotation that is a string, and sixty of them
# cost as much as the rest of `import clew`.

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from clew.limits import ATTRIBUTES_PER_EVENT, ATTRIBUTES_PER_LINK, ATTRIBUTES_PER_SPAN, EVENTS_PER_SPAN, LINKS_PER_SPAN

__all__ = [
    "AttributeValue",
    "Attributes",
    "Event",
    "Link",
    "Resource",
    "Scope",
    "SpanContext",
    "SpanKind",
    "SpanLimits",
    "SpanRecord",
    "Stats",
    "Status",
]

# What an attribute may be when it is read back: sequences come back as tuples, mappings as dicts.
AttributeValue: TypeAlias = (
    "bool | int | float | str | bytes | tuple[AttributeValue, ...] | Mapping[str, AttributeValue] | None"
)
if TYPE_CHECKING:
    Attributes: TypeAlias = Mapping[str, AttributeValue]
else:
    Attributes = Mapping

_EMPTY: Attributes = MappingProxyType({})


class SpanKind(IntEnum):
    """The role of a span in a trace. The numbers are OTLP's (`Span.SpanKind` in trace.proto)."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Status(IntEnum):
    """How an operation ended.

    0 to 2 are OTLP's numbers (`Status.StatusCode`). OTLP has no CANCELLED: it travels as ERROR with the attribute
    `clew.status = "cancelled"` and comes back as CANCELLED.
    """

    UNSET = 0
    OK = 1
    ERROR = 2
    CANCELLED = 3


class SpanContext(NamedTuple):
    """What identifies a span to others, in this process and over the wire.

    Source: W3C trace context level 2.
    """

    trace_id: str  # 32 lower-case hex digits
    span_id: str  # 16 lower-case hex digits
    trace_flags: int = 0  # bit 0: sampled; bit 1: the trace id is random
    trace_state: str = ""  # the tracestate header, as received
    is_remote: bool = False
    baggage: Mapping[str, str] = MappingProxyType({})

    @property
    def is_valid(self) -> bool:
        """Whether both ids are there (not all zero)."""
        return self.trace_id.strip("0") != "" and self.span_id.strip("0") != ""

    @property
    def is_sampled(self) -> bool:
        return bool(self.trace_flags & 1)


class Event(NamedTuple):
    """Something that happened at one moment of a span."""

    name: str
    time_ns: int
    attributes: Attributes = _EMPTY
    dropped_attributes: int = 0


class Link(NamedTuple):
    """A pointer from a span to another, of the same trace or another."""

    context: SpanContext
    attributes: Attributes = _EMPTY
    dropped_attributes: int = 0


class Resource(NamedTuple):
    """What made the spans: service.name and its like."""

    attributes: Attributes = _EMPTY

    @property
    def service_name(self) -> str:
        return str(self.attributes.get("service.name", "unknown_service"))


class Scope(NamedTuple):
    """The library that made the spans (OTLP `InstrumentationScope`)."""

    name: str = ""
    version: str = ""
    attributes: Attributes = _EMPTY
    schema_url: str = ""  # OTLP `ScopeSpans.schema_url`


class SpanRecord(NamedTuple):
    """A span that ended."""

    trace_id: str  # 32 lower-case hex digits
    span_id: str  # 16 lower-case hex digits
    parent_id: str  # 16 lower-case hex digits, "" for a root
    name: str
    kind: SpanKind = SpanKind.INTERNAL
    start_time_ns: int = 0
    end_time_ns: int = 0
    status: Status = Status.UNSET
    status_description: str = ""
    attributes: Attributes = _EMPTY
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    trace_state: str = ""
    flags: int = 0  # OTLP Span.flags: W3C flags in bits 0-7, parent known to be remote or local in bits 8-9
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    resource: Resource = Resource()
    scope: Scope = Scope()

    @property
    def duration_ns(self) -> int:
        return self.end_time_ns - self.start_time_ns

    @property
    def context(self) -> SpanContext:
        return SpanContext(self.trace_id, self.span_id, self.flags & 0xFF, self.trace_state)

    @property
    def service_name(self) -> str:
        return self.resource.service_name


class SpanLimits(NamedTuple):
    """How much one span holds; what is beyond is dropped, and counted in the span.

    Source: the OpenTelemetry specification, "Span Limits", "Attribute Limits".
    """

    attributes: int = ATTRIBUTES_PER_SPAN
    events: int = EVENTS_PER_SPAN
    links: int = LINKS_PER_SPAN
    event_attributes: int = ATTRIBUTES_PER_EVENT
    link_attributes: int = ATTRIBUTES_PER_LINK
    value_length: int | None = None  # characters (bytes) of a value, also inside a list or mapping; None: any number
    event_value_length: int | None = None  # the same for values of events and links


class Stats(NamedTuple):
    """The ledger of one tracer in this process.

    It balances: started == ended + open, and ended == exported + sum(dropped.values()) + failed + queued.
    """

    started: int  # sampled spans that began
    ended: int
    not_sampled: int  # spans that began and were not recorded; not part of the balance
    exported: int
    failed: int  # given to the exporter, which could not deliver them
    queued: int  # ended, waiting or being exported right now
    queued_bytes: int
    # By reason: "queue_full", "closed", "memory", "not_kept" (let go by a TailSample or a FlightRecorder).
    dropped: Mapping[str, int]
    coerced: int  # values that were replaced or dropped because they could not be recorded as they were
    errors: int  # faults of samplers, clocks, exporters that were kept away from the program

    @property
    def open(self) -> int:
        return self.started - self.ended
