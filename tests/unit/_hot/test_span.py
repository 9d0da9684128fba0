"""Spans of the native core: identity, times, what they record, how they end, what is current."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import re
import threading
from enum import IntEnum
from typing import TYPE_CHECKING

import pytest

from clew._hot import (
    CURRENT,
    AlwaysSample,
    NeverSample,
    Queue,
    Span,
    TracerCore,
    current_span,
    remote_span,
    spans_to_records,
    use_span,
)
from clew.limits import ATTRIBUTES_PER_SPAN, EVENTS_PER_SPAN, LINKS_PER_SPAN
from clew.model import Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from clew.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from clew.protocols import Sampler


class Recorder(TracerCore):
    """A tracer whose queue the test reads."""

    def __init__(self, sampler: Sampler | None = None, clock: FakeClock | None = None) -> None:
        self.queue = Queue(1 << 25, 512, 1 << 17)
        super().__init__(self.queue, AlwaysSample() if sampler is None else sampler, clock)

    def records(self) -> list[SpanRecord]:
        found: list[SpanRecord] = []
        while taken := self.queue.take(0):
            found += spans_to_records(taken[0], Resource(), Scope())
            self.queue.settle(taken[1], 0)
        return found

    def record(self) -> SpanRecord:
        (record,) = self.records()
        return record


@pytest.fixture
def tracer() -> Recorder:
    return Recorder()


def test_ids_are_hex_and_new_each_time(tracer: Recorder) -> None:
    """Trace ids have 32 hex digits, span ids 16, and none comes twice."""
    spans = [tracer.start_span("x", parent=None) for _ in range(1000)]
    assert all(re.fullmatch("[0-9a-f]{32}", span.trace_id) for span in spans)
    assert all(re.fullmatch("[0-9a-f]{16}", span.span_id) for span in spans)
    assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == 1000
    assert all(span.parent_id == "" for span in spans)


def test_ids_do_not_follow_the_random_module(tracer: Recorder) -> None:
    """A program that seeds `random` still gets new ids."""
    import random

    random.seed(1)
    first = tracer.start_span("x").trace_id
    random.seed(1)
    assert tracer.start_span("x").trace_id != first


def test_a_block_makes_its_span_current_and_ends_it(tracer: Recorder) -> None:
    """Within the block the span is the current one and the parent of what begins; afterwards nothing is current."""
    with tracer.start_span("outer", SpanKind.SERVER) as outer:
        assert current_span() is outer
        with tracer.start_span("inner") as inner:
            assert current_span() is inner
        assert current_span() is outer
        assert inner.end_time_ns is not None
        assert outer.end_time_ns is None
    assert not current_span().is_recording
    inner_record, outer_record = tracer.records()
    assert (inner_record.trace_id, inner_record.parent_id) == (outer.trace_id, outer.span_id)
    assert (outer_record.parent_id, outer_record.kind) == ("", SpanKind.SERVER)


def test_a_block_in_other_ways(tracer: Recorder) -> None:
    """An ExitStack and calls by hand do what `with` does; other calls of a span are refused."""
    with contextlib.ExitStack() as stack:
        span = stack.enter_context(tracer.start_span("stack"))
        assert current_span() is span
    assert span.end_time_ns is not None
    span = tracer.start_span("by hand")
    assert span.__enter__() is span
    assert current_span() is span
    assert span.__exit__(ValueError, ValueError("x"), None) is False
    assert span.status is Status.ERROR
    assert not current_span().is_recording
    for arguments in ((1,), (1, 2), (1, 2, 3, 4)):
        with pytest.raises(TypeError):
            span.__exit__(*arguments)
    with pytest.raises(TypeError):
        span.__exit__(None, None, traceback=None)  # type: ignore[call-arg]


def test_without_a_block_a_span_is_not_current(tracer: Recorder) -> None:
    """start_span alone changes nothing about what is current."""
    span = tracer.start_span("x")
    assert current_span().trace_id == "0" * 32
    span.end()
    assert tracer.record().span_id == span.span_id


def test_an_explicit_parent_is_a_span_a_context_or_none(tracer: Recorder) -> None:
    """`parent` is what it says, whatever is current."""
    remote = SpanContext("ab" * 16, "cd" * 8, 1, "vendor=1", is_remote=True)
    with tracer.start_span("current") as current:
        assert tracer.start_span("a", parent=None).trace_id != current.trace_id
        assert tracer.start_span("b", parent=CURRENT).parent_id == current.span_id
        other = tracer.start_span("c", parent=None)
        assert tracer.start_span("d", parent=other).parent_id == other.span_id
        child = tracer.start_span("e", parent=remote)
    assert (child.trace_id, child.parent_id) == (remote.trace_id, remote.span_id)
    assert child.context.trace_state == "vendor=1"
    child.end()
    record = next(record for record in tracer.records() if record.name == "e")
    assert record.flags == 0x301  # sampled; the parent is known to be remote
    assert record.trace_state == "vendor=1"


@pytest.mark.parametrize("parent", [7, "x", SpanContext("zz", "yy"), SpanContext("1" * 33, "1" * 16)])
def test_a_parent_that_is_none_of_these_is_ignored_and_counted(tracer: Recorder, parent: object) -> None:
    """Tracing never raises into the program; the current span is the parent then."""
    with tracer.start_span("current") as current:
        assert tracer.start_span("x", parent=parent).parent_id == current.span_id  # type: ignore[arg-type]
    assert tracer.queue.stats().coerced == 1


def test_a_parent_with_zero_ids_is_no_parent(tracer: Recorder) -> None:
    """What `extract` gives for a request without headers starts a new trace."""
    span = tracer.start_span("x", parent=SpanContext("0" * 32, "0" * 16))
    assert span.parent_id == ""
    assert span.trace_id != "0" * 32


def test_times_come_from_the_clock() -> None:
    """A span lasts from start to end, in wall-clock nanoseconds."""
    clock = FakeClock()
    tracer = Recorder(clock=clock)
    begin = clock.time_ns()
    with tracer.start_span("x") as span:
        clock.advance(5_000)
        span.add_event("e")
        clock.advance(7)
    assert (span.start_time_ns, span.end_time_ns, span.duration_ns) == (begin, begin + 5_007, 5_007)
    record = tracer.record()
    assert (record.start_time_ns, record.end_time_ns) == (begin, begin + 5_007)
    assert record.events[0].time_ns == begin + 5_000


def test_a_step_of_the_wall_clock_does_not_reach_a_running_trace() -> None:
    """Below the local root everything advances by the monotonic clock; the next trace has the new time."""
    clock = FakeClock()
    tracer = Recorder(clock=clock)
    with tracer.start_span("root") as root:
        clock.advance(10)
        clock.step_wall(-3_600_000_000_000)
        with tracer.start_span("child") as child:
            clock.advance(10)
    assert child.start_time_ns == root.start_time_ns + 10
    assert (child.duration_ns, root.duration_ns) == (10, 20)
    assert tracer.start_span("next").start_time_ns == clock.time_ns()


def test_system_times_are_right(tracer: Recorder) -> None:
    """Without a clock of its own, a span's times are the system's to the millisecond."""
    import time

    before = time.time_ns()
    with tracer.start_span("root"), tracer.start_span("child") as child:
        pass
    after = time.time_ns()
    assert child.end_time_ns is not None
    assert before - 1_000_000 <= child.start_time_ns <= child.end_time_ns <= after + 1_000_000


def test_explicit_times(tracer: Recorder) -> None:
    """Start, event and end can be given; an end before the start becomes the start, counted."""
    span = tracer.start_span("x", start_time_ns=1_000)
    span.add_event("e", time_ns=1_500)
    span.end(2_000)
    record = tracer.record()
    assert (record.start_time_ns, record.events[0].time_ns, record.end_time_ns) == (1_000, 1_500, 2_000)
    span = tracer.start_span("x", start_time_ns=1_000)
    span.end(10)
    assert span.duration_ns == 0
    assert tracer.queue.stats().coerced == 1


@pytest.mark.parametrize("time_ns", ["soon", -1, 2**63, 1.5, object()])
def test_a_wrong_time_becomes_now_and_is_counted(tracer: Recorder, time_ns: object) -> None:
    """Neither start_span, add_event nor end raises."""
    span = tracer.start_span("x", start_time_ns=time_ns)  # type: ignore[arg-type]
    span.add_event("e", time_ns=time_ns)  # type: ignore[arg-type]
    span.end(time_ns)  # type: ignore[arg-type]
    record = tracer.record()
    assert 1_700_000_000_000_000_000 < record.start_time_ns <= record.events[0].time_ns <= record.end_time_ns
    assert tracer.queue.stats().coerced == 3


def test_attributes_are_copied_at_the_call(tracer: Recorder) -> None:
    """What the program does to a list or dict afterwards is not seen; nor what a reader does to what it was given."""
    inner = [2]
    values = [1, inner]
    mapping: dict[str, object] = {"a": values}
    span = tracer.start_span("x", attributes={"list": values, "dict": mapping})
    inner.append(3)
    mapping.clear()
    span.attributes["dict"]["a"] = 0  # type: ignore[index]
    span.end()
    assert tracer.record().attributes == {"list": (1, (2,)), "dict": {"a": (1, (2,))}}
    assert span.attributes == {"list": (1, (2,)), "dict": {"a": (1, (2,))}}


def test_the_last_value_of_a_key_holds(tracer: Recorder) -> None:
    """Setting a key again replaces it in place, however it was set."""
    with tracer.start_span("x", attributes={"a": 1, "b": 2}) as span:
        span.set_attribute("a", 3)
        span.set_attribute(str(b"b", "ascii"), 4)
        span.set_attributes({"c": 5, "a": 6})
    assert list(tracer.record().attributes.items()) == [("a", 6), ("b", 4), ("c", 5)]


def test_values_that_are_not_plain(tracer: Recorder) -> None:
    """Subclasses are read as their base, large ints and objects become text, what has no text a placeholder."""

    class Level(IntEnum):
        HIGH = 3

    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise ValueError

    class Broken:
        def __str__(self) -> str:
            raise ValueError

    with tracer.start_span("x") as span:
        span.set_attributes(
            {
                "enum": Level.HIGH,
                "name": Name("n"),
                "big": 2**63,
                "small": -(2**63),
                "huge": 10**5000,
                "object": 1 + 2j,
                "broken": Broken(),
                "bytes": bytearray(b"\x00\xff"),
                "range": range(3),
                7: "key",  # type: ignore[dict-item]
            }
        )
    assert tracer.record().attributes == {
        "enum": 3,
        "name": "n",
        "big": str(2**63),
        "small": -(2**63),
        "huge": "<unprintable int>",
        "object": "(1+2j)",
        "broken": "<unprintable Broken>",
        "bytes": b"\x00\xff",
        "range": (0, 1, 2),
        "7": "key",
    }
    assert tracer.queue.stats().coerced == 2


def test_cycles_and_shared_structures_end(tracer: Recorder) -> None:
    """A value that contains itself is cut, counted, and takes bounded time and memory."""
    cycle: list[object] = []
    cycle += [cycle, cycle]
    mapping: dict[str, object] = {}
    mapping["self"] = mapping
    with tracer.start_span("x") as span:
        span.set_attribute("cycle", cycle)
        span.set_attribute("mapping", mapping)
    assert "mapping" in tracer.record().attributes
    assert tracer.queue.stats().coerced >= 2


def test_a_value_that_sets_attributes_while_it_is_copied(tracer: Recorder) -> None:
    """Code that runs while a value is copied may use the span, even end it."""

    class Meddler:
        def __init__(self, span: Span) -> None:
            self.span = span

        def __str__(self) -> str:
            for number in range(50):
                self.span.set_attribute(f"k{number}", number)
            self.span.end()
            return "m"

    span = tracer.start_span("x", attributes={"first": 0})
    span.set_attributes({"plain": 1, "meddler": Meddler(span), "late": 2})
    record = tracer.record()
    assert record.attributes["k49"] == 49
    assert "late" not in record.attributes
    assert "late" not in span.attributes


def test_limits_are_counted(tracer: Recorder) -> None:
    """Past 128 attributes, events and links, the rest is counted in OTLP's own fields."""
    other = tracer.start_span("other").context
    with tracer.start_span("x", links=[other] * (LINKS_PER_SPAN + 3)) as span:
        for number in range(ATTRIBUTES_PER_SPAN + 5):
            span.set_attribute(f"a{number}", number)
        for number in range(EVENTS_PER_SPAN + 7):
            span.add_event(f"e{number}", {f"a{index}": index for index in range(130)} if number == 0 else None)
    record = next(record for record in tracer.records() if record.name == "x")
    assert (len(record.attributes), record.dropped_attributes) == (ATTRIBUTES_PER_SPAN, 5)
    assert (len(record.events), record.dropped_events) == (EVENTS_PER_SPAN, 7)
    assert (len(record.links), record.dropped_links) == (LINKS_PER_SPAN, 3)
    assert (len(record.events[0].attributes), record.events[0].dropped_attributes) == (128, 2)
    span = tracer.start_span("y", attributes={f"a{number}": number for number in range(200)})
    span.end()
    assert tracer.record().dropped_attributes == 72


