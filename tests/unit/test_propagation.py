"""Headers to contexts and back, and what is current."""

from __future__ import annotations

import asyncio
import contextvars
import re
from concurrent.futures import ThreadPoolExecutor
from email.parser import BytesParser
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from clew import (
    NeverSample,
    SpanContext,
    attach,
    carry,
    current_span,
    extract,
    get_baggage,
    inject,
    with_baggage,
)
from clew.testing import capture_spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
CONTEXT = SpanContext(TRACE, SPAN, 1, is_remote=True)


# --- traceparent (W3C trace context level 2, section 3.2) ------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (PARENT, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-ff", 3),  # unknown flags are not kept
        (f" \t{PARENT}\t ", 1),
        (f"cc-{TRACE}-{SPAN}-01", 1),  # a later version
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
        (f"01-{TRACE}-{SPAN}-01-", 1),
    ],
)
def test_a_right_traceparent(header: str, flags: int) -> None:
    """Ids and the flags that are known, of this version and as much of later ones."""
    assert extract({"traceparent": header}) == CONTEXT._replace(trace_flags=flags)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        PARENT[:-1],
        f"{PARENT}-",
        f"{PARENT}-extra",
        f"{PARENT}.extra",
        f"ff-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01.extra",
        f"01-{TRACE}-{SPAN}-011",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0G",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-\u0660\u0661",  # digits, but not of ASCII
        f"{PARENT},{PARENT}",
    ],
)
def test_a_wrong_traceparent(header: str) -> None:
    """As if there were none: no ids, and no tracestate either."""
    context = extract({"traceparent": header, "tracestate": "a=1"})
    assert not context.is_valid
    assert context.trace_state == ""


def test_two_traceparents_are_none() -> None:
    """More than one header of the name is wrong, also when both say the same."""
    assert not extract([("traceparent", PARENT), ("traceparent", PARENT)]).is_valid
    assert not extract({"traceparent": [PARENT, PARENT]}).is_valid
    assert not extract({"traceparent": PARENT, "Traceparent": PARENT}).is_valid


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": PARENT},
        {"TraceParent": PARENT},
        {"TRACEPARENT": [PARENT]},
        [("other", "x"), ("traceparent", PARENT)],
        ((b"traceparent", PARENT.encode()),),
        iter([(b"Traceparent", PARENT.encode())]),
        MappingProxyType({"traceparent": PARENT}),
    ],
    ids=repr,
)
def test_headers_in_many_forms(headers: Any) -> None:
    """Mappings to str or lists, pairs of str or bytes, names in any case."""
    assert extract(headers) == CONTEXT


@pytest.mark.parametrize(
    "headers", [None, 5, [("traceparent",)], [5], {"traceparent": None}, {5: PARENT}, "abc"], ids=repr
)
def test_what_is_no_headers_raises_nothing(headers: Any) -> None:
    """A request is served, untraced."""
    assert not extract(headers).is_valid


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "baggage"]), st.text() | st.binary())))
def test_anything_can_be_extracted(headers: list[tuple[str, Any]]) -> None:
    """No header raises."""
    extract(headers)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(0, 3))
def test_inject_and_extract(trace: bytes, span: bytes, flags: int) -> None:
    """A valid context comes through as it is; one that is not is not sent."""
    context = SpanContext(trace.hex(), span.hex(), flags)
    headers: dict[str, str] = {}
    inject(headers, context)
    if context.is_valid:
        assert extract(headers) == context._replace(is_remote=True)
    else:
        assert headers == {}


