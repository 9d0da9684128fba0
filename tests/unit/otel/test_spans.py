"""Spans of the OpenTelemetry API on the native core: what they record, and what can be read of them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from clew import Event, NeverSample, SpanLimits, Status, Tracer
from clew import Link as OwnLink
from clew import SpanContext as OwnContext
from clew import SpanKind as OwnKind
from clew.otel import OtelSpan, TracerProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer as OtelTracer

    from clew import MemoryExporter

BEGIN = 1_795_000_000_000_000_000
REMOTE = SpanContext(
    0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True, TraceFlags(1), TraceState([("v", "1")])
)

Records = "Callable[[], list[SpanRecord]]"


def under(context: SpanContext) -> Context:
    """A context in which a span of elsewhere is current."""
    return api.set_span_in_context(NonRecordingSpan(context), Context())


def test_everything_that_is_given_arrives(tracer: OtelTracer, records: Any) -> None:
    """Name, kind, times, parent, state, attributes, links, events and status, as clew's own spans have them."""
    link = SpanContext(7, 9, True, TraceFlags(1), TraceState([("a", "b")]))
    span = tracer.start_span(
        "call", under(REMOTE), SpanKind.CLIENT, {"text": "a", "list": ["x", "y"]}, [Link(link, {"why": 1})], BEGIN
    )
    span.set_attribute("number", 1)
    span.set_attributes({"yes": True, "none": None})
    span.add_event("sent", {"bytes": b"abc"}, BEGIN + 5)
    span.add_link(SpanContext(8, 10, False), {"also": 2.5})
    span.update_name("CALL")
    span.set_status(StatusCode.ERROR, "no answer")
    span.end(BEGIN + 10)
    (record,) = records()
    assert record.name == "CALL"
    assert record.kind is OwnKind.CLIENT
    assert (record.start_time_ns, record.end_time_ns) == (BEGIN, BEGIN + 10)
    assert (record.trace_id, record.parent_id) == (f"{REMOTE.trace_id:032x}", f"{REMOTE.span_id:016x}")
    assert record.trace_state == "v=1"
    assert record.flags == 0x301
    assert record.attributes == {"text": "a", "list": ("x", "y"), "number": 1, "yes": True, "none": None}
    assert record.events == (Event("sent", BEGIN + 5, {"bytes": b"abc"}),)
    assert record.links == (
        OwnLink(OwnContext(f"{7:032x}", f"{9:016x}", 1, "a=b", is_remote=True), {"why": 1}),
        OwnLink(OwnContext(f"{8:032x}", f"{10:016x}"), {"also": 2.5}),
    )
    assert (record.status, record.status_description) == (Status.ERROR, "no answer")
    assert (record.scope.name, record.scope.version) == ("library", "1.0")


@pytest.mark.parametrize("kind", list(SpanKind))
def test_kinds_of_both(tracer: OtelTracer, kind: SpanKind) -> None:
    """Each kind is kept; one of clew's, in a program that uses both, is what it is called."""
    for given in (kind, OwnKind[kind.name]):
        given_kind: Any = given
        span: Any = tracer.start_span("x", kind=given_kind)
        assert span.kind is kind


