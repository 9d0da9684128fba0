"""clew.formats.json_stream: values out of JSON of any size, with bounded memory and time."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.formats import json_stream
from clew.formats.json_stream import Broken, Closed, Found, JsonStream

START = re.compile(r'(\{\s{0,80}"id"\s{0,9}:)')
HOME = (("", "{"), (".a", "["))


def read(*pieces: bytes) -> list[object]:
    """Paths with values, paths that were closed, and "broken" or "tail"."""
    stream = JsonStream({"": "{", ".a": "["}, HOME, START)
    told: list[object] = []
    for piece in [found for data in pieces for found in stream.feed(data)] + list(stream.finish()):
        match piece:
            case Found(path, value, text):
                assert json.loads(text) == value or "\\ud8" in text
                told.append((path, value))
            case Closed(path):
                told.append(path)
            case Broken(_, is_tail):
                told.append("tail" if is_tail else "broken")
    return told


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


WHOLE = '{"x": [1, {"é": null}], "a": [{"id": 1}, "t\\u00e9\\"", -12.5e3, true], "y": 7}'.encode()
TOLD = [
    (".x", [1, {"é": None}]),
    (".a[]", {"id": 1}),
    (".a[]", 'té"'),
    (".a[]", -12.5e3),
    (".a[]", True),
    ".a",
    (".y", 7),
    "",
]


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
def test_values_come_with_their_paths(size: int) -> None:
    """What is opened is walked through, the rest is given whole; numbers and characters may be cut anywhere."""
    assert read(*cut(WHOLE, size)) == TOLD
    assert read(*cut(WHOLE * 2, size)) == TOLD * 2


def test_a_container_may_be_another_value() -> None:
    """What should be opened and is no such container is given as it is."""
    assert read(b'{"a": {"b": 1}} 5 [1]') == [(".a", {"b": 1}), "", ("", 5), ("", [1])]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"a":[{"id":1},{"id":x},{"id":3}]}', [(".a[]", {"id": 1}), "broken", (".a[]", {"id": 3}), ".a", ""]),
        (b'{"a":[{"id":1', ["tail"]),
        (b'{"a":[{"id":1}', [(".a[]", {"id": 1}), "tail"]),
        (b'{"a" 5', ["broken"]),
        (b'{"a"', ["tail"]),
        (b"{5:6}{", ["broken"]),
        (b'nonsense {"id":1}]}', ["broken", (".a[]", {"id": 1}), ".a", ""]),
        (b'{"a":[1}, {"id":2}]}', [(".a[]", 1), "broken", (".a[]", {"id": 2}), ".a", ""]),
        (b'{"a":["\xff", {"id":"\xff"}, {"id":2}]}', ["broken", "broken", (".a[]", {"id": 2}), ".a", ""]),
        (b'{"a":["\xc3', ["tail"]),
        (b"", []),
        (b" \n", []),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_damage(data: bytes, told: list[object], size: int) -> None:
    """Damage is told once, and reading goes on where the next wanted value begins, in the container of its kind."""
    if size == 1 and data.startswith(b"{5"):
        told = ["broken"]
    assert read(*cut(data, size)) == told


def test_lone_surrogates() -> None:
    """Half a character in an escape becomes U+FFFD, also if the escape is cut."""
    data = b'{"a":["\\ud800", "\\ud83d\\ude00"]}'
    for size in (1, 8, 9, 10, 100):
        assert read(*cut(data, size)) == [(".a[]", "\ufffd"), (".a[]", "\U0001f600"), ".a", ""]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value beyond the limit is damage, and is not kept; nor is text in which nothing wanted begins."""
    monkeypatch.setattr(json_stream, "LINE_BYTES", 1000)
    stream = JsonStream({"": "{", ".a": "["}, HOME, START)
    found = [piece for _ in range(100) for piece in stream.feed(b'{"a":["' + b"x" * 300)]
    assert len([piece for piece in found if isinstance(piece, Broken)]) >= 1
    assert len(stream._text) < 2000
    assert [piece for piece in stream.feed(b'{"id":5}]}') if isinstance(piece, Found)] == [
        Found(".a[]", {"id": 5}, '{"id":5}')
    ]


@pytest.mark.parametrize(
    "unit", ['{"id":', '{"id":{"id":[', '{"id":"', '{"id":1,', "[", "{", '"', "\\", "9", ',{"id":x}']
)
def test_damage_takes_no_square(unit: str) -> None:
    """Damage is gone through about once, whatever it is made of (a square would take hours)."""
    data = b'{"a":[' + (unit * (100_000 // len(unit))).encode()
    read(*cut(data, 50_000))


def test_a_long_value_takes_no_square() -> None:
    """A value of many pieces is not parsed anew at each of them."""
    value = {"id": ["x" * 10] * 100_000}
    data = b'{"a":[' + json.dumps(value).encode() + b"]}"
    assert read(*cut(data, 4096)) == [(".a[]", value), ".a", ""]


PIECES = st.sampled_from(
    [b'{"a":[', b'{"id":1}', b'"\\u', b"\xc3", b"]", b"}", b",", b"12", b"\\", b'"', b"{", b"[", b"nul"]
)


@given(st.lists(PIECES | st.binary(max_size=3), max_size=30), st.integers(1, 9))
def test_any_bytes(pieces: list[bytes], size: int) -> None:
    """Whatever the bytes are, nothing is raised, and where they are cut makes no difference to whole text."""
    data = b"".join(pieces)
    told = read(*cut(data, size))
    if "broken" not in told:
        assert told == read(data)
