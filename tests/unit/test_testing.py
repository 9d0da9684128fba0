"""What clew offers to tests."""

from __future__ import annotations

import pytest

from clew import ClewError, ExportError
from clew.testing import FakeClock, capture_spans, tree_text


def test_capture_spans() -> None:
    """The block's spans, as records and as a picture; clear() begins anew."""
    with capture_spans("shop") as captured:
        with captured.tracer.start_span("work") as span:
            span.set_attribute("n", 1)
        assert [record.name for record in captured.records] == ["work"]
        assert captured.tree() == tree_text(captured.records) == "trace  shop\n  work\n    - n = 1\n"
        captured.clear()
        assert captured.records == []


def test_what_was_not_captured_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that were lost make `records` raise."""
    with capture_spans() as captured:

        def fail(_: object) -> None:
            raise ExportError("no")

        monkeypatch.setattr(captured._exporter, "export", fail)
        captured.tracer.start_span("work").end()
        with pytest.raises(ClewError, match="not all spans were captured"):
            _ = captured.records


def test_fake_clock() -> None:
    """Time passes when told; the wall clock steps alone."""
    clock = FakeClock(wall_ns=1_000)
    begin = clock.monotonic_ns()
    clock.advance(5)
    clock.step_wall(-100)
    assert (clock.time_ns(), clock.monotonic_ns() - begin) == (905, 5)
    with pytest.raises(ValueError, match="time passes forwards"):
        clock.advance(-1)


def test_spans_of_a_fake_clock_survive_a_step_of_the_wall_clock() -> None:
    """A trace's times come from one reading of the wall clock and go on by the monotonic one."""
    clock = FakeClock(wall_ns=1_000_000)
    with capture_spans(clock=clock) as captured:
        with captured.tracer.start_span("root"):
            clock.advance(10)
            clock.step_wall(-500_000)
            with captured.tracer.start_span("child"):
                clock.advance(20)
        child, root = captured.records
    assert (root.start_time_ns, root.end_time_ns) == (1_000_000, 1_000_030)
    assert (child.start_time_ns, child.end_time_ns) == (1_000_010, 1_000_030)
