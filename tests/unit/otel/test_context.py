"""One current span for both worlds: clew's, and that of the OpenTelemetry API."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, propagate
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import clew
from clew.otel import TracerProvider, face_for, span_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    import pytest
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer as OtelTracer

REMOTE = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True, TraceFlags(1))


def both() -> tuple[str, str]:
    """The ids of what is current on either side, which have to be the same."""
    own = clew.current_span()
    other = api.get_current_span().get_span_context()
    assert (own.trace_id, own.span_id) == (f"{other.trace_id:032x}", f"{other.span_id:016x}")
    return own.trace_id, own.span_id


def id_of(span: OtelSpan) -> str:
    return f"{span.get_span_context().span_id:016x}"


def test_nested_in_each_other(tracer: OtelTracer, own: clew.Tracer, records: Any) -> None:
    """Spans of both are parents and children of each other, and each side sees the innermost."""
    with tracer.start_as_current_span("a") as a:
        assert both()[1] == id_of(a)
        assert api.get_current_span() is a
        with own.start_span("b") as b:
            assert both()[1] == b.span_id
            assert api.get_current_span() is api.get_current_span()
            api.get_current_span().set_attribute("from", "the API")
            with tracer.start_as_current_span("c") as c:
                assert both()[1] == id_of(c)
                assert clew.current_span() is span_of(c)
            assert clew.current_span() is b
        assert api.get_current_span() is a
    assert api.get_current_span() is api.INVALID_SPAN
    spans = {record.name: record for record in records()}
    assert spans["c"].parent_id == spans["b"].span_id
    assert spans["b"].parent_id == spans["a"].span_id
    assert spans["b"].attributes == {"from": "the API"}


def test_a_face_stands_for_its_span_as_long_as_it_is_held(own: clew.Tracer) -> None:
    """Of one span there is one face."""
    with own.start_span("a") as span:
        face = face_for(span)
        assert face_for(span) is face
        assert span_of(face) is span
    assert span_of(api.INVALID_SPAN) is None


def test_use_span(tracer: OtelTracer, own: clew.Tracer) -> None:
    """Both ways to make a span current that is open already."""
    span = tracer.start_span("a")
    with api.use_span(span):
        assert both()[1] == id_of(span)
        assert api.get_current_span() is span
    native = own.start_span("b")
    with clew.use_span(native):
        assert both()[1] == native.span_id
    with api.use_span(face_for(native)):
        assert clew.current_span() is native
    assert not clew.current_span().is_recording


def test_a_span_of_somebody_else(tracer: OtelTracer, own: clew.Tracer, records: Any) -> None:
    """One that is not of clew's making is current as the very object, and the parent of spans of both."""
    foreign = NonRecordingSpan(REMOTE)
    with api.use_span(foreign):
        assert api.get_current_span() is foreign
        assert both() == (f"{REMOTE.trace_id:032x}", f"{REMOTE.span_id:016x}")
        own.start_span("a").end()
        tracer.start_span("b").end()
    assert {record.parent_id for record in records()} == {f"{REMOTE.span_id:016x}"}
    with api.use_span(NonRecordingSpan(api.INVALID_SPAN_CONTEXT)):
        assert clew.current_span().context.is_valid is False


def test_baggage_and_other_keys_stay(tracer: OtelTracer, own: clew.Tracer) -> None:
    """What else is in the API's context is there in blocks of either side, and goes when it is detached."""
    token = context.attach(baggage.set_baggage("user", "17"))
    with own.start_span("a") as a:
        assert baggage.get_baggage("user") == "17"
        inner = context.attach(context.set_value("key", "value"))
        assert both()[1] == a.span_id
        with tracer.start_as_current_span("b"):
            assert (baggage.get_baggage("user"), context.get_value("key")) == ("17", "value")
        context.detach(inner)
        assert context.get_value("key") is None
    context.detach(token)
    assert baggage.get_baggage("user") is None


def test_propagators_of_both(tracer: OtelTracer, own: clew.Tracer) -> None:
    """What one side sends and receives, the other sends and receives."""
    for block in (own.start_span("a"), tracer.start_as_current_span("b")):
        with block:
            theirs: dict[str, str] = {}
            propagate.inject(theirs)
            ours: dict[str, str] = {}
            clew.inject(ours)
            assert ours["traceparent"] == theirs["traceparent"]
            assert both()[1] in ours["traceparent"]
    headers = {"traceparent": f"00-{REMOTE.trace_id:032x}-{REMOTE.span_id:016x}-01"}
    with clew.attach(clew.extract(headers)):
        assert api.get_current_span().get_span_context().trace_id == REMOTE.trace_id
        assert api.get_current_span().get_span_context().is_remote
    token = context.attach(propagate.extract(headers))
    assert clew.current_span().context.is_remote
    assert both()[1] == f"{REMOTE.span_id:016x}"
    context.detach(token)