def test_it_can_be_read_as_a_readable_span(tracer: OtelTracer, provider: TracerProvider) -> None:
    """All that the SDK's ReadableSpan has, while it is open and afterwards, and nothing of it can be changed."""
    span: Any = tracer.start_span("call", under(REMOTE), SpanKind.SERVER, {"key": {"a": [1]}}, [Link(REMOTE)], BEGIN)
    assert [isinstance(span, kind) for kind in (api.Span, NonRecordingSpan)] == [True, False]
    assert (span.name, span.kind, span.start_time, span.end_time) == ("call", SpanKind.SERVER, BEGIN, None)
    assert span.parent == REMOTE
    assert span.context is span.get_span_context()
    assert span.context.trace_state == REMOTE.trace_state
    assert span.attributes == {"key": {"a": (1,)}}
    with pytest.raises(TypeError):
        span.attributes["key"] = 1
    span.add_event("now", {"a": 1})
    (event,) = span.events
    assert (event.name, event.attributes, event.dropped_attributes) == ("now", {"a": 1}, 0)
    with pytest.raises(AttributeError):
        event.name = "later"
    assert [link.context for link in span.links] == [REMOTE]
    assert span.status.is_unset
    assert span.resource is provider.resource
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("library", "1.0")
    span.end(BEGIN + 5)
    assert (span.end_time, span._start_time, span._readable_span()) == (BEGIN + 5, BEGIN, span)
    shown = json.loads(span.to_json())
    assert shown["context"]["trace_id"] == f"0x{REMOTE.trace_id:032x}"
    assert (shown["parent_id"], shown["kind"]) == (f"0x{REMOTE.span_id:016x}", "SpanKind.SERVER")
    assert shown["events"][0]["name"] == "now"
    assert "call" in repr(span)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = span.nonsense


def test_a_root_begins_a_trace_of_its_own(tracer: OtelTracer) -> None:
    """An empty context is no parent, whatever is current; ids are random and flags say so."""
    with tracer.start_as_current_span("outer") as outer:
        root: Any = tracer.start_span("root", Context())
        assert root.parent is None
        assert root.context.trace_id != outer.get_span_context().trace_id
        assert root.context.trace_flags == 3
        strange = tracer.start_span("strange", api.set_span_in_context(REMOTE, Context()))  # type: ignore[arg-type]
        assert strange.parent is None  # type: ignore[attr-defined]


def test_the_parents_context_is_kept_as_it_was_given(tracer: OtelTracer) -> None:
    """Whoever compares contexts by identity finds the one it knows."""
    other = NonRecordingSpan(REMOTE)
    child: Any = tracer.start_span("child", api.set_span_in_context(other, Context()))
    assert child.parent is other.get_span_context()
    with tracer.start_as_current_span("parent") as parent:
        child = tracer.start_span("child")
        assert child.parent is parent.get_span_context()


def test_what_has_no_context_is_no_parent(tracer: OtelTracer) -> None:
    """A span whose context is of another type is told of, as the SDK does."""

    class Odd(NonRecordingSpan):
        def get_span_context(self) -> Any:
            return "nothing"

    with pytest.raises(TypeError, match="SpanContext"):
        tracer.start_span("child", api.set_span_in_context(Odd(REMOTE), Context()))


def test_not_sampled(memory: MemoryExporter) -> None:
    """What is not sampled is a NonRecordingSpan with ids of its own, whose children are not sampled either."""
    with Tracer("shop", memory, NeverSample()) as own:
        tracer = TracerProvider(tracer=own, shutdown_on_exit=False).get_tracer("library")
        with tracer.start_as_current_span("a") as outer, tracer.start_as_current_span("b") as inner:
            assert isinstance(inner, NonRecordingSpan)
            assert api.get_current_span() is inner
            assert not inner.is_recording()
            assert not inner.get_span_context().trace_flags.sampled
            assert inner.get_span_context().trace_id == outer.get_span_context().trace_id
            assert inner.get_span_context().span_id != outer.get_span_context().span_id
            inner.set_attribute("a", 1)
            inner.add_event("b")
            inner.record_exception(ValueError())
            inner.set_status(StatusCode.ERROR)
        assert own.stats().not_sampled == 2
    assert memory.records == []


