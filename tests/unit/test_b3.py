"""B3 headers to contexts and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import SpanContext, extract, inject
from clew.errors import ConfigurationError
from clew.propagation import set_propagators

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, SPAN, CALLER = "80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1", "05e3ac9a4f6e3b90"
PARENT = SpanContext(TRACE, SPAN, 1, is_remote=True)


@pytest.fixture(autouse=True)
def b3() -> Iterator[None]:
    """Propagators as a test has them, for that test."""
    set_propagators(["b3"])
    yield
    set_propagators(["tracecontext", "baggage"])


@pytest.mark.parametrize(
    ("header", "context"),
    [
        (f"{TRACE}-{SPAN}-1", PARENT),
        (f"{TRACE}-{SPAN}-1-{CALLER}", PARENT),
        (f" {TRACE.upper()}-{SPAN.upper()}-1\t", PARENT),
        (f"{TRACE}-{SPAN}-d", PARENT),
        (f"{TRACE}-{SPAN}-0", PARENT._replace(trace_flags=0)),
        (f"{TRACE}-{SPAN}", PARENT._replace(trace_flags=0)),
        (f"{TRACE[16:]}-{SPAN}-1", PARENT._replace(trace_id="0" * 16 + TRACE[16:])),
    ],
)
def test_the_one_header(header: str, context: SpanContext) -> None:
    """Ids of 128 and 64 bits, debug is sampled, an open decision is none to sample."""
    assert extract({"b3": header}) == context


@pytest.mark.parametrize(
    "header",
    [
        "",
        "0",
        "1",
        "garbage",
        f"{TRACE}-{SPAN}-2",
        f"{TRACE}-{SPAN}-1-",
        f"{'0' * 32}-{SPAN}-1",
        f"{TRACE}-{'0' * 16}-1",
    ],
)
def test_a_wrong_header(header: str) -> None:
    """As if there were none."""
    assert not extract({"b3": header}).is_valid
    assert not extract([("b3", f"{TRACE}-{SPAN}-1"), ("B3", f"{TRACE}-{SPAN}-1")]).is_valid


@pytest.mark.parametrize(
    ("more", "flags"),
    [
        ({"X-B3-Sampled": "1"}, 1),
        ({"X-B3-Sampled": "true"}, 1),
        ({"X-B3-Flags": "1"}, 1),
        ({"X-B3-Sampled": "0"}, 0),
        ({"X-B3-Sampled": "perhaps"}, 0),
        ({}, 0),
    ],
)
def test_the_several_headers(more: dict[str, str], flags: int) -> None:
    """They are read by either propagator; the one header counts before them."""
    headers = {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "X-B3-ParentSpanId": CALLER, **more}
    for name in ("b3", "b3multi"):
        set_propagators([name])
        assert extract(headers) == PARENT._replace(trace_flags=flags)
        assert extract({**headers, "b3": f"{TRACE}-{CALLER}-1"}) == PARENT._replace(span_id=CALLER)
        assert not extract({**headers, "X-B3-TraceId": "short"}).is_valid
        assert not extract({"X-B3-TraceId": TRACE}).is_valid


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(0, 1))
def test_inject_and_extract(trace: bytes, span: bytes, flags: int) -> None:
    """A valid context comes through in either form; nothing is sent of one that is not."""
    context = SpanContext(trace.hex(), span.hex(), flags)
    for name, names in (("b3", {"b3"}), ("b3multi", {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"})):
        set_propagators([name])
        headers: dict[str, str] = {}
        inject(headers, context)
        if context.is_valid:
            assert set(headers) == names
            assert extract(headers) == context._replace(is_remote=True)
        else:
            assert headers == {}


def test_beside_trace_context() -> None:
    """Both are written; of two contexts the propagator that is named last has the last word, and baggage stays."""
    set_propagators(["baggage", "tracecontext", "b3"])
    headers: dict[str, str] = {}
    inject(headers, PARENT._replace(trace_state="a=1", baggage={"k": "v"}))
    assert set(headers) == {"traceparent", "tracestate", "baggage", "b3"}
    headers["b3"] = f"{TRACE}-{CALLER}-1"
    assert extract(headers) == PARENT._replace(span_id=CALLER, baggage={"k": "v"})
    assert extract(headers | {"b3": "garbage"}).trace_state == "a=1"
    set_propagators(["b3", "tracecontext"])
    assert extract(headers) == PARENT._replace(trace_state="a=1")


def test_a_propagator_that_nobody_knows() -> None:
    """A sentence with those that there are; what was chosen before stays."""
    with pytest.raises(ConfigurationError, match="tracecontext, baggage, b3, b3multi, not 'xray'"):
        set_propagators(["tracecontext", "xray"])
    headers: dict[str, str] = {}
    inject(headers, PARENT)
    assert list(headers) == ["b3"]
