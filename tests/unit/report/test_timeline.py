"""clew.report.timeline: counts over time, in steps that grow with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clew.limits import REPORT_KEYS, REPORT_STEPS
from clew.report.timeline import OTHERS, Timeline

SECOND_NS = 1_000_000_000
KEY = ("stream", "timeout")


def test_short() -> None:
    """Steps of a second while they suffice, from the first to the last."""
    timeline = Timeline()
    for second in (100, 101, 101, 104):
        timeline.add(KEY, second * SECOND_NS + 5)
    assert timeline.steps == (100 * SECOND_NS, SECOND_NS, 5)
    assert timeline.counts() == {KEY: (1, 2, 0, 0, 1)}


def test_it_widens() -> None:
    """A day is shown in steps of half an hour, and nothing is lost."""
    timeline = Timeline()
    for hour in range(24):
        timeline.add(KEY, (86_400 + hour * 3600) * SECOND_NS)
    assert timeline.steps == (86_400 * SECOND_NS, 1800 * SECOND_NS, 47)
    assert timeline.counts()[KEY] == (1, 0) * 23 + (1,)


def test_nothing() -> None:
    """Without anything counted there is no step."""
    timeline = Timeline()
    assert timeline.steps.number == 0
    assert timeline.counts() == {}


def test_what_has_no_time_is_counted() -> None:
    """At the beginning, whether it came first or later."""
    timeline = Timeline()
    timeline.add(KEY, 0)
    timeline.add(KEY, 70 * SECOND_NS)
    timeline.add(KEY, 90 * SECOND_NS)
    timeline.add(KEY, 0)
    assert timeline.counts()[KEY][0] == 3
    assert sum(timeline.counts()[KEY]) == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, (1 << 64) - 1)), max_size=60))
def test_nothing_is_lost(times: list[tuple[str, int]]) -> None:
    """Whatever the times, the steps are few and hold all."""
    timeline = Timeline()
    for what, time_ns in times:
        timeline.add((what, ""), time_ns)
    counts = timeline.counts()
    assert timeline.steps.number <= REPORT_STEPS
    for what in "abc":
        assert sum(counts.get((what, ""), ())) == sum(each == what for each, _ in times)
    assert all(len(each) == timeline.steps.number for each in counts.values())


def test_keys_have_a_limit() -> None:
    """What comes after the first keys is counted together."""
    timeline = Timeline()
    for number in range(REPORT_KEYS + 10):
        timeline.add(("stream", str(number)), SECOND_NS)
    counts = timeline.counts()
    assert len(counts) == REPORT_KEYS + 1
    assert counts[OTHERS] == (10,)