def test_rules_of_attributes(tracer: OtelTracer, caplog: pytest.LogCaptureFixture) -> None:
    """Names that are no texts are dropped, counted and told; values of other types are their text, or None."""

    class Named:
        def __str__(self) -> str:
            return "its name"

    class Bad:
        def __str__(self) -> str:
            raise ValueError

    span: Any = tracer.start_span("call", attributes={"": 1, 2: 3, "given": Named()})  # type: ignore[dict-item]
    span.set_attribute("", 1)
    span.set_attribute(None, 1)
    span.set_attributes({"a": 1, 5: 6})
    span.set_attribute("named", Named())
    span.set_attribute("plain", object())
    span.set_attribute("bad", Bad())
    span.set_attributes(17)
    span.add_event("event", {"": 1, "a": 2})
    assert span.attributes == {
        "given": "its name", "a": 1, "named": "its name", "plain": None, "bad": "<unprintable Bad>",
    }  # fmt: skip
    assert span.dropped_attributes == 5
    assert (span.events[0].attributes, span.events[0].dropped_attributes) == ({"a": 2}, 1)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.name for record in caplog.records} == {"clew.otel"}


def test_limits(memory: MemoryExporter) -> None:
    """What is beyond the limits is dropped and counted on the span, events and links."""
    with Tracer("shop", memory, limits=SpanLimits(2, 1, 1, 1, 1, 3)) as own:
        tracer = TracerProvider(tracer=own, shutdown_on_exit=False).get_tracer("library")
        links = [Link(REMOTE, {"a": 1, "b": 2}), Link(REMOTE)]
        span: Any = tracer.start_span("call", attributes={"a": "abcdef", "b": 2, "c": 3}, links=links)
        span.add_event("one", {"a": 1, "b": 2})
        span.add_event("two")
        assert span.attributes == {"a": "abc", "b": 2}
        assert (span.dropped_attributes, span.dropped_events, span.dropped_links) == (1, 1, 1)
        assert (span.events[0].dropped_attributes, span.links[0].dropped_attributes) == (1, 1)


def test_links_without_ids(tracer: OtelTracer) -> None:
    """A link to nowhere counts only if it says something; None among links is nothing."""
    nowhere = api.INVALID_SPAN_CONTEXT
    stateful = SpanContext(0, 0, False, TraceFlags(0), TraceState([("a", "b")]))
    links: Any = [None, Link(nowhere), Link(nowhere, {"a": 1}), Link(stateful)]
    span: Any = tracer.start_span("call", links=links)
    span.add_link(nowhere)
    assert [(dict(link.attributes), link.context.trace_state.to_header()) for link in span.links] == [
        ({"a": 1}, ""),
        ({}, "a=b"),
    ]


def test_status(tracer: OtelTracer) -> None:
    """OK is final, UNSET changes nothing, only errors have a description."""
    span: Any = tracer.start_span("call")
    span.set_status(StatusCode.ERROR, "first")
    span.set_status(StatusCode.UNSET)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "first")
    span.set_status(api.Status(StatusCode.ERROR, "second"), "not this")
    assert span.status.description == "second"
    span.set_status("nonsense")
    for ok in (api.Status(StatusCode.OK), StatusCode.OK):
        done: Any = tracer.start_span("call")
        done.set_status(ok)
        done.set_status(StatusCode.ERROR, "too late")
        assert (done.status.status_code, done.status.description) == (StatusCode.OK, None)