class Items:
    """Headers that have `items()` and are no mapping, a name as often as it came."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = pairs

    def items(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)


def message(*lines: str) -> Message:
    """As http.server has headers."""
    return BytesParser().parsebytes("\r\n".join([*lines, "", ""]).encode("latin-1"))


def environ(**headers: str) -> dict[str, Any]:
    """As WSGI has them."""
    found: dict[str, Any] = {}
    setup_testing_defaults(found)
    return found | headers


WHAT_CAME = [
    message(f"TraceParent: {PARENT}", "tracestate: a=1", "TraceState: b=2", "Baggage: x=1", "baggage: y=2"),
    CIMultiDict([("TraceParent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "x=1,y=2")]),
    Items(
        ("Traceparent", PARENT), ("Tracestate", "a=1"), ("Tracestate", "b=2"), ("Baggage", "x=1"), ("Baggage", "y=2")
    ),
    {"traceparent": [PARENT], "tracestate": ("a=1", "b=2"), "baggage": ["x=1", "y=2"]},
    [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"), (b"baggage", b"x=1,y=2")],
    environ(HTTP_TRACEPARENT=PARENT, HTTP_TRACESTATE="a=1,b=2", HTTP_BAGGAGE="x=1,y=2"),
    httpx.Headers([("Traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "x=1,y=2")]),
]


@pytest.mark.parametrize("headers", WHAT_CAME, ids=lambda headers: type(headers).__name__)
def test_headers_as_servers_have_them(headers: Any) -> None:
    """Every line counts, wherever it comes from; lines of one name are one list."""
    context = extract(headers)
    assert context._replace(trace_state="", baggage={}) == CONTEXT
    assert context.trace_state.replace(" ", "") == "a=1,b=2"
    assert context.baggage == {"x": "1", "y": "2"}


@pytest.mark.parametrize(
    "headers",
    [
        message(f"traceparent: {PARENT}", f"Traceparent: {PARENT}"),
        CIMultiDict([("traceparent", PARENT), ("TraceParent", PARENT)]),
        environ(HTTP_TRACEPARENT=f"{PARENT},{PARENT}"),
        httpx.Headers([("traceparent", PARENT), ("traceparent", PARENT)]),
        {"HTTP_TRACEPARENT": PARENT},  # a header of that name, not of WSGI
    ],
    ids=lambda headers: type(headers).__name__,
)
def test_a_traceparent_that_came_twice_to_a_server(headers: Any) -> None:
    """None of both is taken."""
    assert not extract(headers).is_valid


def test_inject_replaces_what_is_there_several_times() -> None:
    """In headers that hold several of a name, and lose all of them by the first `del`."""
    old = [("traceparent", "old"), ("TraceParent", "older"), ("tracestate", "old=1"), ("Tracestate", "old=2")]
    for headers in (CIMultiDict(old), httpx.Headers(old)):
        inject(headers, CONTEXT._replace(trace_state="a=1"))
        assert list(headers.items()) == [("traceparent", PARENT), ("tracestate", "a=1")]


# --- tracestate (section 3.3) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        "a=1",
        "foo=1,bar=2",
        "foo=1 , bar=2,\tbaz=3",
        "foo=1,,bar=2,",
        "1a-_*/@x=!#$%&'()*+-./:;<>?@[\\]^_`{|}~",
        "a=in the middle",
        f"{'a' * 256}={'v' * 256}",
        ",".join(f"k{n}=v" for n in range(32)),
        "a=1,a=2",
    ],
)
def test_a_right_tracestate(state: str) -> None:
    """It is kept as it was received."""
    assert extract({"traceparent": PARENT, "tracestate": state}).trace_state == state


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "=1",
        "a=",
        "A=1",
        "a=1=2",
        "a b=1",
        "@a=1",
        "a=\x01",
        "a=é",
        f"{'a' * 257}=1",
        f"a={'v' * 257}",
        "good=1,bad",
        ",".join(f"k{n}=v" for n in range(33)),
        "," * 100_000,
    ],
)
def test_a_wrong_tracestate(state: str) -> None:
    """It is left out whole, and the traceparent holds."""
    context = extract({"traceparent": PARENT, "tracestate": state})
    assert context.is_valid
    assert context.trace_state == ""


def test_several_lines_of_tracestate_are_one_list() -> None:
    """In their order, with the limit over all of them."""
    assert extract([("traceparent", PARENT), ("tracestate", "a=1"), ("TraceState", "b=2")]).trace_state == "a=1,b=2"
    many = [("tracestate", ",".join(f"k{n}{line}=v" for n in range(20))) for line in range(2)]
    assert extract([("traceparent", PARENT), *many]).trace_state == ""


# --- baggage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "baggage"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        (" a = 1 \t,\tb=2;property;other=3", {"a": "1", "b": "2"}),
        ("a=caf%C3%A9%20%2c", {"a": "café ,"}),
        ("a=100%", {"a": "100%"}),
        ("a=%zz%4", {"a": "%zz%4"}),
        ("a=%FF", {"a": "\ufffd"}),
        ("a=1=2", {"a": "1=2"}),
        ("a=", {"a": ""}),
        ("a=1,a=2", {"a": "2"}),
        ("no value,=1,b c=1,ok=1,d=a b,e=\u00e9", {"ok": "1"}),
        ('a="x"', {}),
        ("", {}),
    ],
)
def test_baggage(header: str, baggage: dict[str, str]) -> None:
    """What is right is read, what is wrong left out, member by member; without a traceparent too."""
    assert extract({"baggage": header}).baggage == baggage
    assert not extract({"baggage": header}).is_valid


def test_the_limits_of_baggage_hold_over_all_lines() -> None:
    """64 members and 8,192 bytes in all: what comes later is left out, and nothing is cut in two."""
    many = [("baggage", f"k{n}=v") for n in range(70)]
    assert list(extract(many).baggage) == [f"k{n}" for n in range(64)]
    exact = f"a={'v' * 4000},b={'v' * (8192 - 4003 - 2)}"
    assert len(exact) == 8192
    assert list(extract({"baggage": exact}).baggage) == ["a", "b"]
    assert list(extract({"baggage": exact + "v"}).baggage) == ["a"]
    assert list(extract([("baggage", exact[:4002]), ("baggage", exact[4003:]), ("baggage", "c=1")]).baggage) == [
        "a",
        "b",
    ]


@given(st.dictionaries(st.text(), st.text(), max_size=100))
def test_what_baggage_is_sent_arrives(entries: dict[str, str]) -> None:
    """Within the limits, and whole: a member arrives as it was, or not at all. Lone surrogates become "?"."""
    headers: dict[str, str] = {}
    with with_baggage(entries):
        inject(headers)
    sent = headers.get("baggage", "")
    assert sent.isascii()
    assert len(sent) <= 8192
    arrived = extract(headers).baggage
    assert len(arrived) <= 64
    tokens = {
        key: value.encode(errors="replace").decode()
        for key, value in entries.items()
        if re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", key)
    }
    assert set(arrived.items()) <= set(tokens.items())
    if len(tokens) <= 64 and sum(len(value) for value in tokens.values()) < 100:
        assert arrived == tokens


def test_a_member_that_is_too_long_does_not_keep_others_back() -> None:
    """It alone is left out."""
    headers: dict[str, str] = {}
    with with_baggage({"a": "1", "long": "v" * 9000, "b": "2"}):
        inject(headers)
    assert headers == {"baggage": "a=1,b=2"}


def test_with_baggage_adds_to_what_is_there() -> None:
    """Blocks add up, and end."""
    with with_baggage({"a": "1", "b": "1"}):
        with with_baggage({"b": "2", "c": 3}):  # type: ignore[dict-item]
            assert get_baggage() == {"a": "1", "b": "2", "c": "3"}
        assert get_baggage() == {"a": "1", "b": "1"}
        with pytest.raises(TypeError):
            get_baggage()["a"] = "2"  # type: ignore[index]
    assert get_baggage() == {}


def test_a_block_left_in_another_context_raises_nothing() -> None:
    """As when an async generator is closed by another task."""
    block = with_baggage({"a": "1"})
    other = contextvars.copy_context()
    other.run(block.__enter__)
    block.__exit__(None, None, None)
    assert get_baggage() == {}


# --- inject ----------------------------------------------------------------------------------------------------------


def test_inject_writes_the_current_span() -> None:
    """With flag 01 under a span that is sampled, and its trace's tracestate."""
    with (
        capture_spans() as captured,
        captured.tracer.start_span("a", parent=CONTEXT._replace(trace_state="x=1")) as span,
    ):
        headers: dict[str, str] = {}
        inject(headers)
        assert headers == {"traceparent": f"00-{TRACE}-{span.span_id}-01", "tracestate": "x=1"}


