"""clew.formats.json_reader: JSON objects out of whatever bytes there are."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DecodeError
from clew.formats import json_reader
from clew.formats.chrome_reader import ChromeReader
from clew.formats.json_reader import JsonReader
from clew.formats.reading import Damage, Glance, Item, Reader

DATA = Path(__file__).parents[2] / "data" / "traces"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = "0af7651916cd43dd8448eb211c80319c"


def otlp(name: str, trace_id: str = TRACE) -> dict[str, Any]:
    span = {"traceId": trace_id, "spanId": "00000000000000a1", "name": name}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def gotor(name: str) -> dict[str, Any]:
    return {"TraceID": "7", "SpanID": "8", "Name": name, "Events": [{"Name": 'a } " [', "Attributes": {"x": [1]}}]}


def read(*pieces: bytes, wanted: frozenset[str] | None = None) -> list[Item]:
    reader = JsonReader(wanted)
    items = [item for piece in pieces for item in reader.feed(piece)]
    return items + list(reader.finish())


def tell(items: list[Item]) -> list[object]:
    """The names of the spans, and where damage is: (first line, last line), with "tail" if it is one."""
    told: list[object] = []
    for item in items:
        if isinstance(item, Damage):
            told.append((item.first, item.last, "tail") if item.is_tail else (item.first, item.last))
        else:
            told += [record.name for record in item.records()]
    return told


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def indented(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


A, B, C = otlp("a"), otlp("b"), otlp("c")
LAYOUTS = {
    "a line each": b"%s\n%s\n%s\n" % (compact(A), compact(B), compact(C)),
    "no newline at the end": b"%s\n%s\n%s" % (compact(A), compact(B), compact(C)),
    "windows line ends": b"%s\r\n%s\r\n%s\r\n" % (compact(A), compact(B), compact(C)),
    "blank lines and a byte order mark": b"\xef\xbb\xbf\n%s\n\n  \n%s\n%s\n" % (compact(A), compact(B), compact(C)),
    "indented": b"%s\n%s\n%s\n" % (indented(A), indented(B), indented(C)),
    "indented, glued": b"%s%s%s" % (indented(A), indented(B), indented(C)),
    "on one line": b"%s%s%s" % (compact(A), compact(B), compact(C)),
    "on one line with blanks": b"%s %s  %s\n" % (compact(A), compact(B), compact(C)),
    "an array on one line": compact([A, B, C]),
    "an indented array": indented([A, B, C]),
    "an array with a line each": b"[\n%s,\n%s,\n%s\n]\n" % (compact(A), compact(B), compact(C)),
    "no indentation but newlines": indented(A).replace(b"  ", b"")
    + b"\n"
    + indented(B).replace(b"  ", b"")
    + b"\n"
    + compact(C),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    """However objects are laid out, each is read, in order, without damage."""
    assert tell(read(LAYOUTS[layout])) == ["a", "b", "c"]


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_pieces_of_any_length(layout: str, data: st.DataObject) -> None:
    """Where the bytes are cut into pieces makes no difference."""
    text = LAYOUTS[layout]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert tell(read(*pieces)) == ["a", "b", "c"]


def test_formats_are_told_apart_by_their_keys() -> None:
    """OTLP and go-tor may stand in one file; objects of logs and metrics are passed over, others are damage."""
    reader = JsonReader()
    lines = [compact(otlp("a")), compact(gotor("b")), b'{"resourceLogs":[]}', b'{"level":"info"}', b"[]", b"7"]
    items = list(reader.feed(b"\n".join(lines) + b"\n"))
    assert tell(items) == ["a", "b", (4, 4), (6, 6)]
    assert reader.other_signals == 1


@pytest.mark.parametrize("name", ["gotor.json", "gotor-indented.json", "gotor-array.json"])
def test_gotor_files(name: str) -> None:
    """go-tor's file is read on one line a span, indented, and as an array."""
    assert tell(read((DATA / name).read_bytes())) == ["build-circuit", "extend-circuit"]


