"""Where the time of a connection to an onion service went: each moment counted for one phase, so that they add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.tor.onion import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.tree import Node

__all__ = ["PARTS", "UNEXPLAINED", "parts_of"]

# What no phase accounts for: tor's own work, a circuit that was waited for before a phase could begin.
UNEXPLAINED = "unexplained"

# In the order in which they mostly come.
PARTS: Mapping[str, str] = {
    Phase.FETCH: "descriptor",
    Phase.ESTABLISH: "rendezvous point",
    Phase.INTRODUCE: "introduction",
    Phase.JOIN: "join",
    UNEXPLAINED: UNEXPLAINED,
}


def parts_of(connection: Node) -> dict[str, int]:
    """How much of a `tor.hs.connect` went to each part, in nanoseconds.

    Phases overlap. A moment of several phases counts for the one that ended last: that one was waited for.

    Returns: all of PARTS; the sum is the connection's duration.
    """
    low, high = connection.record.start_time_ns, max(connection.record.end_time_ns, connection.record.start_time_ns)
    parts = dict.fromkeys(PARTS, 0)
    at = high
    # Backwards from the end: the phase that ended last has everything since its start, and so on with what is before.
    phases = [child.record for child in connection.children if child.record.name in parts]
    for phase in sorted(phases, key=lambda record: record.end_time_ns, reverse=True):
        end, start = min(phase.end_time_ns, at), max(phase.start_time_ns, low)
        if start < end:
            parts[UNEXPLAINED] += at - end
            parts[phase.name] += end - start
            at = start
    parts[UNEXPLAINED] += at - low
    return parts
