"""clew.formats.chrome_reader: Chrome's trace events, clew's own and those of others, as spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.formats import AnyReader, Damage, Item, chrome_slices, read_items
from clew.formats.chrome_reader import ChromeReader
from clew.model import SpanKind, SpanRecord, Status

DATA = Path(__file__).parents[2] / "data" / "traces"


def items(data: bytes, piece: int = 1 << 20, wanted: frozenset[str] | None = None) -> list[Item]:
    reader = ChromeReader(wanted)
    found = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    return [*found, *reader.finish()]


def records(found: list[Item]) -> list[SpanRecord]:
    return [record for item in found if not isinstance(item, Damage) for record in item.records()]


def damage(found: list[Item]) -> list[tuple[int, str]]:
    return [(item.first, item.reason) for item in found if isinstance(item, Damage)]


def events(*rows: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(
        {"traceEvents": [{"pid": 1, "tid": 1, "ts": 1, "name": "a", **row} for row in rows], **more}
    ).encode()


def slices(data: bytes) -> list[str]:
    """The spans as "parent/name", in the order of their starts."""
    found = records(items(data))
    names = {record.span_id: record.name for record in found}
    return [
        f"{names.get(record.parent_id, '')}/{record.name}"
        for record in sorted(found, key=lambda record: (record.start_time_ns, -record.end_time_ns))
    ]


def test_clews_own_file() -> None:
    """Each span comes back with its ids, to the nanosecond; what is only drawn is not read."""
    first, second = records(list(read_items(iter([(DATA / "chrome-clew.trace.json").read_bytes()]))))
    assert (first.name, first.status, first.status_description) == ("build-circuit", Status.ERROR, "relay is down")
    assert (first.start_time_ns, first.duration_ns) == (1_790_000_000_000_000_000, 1_520_000_000)
    assert (second.parent_id, second.kind, second.duration_ns) == (first.span_id, SpanKind.CLIENT, 1_507_999_999)
    assert second.events[0].attributes == {"hop": 1}
    assert (second.service_name, second.scope.name) == ("tor-client", "clew")


def test_an_object_of_others() -> None:
    """Slices nest by their times on their thread, in whatever order they are; names, arguments, instants are kept."""
    found = records(list(read_items(iter([(DATA / "chrome-object.json").read_bytes()]))))
    by_name = {record.name: record for record in found}
    assert by_name.keys() == {"outer", "inner", "other thread"}
    outer, inner = by_name["outer"], by_name["inner"]
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
    assert by_name["other thread"].trace_id != outer.trace_id
    assert (inner.start_time_ns, inner.duration_ns, inner.service_name) == (1_002_500, 3000, "browser")
    assert inner.attributes == {
        "url": "http://example.com/",
        "category": "blink",
        "thread.id": 8,
        "thread.name": "main",
    }
    assert [event.name for event in inner.events] == ["paint"]


def test_an_array_without_an_end() -> None:
    """Pairs of begin and end, on threads and of asynchronous ids; what never ends is marked; no end is no damage."""
    data = (DATA / "chrome-array.json").read_bytes()
    found = list(read_items(iter([data])))
    assert damage(found) == []
    assert slices(data) == ["/load", "load/parse", "/GET", "GET/connect", "/never ended"]
    by_name = {record.name: record for record in records(found)}
    assert (by_name["parse"].duration_ns, by_name["parse"].attributes["lines"]) == (2000, 3)
    assert by_name["GET"].duration_ns == 6000
    assert [event.name for event in by_name["GET"].events] == ["first byte"]
    assert by_name["never ended"].attributes["clew.unfinished"] is True
    assert by_name["load"].service_name == "process 1"


def test_partial_overlap_is_no_nesting() -> None:
    """A slice that ends after the one it begins in, which the format forbids, lies in none, or around both."""
    rows = [
        {"ph": "X", "ts": ts, "dur": dur, "name": name} for ts, dur, name in ((1, 9, "a"), (2, 3, "b"), (4, 3, "c"))
    ]
    assert slices(events(*rows)) == ["/a", "a/b", "a/c"]
    assert slices(events(*rows[1:])) == ["/b", "/c"]


def test_asynchronous_ids() -> None:
    """An id is of a category, and of a process if it says so; of the same id the names tell what ends."""
    rows = [
        {"ph": "b", "id2": {"local": "1"}, "ts": 1, "name": "a"},
        {"ph": "b", "id2": {"local": "1"}, "ts": 2, "name": "b", "pid": 2},
        {"ph": "b", "id": 1, "ts": 3, "name": "c", "cat": "x"},
        {"ph": "b", "id": 1, "ts": 4, "name": "d", "cat": "x"},
        {"ph": "e", "id2": {"local": "1"}, "ts": 5, "name": "a"},
        {"ph": "e", "id": 1, "ts": 6, "name": "c", "cat": "x"},
        {"ph": "e", "id": 1, "ts": 7, "name": "d", "cat": "x"},
        {"ph": "e", "id2": {"local": "1"}, "ts": 9, "name": "b", "pid": 2},
        {"ph": "S", "id": 5, "ts": 10, "name": "old"},
        {"ph": "F", "id": 5, "ts": 11, "name": "old"},
    ]
    found = {record.name: record.duration_ns for record in records(items(events(*rows)))}
    assert found == {"a": 4000, "b": 7000, "c": 3000, "d": 3000, "old": 1000}


def test_an_instant_alone_is_a_span_without_length() -> None:
    """Where no slice is around it, an instant is not lost."""
    (record,) = records(items(events({"ph": "I", "ts": 5})))
    assert (record.name, record.start_time_ns, record.duration_ns) == ("a", 5000, 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ph": "X", "ts": None}, "an event's time is no number of microseconds"),
        ({"ph": "X", "ts": 1e300}, "an event's time is no number of microseconds"),
        ({"ph": "X", "ts": True}, "an event's time is no number of microseconds"),
        ({"ph": "E"}, "it ends a slice that was not begun"),
        ({"ph": "e", "id": 1}, "it ends a slice that was not begun"),
    ],
)
def test_damaged_events_are_told(row: dict[str, Any], reason: str) -> None:
    """What cannot be read is named by its number, and the rest is read."""
    found = items(events({"ph": "X", "name": "before"}, row, {"ph": "X", "ts": "7.5", "name": "after"}))
    assert damage(found) == [(2, reason)]
    assert [record.name for record in records(found)] == ["before", "after"]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"trace_id": "x"},
        {"trace_id": "1" * 32, "span_id": "1" * 16, "kind": []},
        {"trace_id": "1" * 32, "span_id": "1" * 16, "origin": []},
        {"trace_id": "1" * 32, "span_id": "1" * 16, "flags": -1},
        {"trace_id": "1" * 32, "span_id": "1" * 16, "trace_state": 1},
        {"trace_id": "1" * 32, "span_id": "1" * 16, "attributes": []},
        {"trace_id": "1" * 32, "span_id": "1" * 16, "start_ns": 1},
    ],
)
def test_damaged_events_of_clew_are_told(args: dict[str, Any]) -> None:
    """The same for files that say that clew wrote them."""
    own = {"clew": {"epoch_ns": "5"}}
    sound = {"trace_id": "1" * 32, "span_id": "1" * 16}
    data = json.dumps({"otherData": own, **json.loads(events({"ph": "X", "args": args}, {"ph": "X", "args": sound}))})
    found = items(data.encode())
    assert [number for number, _ in damage(found)] == [1]
    assert [record.start_time_ns for record in records(found)] == [1005]


@pytest.mark.parametrize("clew", [5, {}, {"epoch_ns": 5}, {"epoch_ns": "soon"}, {"epoch_ns": "\u0665"}])
def test_a_file_whose_clock_is_damaged(clew: object) -> None:
    """Where clew's own file does not say when it begins, it is read as one of others."""
    data = events({"ph": "X", "ts": 7})
    found = records(items(json.dumps({"otherData": {"clew": clew}, **json.loads(data)}).encode()))
    assert [record.start_time_ns for record in found] == [7000]


