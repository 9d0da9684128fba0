"""The tracer: its checks, its resource, and the decorator on every kind of function."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import clew
from clew import ConfigurationError, MemoryExporter, SpanKind, Status, Tracer, current_span
from clew.testing import CapturedSpans, capture_spans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator


@pytest.fixture
def captured() -> Iterator[CapturedSpans]:
    with capture_spans() as spans:
        yield spans


@pytest.fixture
def tracer(captured: CapturedSpans) -> Tracer:
    return captured.tracer


def current_name() -> str:
    return current_span().name


# --- construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Tracer(""), "A tracer has the name of its service, as in Tracer(\"shop\"), not ''."),
        (lambda: Tracer(5), 'A tracer has the name of its service, as in Tracer("shop"), not 5.'),  # type: ignore[arg-type]
        (
            lambda: Tracer("x", MemoryExporter),  # type: ignore[arg-type]
            "MemoryExporter is a class; pass an exporter made of it: MemoryExporter(...).",
        ),
        (
            lambda: Tracer("x", "file"),  # type: ignore[arg-type]
            "'file' is not an exporter: it has no method export. Pass one such as FileExporter(\"traces.jsonl\").",
        ),
        (
            lambda: Tracer("x", None, 0.5),  # type: ignore[arg-type]
            "0.5 is not a sampler: it has no method should_sample. Pass one such as ProbabilitySample(0.01).",
        ),
        (
            lambda: Tracer("x", clock=3),  # type: ignore[arg-type]
            "3 is not a clock: it has no method time_ns. Pass one such as clew.testing.FakeClock().",
        ),
        (lambda: Tracer("x", max_queue_bytes=0), "max_queue_bytes is a whole number above 0, not 0."),
        (lambda: Tracer("x", batch_spans=True), "batch_spans is a whole number above 0, not True."),
        (lambda: Tracer("x", batch_spans=1.5), "batch_spans is a whole number above 0, not 1.5."),  # type: ignore[arg-type]
        (lambda: Tracer("x", batch_delay=0), "batch_delay is a number of seconds above 0, not 0."),
        (lambda: Tracer("x", batch_delay=float("inf")), "batch_delay is a number of seconds above 0, not inf."),
        (lambda: Tracer("x", close_timeout=-1), "close_timeout is a number of seconds, not -1."),
        (lambda: Tracer("x", close_timeout=float("nan")), "close_timeout is a number of seconds, not nan."),
        (
            lambda: Tracer("x", resource=["a"]),  # type: ignore[arg-type]
            'resource is a mapping, as in {"service.version": "1.2"}, not [\'a\'].',
        ),
        (lambda: Tracer("x", resource={1: "a"}), "resource has names that are strings, not 1."),  # type: ignore[dict-item]
        (
            lambda: Tracer("x", resource={"a": {1, 2}}),  # type: ignore[dict-item]
            "resource['a'] is a str, bool, int, float, bytes, None, or a list or mapping of these, not {1, 2}.",
        ),
    ],
)
def test_a_wrong_argument_is_said_in_a_sentence(make: Callable[[], Tracer], sentence: str) -> None:
    """Mistakes in configuration raise at construction, and the sentence says what is right."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value) == sentence


def test_the_resource(captured: CapturedSpans) -> None:
    """It has the service, the program's own attributes, copied, and who made the spans."""
    more: dict[str, Any] = {"service.version": "1", "hosts": ["a", "b"], "deep": {"x": [1]}, "service.name": "other"}
    exporter = MemoryExporter()
    with Tracer("shop", exporter, resource=more) as tracer:
        more["hosts"].append("c")
        tracer.start_span("a").end()
    assert exporter.records[0].resource.attributes == {
        "service.version": "1",
        "hosts": ("a", "b"),
        "deep": {"x": (1,)},
        "service.name": "shop",
        "telemetry.sdk.name": "clew",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": clew.__version__,
    }
    assert exporter.records[0].scope[:2] == ("clew", clew.__version__)
    assert tracer.resource.service_name == "shop"
    assert repr(tracer) == "Tracer('shop')"