def test_inject_under_a_span_that_is_not_sampled() -> None:
    """The ids go out with the sampled flag off, so that the next service records none of it either."""
    with capture_spans(sampler=NeverSample()) as captured, captured.tracer.start_span("a"):
        headers: dict[str, str] = {}
        inject(headers)
        context = extract(headers)
        assert context.is_valid
        assert not context.is_sampled


def test_inject_without_a_span() -> None:
    """Nothing is written, and what is there stays."""
    headers = {"Traceparent": PARENT}
    inject(headers)
    assert headers == {"Traceparent": PARENT}


def test_inject_replaces_what_is_there() -> None:
    """However it is spelled; a tracestate of another trace does not stay."""
    headers = {"Traceparent": "old", "TRACESTATE": "old=1", "Baggage": "old=1", "other": "x"}
    inject(headers, CONTEXT._replace(baggage={"a": "b c"}))
    assert headers == {"other": "x", "traceparent": PARENT, "baggage": "a=b%20c"}


@pytest.mark.parametrize(
    "context",
    [
        SpanContext("x" * 32, SPAN, 1),
        SpanContext(TRACE + "\r\nEvil: 1", SPAN, 1),
        SpanContext("", "", 1),
    ],
    ids=repr,
)
def test_a_context_made_by_hand_cannot_end_a_header(context: SpanContext) -> None:
    """What is no traceparent is not sent."""
    headers: dict[str, str] = {}
    inject(headers, context._replace(trace_state="a=1\r\nEvil: 1"))
    assert headers == {}


