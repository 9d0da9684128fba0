"""clew.formats.protobuf_reader and detect: OTLP messages in a file, however they are put together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DecodeError, FormatError
from clew.formats import protobuf_reader
from clew.formats.detect import AnyReader, detect
from clew.formats.protobuf_reader import Framing, ProtobufReader, find_framing
from clew.formats.reading import Damage, Item
from clew.model import SpanRecord
from clew.otlp import encode_traces

if TYPE_CHECKING:
    from clew.formats.reading import Reader

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = "0af7651916cd43dd8448eb211c80319c"


def message(*names: str, trace_id: str = TRACE) -> bytes:
    return encode_traces([SpanRecord(trace_id, "00000000000000a1", "", name, start_time_ns=1) for name in names])


def varint(value: int) -> bytes:
    return bytes((value,)) if value < 128 else bytes((value & 127 | 128,)) + varint(value >> 7)


def join(framing: Framing, *messages: bytes) -> bytes:
    def head(size: int) -> bytes:
        match framing:
            case Framing.NOTHING:
                return b""
            case Framing.VARINT:
                return varint(size)
            case Framing.UINT32:
                return size.to_bytes(4, "big")

    return b"".join(head(len(data)) + data for data in messages)


def read(reader: Reader, *pieces: bytes) -> list[Item]:
    items = [item for piece in pieces for item in reader.feed(piece)]
    return items + list(reader.finish())


def tell(items: list[Item]) -> list[object]:
    told: list[object] = []
    for item in items:
        if isinstance(item, Damage):
            assert item.unit == "message"
            told.append((item.first, "tail" if item.is_tail else "damage"))
        else:
            told += [record.name for record in item.records()]
    return told


MESSAGES = (message("a", "b"), message("x" * 300), message("c"))


@pytest.mark.parametrize("framing", Framing)
@given(data=st.data())
def test_framings(framing: Framing, data: st.DataObject) -> None:
    """All three ways to put messages into a file are found out and read, wherever the bytes are cut into pieces."""
    text = join(framing, *MESSAGES)
    assert find_framing(text) is framing
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert tell(read(AnyReader(), *pieces)) == ["a", "b", "x" * 300, "c"]


@pytest.mark.parametrize("framing", Framing)
def test_unfinished_tail(framing: Framing) -> None:
    """A last message that is not whole is a tail, and read when the rest of it comes."""
    text = join(framing, *MESSAGES)
    reader = ProtobufReader(framing)
    assert tell(list(reader.feed(text[:-3]))) == ["a", "b", "x" * 300]
    assert tell(list(reader.feed(text[-3:]))) == ["c"]
    assert tell(read(ProtobufReader(framing), text[:-3])) == ["a", "b", "x" * 300, (3, "tail")]


def test_a_damaged_message_in_a_frame() -> None:
    """A message that cannot be decoded does not stop those after it."""
    bad = b"\x0a\x03\x12\x7f\x00"
    first, second, third = read(ProtobufReader(Framing.UINT32), join(Framing.UINT32, MESSAGES[0], bad, MESSAGES[2]))
    assert not isinstance(second, Damage)
    with pytest.raises(DecodeError):
        second.records()
    assert tell([first, third]) == ["a", "b", "c"]


def test_damage_between_messages() -> None:
    """Where no next message can be found, reading ends, and says so once."""
    assert tell(read(ProtobufReader(Framing.NOTHING), MESSAGES[0] + b"\xff" * 50, b"more")) == ["a", "b", (2, "damage")]
    too_long = (1 << 31).to_bytes(4, "big")
    assert tell(read(ProtobufReader(Framing.UINT32), join(Framing.UINT32, MESSAGES[0]) + too_long)) == [
        "a",
        "b",
        (2, "damage"),
    ]


def test_unknown_fields_are_passed_over() -> None:
    """Fields that a later TracesData may have are no damage."""
    text = b"\x10\x96\x01" + MESSAGES[0] + b"\x21" + b"8" * 8 + b"\x2d" + b"4" * 4 + b"\x1a\x02xx" + MESSAGES[2]
    assert tell(read(ProtobufReader(Framing.NOTHING), text)) == ["a", "b", "c"]


def test_wanted_traces_only() -> None:
    """Messages without a span of a wanted trace are left out."""
    text = join(Framing.UINT32, message("a"), message("b", trace_id=OTHER))
    assert tell(read(ProtobufReader(Framing.UINT32, frozenset([OTHER])), text)) == ["b"]


def test_long_messages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A length beyond the limit is damage before a byte of the message is kept."""
    monkeypatch.setattr(protobuf_reader, "LINE_BYTES", 100)
    reader = ProtobufReader(Framing.NOTHING)
    assert tell(list(reader.feed(MESSAGES[1][:50]))) == [(1, "damage")]
    assert reader._data == b""


@pytest.mark.parametrize(
    "text",
    [
        b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
        b"hello, world\n",
        b"{}\n",
        b'{"level": "info"}\n',
        b"\x7fELF\x02\x01\x01" + b"\0" * 50,
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"\0" * 100,
        b"<html>",
        b"\x0a\x05hello",
    ],
)
def test_other_files_are_refused(text: bytes) -> None:
    """What is no file of traces gives one sentence that names the formats; blank lines are an empty file."""
    if not text.strip():
        assert list(read(AnyReader(), text)) == []
        return
    with pytest.raises(FormatError, match=r"OTLP JSON Lines, OTLP protobuf, .*go-tor's traces\.json"):
        read(AnyReader(), text)


@pytest.mark.parametrize("text", [b"", b" \n", b"\xef\xbb\xbf", b"[", b"[]", b"{", b'{"resourceSp', b'{\n  "Trace'])
def test_what_has_just_begun(text: bytes) -> None:
    """An empty file, or one with the first bytes of its first line, is no error."""
    assert all(isinstance(item, Damage) and item.is_tail for item in read(AnyReader(), text))


def test_a_torn_first_line_does_not_hide_the_format() -> None:
    """The format is found although the file begins in the middle of a line, as rotated files may."""
    items = read(AnyReader(), b'"name":"x"}]}]}]}\n{"resourceSpans":[]}\n')
    assert [isinstance(item, Damage) for item in items] == [True, False]


def test_too_little_to_know() -> None:
    """Before the format is known, nothing is decided."""
    assert detect(b'{"', is_whole=False) is None
    assert detect(MESSAGES[0][:10], is_whole=False) is None


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([*MESSAGES, b"\x0a", b"{", b"\n", b'"TraceID":1']))))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever the bytes are, reading raises nothing but FormatError."""
    with contextlib.suppress(FormatError):
        read(AnyReader(), *pieces)


@pytest.mark.parametrize("framing", Framing)
@given(pieces=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(MESSAGES))))
def test_any_bytes_as_protobuf(framing: Framing, pieces: list[bytes]) -> None:
    """Whatever the bytes are, the reader raises nothing, and its blocks nothing but DecodeError."""
    for item in read(ProtobufReader(framing), *pieces):
        if not isinstance(item, Damage):
            with contextlib.suppress(DecodeError):
                item.glances()