DAMAGES = {
    "garbage": (b"garbage\n%s\n" % compact(A), [(1, 1), "a"]),
    "a torn line": (b"%s\n%s\n%s\n" % (compact(A), compact(B)[:40], compact(C)), ["a", (2, 2), "c"]),
    "a torn line, cut after a bracket": (b'{"resourceSpans":[\n%s\n' % compact(A), [(1, 1), "a"]),
    "a torn line, cut in a string": (b'{"resourceSp\n%s\n' % compact(A), [(1, 1), "a"]),
    "two torn lines": (b'{"resourceSpans":[{"a":[\n{"resourceSpans":[\n%s\n' % compact(A), [(1, 1), (2, 2), "a"]),
    "the rest of a torn line": (b'"spanId":"1"}]}]}]}\n%s\n' % compact(A), [(1, 1), "a"]),
    "a torn line with a whole one glued to it": (b'{"resourceSpans":[{"re%s\n' % compact(A), [(1, 1), "a"]),
    "glued where a bracket was open": (b'{"resourceSpans":[%s\n%s\n' % (compact(A), compact(B)), [(1, 1), "a", "b"]),
    "a torn indented object": (indented(gotor("x"))[:60] + b"\n" + indented(gotor("y")), [(1, 5), "y"]),
    "NUL bytes": (b"\0" * 100 + b"\n%s\n" % compact(A), [(1, 1), "a"]),
    "bytes that are not UTF-8": (b'{"resourceSpans":"\xff"}\n%s\n' % compact(A), [(1, 1), "a"]),
    "brackets that do not match": (b'{"resourceSpans":[}]\n%s\n' % compact(A), [(1, 1), "a"]),
    "nested too deep": (b'{"resourceSpans":' + b"[" * 99_999 + b"]" * 99_999 + b"}\n" + compact(A), [(1, 1), "a"]),
    "a number of too many digits": (b'{"resourceSpans":%s}\n%s\n' % (b"9" * 9999, compact(A)), [(1, 1), "a"]),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_named_and_the_rest_is_read(case: str) -> None:
    """Damage costs what it hit: its lines are named, the lines after it are read."""
    text, told = DAMAGES[case]
    assert tell(read(text)) == told


def test_unfinished_tail() -> None:
    """A last line without its newline, which is no whole object, is a tail that somebody may still be writing."""
    whole = compact(A)
    assert tell(read(b"%s\n%s" % (whole, compact(B)[:50]))) == ["a", (2, 2, "tail")]
    assert tell(read(b"%s\n%s" % (whole, indented(B)[:50]))) == ["a", (2, 5, "tail")]
    assert tell(read(b"%s\n%s" % (whole, compact(B)))) == ["a", "b"]


def test_a_tail_is_left_alone_until_its_end_comes() -> None:
    """Half a line gives nothing, neither span nor damage; the other half gives the span."""
    reader = JsonReader()
    line = compact(A)
    assert list(reader.feed(line[:30])) == []
    assert list(reader.feed(line[30:])) == []
    assert tell(list(reader.feed(b"\n"))) == ["a"]


def test_long_lines_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line, or an object of many lines, beyond the limit is damage, and is not held in memory."""
    monkeypatch.setattr(json_reader, "LINE_BYTES", 1000)
    reader = JsonReader()
    items = [item for _ in range(50) for item in reader.feed(b'{"resourceSpans":' + b" " * 90)]
    assert items == []
    assert len(reader._rest) <= 1000
    assert tell(list(reader.feed(b"\n%s\n" % compact(A)))) == [(1, 1), "a"]
    lines = b'{"resourceSpans":[\n' + b" 1,\n" * 300
    assert tell(read(lines + b"%s\n" % compact(A)))[:1] == [(1, 247)]


def test_wanted_traces_only() -> None:
    """Lines of other traces are passed over, whatever case their ids are written in; nothing wanted is missed."""
    lines = [
        compact(otlp("a")),
        compact(otlp("b", OTHER)),
        compact(otlp("c", TRACE.upper())),
        indented(otlp("d")),
        compact(otlp("e")).replace(b"4bf9", b"\\u0034bf9"),
    ]
    assert tell(read(b"\n".join(lines), wanted=frozenset([TRACE]))) == ["a", "c", "d", "e"]


def test_half_characters_become_whole_ones() -> None:
    """An escape of half a character, which could not be printed or written again, becomes U+FFFD in go-tor's too."""
    (block,) = read(json.dumps(gotor("x") | {"Name": "a\ud800", "Attributes": {"\udc00": "\ud83d\ude00"}}).encode())
    assert not isinstance(block, Damage)
    (record,) = block.records()
    assert record.name == "a\ufffd"
    assert record.attributes["\ufffd"] == "\U0001f600"


@pytest.mark.parametrize("reader", [JsonReader, ChromeReader])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_what_can_just_be_parsed_does_no_harm(reader: type[Reader], brackets: str) -> None:
    """Nested as deep as Python parses it, with half a character in it: it is damage or a span; nothing is raised."""
    head = '{"TraceID":"1","SpanID":"2","ph":"X","ts":1,"dur":2,"pid":3,"tid":4,"name":"x","args":'
    for depth in range(900, 1000):
        value = brackets[:-1] * depth + '"\\ud800"' + brackets[-1] * depth
        one = reader()
        items = [*one.feed(f"[{head}{value}}}]".encode()), *one.finish()]
        assert items


def test_one_line_of_many_objects_takes_no_square() -> None:
    """10,000 objects on one line are read in one go over it."""
    assert len(read(compact(A) * 10_000)) == 10_000


@pytest.mark.parametrize(
    "unit", [b'{\n"\n', b"{\n}\n", b"{\n{\n}x\n", b'{\n  "a\n}\n', b"{", b"[", b'{"resourceSpans":[\n']
)
def test_damage_takes_no_square(unit: bytes) -> None:
    """A megabyte of damage is gone through about once, whatever it is made of (a square would take hours)."""
    for _ in read(unit * (1_000_000 // len(unit))):
        pass


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([compact(A), b"\n", b"{", b"}", b"[", b'"', b"\\"]))))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever the bytes are, the reader raises nothing, and blocks nothing but DecodeError."""
    for item in read(*pieces):
        if not isinstance(item, Damage):
            for decode in (item.glances, item.records):
                with contextlib.suppress(DecodeError):
                    decode()


KEYS = st.sampled_from(
    [
        "resourceSpans",
        "scopeSpans",
        "spans",
        "traceId",
        "spanId",
        "status",
        "code",
        "attributes",
        "TraceID",
        "SpanID",
        "ParentID",
        "Name",
        "Kind",
        "StartTime",
        "EndTime",
        "Duration",
        "Status",
        "Attributes",
        "Events",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, JSON, max_size=6), st.sampled_from(["resourceSpans", "TraceID"]), JSON)
def test_any_object(value: dict[str, Any], key: str, content: Any) -> None:
    """Objects with the right keys and anything in them give records or DecodeError, and glances agree with records."""
    for item in read(compact({**value, key: content})):
        if isinstance(item, Damage):
            continue
        try:
            records = item.records()
        except DecodeError:
            continue
        glances = item.glances()
        assert [glance.trace_id for glance in glances] == [record.trace_id for record in records]


def test_glances_are_what_records_say() -> None:
    """The short way of looking at a line sees the same as the long one."""
    for item in read((DATA / "otlp.jsonl").read_bytes()):
        assert not isinstance(item, Damage)
        for glance, record in zip(item.glances(), item.records(), strict=True):
            assert glance[:4] == (record.trace_id, record.name, record.start_time_ns, record.end_time_ns)
            assert glance.is_error == (record.status.name == "ERROR")
            assert glance.service == record.service_name


@pytest.mark.parametrize(
    "attributes",
    [
        [{"key": "service.name"}],
        [{"key": "service.name", "value": {"intValue": "5"}}],
        [
            {"key": "service.name", "value": {"stringValue": "a"}},
            {"key": "service.name", "value": {"stringValue": "b"}},
        ],
    ],
)
def test_services_with_odd_names_have_them_at_a_glance(attributes: list[object]) -> None:
    """A service whose name is no text, or is said twice, is the same at a glance and in the record."""
    value = otlp("x")
    value["resourceSpans"][0]["resource"] = {"attributes": attributes}
    (block,) = read(json.dumps(value).encode())
    assert not isinstance(block, Damage)
    assert block.glances() == list(map(Glance.of, block.records()))


def test_a_time_without_end_is_damage_at_a_glance() -> None:
    """A number that JSON has and nothing else."""
    value = json.dumps(otlp("x")).replace('"name"', '"startTimeUnixNano": 1e999, "name"')
    (block,) = read(value.encode())
    assert not isinstance(block, Damage)
    with pytest.raises(DecodeError):
        block.glances()


def test_a_cancelled_span_is_no_error_at_a_glance() -> None:
    """CANCELLED travels as ERROR with an attribute; glances know it too."""
    value = otlp("a")
    span = value["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["status"] = {"code": 2}
    span["attributes"] = [{"key": "clew.status", "value": {"stringValue": "cancelled"}}]
    (item,) = read(compact(value))
    assert not isinstance(item, Damage)
    assert [(glance.is_error, glance.is_cancelled) for glance in item.glances()] == [(False, True)]
