"""Events of Chrome's trace format that others wrote, put together to spans.

The format has no ids and no parents: a slice is the child of the slice of its thread (or of its asynchronous id) that
it lies in, and one that lies in none begins a trace. Slices may come in any order, so some thousands of them are held
and taken in the order of their times. Instants are events of the slice they lie in.

Source: Trace Event Format (the Chromium project's document).
"""

from __future__ import annotations

import heapq
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.errors import DecodeError
from clew.formats.json_values import from_json, text_of
from clew.limits import CHROME_NAMES, CHROME_SPANS_HELD
from clew.model import Event, Resource, SpanRecord

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from clew.model import Attributes, AttributeValue

__all__ = ["Slices"]

_BEGINS: Final = {"B": "E", "b": "e", "S": "F"}
_ENDS: Final = frozenset(_BEGINS.values())
_INSTANTS: Final = frozenset("iIn")
_SPAN_IS_UNFINISHED: Final[Attributes] = {"clew.unfinished": True}


class _Item(NamedTuple):
    """A slice or an instant; in a heap they come in the order of their times, the outer ones first."""

    start_ns: int
    minus_end_ns: int
    number: int  # no two have the same
    track: Hashable  # what slices of one stack have in common
    pid: str
    name: str
    attributes: Attributes
    is_instant: bool


class _Begun(NamedTuple):
    """A slice whose end has not come."""

    start_ns: int
    name: str
    attributes: Attributes
    pid: str


class _Open:
    """A slice in which others may lie."""

    __slots__ = ("events", "item", "parent_id", "span_id", "trace_id")

    def __init__(self, item: _Item, parent: _Open | None) -> None:
        own = text_of([item.start_ns, item.minus_end_ns, item.number, item.pid, item.name]).encode()
        self.item = item
        self.span_id: str = blake2b(own, digest_size=8, person=b"clew.span").hexdigest()
        self.trace_id: str = (
            blake2b(own, digest_size=16, person=b"clew.trace").hexdigest() if parent is None else parent.trace_id
        )
        self.parent_id: str = "" if parent is None else parent.span_id
        self.events: list[Event] = []

    @property
    def end_ns(self) -> int:
        return -self.item.minus_end_ns


