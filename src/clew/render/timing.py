"""Where the time of a trace went: own time of spans, and the path of time.

The path of time (elsewhere: critical path) is found from the end of the trace backwards: at each moment it is in the
span that was waited for, of several that ran at once the one that ended last. Shortening what is not on it would not
have made the trace any shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from clew.tree import Node, Trace

__all__ = ["Interval", "Timing"]

Interval: TypeAlias = tuple[int, int]  # start and end in wall-clock nanoseconds


class Timing:
    """The times of all spans of a trace."""

    def __init__(self, trace: Trace) -> None:
        nodes = list(trace.walk())
        self.start_ns = trace.start_time_ns
        self.end_ns = trace.end_time_ns
        self.waiting: dict[Node, list[Interval]] = {node: _waiting(node) for node in nodes}  # children ran
        self.path: dict[Node, list[Interval]] = {node: [] for node in nodes}  # it was on the path of time
        self._find_path(trace.roots, nodes)

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    def own_ns(self, node: Node) -> int:
        """How long a span ran while none of its children did."""
        return max(node.record.duration_ns, 0) - _total_ns(self.waiting[node])

    def path_ns(self, node: Node) -> int:
        """How long a span itself was on the path of time."""
        return _total_ns(self.path[node])

    def _find_path(self, roots: list[Node], nodes: list[Node]) -> None:
        # A child may outlive its parent (what was only begun there): its branch ends when the last of it ends.
        branch_end: dict[Node, int] = {}
        for node in reversed(nodes):  # children before parents
            branch_end[node] = max(node.record.end_time_ns, *map(branch_end.__getitem__, node.children), 0)
        # Each entry: whose time it is (None: nobody's), the children that may have been waited for, from when to when.
        todo: list[tuple[Node | None, list[Node], int, int]] = [(None, roots, self.start_ns, self.end_ns)]
        while todo:
            owner, children, low, high = todo.pop()
            for child in sorted(children, key=branch_end.__getitem__, reverse=True):
                start, end = max(child.record.start_time_ns, low), min(branch_end[child], high)
                if start < end:
                    self._add_path(owner, end, high)
                    todo.append((child, child.children, start, end))
                    high = start
            self._add_path(owner, low, high)

    def _add_path(self, node: Node | None, start: int, end: int) -> None:
        if node is None:
            return
        start, end = max(start, node.record.start_time_ns), min(end, node.record.end_time_ns)
        if start < end:
            self.path[node].append((start, end))


def _waiting(node: Node) -> list[Interval]:
    """The times within a span during which its children ran, joined."""
    joined: list[Interval] = []
    for child in node.children:  # by start
        start = max(child.record.start_time_ns, node.record.start_time_ns)
        end = min(child.record.end_time_ns, node.record.end_time_ns)
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _total_ns(intervals: list[Interval]) -> int:
    return sum(end - start for start, end in intervals)
