"""User code that must type-check with `mypy --strict`; it is not run."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, assert_type

import clew
from clew import (
    CURRENT,
    AllOf,
    AlwaysSample,
    AnyOf,
    Batch,
    ByName,
    ConfigurationError,
    ExportError,
    FileExporter,
    MemoryExporter,
    MultiExporter,
    NeverSample,
    NoopExporter,
    ParentSample,
    ProbabilitySample,
    RateLimitSample,
    Span,
    SpanContext,
    SpanKind,
    SpanRecord,
    Stats,
    Status,
    StdoutExporter,
    Tracer,
    WriterExporter,
    attach,
    carry,
    current_span,
    extract,
    get_baggage,
    inject,
    use_span,
    with_baggage,
)
from clew.testing import FakeClock, capture_spans, tree_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from email.message import Message
    from pathlib import Path
    from wsgiref.types import WSGIEnvironment

    from multidict import CIMultiDictProxy

    from clew.model import Attributes


class Upper:
    """A writer of the user's."""

    def write(self, text: str, /) -> int:
        return sys.stdout.write(text.upper())


class CountingExporter:
    """An exporter of the user's, without a base class."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, batch: Batch) -> None:
        self.count += batch.count
        body: bytes = batch.to_protobuf()
        line: bytes = batch.to_json()
        for record in batch.records:
            assert_type(record, SpanRecord)
            assert_type(record.duration_ns, int)
        if not body or not line:
            raise ExportError("empty", rejected=batch.count)

    def close(self) -> None: ...


class Mine:
    """A sampler of the user's, without a base class."""

    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool:
        return name.startswith("a") and kind is SpanKind.SERVER and not attributes and parent is None


def exporters(path: Path) -> MultiExporter:
    """Each exporter, and those of the user."""
    return MultiExporter(
        NoopExporter(),
        StdoutExporter(pretty=True),
        FileExporter("traces.jsonl"),
        FileExporter(path, pretty=True),
        WriterExporter(io.StringIO()),
        WriterExporter(io.BytesIO(), pretty=True),
        WriterExporter(Upper()),
        WriterExporter(sys.stderr),
        MemoryExporter(),
        CountingExporter(),
    )


def make(path: Path) -> Tracer:
    """Samplers compose; a tracer takes plain values."""
    sampler = ByName(
        {"health*": NeverSample()},
        default=ParentSample(
            AllOf(ProbabilitySample(0.1), RateLimitSample(100)),
            remote_sampled=AnyOf(AlwaysSample(), Mine()),
        ),
    )
    try:
        return Tracer(
            "shop",
            exporters(path),
            sampler,
            resource={"service.version": "1.2", "hosts": ("a", "b"), "port": 80},
            clock=FakeClock(),
            max_queue_bytes=1_000_000,
            batch_spans=100,
            batch_delay=1,
            close_timeout=2.5,
        )
    except ConfigurationError as error:
        raise SystemExit(str(error)) from error


tracer = Tracer("shop")


@tracer.trace
def add(a: int, *, b: str = "") -> float:
    """Keeps its signature."""
    return a + len(b)


@tracer.trace("fetch", kind=SpanKind.CLIENT, attributes={"a": 1})
async def fetch(url: str) -> bytes:
    return url.encode()


@tracer.trace(name="numbers")
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@tracer.trace()
async def ticks() -> AsyncIterator[str]:
    yield "tick"


class Shop:
    """Methods of each kind."""

    @tracer.trace
    def buy(self, what: str) -> int:
        return len(what)

    @classmethod
    @tracer.trace
    def open(cls) -> Shop:
        return cls()

    @staticmethod
    @tracer.trace
    def price(what: str) -> int:
        return len(what)


async def use() -> None:
    """What functions give stays typed through the decorator."""
    assert_type(add(1, b="x"), float)
    assert_type(await fetch("x"), bytes)
    assert_type([*numbers(3)], list[int])
    assert_type([tick async for tick in ticks()], list[str])
    assert_type(Shop().buy("x"), int)
    assert_type(Shop.open(), Shop)
    assert_type(Shop.price("x"), int)
    add("1")  # type: ignore[arg-type]
    add(1, c=2)  # type: ignore[call-arg]


def served(of_http_server: Message, of_wsgi: WSGIEnvironment, of_aiohttp: CIMultiDictProxy[str]) -> list[SpanContext]:
    """Headers as servers have them."""
    return [extract(of_http_server), extract(of_wsgi), extract(of_aiohttp)]


def spans(headers: dict[str, str], pairs: list[tuple[bytes, bytes]], lists: Mapping[str, list[str]]) -> Stats:
    """Spans, contexts and headers."""
    with tracer.start_span("a", SpanKind.SERVER, attributes={"a": [1, "b"]}, parent=extract(pairs)) as span:
        assert_type(span, Span)
        span.set_attribute("n", 1)
        span.set_attributes({"x": None, "y": {"z": b""}})
        span.add_event("event", {"hop": 1}, time_ns=5)
        span.add_link(extract(lists), {"why": "retry"})
        span.record_error(ValueError("no"))
        span.set_status(Status.ERROR, "no")
        assert_type(span.duration_ns, int | None)
        inject(headers)
        inject(headers, span.context)
        with use_span(span) as same, attach(extract(headers)), with_baggage({"user": "x"}):
            assert_type(same, Span)
            baggage: Mapping[str, str] = get_baggage()
            print(baggage)
    loose = tracer.start_span("b", parent=None, links=[span, span.context], start_time_ns=1)
    tracer.start_span("c", parent=CURRENT).end()
    loose.end(end_time_ns=2)
    assert_type(current_span().context, SpanContext)
    carried: Callable[[str], int] = carry(Shop().buy)
    assert_type(carried("x"), int)
    assert_type(tracer.flush(1.5), bool)
    assert_type(tracer.close(), bool)
    return tracer.stats()


def test_something() -> None:
    """The test helpers."""
    with capture_spans("shop", sampler=AlwaysSample(), clock=FakeClock()) as captured:
        assert_type(captured.tracer, Tracer)
        assert_type(captured.records, list[SpanRecord])
        assert captured.tree() == tree_text(captured.records)
    print(clew.__version__)