def test_numbers_that_are_none() -> None:
    """NaN for an id, a list for a name: the slice is read."""
    row = {"ph": "X", "pid": float("nan"), "tid": [], "name": None, "cat": {}}
    assert [record.service_name for record in records(items(events(row)))] == ["process nan"]


def test_damage_to_the_text() -> None:
    """After what is no JSON it goes on at the next event; an object without its end says so."""
    data = events({"ph": "X", "name": "a"}, {"ph": "X", "name": "b", "ts": 4}, {"ph": "X", "name": "c", "ts": 8})
    torn = data.replace(b'"name": "b"', b'"name": b"')
    found = items(torn)
    assert [number for number, _ in damage(found)] == [2]
    assert {record.name for record in records(found)} == {"a", "c"}
    (tail,) = [item for item in items(data[:-2]) if isinstance(item, Damage)]
    assert tail.is_tail


@given(st.integers(1, 300), st.integers(1, 6))
def test_pieces_and_windows_do_not_matter(piece: int, held: int) -> None:
    """Ids are the same at each reading, so that the second pass finds what the first one chose."""
    for name in ("chrome-object.json", "chrome-array.json"):
        data = (DATA / name).read_bytes()
        whole = records(items(data))
        assert records(items(data, piece)) == whole
        wanted = frozenset([whole[0].trace_id])
        assert records(items(data, piece, wanted)) == [record for record in whole if record.trace_id in wanted]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chrome_slices, "CHROME_SPANS_HELD", held)
            assert len(records(items(data, piece))) >= len(whole) - 3


def test_many_open_slices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices that begin and never end are not gathered without end, nor are ids and names."""
    monkeypatch.setattr(chrome_slices, "CHROME_SPANS_HELD", 3)
    monkeypatch.setattr(chrome_slices, "CHROME_NAMES", 2)
    found = items(events(*[{"ph": "B", "ts": number} for number in range(1, 6)]))
    assert [number for number, _ in damage(found)] == [4, 5]
    rows = [{"ph": "X", "ts": number, "pid": number} for number in range(1, 30)]
    assert len(records(items(events(*rows)))) == 29


def test_it_is_found_by_its_content() -> None:
    """Both forms are found without a name, also with keys before the events; other arrays and objects are not."""
    for name in ("chrome-object.json", "chrome-array.json", "chrome-clew.trace.json"):
        reader = AnyReader()
        list(reader.feed((DATA / name).read_bytes()))
        assert isinstance(reader._reader, ChromeReader)