def test_a_wrong_tracestate_is_not_sent() -> None:
    """A header cannot be ended by what stands in it."""
    headers: dict[str, str] = {}
    inject(headers, CONTEXT._replace(trace_state="a=1\r\nEvil: 1"))
    assert headers == {"traceparent": PARENT}


def test_headers_that_refuse_raise_nothing() -> None:
    """The request goes out, untraced."""
    inject(MappingProxyType({"traceparent": "old"}), CONTEXT)  # type: ignore[arg-type]


# --- what is current -------------------------------------------------------------------------------------------------


def test_attach() -> None:
    """Spans of the block belong to the remote trace, and its baggage is current; after the block neither."""
    context = CONTEXT._replace(baggage={"a": "1"})
    with capture_spans() as captured:
        with with_baggage({"before": "1"}):
            with attach(context):
                assert current_span().context[:4] == context[:4]
                assert get_baggage() == {"a": "1"}
                with captured.tracer.start_span("child") as span:
                    assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
            assert get_baggage() == {"before": "1"}
        assert not current_span().context.is_valid


def test_attach_what_is_not_valid() -> None:
    """The current span stays; the baggage is taken."""
    with capture_spans() as captured, captured.tracer.start_span("a") as span:
        for context in (extract({"baggage": "a=1"}), SpanContext("nonsense", "x", baggage={"a": "1"})):
            with attach(context):
                assert current_span() is span
                assert get_baggage() == {"a": "1"}


def test_attach_keeps_the_decision_made_elsewhere() -> None:
    """A remote trace that is not sampled is not recorded here."""
    with capture_spans() as captured:
        with attach(CONTEXT._replace(trace_flags=0)), captured.tracer.start_span("child") as span:
            assert not span.is_recording
        assert captured.records == []


def test_carry_takes_the_context_to_a_thread_pool() -> None:
    """Spans of a pool's threads are children of the span that was current where carry() was called (scenario 16)."""
    with capture_spans() as captured:

        def work(number: int) -> str:
            with captured.tracer.start_span(f"work {number}"):
                return get_baggage()["of"]

        with ThreadPoolExecutor(4) as pool, captured.tracer.start_span("caller"), with_baggage({"of": "us"}):
            carried = carry(work)
            assert carried.__name__ == "work"
            assert list(pool.map(carried, range(8))) == ["us"] * 8
        root = captured.records[-1]
        assert [record.parent_id for record in captured.records[:-1]] == [root.span_id] * 8


def test_a_generator_and_tasks_keep_baggage_apart() -> None:
    """Baggage follows contextvars: each task has its own."""

    async def main() -> None:
        async def task(name: str) -> str:
            with with_baggage({"task": name}):
                await asyncio.sleep(0)
                return get_baggage()["task"]

        assert await asyncio.gather(*map(task, "abc")) == ["a", "b", "c"]

    asyncio.run(main())


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a span or a baggage current."""
    yield
    assert not current_span().context.is_valid
    assert get_baggage() == {}
