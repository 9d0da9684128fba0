"""Samplers that are made of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew import (
    AllOf,
    AlwaysSample,
    AnyOf,
    ByName,
    ConfigurationError,
    NeverSample,
    ParentSample,
    RateLimitSample,
    SpanContext,
    SpanKind,
)
from clew.testing import FakeClock, capture_spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew import Sampler
    from clew.model import Attributes

SAMPLED = SpanContext("a" * 32, "b" * 16, 1, is_remote=True)
NOT_SAMPLED = SAMPLED._replace(trace_flags=0)


class Asked:
    """Answers as told, and keeps the names it was asked about."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.names: list[str] = []

    def should_sample(
        self, trace_id: str, name: str, kind: SpanKind, attributes: Attributes, parent: SpanContext | None
    ) -> bool:
        self.names.append(name)
        return self.answer


def decide(sampler: Sampler, name: str = "span", parent: SpanContext | None = None) -> bool:
    """What becomes of a span of a tracer with this sampler."""
    with capture_spans(sampler=sampler) as captured:
        span = captured.tracer.start_span(name, parent=parent)
        span.end()
        return span.is_recording or len(captured.records) == 1


@pytest.mark.parametrize(
    ("sampler", "root", "sampled", "not_sampled"),
    [
        (AlwaysSample(), True, True, False),
        (NeverSample(), False, True, False),
        (ParentSample(AlwaysSample()), True, True, False),
        (ParentSample(NeverSample()), False, True, False),
        (ParentSample(AlwaysSample(), remote_sampled=NeverSample()), True, False, False),
        (ParentSample(NeverSample(), remote_not_sampled=AlwaysSample()), False, True, True),
        (AllOf(AlwaysSample(), NeverSample()), False, True, False),
        (AllOf(AlwaysSample(), ParentSample(AlwaysSample(), remote_sampled=NeverSample())), True, False, False),
        (AnyOf(NeverSample(), AlwaysSample()), True, True, False),
        (AnyOf(NeverSample(), ParentSample(NeverSample(), remote_not_sampled=AlwaysSample())), False, True, True),
        (ByName({}, default=ParentSample(NeverSample(), remote_not_sampled=AlwaysSample())), False, True, True),
    ],
    ids=repr,
)
def test_roots_and_traces_from_elsewhere(sampler: Sampler, root: bool, sampled: bool, not_sampled: bool) -> None:
    """What was decided elsewhere holds, except for a ParentSample that has a sampler for it, wherever it stands."""
    assert decide(sampler) == root
    assert decide(sampler, parent=SAMPLED) == sampled
    assert decide(sampler, parent=NOT_SAMPLED) == not_sampled


def test_children_are_never_asked_about() -> None:
    """The decision falls once per trace, at its first span here."""
    sampler = Asked(True)
    with capture_spans(sampler=ParentSample(sampler, remote_sampled=sampler)) as captured:
        with captured.tracer.start_span("root"), captured.tracer.start_span("child"):
            pass
        with captured.tracer.start_span("entry", parent=SAMPLED), captured.tracer.start_span("child"):
            pass
        assert len(captured.records) == 4
    assert sampler.names == ["root", "entry"]


def test_all_of_asks_until_one_says_no() -> None:
    """What stands later is not asked, so that a rate limit is not spent."""
    first, last = Asked(False), Asked(True)
    assert not decide(AllOf(first, last))
    assert (first.names, last.names) == (["span"], [])


def test_any_of_asks_until_one_says_yes() -> None:
    """What stands later is not asked."""
    first, last = Asked(True), Asked(True)
    assert decide(AnyOf(first, last))
    assert (first.names, last.names) == (["span"], [])


def test_by_name() -> None:
    """The first pattern that matches the whole name decides, case counts, and the default where none does."""
    sampler = ByName(
        {"GET /health*": NeverSample(), "GET *": AlwaysSample(), "[ab]?": NeverSample()}, default=AlwaysSample()
    )
    names = ["GET /health", "GET /healthz", "GET /", "get /health", "a1", "a12", "", "x\nGET /health"]
    assert [decide(sampler, name) for name in names] == [False, False, True, True, False, True, True, True]


def test_a_rate_limit_inside() -> None:
    """Native samplers work as parts of others."""
    clock = FakeClock()
    sampler = AllOf(ByName({"noise": NeverSample()}, default=AlwaysSample()), RateLimitSample(2, clock=clock))
    with capture_spans(sampler=sampler, clock=clock) as captured:
        for name in ["noise", "noise", "a", "b", "c"]:
            captured.tracer.start_span(name).end()
        clock.advance(1_000_000_000)
        captured.tracer.start_span("d").end()
        assert [record.name for record in captured.records] == ["a", "b", "d"]


@pytest.mark.parametrize(
    "make",
    [
        AllOf,
        AnyOf,
        lambda: AllOf(AlwaysSample),  # type: ignore[arg-type]
        lambda: AnyOf(AlwaysSample(), 0.5),  # type: ignore[arg-type]
        lambda: ParentSample(None),  # type: ignore[arg-type]
        lambda: ParentSample(AlwaysSample(), remote_sampled=True),  # type: ignore[arg-type]
        lambda: ByName({1: AlwaysSample()}, default=AlwaysSample()),  # type: ignore[dict-item]
        lambda: ByName({"a": 1}, default=AlwaysSample()),  # type: ignore[dict-item]
    ],
)
def test_wrong_parts_are_refused(make: Callable[[], Sampler]) -> None:
    """Mistakes raise when the sampler is made."""
    with pytest.raises(ConfigurationError):
        make()


def test_they_say_what_they_are() -> None:
    """The repr can be read, and typed in again."""
    sampler = AllOf(ByName({"a": NeverSample()}, default=AlwaysSample()), ParentSample(AnyOf(RateLimitSample(5))))
    assert repr(sampler) == (
        "AllOf(ByName({'a': NeverSample()}, default=AlwaysSample()), "
        "ParentSample(AnyOf(RateLimitSample(5)), remote_sampled=None, remote_not_sampled=None))"
    )
