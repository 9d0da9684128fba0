"""Records into traces, each a tree: every span is shown once, whatever the parent ids say.

Nothing here recurses: a chain of spans may be as long as the memory allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.model import SpanRecord

__all__ = ["Node", "Trace", "assemble"]


class Node:
    """A span in the tree of its trace.

    `notes` says, in words for people, where the tree is not what the parent ids say.
    """

    __slots__ = ("children", "depth", "notes", "parent", "record")

    def __init__(self, record: SpanRecord) -> None:
        self.record = record
        self.parent: Node | None = None
        self.children: list[Node] = []  # by start time
        self.depth = 0  # 0 for a root
        self.notes: tuple[str, ...] = ()


class Trace:
    """All spans of one trace id that were given."""

    __slots__ = ("roots", "trace_id")

    def __init__(self, trace_id: str, roots: list[Node]) -> None:
        self.trace_id = trace_id
        self.roots = roots  # by start time; more than one when parents are missing

    def walk(self) -> Iterator[Node]:
        """Every node, a parent before its children, siblings by start time."""
        stack = self.roots[::-1]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    @property
    def root(self) -> Node:
        """The first root that is one by its own word; if all of them only lack a parent, the first."""
        return next((node for node in self.roots if not node.record.parent_id), self.roots[0])

    @property
    def span_count(self) -> int:
        return sum(1 for _ in self.walk())

    @property
    def start_time_ns(self) -> int:
        """When the earliest span began; spans without any time (0 to 0) do not count."""
        return min((node.record.start_time_ns for node in self.walk() if node.record.end_time_ns), default=0)

    @property
    def end_time_ns(self) -> int:
        """When the latest span ended."""
        return max(node.record.end_time_ns for node in self.walk())


def assemble(records: Iterable[SpanRecord]) -> list[Trace]:
    """Put spans in any order together.

    A span whose parent is missing becomes a root; a ring of spans is cut at its earliest span, which becomes a root;
    a span whose id was seen before stays beside the first one, which gets the children.

    Returns: the traces in the order in which their first record came.
    """
    by_trace: dict[str, list[Node]] = {}
    for record in records:
        by_trace.setdefault(record.trace_id, []).append(Node(record))
    return [Trace(trace_id, _connect(nodes)) for trace_id, nodes in by_trace.items()]


def _start_time_ns(node: Node) -> int:
    return node.record.start_time_ns


def _connect(nodes: list[Node]) -> list[Node]:
    by_id: dict[str, Node] = {}
    for node in nodes:
        if by_id.setdefault(node.record.span_id, node) is not node:
            node.notes += ("a span with this id came before",)
    for node in nodes:
        parent_id = node.record.parent_id
        node.parent = by_id.get(parent_id) if parent_id else None
        if parent_id and node.parent is None:
            node.notes += (f"its parent {parent_id} is not here",)
    _cut_cycles(nodes)
    nodes.sort(key=_start_time_ns)
    roots = []
    for node in nodes:
        if node.parent is None:
            roots.append(node)
        else:
            node.parent.children.append(node)
    for node in Trace("", roots).walk():
        if node.parent is not None:
            node.depth = node.parent.depth + 1
    return roots


def _cut_cycles(nodes: list[Node]) -> None:
    """Follow the parents of each node once; whoever meets its own path stands in front of a ring."""
    walked: dict[Node, int] = {}  # node -> number of the walk that came through it first
    for number, start in enumerate(nodes):
        path = []
        node: Node | None = start
        while node is not None and node not in walked:
            walked[node] = number
            path.append(node)
            node = node.parent
        if node is not None and walked[node] == number:
            first = min(path[path.index(node) :], key=_start_time_ns)
            first.parent = None
            first.notes += ("it is its own ancestor: the ring is cut here",)