def test_leaving_the_block_closes_the_tracer() -> None:
    """`with Tracer(...)` delivers at its end, also when it is left by an exception."""
    exporter = MemoryExporter()
    with pytest.raises(RuntimeError), Tracer("test", exporter) as tracer:  # noqa: PT012 - the block is what is tested
        tracer.start_span("a").end()
        raise RuntimeError
    assert [record.name for record in exporter.records] == ["a"]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", 10**400, float("inf"), 1e300])
def test_a_wrong_timeout_does_not_raise(timeout: Any) -> None:
    """flush and close of a running program take any timeout."""
    with Tracer("test") as tracer:
        assert tracer.flush(timeout)
        assert tracer.close(timeout) in (True, False)


# --- the decorator ---------------------------------------------------------------------------------------------------


def test_a_function(captured: CapturedSpans, tracer: Tracer) -> None:
    """A call is a span under the one that is current, current while it runs; the function stays what it was."""

    @tracer.trace
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        assert current_name() == "add"
        return a + b

    with tracer.start_span("caller"):
        assert add(1) == 3
    assert (add.__name__, add.__doc__, str(inspect.signature(add))) == (
        "add",
        "Adds.",
        "(a: 'int', b: 'int' = 2) -> 'int'",
    )
    assert captured.tree() == "trace  test\n  caller\n    add\n"


def test_with_arguments(captured: CapturedSpans, tracer: Tracer) -> None:
    """Name, kind and attributes are the caller's, the attributes as they were when the function was decorated."""
    attributes = {"a": 1}

    @tracer.trace("fetch", kind=SpanKind.CLIENT, attributes=attributes)
    def first() -> None: ...

    @tracer.trace(name="store")
    def second() -> None: ...

    @tracer.trace()
    def third() -> None: ...

    attributes["a"] = 2
    first(), second(), third()
    assert captured.tree() == (
        "trace  test\n  fetch  CLIENT\n    - a = 1\ntrace  test\n  store\ntrace  test\n  third\n"
    )


def test_methods(captured: CapturedSpans, tracer: Tracer) -> None:
    """Methods, class methods and static methods, with the decorator above or below the other, by qualified name."""

    class Shop:
        @tracer.trace
        def plain(self) -> str:
            return type(self).__name__

        @tracer.trace
        @classmethod
        def above(cls) -> str:
            return cls.__name__

        @classmethod
        @tracer.trace
        def below(cls) -> str:
            return cls.__name__

        @tracer.trace
        @staticmethod
        def static(value: str) -> str:
            return value

    shop = Shop()
    assert [shop.plain(), shop.above(), Shop.below(), shop.static("Shop"), Shop.static("Shop")] == ["Shop"] * 5
    assert [record.name for record in captured.records] == [
        "Shop.plain",
        "Shop.above",
        "Shop.below",
        "Shop.static",
        "Shop.static",
    ]


def test_an_exception_is_recorded_and_goes_on(captured: CapturedSpans, tracer: Tracer) -> None:
    """The caller gets the very exception, the span its event."""
    error = ValueError("no")

    @tracer.trace
    def fail() -> None:
        raise error

    with pytest.raises(ValueError) as caught:
        fail()
    assert caught.value is error
    record = captured.records[0]
    assert (record.status, [event.name for event in record.events]) == (Status.ERROR, ["exception"])


@pytest.mark.parametrize("thing", [int, 5, "name"])
def test_what_is_no_function_is_refused(tracer: Tracer, thing: Any) -> None:
    """A class or a value cannot be traced: said where it is decorated."""
    with pytest.raises(ConfigurationError, match="trace decorates functions and methods"):
        tracer.trace(name="x")(thing)


