"""Types of `keep`: what is kept of spans that may never be exported."""

from typing import Self, final

from clew._hot import ProbabilitySample

@final
class TraceKeeper:
    """Holds the spans of a trace until its root in this process has ended, and lets the trace go or not.

    A trace is kept if it was slow, has an error, or is among a share of all. What is held beyond the bounds is decided
    about as if its root ended now, the oldest first. In a child of a fork nothing is held.

    Args:
        keep_errors: whether a span with the status ERROR keeps its trace.
        slower_ns: a root that took as long keeps its trace (nanoseconds); less than 0 for none.
        sampler: decides about the others.
        max_bytes: of spans held.
        max_decisions: traces that are remembered as kept, for their spans that end later.
        wait_seconds: how long a trace is held whose root does not end.

    Thread: one at a time.
    """

    def __new__(
        cls,
        keep_errors: bool,
        slower_ns: int,
        sampler: ProbabilitySample,
        *,
        max_bytes: int,
        max_decisions: int,
        wait_seconds: float,
    ) -> Self: ...
    @property
    def held(self) -> int:
        """Spans that are held."""
    @property
    def held_bytes(self) -> int: ...
    def take(self, spans: bytes) -> tuple[bytes, int, int]:
        """Take a batch.

        Returns: the spans to be exported now, how many they are, and how many were let go.
        Raises: DecodeError.
        """
    def expired(self) -> tuple[bytes, int, int]:
        """What was held for too long; as `take`."""
    def decide_all(self) -> tuple[bytes, int, int]:
        """All that is held; as `take`."""

def shows_trouble(spans: bytes, errors: bool, slower_ns: int) -> bool:
    """Whether a batch has a span that failed, or a root in this process that took as long as `slower_ns` or longer.

    Args:
        spans: concatenated ScopeSpans.spans fields.
        errors: whether failed spans count.
        slower_ns: nanoseconds; less than 0 if no root is slow.

    Raises: DecodeError.
    """
