"""clew.formats.chrome: what a viewer is given is drawn as the trees that the spans are, and comes back as it was."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.formats import Damage, chrome, chrome_arrows, chrome_lanes, read_items
from clew.formats.chrome import ChromeWriter
from clew.formats.chrome_lanes import OTHER_SERVICES
from clew.model import Event, Link, Resource, SpanContext, SpanRecord, Status
from tests.otlp_messages import exact, records_of, traces

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
START_NS = 1_790_000_000_000_000_000


def span(number: int, parent: int = 0, start: int = 0, end: int = 10, service: str = "web", **more: Any) -> SpanRecord:
    """A span whose times are microseconds after START_NS, and whose name is its number."""
    return SpanRecord(
        TRACE_ID,
        f"{number:016x}",
        f"{parent:016x}" if parent else "",
        f"{number}",
        start_time_ns=START_NS + start * 1000,
        end_time_ns=START_NS + end * 1000,
        resource=Resource({"service.name": service}),
        **more,
    )


def write(spans: list[SpanRecord], block: int = 1000) -> bytes:
    writer = ChromeWriter()
    data = b"".join([*(writer.encode(spans[at : at + block]) for at in range(0, len(spans), block)), writer.finish()])
    assert not writer.losses.counts
    return data


def read(data: bytes, piece: int = 1 << 20) -> list[SpanRecord]:
    found = read_items(data[at : at + piece] for at in range(0, len(data), piece))
    records: list[SpanRecord] = []
    for item in found:
        assert not isinstance(item, Damage), item
        records += item.records()
    return records


def events_of(data: bytes, *phases: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(data)["traceEvents"] if event["ph"] in phases]


def drawing(data: bytes) -> list[str]:
    """What a viewer draws: for each thread its slices, each below the one that it lies in."""
    lines = []
    names = {event["pid"]: event["args"]["name"] for event in events_of(data, "M") if event["name"] == "process_name"}
    threads: defaultdict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events_of(data, "X"):
        threads[event["pid"], event["tid"]].append(event)
    for (pid, _), slices in sorted(threads.items()):
        lines.append(names[pid])
        stack: list[float] = []
        # Viewers sort by the time and then by the length, and leave the rest as it is in the file.
        for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
            end = event["ts"] + event["dur"]
            while stack and stack[-1] <= event["ts"] and not (stack[-1] == event["ts"] == end):
                stack.pop()
            assert not stack or end <= stack[-1], "slices overlap in part"
            lines.append("  " * (len(stack) + 1) + event["name"])
            stack.append(end)
    return lines


@given(traces, st.integers(1, 3), st.integers(1, 500))
def test_everything_comes_back(messages: TracesData, block: int, piece: int) -> None:
    """Whatever OTLP can hold is the same afterwards, in whatever pieces it is written and read."""
    spans = records_of(messages)
    found = read(write(spans, block), piece)
    assert sorted(map(repr, exact(found))) == sorted(map(repr, exact(spans)))


def test_a_tree_is_drawn_as_a_tree() -> None:
    """Children stand below their parents; what overlaps stands in a lane of its own, a service in its process."""
    data = write(
        [
            span(3, parent=2, start=2, end=4),
            span(4, parent=2, start=4, end=6),
            span(2, parent=1, start=1, end=7),
            span(5, parent=1, start=3, end=9),  # beside 2
            span(6, parent=5, start=3, end=5, service="database"),
            span(7, parent=1, start=8, end=12),  # beyond the end of 1
            span(1),
        ]
    )
    assert drawing(data) == ["web", "  1", "    2", "      3", "      4", "web", "  5", "web", "  7", "database", "  6"]
    arrows = {event["id"] for event in events_of(data, "s", "f")}
    assert len(arrows) == 3


def test_what_is_no_child_is_not_drawn_as_one() -> None:
    """Spans of other traces, and siblings, stand side by side though one lies within the time of the other."""
    other = span(9, start=2, end=3)._replace(trace_id="f" * 32)
    data = write([span(1), span(2, parent=8, start=1, end=3), span(3, parent=8, start=4, end=5), other])
    assert drawing(data) == ["web", "  1", "web", "  2", "  3", "web", "  9"]


def test_lanes_are_used_again() -> None:
    """A hundred requests one after the other need one lane, however the file orders them."""
    spans = [
        span(number, start=10 * number, end=10 * number + 9)._replace(trace_id=f"{number:032x}")
        for number in (*range(1, 100, 2), *range(2, 101, 2))
    ]
    assert drawing(write(spans)).count("web") == 1


def test_equal_times_and_cycles() -> None:
    """A child as long as its parent is drawn below it; spans that are each other's parents are all drawn."""
    same = [span(3, parent=2), span(2, parent=1), span(1)]
    assert drawing(write(same)) == ["web", "  1", "    2", "      3"]
    circle = [span(1, parent=3), span(2, parent=1), span(3, parent=2), span(4, parent=4)]
    assert sorted(record.name for record in read(write(circle))) == ["1", "2", "3", "4"]


@st.composite
def forests(draw: st.DrawFn) -> list[SpanRecord]:
    times = st.integers(0, 12)
    return [
        span(number, draw(st.integers(0, 9)), start := draw(times), start + draw(times), draw(st.sampled_from("ab")))
        for number in range(1, draw(st.integers(1, 10)))
    ]