def test_callables_that_are_no_functions(captured: CapturedSpans, tracer: Tracer) -> None:
    """partial objects and objects with __call__ are traced as what they call is."""

    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    class Worker:
        async def __call__(self) -> str:
            await asyncio.sleep(0)
            return current_name()

    partial = tracer.trace(name="partial")(functools.partial(work, 1))
    instance = tracer.trace(Worker())
    assert inspect.iscoroutinefunction(partial)
    assert asyncio.run(partial()) == 1
    assert asyncio.run(instance()) == "Worker"
    assert tracer.trace(len)([1]) == 1
    assert [record.name for record in captured.records] == ["partial", "Worker", "len"]


def test_a_coroutine(captured: CapturedSpans, tracer: Tracer) -> None:
    """Tasks that run interleaved each have their own current span; cancelling one gives CANCELLED."""

    @tracer.trace
    async def child(name: str) -> str:
        current_span().set_attribute("of", name)
        await asyncio.sleep(0)
        return current_name()

    @tracer.trace
    async def parent(name: str) -> str:
        assert await child(name) == "child"
        await asyncio.sleep(0)
        return current_name()

    @tracer.trace
    async def for_ever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        assert [*await asyncio.gather(parent("a"), parent("b"))] == ["parent", "parent"]
        task = asyncio.create_task(for_ever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert inspect.iscoroutinefunction(child)
    asyncio.run(main())
    assert captured.tree() == (
        'trace  test\n  parent\n    child\n      - of = "a"\n'
        'trace  test\n  parent\n    child\n      - of = "b"\n'
        "trace  test\n  for_ever  CANCELLED: asyncio.exceptions.CancelledError\n" + exception_lines(captured)
    )


def exception_lines(captured: CapturedSpans) -> str:
    """The event of the last record, whose stack trace is not to be compared."""
    return "".join(captured.tree().partition("    * exception")[1:])


def test_a_generator_is_current_only_while_its_body_runs(captured: CapturedSpans, tracer: Tracer) -> None:
    """The consumer never sees the generator's span nor those its body has open; the body always does."""
    seen: list[str] = []

    @tracer.trace
    def numbers() -> Generator[int, str, str]:
        seen.append(current_name())
        with tracer.start_span("inner"):
            seen.append((yield 1))
            seen.append(current_name())
            yield 2
        seen.append(current_name())
        return "result"

    def consume() -> Generator[int, str, None]:
        seen.append((yield from numbers()))

    with tracer.start_span("consumer"):
        generator = consume()
        assert next(generator) == 1
        assert current_name() == "consumer"
        with tracer.start_span("between"):
            assert generator.send("sent") == 2
            assert current_name() == "between"
        assert list(generator) == []
        assert current_name() == "consumer"
    assert seen == ["numbers", "sent", "inner", "numbers", "result"]
    assert inspect.isgeneratorfunction(numbers)
    assert captured.tree() == ("trace  test\n  consumer\n    numbers\n      inner\n    between\n")


def test_generators_interleaved(captured: CapturedSpans, tracer: Tracer) -> None:
    """Two generators consumed in turn keep their spans apart."""

    @tracer.trace
    def parts(name: str) -> Iterator[str]:
        for _ in range(2):
            with tracer.start_span(f"part of {name}"):
                yield current_name()

    assert list(zip(parts("a"), parts("b"), strict=True)) == [("part of a", "part of b")] * 2
    assert not current_span().context.is_valid
    assert captured.tree() == (
        "trace  test\n  parts\n    part of a\n    part of a\ntrace  test\n  parts\n    part of b\n    part of b\n"
    )


def test_a_generator_that_is_left_early_is_cancelled(captured: CapturedSpans, tracer: Tracer) -> None:
    """close(), or to be forgotten, ends the span as CANCELLED; one that was never begun has none."""
    cleaned: list[str] = []

    @tracer.trace
    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(current_name())

    for _ in numbers():
        break
    gc.collect()
    generator = numbers()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    numbers()
    assert cleaned == ["numbers", "numbers"]
    assert [record.status for record in captured.records] == [Status.CANCELLED, Status.CANCELLED]


def test_exceptions_go_into_a_generator_and_out(captured: CapturedSpans, tracer: Tracer) -> None:
    """throw() reaches the body, which may go on; what it raises is recorded and reaches the consumer."""

    @tracer.trace
    def careful() -> Iterator[str]:
        try:
            yield "first"
        except KeyError:
            yield current_name()
        raise ValueError("no")

    generator: Any = careful()
    assert next(generator) == "first"
    assert generator.throw(KeyError()) == "careful"
    assert not current_span().context.is_valid
    with pytest.raises(ValueError):
        next(generator)
    assert captured.records[0].status is Status.ERROR
    assert "in careful" in str(captured.records[0].events[0].attributes["exception.stacktrace"])


def test_an_async_generator(captured: CapturedSpans, tracer: Tracer) -> None:
    """As a generator: the consumer's current span is its own, the body's the generator's, also while it awaits."""
    seen: list[str] = []

    @tracer.trace
    async def numbers() -> AsyncIterator[int]:
        for number in range(2):
            with tracer.start_span("inner"):
                await asyncio.sleep(0)
                seen.append(current_name())
                yield number
        seen.append(current_name())

    async def main() -> None:
        with tracer.start_span("consumer"):
            async for _ in numbers():
                assert current_name() == "consumer"

    assert inspect.isasyncgenfunction(numbers)
    asyncio.run(main())
    assert seen == ["inner", "inner", "numbers"]
    assert captured.tree() == "trace  test\n  consumer\n    numbers\n      inner\n      inner\n"


def test_an_async_generator_takes_what_is_sent_and_thrown(captured: CapturedSpans, tracer: Tracer) -> None:
    """asend() and athrow() reach the body."""

    @tracer.trace
    async def echo() -> Any:
        try:
            got = yield "first"
            yield got
        except KeyError:
            yield "caught"

    async def main() -> list[object]:
        generator = echo()
        return [
            await generator.asend(None),
            await generator.asend("sent"),
            await generator.athrow(KeyError()),
            await anext(generator, "end"),
        ]

    assert asyncio.run(main()) == ["first", "sent", "caught", "end"]
    assert captured.records[0].status is Status.UNSET


def test_an_async_generator_closed_in_another_task(
    captured: CapturedSpans, tracer: Tracer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """No raise, no log, no context left behind: the span is CANCELLED (scenario 15)."""

    @tracer.trace
    async def numbers() -> Any:
        with tracer.start_span("inner"):
            while True:
                yield 1

    async def main() -> None:
        generator = numbers()
        await anext(generator)
        await asyncio.create_task(generator.aclose())
        assert not current_span().context.is_valid
        forgotten = numbers()
        await anext(forgotten)
        del forgotten
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not current_span().context.is_valid

    asyncio.run(main())
    assert [(record.name, record.status) for record in captured.records] == [
        ("inner", Status.CANCELLED),
        ("numbers", Status.CANCELLED),
    ] * 2
    assert caplog.records == []
    assert capsys.readouterr().err == ""


def test_steps_in_different_contexts(captured: CapturedSpans, tracer: Tracer) -> None:
    """Each step of a generator may be taken in another context; none of them keeps anything."""

    @tracer.trace
    def numbers() -> Iterator[str]:
        with tracer.start_span("inner"):
            yield current_name()
            yield current_name()
        yield current_name()

    generator = numbers()
    contexts = [contextvars.copy_context() for _ in range(4)]
    assert [context.run(next, generator, "end") for context in contexts] == ["inner", "inner", "numbers", "end"]
    assert [context.run(current_name) for context in contexts] == [""] * 4
    assert captured.tree() == "trace  test\n  numbers\n    inner\n"


def test_the_exporter_can_be_replaced() -> None:
    """What waits goes to the new one, which may give it on; what is no exporter is refused."""
    first, second = MemoryExporter(), MemoryExporter()
    with Tracer("shop", first) as tracer:
        assert tracer.exporter is first
        tracer.start_span("before").end()
        tracer.exporter = second
        with pytest.raises(ConfigurationError, match="is not an exporter"):
            tracer.exporter = "file"  # type: ignore[assignment]
        assert tracer.exporter is second
    assert (first.records, [record.name for record in second.records]) == ([], ["before"])
