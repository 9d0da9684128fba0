"""Keeping what matters of what was seen: tail sampling, and the flight recorder.

Both stand between the queue and the exporter, on the worker thread, and hold spans as bytes. What they let go is in the
ledger (`Stats.dropped["not_kept"]`); what they hold counts as queued.
"""

from __future__ import annotations

import sys
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clew._hot import ProbabilitySample, fork_count
from clew._hot.keep import TraceKeeper, shows_trouble
from clew.errors import ConfigurationError
from clew.limits import RECORDER_BYTES, RECORDER_SECONDS, TAIL_BYTES, TAIL_DECISIONS, TAIL_WAIT_SECONDS
from clew.protocols import check_exporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.model import Attributes, SpanContext, SpanKind
    from clew.protocols import Exporter

__all__ = ["FlightRecorder", "Kept", "Stage", "TailSample"]


class Kept(NamedTuple):
    """What came out of a stage."""

    batches: tuple[tuple[bytes, int], ...] = ()  # to be exported: concatenated ScopeSpans.spans fields, and how many
    let_go: int = 0  # spans that will never be


class Stage(Protocol):
    """Stands between the queue and the exporter. Worker only; what a parent held is nothing to a child."""

    def take(self, spans: bytes, count: int, before: int) -> Kept:
        """Take a batch, before which the queue gave so many spans in this process."""

    def idle(self) -> Kept:
        """Nothing came for a while, or somebody woke the worker."""

    def finish(self) -> Kept:
        """Nothing will come any more."""


class TailSample:
    """Keeps whole traces, decided when their root in this process has ended: `Tracer(..., sampler=TailSample(...))`.

    Every trace is recorded, at the cost of encoding, and held as bytes until it is decided about; a trace that comes
    from another process keeps the decision made there whether it is recorded at all. Spans that end after their root
    belong to the trace if it was kept. Spans are held within `max_bytes`, and for ten minutes at the most; beyond that
    the oldest trace is decided about with what is known of it.

    Args:
        keep_errors: whether a span with the status ERROR keeps its trace.
        slower_than: seconds; a root that takes as long or longer keeps its trace. None for none.
        probability: the share of all other traces that is kept, 0 to 1, chosen by the trace id.
        max_bytes: of encoded spans that are held.

    Raises: ConfigurationError.
    """

    def __init__(
        self,
        *,
        keep_errors: bool = True,
        slower_than: float | None = None,
        probability: float = 0.0,
        max_bytes: int = TAIL_BYTES,
    ) -> None:
        self._keep_errors = bool(keep_errors)
        self._slower_ns = _nanoseconds("TailSample", slower_than)
        self._sampler = ProbabilitySample(probability)
        self._max_bytes = _bytes("TailSample", max_bytes)

    def should_sample(
        self,
        trace_id: str,  # noqa: ARG002 - a sampler is asked so
        name: str,  # noqa: ARG002
        kind: SpanKind,  # noqa: ARG002
        attributes: Attributes,  # noqa: ARG002
        parent: SpanContext | None,  # noqa: ARG002
    ) -> bool:
        """Always: what is kept is decided later."""
        return True

    def make_stage(self) -> Stage:
        """What a tracer puts between its queue and its exporter."""
        return _TailStage(
            TraceKeeper(
                self._keep_errors,
                self._slower_ns,
                self._sampler,
                max_bytes=self._max_bytes,
                max_decisions=TAIL_DECISIONS,
                wait_seconds=TAIL_WAIT_SECONDS,
            )
        )

    def __repr__(self) -> str:
        slower = "" if self._slower_ns < 0 else f", slower_than={self._slower_ns / 1e9:g}"
        return f"TailSample(keep_errors={self._keep_errors}{slower}, probability={self._sampler.probability:g})"


class _TailStage:
    def __init__(self, keeper: TraceKeeper) -> None:
        self._keeper = keeper

    def take(self, spans: bytes, count: int, before: int) -> Kept:  # noqa: ARG002 - the keeper counts for itself
        return _kept(self._keeper.take(spans))

    def idle(self) -> Kept:
        return _kept(self._keeper.expired())

    def finish(self) -> Kept:
        return _kept(self._keeper.decide_all())


def _kept(given: tuple[bytes, int, int]) -> Kept:
    spans, count, let_go = given
    return Kept(((spans, count),) if count else (), let_go)