class Slices:
    """Events in, spans out. Thread: one."""

    def __init__(self) -> None:
        self._heap: list[_Item] = []
        self._number = 0
        self._begun: dict[Hashable, list[_Begun]] = {}
        self._begun_count = 0
        self._stacks: dict[Hashable, list[_Open]] = {}
        self._processes: dict[str, Resource] = {}
        self._threads: dict[tuple[str, str], str] = {}

    def add(self, event: dict[str, Any]) -> Iterator[SpanRecord]:
        """Take an event; give the spans that are complete.

        Raises: DecodeError. The event is left out.
        """
        phase = event.get("ph")
        if phase == "M":
            self._take_name(event)
        elif phase == "X":
            start_ns = _time_ns(event.get("ts"))
            self._push(event, start_ns, start_ns + _duration_ns(event.get("dur", 0)))
        elif phase in _INSTANTS:
            time_ns = _time_ns(event.get("ts"))
            self._push(event, time_ns, time_ns, is_instant=True)
        elif phase in _BEGINS:
            self._begin(event)
        elif phase in _ENDS:
            self._end(event)
        # The rest (counters, flows, samples, objects, memory dumps, marks) is not about spans.
        while len(self._heap) > CHROME_SPANS_HELD:
            yield from self._take(heapq.heappop(self._heap))

    def finish(self) -> Iterator[SpanRecord]:
        """Nothing follows: give the rest; slices without an end have none."""
        for track, begun in self._begun.items():
            for slice_ in begun:
                self._add(track, slice_, slice_.start_ns, _SPAN_IS_UNFINISHED)
        self._begun.clear()
        while self._heap:
            yield from self._take(heapq.heappop(self._heap))
        for stack in self._stacks.values():
            while stack:
                yield self._record(stack.pop())
        self._stacks.clear()

    # --- from events to slices ---------------------------------------------------------------------------------------

    def _take_name(self, event: dict[str, Any]) -> None:
        args = event.get("args")
        name = args.get("name") if isinstance(args, dict) else None
        if not isinstance(name, str) or not name:
            return
        pid, tid = _word(event.get("pid")), _word(event.get("tid"))
        if event.get("name") == "process_name" and len(self._processes) < CHROME_NAMES:
            self._processes[pid] = Resource({"service.name": name})
        elif event.get("name") == "thread_name" and len(self._threads) < CHROME_NAMES:
            self._threads[pid, tid] = name

    def _begin(self, event: dict[str, Any]) -> None:
        begun = _Begun(_time_ns(event.get("ts")), _name(event), self._attributes(event), _word(event.get("pid")))
        if self._begun_count == CHROME_SPANS_HELD:
            raise DecodeError(f"more than {CHROME_SPANS_HELD} slices are begun and have no end yet")
        self._begun_count += 1
        self._begun.setdefault(_track(event), []).append(begun)

    def _end(self, event: dict[str, Any]) -> None:
        """End the innermost slice that was begun; of asynchronous ones, that of the name."""
        track, time_ns = _track(event), _time_ns(event.get("ts"))
        begun = self._begun.get(track, [])
        is_named = event.get("ph") != "E"
        at = next((at for at in reversed(range(len(begun))) if not is_named or begun[at].name == _name(event)), None)
        if at is None:
            raise DecodeError("it ends a slice that was not begun")
        slice_ = begun.pop(at)
        self._begun_count -= 1
        if not begun:
            del self._begun[track]
        self._add(track, slice_, time_ns, from_json(event.get("args")) if isinstance(event.get("args"), dict) else {})

    def _add(self, track: Hashable, begun: _Begun, end_ns: int, more: Attributes) -> None:
        self._number += 1
        attributes = {**begun.attributes, **more}
        end_ns = max(end_ns, begun.start_ns)
        item = _Item(begun.start_ns, -end_ns, self._number, track, begun.pid, begun.name, attributes, is_instant=False)
        heapq.heappush(self._heap, item)

    def _push(self, event: dict[str, Any], start_ns: int, end_ns: int, *, is_instant: bool = False) -> None:
        self._number += 1
        track, attributes = _track(event), self._attributes(event)
        pid = _word(event.get("pid"))
        heapq.heappush(
            self._heap, _Item(start_ns, -end_ns, self._number, track, pid, _name(event), attributes, is_instant)
        )

    def _attributes(self, event: dict[str, Any]) -> Attributes:
        args = event.get("args")
        attributes: dict[str, AttributeValue] = dict(from_json(args)) if isinstance(args, dict) else {}
        if isinstance(category := event.get("cat"), str) and category:
            attributes.setdefault("category", category)
        tid = event.get("tid")
        if isinstance(tid, int):
            attributes.setdefault("thread.id", tid)
        if name := self._threads.get((_word(event.get("pid")), _word(tid))):
            attributes.setdefault("thread.name", name)
        return attributes

    # --- from slices to spans ----------------------------------------------------------------------------------------

    def _take(self, item: _Item) -> Iterator[SpanRecord]:
        """Take the next slice in time: those of its track that have ended by then are complete."""
        stack = self._stacks.setdefault(item.track, [])
        while stack and not (stack[-1].item.start_ns <= item.start_ns and -item.minus_end_ns <= stack[-1].end_ns):
            yield self._record(stack.pop())
        parent = stack[-1] if stack else None
        if item.is_instant and parent is not None:
            parent.events.append(Event(item.name, item.start_ns, item.attributes))
            return
        stack.append(_Open(item, parent))
        if len(self._stacks) > CHROME_NAMES:  # asynchronous ids have no end: those without slices go
            for track in list(self._stacks):
                if track != item.track:
                    yield from map(self._record, reversed(self._stacks.pop(track)))

    def _record(self, slice_: _Open) -> SpanRecord:
        item = slice_.item
        return SpanRecord(
            slice_.trace_id,
            slice_.span_id,
            slice_.parent_id,
            item.name,
            start_time_ns=item.start_ns,
            end_time_ns=slice_.end_ns,
            attributes=item.attributes,
            events=tuple(slice_.events),
            resource=self._processes.get(item.pid) or Resource({"service.name": f"process {item.pid}"}),
        )


def _track(event: dict[str, Any]) -> Hashable:
    """What an event's stack is: its thread or, asynchronous, its category and id, which may be the process's own."""
    if event.get("ph") not in {"b", "e", "n", "S", "F"}:
        return _word(event.get("pid")), _word(event.get("tid"))
    ids = event.get("id2") if isinstance(event.get("id2"), dict) else {}
    assert isinstance(ids, dict)
    local = ids.get("local")
    key = _word(local if local is not None else ids.get("global", event.get("id")))
    pid = _word(event.get("pid")) if local is not None else ""
    return "async", pid, _word(event.get("cat")), _word(event.get("scope")), key


def _word(value: Any) -> str:
    """What is an id or a name, a string or a number, as a string; "" for anything else."""
    return value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ""


def _name(event: dict[str, Any]) -> str:
    return _word(event.get("name"))


def _time_ns(value: Any) -> int:
    """Microseconds of a clock that starts anywhere as nanoseconds; never 0, which stands for a time not known."""
    return max(_nanoseconds(value), 1)


def _duration_ns(value: Any) -> int:
    return max(_nanoseconds(value), 0)


def _nanoseconds(value: Any) -> int:
    if isinstance(value, str):  # as some write numbers
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1 << 53:
        raise DecodeError("an event's time is no number of microseconds")
    return value * 1000 if isinstance(value, int) else round(value * 1000)
