"""The same calls to clew's provider and to the SDK's record the same, but for the differences that the guide lists."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import datetime as dt
import enum
import logging
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as context_api
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from clew.otel import TracerProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scenario = "Callable[[Any], object]"
NOW_NS = 10**17  # a time that nobody gave is later


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Told:
    def __str__(self) -> str:
        return "told"


class Plain:
    """It has no words of its own."""


class Fails:
    def __str__(self) -> str:
        raise RuntimeError("no")


class TellingError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


# --- what is called --------------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "an int": 1,
    "an int of 64 bits": 2**63 - 1,
    "a larger int": 2**63,
    "a float": 1.5,
    "infinity": float("inf"),
    "a bool": True,
    "None": None,
    "a str": "a",
    "a lone surrogate": "\ud800",
    "bytes": b"a",
    "a bytearray": bytearray(b"a"),
    "a memoryview": memoryview(b"a"),
    "an IntEnum": Number.ONE,
    "a StrEnum": Word.A,
    "a mixed list": [1, "a", None, 2.5],
    "an empty list": [],
    "lists in a list": [[1], [[2]]],
    "a deque": deque([1]),
    "a range": range(3),
    "a set": {1},
    "a mapping": {"a": {"b": [1, {}]}},
    "an OrderedDict": OrderedDict(a=1),
    "a mapping with an int as a name": {1: 2},
    "a mapping with an empty name": {"": 1},
    "a date": dt.date(2026, 1, 2),
    "words": Told(),
    "no words": Plain(),
    "no words in a list": [Plain()],
    "failing words": Fails(),
}
NAMES: dict[str, Any] = {"empty": "", "None": None, "an int": 1, "bytes": b"k", "a StrEnum": Word.A, "a str": "k"}
ERRORS: list[BaseException] = [
    ValueError("v"),
    ValueError(),
    KeyError("k"),
    KeyboardInterrupt(),
    SystemExit(0),
    SystemExit(1),
    GeneratorExit(),
    asyncio.CancelledError(),
    StopIteration(3),
    ExceptionGroup("g", [ValueError(1)]),
    TellingError(),
]
SCENARIOS: dict[str, Callable[[Any], object]] = {}


def scenario(function: Callable[[Any], object]) -> Callable[[Any], object]:
    SCENARIOS[function.__name__.replace("_", " ").strip()] = function
    return function


def setting(key: Any, value: Any) -> Callable[[Any], object]:
    def run(tracer: Any) -> None:
        span = tracer.start_span("x")
        span.set_attribute(key, value)
        span.add_event("e", {key: value}, 5)
        span.end()

    return run


def starting_with(attributes: Any) -> Callable[[Any], object]:
    return lambda tracer: tracer.start_span("x", attributes=attributes).end()


def leaving(error: BaseException, how: str) -> Callable[[Any], object]:
    blocks: dict[str, Callable[[Any], Any]] = {
        "start_as_current_span": lambda tracer: tracer.start_as_current_span("x"),
        "start_span": lambda tracer: tracer.start_span("x"),
        "use_span": lambda tracer: trace.use_span(tracer.start_span("x"), end_on_exit=True),
        "not recorded": lambda tracer: tracer.start_as_current_span("x", record_exception=False),
        "no status": lambda tracer: tracer.start_as_current_span("x", set_status_on_exception=False),
    }

    def run(tracer: Any) -> None:
        with blocks[how](tracer):
            raise error

    return run


SCENARIOS |= {f"value: {name}": setting("k", value) for name, value in VALUES.items()}
SCENARIOS |= {f"name: {name}": setting(key, 1) for name, key in NAMES.items()}
SCENARIOS |= {f"names at the start: {name}": starting_with({key: 1, "z": 2}) for name, key in NAMES.items()}
SCENARIOS |= {"no attributes": starting_with(None), "attributes that are none": starting_with([("a", 1)])}
SCENARIOS |= {
    f"{error!r} leaves {how}": leaving(error, how)
    for error in ERRORS
    for how in ("start_as_current_span", "start_span", "use_span", "not recorded", "no status")
}


def with_times(start: Any, end: Any) -> Callable[[Any], object]:
    return lambda tracer: tracer.start_span("x", start_time=start).end(end)


SCENARIOS |= {
    "times": with_times(5, 10),
    "an end before the start": with_times(50, 10),
    "negative times": with_times(-5, 10),
    "times that are floats": with_times(5.0, 10.0),
}


def with_status(*calls: tuple[Any, ...]) -> Callable[[Any], object]:
    def run(tracer: Any) -> None:
        span = tracer.start_span("x")
        for call in calls:
            span.set_status(*call)
        span.end()

    return run


SCENARIOS |= {
    "an error": with_status((StatusCode.ERROR, "why")),
    "two errors": with_status((StatusCode.ERROR, "why"), (StatusCode.ERROR,)),
    "an error without words": with_status((StatusCode.ERROR, "")),
    "words for OK": with_status((StatusCode.OK, "why")),
    "OK is final": with_status((StatusCode.OK,), (StatusCode.ERROR, "late")),
    "UNSET changes nothing": with_status((StatusCode.ERROR, "why"), (StatusCode.UNSET,)),
    "a status twice": with_status((trace.Status(StatusCode.ERROR, "a"), "b")),
    "a status that is none": with_status((None,), ("ERROR",)),
}


def below(flags: int, *, is_remote: bool, span_id: int = 2) -> Callable[[Any], object]:
    def run(tracer: Any) -> object:
        state = TraceState([("a", "b"), ("c", "d")])
        parent = NonRecordingSpan(SpanContext(1, span_id, is_remote, TraceFlags(flags), state))
        span = tracer.start_span("x", trace.set_span_in_context(parent))
        span.end()
        context = span.get_span_context()
        return span.is_recording(), context.trace_id == 1, int(context.trace_flags), isinstance(span, NonRecordingSpan)

    return run


SCENARIOS |= {
    f"below flags {flags}, {remote=}": below(flags, is_remote=remote)
    for flags in (0, 1, 3, 255)
    for remote in (False, True)
}
SCENARIOS["below an invalid span"] = below(1, is_remote=True, span_id=0)


@scenario
def too_many_attributes(tracer: Any) -> None:
    span = tracer.start_span("x")
    for number in range(130):
        span.set_attribute(f"k{number}", number)
    span.end()


@scenario
def too_many_events(tracer: Any) -> None:
    span = tracer.start_span("x")
    for number in range(130):
        span.add_event(f"e{number}", timestamp=number)
    span.end()


@scenario
def too_many_links(tracer: Any) -> None:
    tracer.start_span("x", links=[Link(SpanContext(1, 1 + number, False)) for number in range(130)]).end()


@scenario
def an_attribute_again(tracer: Any) -> None:
    span = tracer.start_span("x", attributes={"a": 1, "b": 2})
    span.set_attribute("a", 3)
    span.end()


@scenario
def values_that_change_later(tracer: Any) -> None:
    span, numbers, mapping = tracer.start_span("x"), [1], {"a": [1]}
    span.set_attributes({"numbers": numbers, "mapping": mapping})
    numbers.append(2)
    mapping["a"].append(2)
    span.end()


@scenario
def links(tracer: Any) -> None:
    state = TraceState([("a", "b")])
    span = tracer.start_span("x", links=[Link(SpanContext(1, 2, True, TraceFlags(1), state), {"k": [1]}), None])
    span.add_link(SpanContext(3, 4, False), {"a": 1})
    span.add_link(trace.INVALID_SPAN_CONTEXT)
    span.add_link(trace.INVALID_SPAN_CONTEXT, {"a": 1})
    span.end()


@scenario
def links_that_are_none(tracer: Any) -> None:
    tracer.start_span("x", links=[1]).end()


@scenario
def a_kind_that_is_none(tracer: Any) -> None:
    tracer.start_span("x", kind=None).end()


@scenario
def an_exception_recorded(tracer: Any) -> None:
    span = tracer.start_span("x")
    span.record_exception(ValueError("v"), {"exception.message": "mine", "a": 1}, 5, escaped=True)
    span.end()


@scenario
def no_exception_recorded(tracer: Any) -> None:
    span = tracer.start_span("x")
    span.record_exception("text")
    span.end()


@scenario
def after_the_end(tracer: Any) -> object:
    span = tracer.start_span("x", start_time=5)
    span.end(10)
    span.set_attribute("a", 1)
    span.add_event("e")
    span.update_name("y")
    span.set_status(StatusCode.ERROR)
    span.add_link(SpanContext(1, 2, True))
    span.record_exception(ValueError())
    span.end(20)
    return span.name, span.end_time, span.is_recording(), copy.copy(span.events)


@scenario
def decorators(tracer: Any) -> object:
    @tracer.start_as_current_span("function")  # type: ignore[untyped-decorator]
    def function(a: int, b: int = 2) -> tuple[int, str]:
        return a + b, trace.get_current_span().name  # type: ignore[attr-defined]

    @tracer.start_as_current_span("coroutine")  # type: ignore[untyped-decorator]
    async def coroutine() -> bool:
        await asyncio.sleep(0)
        return trace.get_current_span().is_recording()

    return function(1), function(1, b=3), asyncio.run(coroutine())


@scenario
def a_block_again(tracer: Any) -> None:
    block = tracer.start_as_current_span("x")
    for _ in range(2):
        with block:
            pass


@scenario
def a_block_that_nobody_enters(tracer: Any) -> None:
    tracer.start_as_current_span("x")


@scenario
def baggage_stays(tracer: Any) -> object:
    token = context_api.attach(baggage.set_baggage("a", "b"))
    with tracer.start_as_current_span("x"):
        found = dict(baggage.get_all())
    context_api.detach(token)
    return found, trace.get_current_span() is trace.INVALID_SPAN


@scenario
def interleaved_generators(tracer: Any) -> object:
    def steps(name: str) -> Iterator[str]:
        with tracer.start_as_current_span(name):
            yield trace.get_current_span().name  # type: ignore[attr-defined]
            yield trace.get_current_span().name  # type: ignore[attr-defined]

    first, second = steps("a"), steps("b")
    names = [next(first), next(second), next(first), next(second), *first, *second]
    return names, trace.get_current_span() is trace.INVALID_SPAN


# --- what comes of it ------------------------------------------------------------------------------------------------

# What the guide tells of: docs/guide/opentelemetry.md, "What differs".
DIFFERENT = {
    "value: a larger int",
    "value: an IntEnum",
    "value: a StrEnum",
    "value: a bytearray",
    "value: a memoryview",
    "value: a mapping with an empty name",
    "value: no words in a list",
    "value: failing words",
    "name: an int",
    "name: bytes",
    "name: a StrEnum",
    "names at the start: an int",
    "names at the start: bytes",
    "names at the start: a StrEnum",
    "attributes that are none",
    "TellingError() leaves start_as_current_span",
    "TellingError() leaves start_span",
    "TellingError() leaves no status",
    "TellingError() leaves not recorded",
    "an end before the start",
    "negative times",
    "times that are floats",
    "an error without words",
    "too many attributes",
    "too many events",
    "too many links",
    "an attribute again",
    "links that are none",
    "a kind that is none",
    "no exception recorded",
    "a block again",
    "interleaved generators",
}


def time(nanoseconds: Any) -> object:
    return "now" if isinstance(nanoseconds, int) and nanoseconds > NOW_NS else repr(nanoseconds)


def plain(attributes: Any) -> list[str]:
    """With their types, in their order; of a stack trace the last line."""
    return [
        f"{key!r}: {value.strip().splitlines()[-1] if key == 'exception.stacktrace' else repr(value)}"
        for key, value in attributes.items()
    ]


def what(span: Any) -> object:
    """All that can be read of a span, but for ids and times that are each time others."""
    parent, context, scope = span.parent, span.context, span.instrumentation_scope
    return (
        span.name,
        span.kind,
        parent and (parent.is_remote, int(parent.trace_flags), parent.trace_state),
        (context.is_remote, int(context.trace_flags), context.trace_state),
        plain(span.attributes),
        [(each.name, time(each.timestamp), plain(each.attributes), each.dropped_attributes) for each in span.events],
        [(each.context, plain(each.attributes), each.dropped_attributes) for each in span.links],
        (span.status.status_code, span.status.description),
        (time(span.start_time), time(span.end_time)),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
        (scope.name, scope.version, scope.schema_url, dict(scope.attributes)),
    )


def outcome(make: Any, run: Callable[[Any], object]) -> object:
    """What a scenario returns or raises, and the spans that ended."""
    provider, memory = make(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("library", "1", "https://schema.example", {"a": 1})
    try:
        result: object = repr(run(tracer))
    except BaseException as error:  # also those that are no Exception
        result = type(error)
    return result, [what(span) for span in memory.get_finished_spans()]


@pytest.mark.parametrize("name", SCENARIOS)
def test_like_the_sdk(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """What both record is the same, or the difference is on the list."""
    caplog.set_level(logging.CRITICAL)
    clews, sdks = (
        contextvars.copy_context().run(outcome, make, SCENARIOS[name]) for make in (TracerProvider, SdkProvider)
    )
    if name in DIFFERENT:
        assert clews != sdks
    else:
        assert clews == sdks


def test_the_list_names_scenarios() -> None:
    """Nothing is on it that is not compared."""
    assert set(SCENARIOS) >= DIFFERENT
    assert SpanKind.INTERNAL.value == 0  # the kinds that are compared are the API's