def test_links(tracer: Recorder) -> None:
    """A link is given as a Link, a context or a span, at the start or later."""
    one = SpanContext("01" * 16, "02" * 8, 1, "a=b", is_remote=True)
    other = tracer.start_span("other")
    with tracer.start_span("x", links=[Link(one, {"k": 1}), other]) as span:
        span.add_link(one)
        span.add_link("nothing")  # type: ignore[arg-type]
    record = tracer.record()
    assert [link.context.span_id for link in record.links] == [one.span_id, other.span_id, one.span_id]
    assert record.links[0].attributes == {"k": 1}
    assert record.links[0].context.trace_state == "a=b"
    assert span.links[0].context == one
    assert span.links[1].context == other.context
    assert tracer.queue.stats().coerced == 1


def test_an_exception_is_recorded_and_goes_on(tracer: Recorder) -> None:
    """It becomes an `exception` event with type, message and stack trace, and the status ERROR."""

    class OddError(Exception):
        pass

    with pytest.raises(OddError), tracer.start_span("x"):
        raise OddError("what happened")
    record = tracer.record()
    assert record.status is Status.ERROR
    assert record.status_description.endswith("OddError: what happened")
    (event,) = record.events
    assert event.name == "exception"
    assert str(event.attributes["exception.type"]).endswith(".OddError")
    assert event.attributes["exception.message"] == "what happened"
    assert 'raise OddError("what happened")' in str(event.attributes["exception.stacktrace"])
    assert event.time_ns == record.end_time_ns  # not of when the stack trace was ready


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_cancellation_is_no_failure(tracer: Recorder, error: BaseException) -> None:
    """It ends the span as CANCELLED, also when read back."""
    with pytest.raises(type(error)), tracer.start_span("x") as span:
        raise error
    assert span.status is Status.CANCELLED
    record = tracer.record()
    assert record.status is Status.CANCELLED
    assert "clew.status" not in record.attributes


