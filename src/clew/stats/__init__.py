"""What a file of traces holds, in numbers: bounded memory, however long it is and however many names are in it."""

from __future__ import annotations

from clew.stats.figures import Bucket, NameFigures, SlowTrace, Statistics
from clew.stats.tally import Tally, slow_trace

__all__ = ["Bucket", "NameFigures", "SlowTrace", "Statistics", "Tally", "slow_trace"]
