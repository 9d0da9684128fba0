"""How much one span holds: SpanLimits."""

from __future__ import annotations

from typing import Any

import pytest

from clew import ConfigurationError, MemoryExporter, SpanLimits, Tracer
from clew.model import Link, SpanContext, SpanRecord

OTHER = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
NAMES = {f"key.{number}": number for number in range(9)}


def recorded(limits: SpanLimits) -> SpanRecord:
    """A span that was given nine of everything, with values of every kind."""
    memory = MemoryExporter()
    with Tracer("shop", memory, limits=limits) as tracer, tracer.start_span("busy", attributes=NAMES) as span:
        for number in range(9):
            span.add_event(f"event {number}", NAMES)
            span.add_link(OTHER, NAMES)
        span.set_attribute("one more", 1)
    (record,) = memory.records
    return record


def test_counts() -> None:
    """What is beyond each limit is dropped and counted where OTLP has a place for it; the first are kept."""
    record = recorded(SpanLimits(attributes=4, events=3, links=2, event_attributes=6, link_attributes=5))
    assert (list(record.attributes), record.dropped_attributes) == ([f"key.{n}" for n in range(4)], 6)
    assert ([event.name for event in record.events], record.dropped_events) == (["event 0", "event 1", "event 2"], 6)
    assert (len(record.links), record.dropped_links) == (2, 7)
    assert {(len(event.attributes), event.dropped_attributes) for event in record.events} == {(6, 3)}
    assert {(len(link.attributes), link.dropped_attributes) for link in record.links} == {(5, 4)}


def test_nothing_may_be_allowed() -> None:
    """A limit of 0 keeps none."""
    record = recorded(SpanLimits(0, 0, 0, 0, 0))
    assert (record.attributes, record.events, record.links) == ({}, (), ())
    assert (record.dropped_attributes, record.dropped_events, record.dropped_links) == (10, 9, 9)


def test_more_than_by_default() -> None:
    """A limit may be above OpenTelemetry's 128."""
    memory = MemoryExporter()
    with Tracer("shop", memory, limits=SpanLimits(attributes=1000)) as tracer, tracer.start_span("wide") as span:
        for number in range(1001):
            span.set_attribute(f"key.{number}", number)
    assert (len(memory.records[0].attributes), memory.records[0].dropped_attributes) == (1000, 1)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("abcdef", "abc"),
        ("äöüß", "äöü"),
        (b"abcdef", b"abc"),
        (["abcdef", 1, True], ("abc", 1, True)),
        ({"key": ["abcdef"], "other": 1234567}, {"key": ("abc",), "other": 1234567}),
        ("abc", "abc"),
        (1234567, 1234567),
        (ValueError("abcdef"), "abc"),
    ],
)
def test_lengths(value: Any, kept: Any) -> None:
    """Texts and bytes are cut, also within lists and mappings; numbers are not. Events have their own limit."""
    memory = MemoryExporter()
    with Tracer("shop", memory, limits=SpanLimits(value_length=3)) as tracer:
        with tracer.start_span("all", attributes={"given": value}) as span:
            span.set_attribute("set", value)
            span.set_attributes({"together": value})
            span.add_event("whole", {"value": value if not isinstance(value, Exception) else "abcdef"})
        cut = tracer.stats().coerced
    attributes = memory.records[0].attributes
    assert attributes == dict.fromkeys(("given", "set", "together"), kept)
    (event,) = memory.records[0].events
    assert len(str(event.attributes["value"])) >= 3
    assert event.attributes["value"] != "abc" or value == "abc"
    assert (cut > 0) == (value not in ("abc", 1234567))


def test_lengths_of_events_and_links() -> None:
    """event_value_length is theirs, and leaves the span's own values whole."""
    memory = MemoryExporter()
    with Tracer("shop", memory, limits=SpanLimits(event_value_length=2)) as tracer, tracer.start_span("all") as span:
        span.set_attribute("key", "abcdef")
        span.add_event("event", {"key": "abcdef"})
        span.add_link(OTHER, {"key": "abcdef"})
    record = memory.records[0]
    assert record.attributes == {"key": "abcdef"}
    assert record.events[0].attributes == {"key": "ab"}
    assert record.links == (Link(OTHER, {"key": "ab"}),)


@pytest.mark.parametrize("wrong", [SpanLimits(attributes=-1), SpanLimits(value_length=-1), {"attributes": 1}])
def test_wrong_limits(wrong: Any) -> None:
    """They are refused in one sentence when the tracer is made."""
    with pytest.raises(ConfigurationError, match="SpanLimits"):
        Tracer("shop", limits=wrong)