@given(st.lists(st.sampled_from(["own", "api", "attach"]), min_size=1, max_size=6), st.data())
def test_left_in_any_order(kinds: list[str], data: st.DataObject) -> None:
    """Whatever is left in whatever order: both sides agree at every step, and in order nothing is left at the end."""
    contextvars.Context().run(leave_in_any_order, kinds, data)


def leave_in_any_order(kinds: list[str], data: st.DataObject) -> None:
    with clew.Tracer("shop") as own:
        tracer = TracerProvider(tracer=own, shutdown_on_exit=False).get_tracer("library")
        leave: list[Any] = []
        for kind in kinds:
            if kind == "attach":
                token = context.attach(api.set_span_in_context(tracer.start_span("span")))
                leave.append(lambda token=token: context.detach(token))
            else:
                block: Any = own.start_span("span") if kind == "own" else tracer.start_as_current_span("span")
                block.__enter__()
                leave.append(lambda block=block: block.__exit__(None, None, None))
            both()
        # What is detached out of order may bring back what was current when it was attached, as it does in the API.
        in_order = data.draw(st.booleans())
        for act in reversed(leave) if in_order else data.draw(st.permutations(leave)):
            act()
            both()
        if in_order or "attach" not in kinds:
            assert not clew.current_span().context.is_valid
        if in_order:
            assert context.get_current() == Context()


def test_threads_and_tasks(tracer: OtelTracer, own: clew.Tracer, records: Any) -> None:
    """A thread begins with nothing, or with what was carried to it; a task with what its maker had."""
    seen: list[Any] = []
    with tracer.start_as_current_span("a") as a:
        thread = threading.Thread(target=lambda: seen.append(both()))
        thread.start()
        thread.join()
        carried = threading.Thread(target=contextvars.copy_context().run, args=(lambda: seen.append(both()[1]),))
        carried.start()
        carried.join()

        async def task(number: int) -> None:
            with own.start_span("task") if number % 2 else tracer.start_as_current_span("task"):
                await asyncio.sleep(0)
                mine = both()
                await asyncio.sleep(0)
                assert both() == mine

        async def tasks() -> None:
            await asyncio.gather(*(task(number) for number in range(10)))

        asyncio.run(tasks())
        assert seen == [("0" * 32, "0" * 16), id_of(a)]
    assert {record.parent_id for record in records() if record.name == "task"} == {id_of(a)}


def test_generators(tracer: OtelTracer, own: clew.Tracer) -> None:
    """Two that are stepped in turn do not leave their spans behind."""

    def steps(block: Any) -> Generator[None]:
        with block:
            yield
            yield

    with tracer.start_as_current_span("outer") as outer:
        one, two = steps(tracer.start_as_current_span("one")), steps(own.start_span("two"))
        for step in (one, two, one, two):
            next(step)
        one.close()
        two.close()
        assert both()[1] == id_of(outer)
        assert api.get_current_span() is outer


def test_detached_where_it_was_not_attached(tracer: OtelTracer, caplog: pytest.LogCaptureFixture) -> None:
    """An async generator that another task closes: no exception, nothing in the log, nothing left current."""

    async def numbers() -> AsyncIterator[int]:
        with tracer.start_as_current_span("generator"), api.use_span(tracer.start_span("used")):
            yield 1
            yield 2

    async def main() -> None:
        generator: Any = numbers()
        await asyncio.create_task(generator.__anext__())
        await asyncio.create_task(generator.aclose())
        assert not clew.current_span().context.is_valid
        both()

    asyncio.run(main())
    assert caplog.records == []


def test_what_was_current_before_stays(own: clew.Tracer) -> None:
    """A context that was attached by the API's own keeper is still current, and can be detached."""
    before = context._RUNTIME_CONTEXT.before  # type: ignore[attr-defined]

    def attached() -> None:
        token = before.attach(Context({"key": "value"}))
        assert context.get_value("key") == "value"
        with own.start_span("a"):
            assert context.get_value("key") == "value"
            both()
        context.detach(token)
        assert context.get_value("key") is None

    contextvars.Context().run(attached)


def test_a_token_is_used_once(tracer: OtelTracer, caplog: pytest.LogCaptureFixture) -> None:
    """The API says in the log that a context was detached twice; what is current does not change."""
    with tracer.start_as_current_span("a"):
        token = context.attach(Context({"key": "value"}))
        context.detach(token)
        now = both()
        context.detach(token)
        assert both() == now
    assert [record.message for record in caplog.records] == ["Failed to detach context"]


def test_a_span_that_was_left_out_of_order_may_become_current_again(tracer: OtelTracer) -> None:
    """Its having been left once does not matter to who uses it now."""
    block = tracer.start_as_current_span("a", end_on_exit=False)
    a = block.__enter__()
    other = tracer.start_as_current_span("b")
    other.__enter__()
    block.__exit__(None, None, None)
    other.__exit__(None, None, None)
    with api.use_span(a):
        with tracer.start_as_current_span("c"):
            pass
        assert api.get_current_span() is a
