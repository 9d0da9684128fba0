"""Chrome's trace event format, which Perfetto and chrome://tracing open: spans to events.

A service is a process; its spans are complete events (`X`) on threads that are lanes (`clew.formats.chrome_lanes`).
Perfetto shows asynchronous events (`b`, `e`) as one track for each name, side by side, and nests the slices of threads
only: that is where children stand below their parents. Arrows (`s`, `f`) lead from a parent to a child that is
elsewhere, and between spans that are linked. Events of spans are instants (`i`).

Viewers keep times as doubles, which hold a nanosecond only if they are not those since 1970: `ts` counts from a
midnight some days before the first span, and the file says from which. `args` holds what a span is, in full, so that
the file can be read back (`clew.formats.chrome_reader`); of arrows and instants nothing is read.

Source: Trace Event Format (the Chromium project's document); Perfetto's documentation, "Other trace formats".
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from clew.formats.chrome_arrows import Arrows
from clew.formats.chrome_lanes import Lanes
from clew.formats.json_values import events_to_json, links_to_json, scope_to_json, text_of, to_json
from clew.formats.writing import Writer
from clew.limits import CHROME_ORIGINS, CHROME_SPANS_HELD
from clew.model import Scope, SpanKind, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.formats.chrome_arrows import Arrow
    from clew.formats.chrome_lanes import Placed, Process
    from clew.model import Resource, SpanRecord

__all__ = ["EXACT_NS", "PLAIN_FIELDS", "ChromeWriter"]

# In microseconds with three decimals, a double holds each nanosecond up to here: 52 days.
EXACT_NS: Final = 1 << 52
PLAIN_FIELDS: Final = (
    "status_description",
    "trace_state",
    "flags",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
)
_DAY_NS: Final = 86_400_000_000_000
_DAYS_BEFORE: Final = 7  # spans that come later in the file may have begun earlier, and times are not to be negative


class ChromeWriter(Writer):
    """Writes an object with `traceEvents`. It holds everything.

    Spans wait until their trace was silent for thousands of others: only together can they be put below each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: OrderedDict[str, list[SpanRecord]] = OrderedDict()  # by trace, the one that got a span last
        self._spans = 0
        self._epoch_ns: int | None = None
        self._first_ns = 0
        self._lanes = Lanes()
        self._named_lanes: dict[int, int] = {}  # process -> its lanes that have a name in the file
        self._origins = _Origins()
        self._arrows = Arrows()

    def encode(self, records: list[SpanRecord]) -> bytes:
        waiting = self._waiting
        for record in records:
            spans = waiting.get(record.trace_id)
            if spans is None:
                spans = waiting[record.trace_id] = []
            else:
                waiting.move_to_end(record.trace_id)
            spans.append(record)
        self._spans += len(records)
        return self._write(CHROME_SPANS_HELD // 2) if self._spans > CHROME_SPANS_HELD else b""

    def finish(self) -> bytes:
        return self._write(0) + b"\n]}\n"

    def _write(self, rest: int) -> bytes:
        """Write what waits for longest, until so many spans are left."""
        traces = []
        while self._spans > rest:
            _, spans = self._waiting.popitem(last=False)
            self._spans -= len(spans)
            traces.append(spans)
        begin = ",\n" if self._epoch_ns is not None else self._begin(traces)
        placed = [each for spans in traces for each in self._lanes.place(spans, self._first_ns)]
        # Of slices with the same times the one that comes first is drawn above.
        placed.sort(key=lambda each: (each.start_ns, -each.end_ns, each.depth))
        numbers = [self._origins.number(each.record, self._lanes) for each in placed]
        events = [
            *self._names(),
            *self._origins.take_new(),
            *chain.from_iterable(map(self._slice, placed, numbers)),
            *chain.from_iterable(map(self._arrow, self._arrows.between(placed))),
        ]
        if not events and begin == ",\n":
            return b""
        return (begin + ",\n".join(events)).encode()

    def _begin(self, traces: list[list[SpanRecord]]) -> str:
        times = [span.start_time_ns or span.end_time_ns for spans in traces for span in spans]
        self._first_ns = min(filter(None, times), default=0)
        self._epoch_ns = max(self._first_ns // _DAY_NS - _DAYS_BEFORE, 0) * _DAY_NS
        head = text_of({"clew": {"epoch_ns": str(self._epoch_ns)}})
        return f'{{"displayTimeUnit":"ns","otherData":{head},"traceEvents":[\n'

    def _names(self) -> Iterator[str]:
        """Names of processes and lanes that are new."""
        for process in self._lanes.processes.values():
            known = self._named_lanes.get(process.pid)
            if known is None:
                yield process_name(process.pid, {"name": process.name})
            for lane in range((known or 0) + 1, len(process.lanes) + 1):
                head = f'"ph":"M","pid":{process.pid},"tid":{process.tid(lane)},"ts":0'
                yield f'{{{head},"name":"thread_name","args":{{"name":"lane {lane}"}}}}'
                yield f'{{{head},"name":"thread_sort_index","args":{{"sort_index":{lane}}}}}'
            self._named_lanes[process.pid] = len(process.lanes)

    def _slice(self, placed: Placed, origin: int) -> Iterator[str]:
        record, start_ns, end_ns, pid, tid, _, _ = placed
        shown_ns = self._shown_ns(start_ns)
        args = {**_arguments(record), "origin": origin}
        if shown_ns >= EXACT_NS or shown_ns + self._epoch != record.start_time_ns:
            args["start_ns"] = str(record.start_time_ns)
        if "start_ns" in args or not tid or end_ns - start_ns >= EXACT_NS or end_ns != record.end_time_ns:
            args["end_ns"] = str(record.end_time_ns)
        name = text_of(record.name)
        head = f'"name":{name},"cat":"span","pid":{pid},"tid":{tid}'
        if record.status is Status.ERROR:
            head += ',"cname":"terrible"'  # red, in chrome://tracing
        if tid:
            duration = _micros(end_ns - start_ns)
            yield f'{{"ph":"X",{head},"ts":{_micros(shown_ns)},"dur":{duration},"args":{text_of(args)}}}'
        else:  # without a lane: a track of its own
            head += f',"id":"0x{record.span_id}"'
            yield f'{{"ph":"b",{head},"ts":{_micros(shown_ns)},"args":{text_of(args)}}}'
            yield f'{{"ph":"e",{head},"ts":{_micros(self._shown_ns(end_ns))}}}'
        for event in record.events if tid else ():
            if event.time_ns:
                noted = text_of({"span_id": record.span_id, "attributes": to_json(event.attributes)})
                place = f'"pid":{pid},"tid":{tid},"ts":{_micros(self._shown_ns(event.time_ns))}'
                yield f'{{"ph":"i","s":"t","name":{text_of(event.name)},"cat":"event",{place},"args":{noted}}}'

    def _arrow(self, arrow: Arrow) -> Iterator[str]:
        for head, spot in (('"ph":"s"', arrow.source), ('"ph":"f","bp":"e"', arrow.target)):
            place = f'"pid":{spot.pid},"tid":{spot.tid},"ts":{_micros(self._shown_ns(spot.start_ns))}'
            yield f'{{{head},"id":{arrow.number},"name":"{arrow.what}","cat":"{arrow.what}",{place}}}'

    @property
    def _epoch(self) -> int:
        assert self._epoch_ns is not None  # the file was begun
        return self._epoch_ns

    def _shown_ns(self, time_ns: int) -> int:
        return max(time_ns - self._epoch, 0)


class _Origins:
    """Resources and scopes, each pair written once, with a number by which spans tell theirs."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[int, int], tuple[Resource, Scope, int]] = {}  # most spans share these objects
        self._by_text: dict[str, int] = {}
        self._new: list[str] = []
        self._count = 0

    def number(self, record: SpanRecord, lanes: Lanes) -> int:
        """The number of where a span comes from."""
        resource, scope = record.resource, record.scope
        known = self._by_id.get((id(resource), id(scope)))
        if known is None:
            if len(self._by_id) >= CHROME_ORIGINS:
                self._by_id.clear()
            origin = {"resource": to_json(resource.attributes)}
            if scope != Scope():
                origin["scope"] = scope_to_json(scope)
            # The objects are kept, so that no others get their addresses.
            known = (resource, scope, self._define(origin, lanes.process(record.service_name)))
            self._by_id[id(resource), id(scope)] = known
        return known[2]

    def take_new(self) -> list[str]:
        """What is to be written before the spans that were numbered."""
        new, self._new = self._new, []
        return new

    def _define(self, origin: dict[str, Any], process: Process) -> int:
        text = text_of(origin)
        number = self._by_text.get(text)
        if number is None:
            if len(self._by_text) >= CHROME_ORIGINS:
                self._by_text.clear()
                self._by_id.clear()
            self._count += 1
            number = self._by_text[text] = self._count
            # A field of an event that viewers know: of events that they do not know some complain.
            self._new.append(process_name(process.pid, {"name": process.name, "origin": number, **origin}))
        return number


def process_name(pid: int, args: dict[str, Any]) -> str:
    """The event that names a process."""
    return f'{{"ph":"M","pid":{pid},"tid":0,"ts":0,"name":"process_name","args":{text_of(args)}}}'


def _arguments(record: SpanRecord) -> dict[str, Any]:
    """What a span is, without its name, its times, and where it comes from; what is at its default is left out."""
    args: dict[str, Any] = {"trace_id": record.trace_id, "span_id": record.span_id}
    if record.parent_id:
        args["parent_id"] = record.parent_id
    if record.kind is not SpanKind.INTERNAL:
        args["kind"] = record.kind.name.lower()
    if record.status is not Status.UNSET:
        args["status"] = record.status.name.lower()
    if record.attributes:
        args["attributes"] = to_json(record.attributes)
    if record.events:
        args["events"] = events_to_json(record.events)
    if record.links:
        args["links"] = links_to_json(record.links)
    for field in PLAIN_FIELDS:
        if value := getattr(record, field):
            args[field] = value
    return args


def _micros(time_ns: int) -> str:
    return f"{time_ns // 1000}.{time_ns % 1000:03}"