def test_the_first_end_holds(tracer: OtelTracer, records: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An ended span changes no more; whoever tries is told in the log."""
    span: Any = tracer.start_span("call")
    span.end()
    late: list[Callable[[], Any]] = [
        span.end,
        lambda: span.set_attribute("a", 1),
        lambda: span.set_attributes({"a": 1}),
        lambda: span.add_event("a"),
        lambda: span.add_link(REMOTE),
        lambda: span.update_name("b"),
        lambda: span.set_status(StatusCode.ERROR),
        lambda: span.record_exception(ValueError()),
    ]
    for number, act in enumerate(late, start=1):
        act()
        assert len(caplog.records) == number
    (record,) = records()
    assert (record.name, record.attributes, record.events, record.status) == ("call", {}, (), Status.UNSET)


class CustomError(Exception):
    """An exception of a module."""


def test_record_exception(tracer: OtelTracer) -> None:
    """An event with type, message, stack trace and whether it escaped; the status stays as it is."""
    span: Any = tracer.start_span("call")
    span.record_exception(CustomError("no"), {"exception.message": "mine", "more": 1}, BEGIN)
    span.record_exception(ValueError("bad"), escaped=True)
    first, second = span.events
    assert (first.name, first.timestamp, first.attributes["exception.type"]) == (
        "exception", BEGIN, f"{CustomError.__module__}.CustomError",
    )  # fmt: skip
    assert (first.attributes["exception.message"], first.attributes["more"]) == ("mine", 1)
    assert first.attributes["exception.escaped"] == "False"
    assert (second.attributes["exception.type"], second.attributes["exception.escaped"]) == ("ValueError", "True")
    assert "ValueError: bad" in second.attributes["exception.stacktrace"]
    assert span.status.is_unset


@pytest.mark.parametrize(("record", "status"), [(True, True), (False, True), (True, False), (False, False)])
@pytest.mark.parametrize("current", [True, False])
def test_an_exception_leaves_a_block(
    tracer: OtelTracer, records: Any, current: bool, record: bool, status: bool
) -> None:
    """It is recorded and makes the span an error, as far as was asked for, and goes on."""
    start = tracer.start_as_current_span if current else tracer.start_span
    with (
        pytest.raises(ValueError, match="bad"),
        start("call", record_exception=record, set_status_on_exception=status),
    ):
        raise ValueError("bad")
    (found,) = records()
    assert [event.attributes["exception.escaped"] for event in found.events] == [str(not current)] * record
    expected = (Status.ERROR, "ValueError: bad") if status else (Status.UNSET, "")
    assert (found.status, found.status_description) == expected


def test_what_is_no_error_leaves_a_block(tracer: OtelTracer, records: Any) -> None:
    """In a block that makes the span current only an Exception is one: to be cancelled is not."""
    with pytest.raises(asyncio.CancelledError), tracer.start_as_current_span("call"):
        raise asyncio.CancelledError
    (record,) = records()
    assert (record.events, record.status) == ((), Status.UNSET)


def test_a_block_may_leave_its_span_open(tracer: OtelTracer, records: Any) -> None:
    """end_on_exit=False: it is not current any more, and somebody else ends it."""
    with tracer.start_as_current_span("call", end_on_exit=False) as span:
        pass
    assert api.get_current_span() is api.INVALID_SPAN
    assert span.is_recording()
    span.end()
    assert len(records()) == 1


def test_decorators(tracer: OtelTracer, records: Any) -> None:
    """Each call is a span, of a coroutine function until the coroutine is done."""

    @tracer.start_as_current_span("plain")
    def plain(number: int) -> int:
        assert api.get_current_span().is_recording()
        return number + 1

    @tracer.start_as_current_span("async")
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        assert api.get_current_span().is_recording()
        return plain(number)

    assert [plain(1), plain(2), asyncio.run(later(3))] == [2, 3, 4]
    found = records()
    assert [record.name for record in found] == ["plain", "plain", "plain", "async"]
    assert found[2].parent_id == found[3].span_id
    assert plain.__name__ == "plain"


def test_a_span_that_nobody_ends_is_exported_all_the_same(tracer: OtelTracer, records: Any) -> None:
    """When the last reference to it goes, it is there, marked; and the face of a span does not keep it alive."""
    span = tracer.start_span("forgotten")
    dead = weakref.ref(span)
    del span
    gc.collect()
    assert dead() is None
    (record,) = records()
    assert (record.name, record.attributes) == ("forgotten", {"clew.unfinished": True})


def test_spans_have_room_for_what_libraries_put_on_them(tracer: OtelTracer) -> None:
    """As on the SDK's spans any attribute of Python can be set, also one that refers back."""
    span: Any = tracer.start_span("call")
    span._library_state = [span]
    dead = weakref.ref(span)
    span.end()
    del span
    gc.collect()
    assert dead() is None


def test_a_span_is_made_by_a_tracer() -> None:
    """Not by its class."""
    with pytest.raises(TypeError, match="by a tracer"):
        OtelSpan()