@pytest.mark.parametrize(("code", "status"), [(0, Status.UNSET), (None, Status.UNSET), (3, Status.ERROR)])
def test_sys_exit_is_a_failure_only_if_it_says_so(tracer: Recorder, code: int | None, status: Status) -> None:
    """sys.exit() is how a program says that all went well."""
    with pytest.raises(SystemExit), tracer.start_span("x"):
        raise SystemExit(code)
    assert tracer.record().status is status


def test_an_exception_without_text(tracer: Recorder) -> None:
    """What raises when it is printed is recorded all the same."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    with pytest.raises(MuteError), tracer.start_span("x"):
        raise MuteError
    assert tracer.record().events[0].attributes["exception.message"] == "<unprintable MuteError>"


def test_status_rules(tracer: Recorder) -> None:
    """UNSET changes nothing, OK is final and has no description, a wrong status is counted."""
    with tracer.start_span("x") as span:
        span.set_status(Status.ERROR, "bad")
        span.set_status(Status.UNSET)
        assert (span.status, span.status_description) == (Status.ERROR, "bad")
        span.set_status(Status.OK, "ignored")
        span.set_status(Status.ERROR)
        span.set_status(17)  # type: ignore[arg-type]
    record = tracer.record()
    assert (record.status, record.status_description) == (Status.OK, "")
    assert tracer.queue.stats().coerced == 1


def test_the_first_end_holds(tracer: Recorder) -> None:
    """Ended twice or changed after its end, a span stays as it ended."""
    span = tracer.start_span("x")
    span.end(span.start_time_ns + 5)
    span.end(span.start_time_ns + 9)
    span.set_attribute("a", 1)
    span.set_attributes({"b": 1})
    span.add_event("e")
    span.add_link(span)
    span.update_name("y")
    span.set_status(Status.ERROR)
    span.record_error(ValueError())
    with span:
        assert current_span() is span
    assert (span.duration_ns, span.name, span.status) == (5, "x", Status.UNSET)
    assert (span.attributes, span.events, span.links) == ({}, (), ())
    record = tracer.record()
    assert (record.name, record.duration_ns, record.events) == ("x", 5, ())


def test_update_name(tracer: Recorder) -> None:
    """A name can change until the end, and becomes text."""
    with tracer.start_span(7) as span:  # type: ignore[arg-type]
        assert span.name == "7"
        span.update_name("GET /users")
    assert tracer.record().name == "GET /users"


def test_what_is_not_sampled_is_current_and_its_children_too() -> None:
    """A root that is not sampled keeps its children from starting traces of their own; its id stays for headers."""
    never, always = Recorder(NeverSample()), Recorder()
    with never.start_span("root") as root:
        assert not root.is_recording
        assert current_span().trace_id == root.trace_id
        assert root.context.trace_flags & 1 == 0
        with always.start_span("child", attributes={"a": 1}) as child:
            child.add_event("e")
            assert child.trace_id == root.trace_id
            assert child.parent_id == root.span_id
            assert (child.attributes, child.events, child.start_time_ns) == ({}, (), 0)
            assert current_span().trace_id == root.trace_id
        assert current_span() is root
    assert not always.records()
    assert not never.records()
    assert always.queue.stats().not_sampled == never.queue.stats().not_sampled == 1
    with always.start_span("next") as span:
        assert span.is_recording


def test_a_span_that_nobody_can_end_is_exported_unfinished(tracer: Recorder) -> None:
    """Its last reference gone, it is in the trace, marked."""
    span = tracer.start_span("x")
    del span
    gc.collect()
    assert tracer.record().attributes == {"clew.unfinished": True}
    stats = tracer.queue.stats()
    assert (stats.started, stats.ended, stats.open) == (1, 1, 0)


def test_open_spans_can_be_ended_by_the_queue(tracer: Recorder) -> None:
    """At close every open span is exported as it is, marked, and its later end changes nothing."""
    spans = [tracer.start_span(f"s{number}") for number in range(3)]
    spans[1].end()
    assert tracer.queue.end_open_spans() == 2
    spans[0].end()
    marked = {record.name: record.attributes.get("clew.unfinished", False) for record in tracer.records()}
    assert marked == {"s0": True, "s1": False, "s2": True}
    assert tracer.queue.stats().ended == 3


def test_two_threads_end_one_span(tracer: Recorder) -> None:
    """Eight threads use and end the same spans; each span is exported once, whole."""
    spans = [tracer.start_span(f"s{number}") for number in range(200)]
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for span in spans:
            span.set_attribute("k", [1, 2])
            span.add_event("e", {"a": 1})
            with span:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.name for record in tracer.records()) == sorted(span.name for span in spans)


def test_use_span_makes_current_without_ending(tracer: Recorder) -> None:
    """The block makes it current and restores what was."""
    span = tracer.start_span("x")
    with tracer.start_span("outer") as outer:
        with use_span(span) as used:
            assert used is span
            assert current_span() is span
        assert current_span() is outer
    assert span.end_time_ns is None


def test_remote_span_stands_for_another(tracer: Recorder) -> None:
    """It records nothing, and its flag decides for its children."""
    for flags, sampled in ((1, True), (0, False)):
        with use_span(remote_span(SpanContext("ab" * 16, "cd" * 8, flags, is_remote=True))) as span:
            assert not span.is_recording
            assert span.context.is_remote
            assert tracer.start_span("x").is_recording is sampled
    with pytest.raises(ValueError):
        remote_span(SpanContext("nonsense", "cd" * 8))


def test_interleaved_blocks_leave_nothing_current(tracer: Recorder) -> None:
    """Two generators that are left in another order than they were entered in: no ended span becomes current."""

    def body(name: str) -> Iterator[None]:
        with tracer.start_span(name):
            yield

    with tracer.start_span("outer") as outer:
        first, second = body("first"), body("second")
        next(first)
        next(second)
        list(first)
        list(second)
        assert current_span() is outer
    assert current_span().trace_id == "0" * 32


def test_a_task_outlives_the_span_it_was_made_in(tracer: Recorder) -> None:
    """A task made within a block keeps that span as parent, also when the block has been left."""

    async def main() -> None:
        go = asyncio.Event()

        async def background() -> None:
            await go.wait()
            with tracer.start_span("one"):
                pass
            with tracer.start_span("two"):
                pass

        with tracer.start_span("request"):
            task = asyncio.create_task(background())
            await asyncio.sleep(0)
        go.set()
        await task
        assert not current_span().is_recording

    asyncio.run(main())
    request, one, two = tracer.records()
    assert one.parent_id == two.parent_id == request.span_id


def test_an_async_generator_closed_in_another_task(tracer: Recorder) -> None:
    """No raise, no context leaked into the closing task; the span ends as cancelled."""

    async def numbers() -> AsyncIterator[int]:
        with tracer.start_span("numbers"):
            yield 1
            yield 2

    async def main() -> None:
        generator = numbers()

        async def start() -> None:
            await anext(generator)

        await asyncio.create_task(start())

        async def close() -> None:
            with tracer.start_span("closer") as closer:
                await generator.aclose()  # type: ignore[attr-defined]
                assert current_span() is closer

        await asyncio.create_task(close())

    asyncio.run(main())
    records = {record.name: record for record in tracer.records()}
    assert records["numbers"].status is Status.CANCELLED
    assert records["closer"].parent_id == ""


def test_a_block_left_in_a_copy_of_its_context(tracer: Recorder) -> None:
    """Left in a copy, a block restores the copy, and the context it was entered in keeps it."""

    def enter() -> None:
        span = tracer.start_span("x")
        span.__enter__()

        def leave() -> bool:
            span.__exit__(None, None, None)
            return current_span().trace_id == "0" * 32

        assert contextvars.copy_context().run(leave)
        assert current_span() is span

    contextvars.copy_context().run(enter)


def test_a_sampler_that_fails_records_nothing() -> None:
    """What a sampler raises is counted and kept away from the program."""

    class Broken:
        def should_sample(self, *args: object) -> bool:
            raise ValueError

    tracer = Recorder(Broken())
    with tracer.start_span("x") as span:
        assert not span.is_recording
    assert tracer.queue.stats().errors == 1


def test_a_clock_that_fails_is_replaced_by_the_systems() -> None:
    """Spans still have right times, and the faults are counted."""

    class Broken(FakeClock):
        def monotonic_ns(self) -> int:
            raise ValueError

    tracer = Recorder(clock=Broken())
    with tracer.start_span("x"):
        pass
    assert tracer.record().duration_ns < 10**9
    assert tracer.queue.stats().errors == 2


def test_a_wrong_kind_is_internal_and_counted(tracer: Recorder) -> None:
    """Kinds are OTLP's numbers; others are not guessed at."""
    tracer.start_span("x", 9).end()  # type: ignore[arg-type]
    tracer.start_span("y", 3).end()  # type: ignore[arg-type]
    assert [record.kind for record in tracer.records()] == [SpanKind.INTERNAL, SpanKind.CLIENT]
    assert tracer.queue.stats().coerced == 1


def test_spans_are_not_made_by_hand() -> None:
    """There is no span without a tracer."""
    with pytest.raises(TypeError):
        Span()


def test_nothing_leaks(tracer: Recorder) -> None:
    """Values and names are released with their span."""
    import sys

    name, value, key = "n" * 50, "v" * 50, "k" * 50
    before = [sys.getrefcount(item) for item in (name, value, key)]
    for _ in range(100):
        with tracer.start_span(name, attributes={key: value}, links=[tracer.start_span("l")]) as span:
            span.set_attribute(key, value)
            span.add_event(name, {key: value})
            span.add_link(span, {key: [value, {key: value}]})
    del span
    tracer.records()
    assert [sys.getrefcount(item) for item in (name, value, key)] == before