@given(forests(), st.integers(1, 10), st.integers(1, 6))
def test_any_spans_obey_the_rules(spans: list[SpanRecord], block: int, held: int) -> None:
    """However spans overlap and wherever they are cut: slices of a thread nest, a slice lies in that of its parent,
    arrows have two ends in their order, each within a slice, and nothing is lost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chrome, "CHROME_SPANS_HELD", held)
        data = write(spans, block)
    drawn = drawing(data)
    by_name = {record.name: record for record in spans}
    above: dict[int, str] = {}
    for line in drawn:
        name, depth = line.strip(), (len(line) - len(line.lstrip())) // 2
        above[depth] = name
        around = by_name.get(above.get(depth - 1, ""))
        # Nothing is said of slices without length: viewers differ in where they put them.
        if depth > 1 and around is not None and around.duration_ns and by_name[name].duration_ns:
            assert by_name[name].parent_id == around.span_id
    assert sorted(record.name for record in read(data)) == sorted(by_name)
    ends = defaultdict(list)
    for event in events_of(data, "s", "f"):
        ends[event["id"]].append(event)
        assert any(
            (slice_["pid"], slice_["tid"], slice_["ts"]) == (event["pid"], event["tid"], event["ts"])
            for slice_ in events_of(data, "X")
        )
    for start, end in ends.values():
        assert (start["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
        assert start["ts"] <= end["ts"]


def test_events_and_links_are_drawn() -> None:
    """An event is an instant in the lane of its span, a link an arrow from the earlier span to the later."""
    late = span(2, start=20, end=30, links=(Link(SpanContext(TRACE_ID, f"{1:016x}")),))
    early = span(1, events=(Event("retry", START_NS + 5000, {"try": 2}), Event("some time", 0)))
    data = write([late, early])
    (instant,) = events_of(data, "i")
    (first, second) = events_of(data, "X")
    assert (instant["name"], instant["s"], instant["tid"]) == ("retry", "t", first["tid"])
    assert (instant["ts"] - first["ts"], instant["args"]["attributes"]) == (5, {"try": 2})
    start, end = events_of(data, "s", "f")
    assert [start["ts"], end["ts"], start["name"]] == [first["ts"], second["ts"], "link"]


def test_every_event_has_what_the_format_asks_for() -> None:
    """Each has a phase, a process, a thread and a time that a double holds to the nanosecond; names are given once."""
    record = span(1, status=Status.ERROR)._replace(end_time_ns=START_NS + 1_234_567)
    data = write([record])
    events = json.loads(data)["traceEvents"]
    for event in events:
        assert {"ph", "pid", "tid", "ts"} <= event.keys()
        assert 0 <= event["ts"] < 1 << 42
    (slice_,) = events_of(data, "X")
    assert slice_["dur"] == 1234.567
    assert slice_["cname"] == "terrible"
    metadata = [event["name"] for event in events if event["ph"] == "M"]
    assert metadata == ["process_name", "thread_name", "thread_sort_index", "process_name"]
    assert json.loads(data)["displayTimeUnit"] == "ns"
    assert json.loads(write([]))["traceEvents"] == []


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 0), (0, START_NS + 5), (START_NS + 5, 0), (START_NS + 5, START_NS), (1, 2**64 - 1), (2**64 - 1, 2**64 - 1)],
)
def test_odd_times_come_back(start: int, end: int) -> None:
    """Times that are not known, run backwards, or lie centuries apart are drawn somewhere and come back."""
    odd = span(2)._replace(start_time_ns=start, end_time_ns=end)
    assert sorted(read(write([span(1), odd]))) == [span(1), odd]
    assert read(write([odd])) == [odd]


def test_without_a_lane_there_is_a_track(monkeypatch: pytest.MonkeyPatch) -> None:
    """When all lanes are taken a span gets a track of its own, and further services share a process."""
    monkeypatch.setattr(chrome_lanes, "CHROME_LANES", 2)
    monkeypatch.setattr(chrome_lanes, "CHROME_PROCESSES", 1)
    spans = [span(number, service=f"service {number}") for number in range(1, 6)]
    data = write(spans)
    begins, ends = events_of(data, "b"), events_of(data, "e")
    assert len(begins) == len(ends) == 2
    assert [(event["id"], event["cat"], event["name"]) for event in begins] == [
        (event["id"], event["cat"], event["name"]) for event in ends
    ]
    names = {event["args"]["name"] for event in events_of(data, "M") if event["name"] == "process_name"}
    assert names == {"service 1", OTHER_SERVICES}
    assert sorted(read(data)) == spans


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes, arrows and origins forget the oldest, and what is written is right nevertheless."""
    monkeypatch.setattr(chrome, "CHROME_SPANS_HELD", 20)
    monkeypatch.setattr(chrome, "CHROME_ORIGINS", 2)
    monkeypatch.setattr(chrome_lanes, "CHROME_LANE_STACKS", 4)
    monkeypatch.setattr(chrome_arrows, "CHROME_ARROWS", 3)
    monkeypatch.setattr(chrome_arrows, "CHROME_ARROWS_TO_ONE", 2)
    spans = [
        span(number, parent=number % 7 * 10, start=number, end=number + 2)._replace(
            trace_id=f"{number % 9 + 1:032x}", resource=Resource({"service.name": "web", "number": number % 5})
        )
        for number in range(1, 200)
    ]
    writer = ChromeWriter()
    parts = [writer.encode([each]) for each in spans]
    assert sum(map(len, parts)) > 10_000
    data = b"".join([*parts, writer.finish()])
    drawing(data)
    assert sorted(read(data)) == sorted(spans)
