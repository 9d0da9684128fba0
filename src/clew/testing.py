"""For tests, clew's and those of programs that use it: captured spans, a clock that stands still, traces as text."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from clew.errors import ClewError
from clew.exporters.memory import MemoryExporter
from clew.pretty import format_tree
from clew.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.model import SpanRecord
    from clew.protocols import Clock, Sampler

__all__ = ["CapturedSpans", "FakeClock", "capture_spans", "tree_text"]

# 2026-01-01 00:00:00 UTC.
_WALL_NS = 1_767_225_600_000_000_000
_MONOTONIC_NS = 1_000_000_000
_FLUSH_SECONDS = 30.0


class FakeClock:
    """A clock that moves only when it is told to.

    Args:
        wall_ns: where the wall clock begins, nanoseconds since 1970.
    """

    def __init__(self, wall_ns: int = _WALL_NS) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = _MONOTONIC_NS

    def time_ns(self) -> int:
        """Wall-clock nanoseconds since 1970."""
        return self._wall_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        return self._monotonic_ns

    def advance(self, duration_ns: int) -> None:
        """Let time pass.

        Raises: ValueError, if it is negative; the wall clock alone can be set back, with `step_wall`.
        """
        if duration_ns < 0:
            raise ValueError(f"time passes forwards, not by {duration_ns} ns")
        self._wall_ns += duration_ns
        self._monotonic_ns += duration_ns

    def step_wall(self, offset_ns: int) -> None:
        """Set the wall clock forwards or back, as NTP or an operator does; no time passes."""
        self._wall_ns += offset_ns


class CapturedSpans:
    """What `capture_spans` gives: a tracer, and the spans that it made."""

    def __init__(self, tracer: Tracer, exporter: MemoryExporter) -> None:
        self.tracer = tracer
        self._exporter = exporter

    @property
    def records(self) -> list[SpanRecord]:
        """The spans that ended so far, in the order in which they did."""
        if not self.tracer.flush(_FLUSH_SECONDS):
            raise ClewError(f"not all spans were captured: {self.tracer.stats()}")
        return self._exporter.records

    def tree(self) -> str:
        """The spans that ended so far as `tree_text`."""
        return tree_text(self.records)

    def clear(self) -> None:
        """Forget the spans that ended so far."""
        self.tracer.flush(_FLUSH_SECONDS)
        self._exporter.clear()


@contextmanager
def capture_spans(
    service_name: str = "test", *, sampler: Sampler | None = None, clock: Clock | None = None
) -> Iterator[CapturedSpans]:
    """A context manager: a tracer for the block, and the spans that it makes.

    Example:
        with capture_spans() as captured:
            with captured.tracer.start_span("work"):
                pass
            assert captured.tree() == "trace  test\\n  work\\n"
    """
    exporter = MemoryExporter()
    with Tracer(service_name, exporter, sampler, clock=clock) as tracer:
        yield CapturedSpans(tracer, exporter)


def tree_text(records: Iterable[SpanRecord]) -> str:
    """Traces as an indented tree of names, kinds, statuses, attributes, events and links: all that does not change from
    one run of a test to the next, so without times and ids.
    """
    return format_tree(records, times=False, ids=False)