class FlightRecorder:
    """Holds the newest spans, and exports them only when there is trouble: `Tracer(..., exporter=FlightRecorder(...))`.

    Everything is recorded at the cost of encoding. When a span fails, when a root in this process is slow, or when
    `dump` is called, all that is held is exported; else the oldest is let go. So the file has what happened before.

    Args:
        exporter: where the spans go when they do; it is closed with the tracer.
        keep_seconds: what ended longer ago is let go. Spans come in batches, so it may be some seconds more.
        max_bytes: of encoded spans that are held.
        on_error: whether a span with the status ERROR is trouble.
        slower_than: seconds; a root that takes as long or longer is trouble. None for none.

    Raises: ConfigurationError.
    """

    def __init__(
        self,
        exporter: Exporter,
        keep_seconds: float = RECORDER_SECONDS,
        *,
        max_bytes: int = RECORDER_BYTES,
        on_error: bool = True,
        slower_than: float | None = None,
    ) -> None:
        self.exporter = check_exporter(exporter)
        number = isinstance(keep_seconds, (int, float)) and not isinstance(keep_seconds, bool)
        if not number or not 0 < keep_seconds < float("inf"):
            raise ConfigurationError(f"FlightRecorder takes keep_seconds above 0, not {keep_seconds!r}.")
        self._keep_seconds = float(keep_seconds)
        self._max_bytes = _bytes("FlightRecorder", max_bytes)
        self._on_error = bool(on_error)
        self._slower_ns = _nanoseconds("FlightRecorder", slower_than)
        self._generation = fork_count()
        self._ring: deque[tuple[float, bytes, int]] = deque()
        self._ring_bytes = 0
        self._wishes: deque[tuple[int, int]] = deque(maxlen=64)  # of `dump`: the process, and how many had ended there
        self._dump_until = 0  # so many spans have to come before the last wish is fulfilled
        self._wake: Callable[[], None] | None = None
        self._count_ended: Callable[[], int] | None = None

    def dump(self) -> None:
        """Export what is held, and what ended before this call.

        Thread: any, also in a signal handler: `signal.signal(signal.SIGUSR2, lambda *_: recorder.dump())`. Does not
            wait; `Tracer.flush` does.
        """
        if self._wake is not None and self._count_ended is not None:
            self._wishes.append((fork_count(), self._count_ended()))
            self._wake()

    def make_stage(self, wake: Callable[[], None], count_ended: Callable[[], int]) -> Stage:
        """What a tracer puts between its queue and the exporter.

        Args:
            wake: has the worker call `idle` soon.
            count_ended: how many spans were put into the queue of this process so far.

        Raises: ConfigurationError: it belongs to another tracer.
        """
        if self._wake is not None:
            raise ConfigurationError("a FlightRecorder belongs to one tracer: make another")
        self._wake, self._count_ended = wake, count_ended
        return self

    def take(self, spans: bytes, count: int, before: int) -> Kept:
        """See `Stage`."""
        self._check_process()
        now = monotonic()
        let_go = self._expire(now, self._max_bytes - len(spans))
        self._ring.append((now, spans, count))
        self._ring_bytes += len(spans)
        if self._is_wanted(before) or shows_trouble(spans, self._on_error, self._slower_ns):
            return Kept(self._empty(), let_go)
        return Kept((), let_go)

    def idle(self) -> Kept:
        """See `Stage`."""
        self._check_process()
        if self._is_wanted(sys.maxsize):
            return Kept(self._empty())
        return Kept((), self._expire(monotonic(), self._max_bytes))

    def finish(self) -> Kept:
        """See `Stage`."""
        self._check_process()
        if self._is_wanted(sys.maxsize):
            return Kept(self._empty())
        return Kept((), sum(count for _, _, count in self._empty_ring()))

    def _expire(self, now: float, room: int) -> int:
        let_go = 0
        while self._ring and (self._ring_bytes > room or now - self._ring[0][0] > self._keep_seconds):
            _, spans, count = self._ring.popleft()
            self._ring_bytes -= len(spans)
            let_go += count
        return let_go

    def _is_wanted(self, before: int) -> bool:
        """Whether somebody called `dump` since this was asked last, or what had ended then is still coming."""
        is_wanted = before < self._dump_until
        while self._wishes:
            process, ended = self._wishes.popleft()
            if process == self._generation:
                is_wanted, self._dump_until = True, max(self._dump_until, ended)
        return is_wanted

    def _empty(self) -> tuple[tuple[bytes, int], ...]:
        return tuple((spans, count) for _, spans, count in self._empty_ring())

    def _empty_ring(self) -> deque[tuple[float, bytes, int]]:
        ring, self._ring = self._ring, deque()
        self._ring_bytes = 0
        return ring

    def _check_process(self) -> None:
        if self._generation != fork_count():
            self._generation = fork_count()
            self._dump_until = 0
            self._empty_ring()

    def __repr__(self) -> str:
        return f"FlightRecorder({self.exporter!r}, {self._keep_seconds:g})"


def _nanoseconds(owner: str, seconds: float | None) -> int:
    if seconds is None:
        return -1
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        raise ConfigurationError(f"{owner} takes slower_than in seconds, or None, not {seconds!r}.")
    return round(seconds * 1e9)


def _bytes(owner: str, count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count <= 0:
        raise ConfigurationError(f"{owner} takes max_bytes, a whole number above 0, not {count!r}.")
    return count
