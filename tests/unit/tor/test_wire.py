"""The control port's framing: bytes <-> replies and commands."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import ConfigurationError, ControlProtocolError
from clew.tor.wire import (
    Command,
    ControlParser,
    Reply,
    ReplyLine,
    encode_command,
    quote,
    split_arguments,
    unquote,
)


class Sample(NamedTuple):
    """Bytes as tor sends them, what they mean, and twins of them that are broken in one place each."""

    raw: bytes
    reply: Reply
    malformed: tuple[bytes, ...]


SAMPLES = {
    "ok": Sample(
        b"250 OK\r\n",
        Reply(250, (ReplyLine("OK"),)),
        (
            b"25 OK\r\n",
            b"2500 OK\r\n",
            b"250_OK\r\n",
            b"250\r\n",
            b"\r\n",
            b" 250 OK\r\n",
            b"2x0 OK\r\n",
            b"\xb250 OK\r\n",
        ),
    ),
    "empty text": Sample(b"250 \r\n", Reply(250, (ReplyLine(""),)), (b"250\r\n",)),
    "refused": Sample(
        b'552 Unrecognized key "nonsense"\r\n',
        Reply(552, (ReplyLine('Unrecognized key "nonsense"'),)),
        (b"-52 Unrecognized\r\n",),
    ),
    "mid lines": Sample(
        b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n',
        Reply(
            250,
            (
                ReplyLine("PROTOCOLINFO 1"),
                ReplyLine("AUTH METHODS=NULL"),
                ReplyLine('VERSION Tor="0.4.9.11"'),
                ReplyLine("OK"),
            ),
        ),
        (b"250-PROTOCOLINFO 1\r\n650 CIRC 1 BUILT\r\n", b"250-PROTOCOLINFO 1\r\nVERSION\r\n"),
    ),
    "codes of one reply may differ": Sample(
        b"250-AccountingMax=1\r\n552 unknown\r\n", Reply(552, (ReplyLine("AccountingMax=1"), ReplyLine("unknown"))), ()
    ),
    "data block": Sample(
        b"250+ns/all=\r\nr moria1\r\ns Fast\r\n.\r\n250 OK\r\n",
        Reply(250, (ReplyLine("ns/all=", "r moria1\ns Fast"), ReplyLine("OK"))),
        (b"250+ns/all=\r\nr moria1\r\n.\r\nOK\r\n", b"250+ns/all=\r\nr moria1\r\n.\r\n650 CIRC 1 BUILT\r\n"),
    ),
    "empty data block": Sample(
        b"250+ns/all=\r\n.\r\n250 OK\r\n",
        Reply(250, (ReplyLine("ns/all=", ""), ReplyLine("OK"))),
        (b"250+\r\n.\r\n.\r\n",),
    ),
    "data block with an empty line": Sample(
        b"250+x=\r\na\r\n\r\nb\r\n.\r\n250 OK\r\n", Reply(250, (ReplyLine("x=", "a\n\nb"), ReplyLine("OK"))), ()
    ),
    "stuffed dots": Sample(
        b"250+x=\r\n..\r\n...\r\na.\r\n..b\r\n.\r\n250 OK\r\n",
        Reply(250, (ReplyLine("x=", ".\n..\na.\n.b"), ReplyLine("OK"))),
        (b"250+x=\r\n.\r\n..\r\n.\r\n250 OK\r\n",),
    ),
    "data that looks like a reply": Sample(
        b"250+x=\r\n250 OK\r\n650 CIRC 1 BUILT\r\n.\r\n250 OK\r\n",
        Reply(250, (ReplyLine("x=", "250 OK\n650 CIRC 1 BUILT"), ReplyLine("OK"))),
        (),
    ),
    "event": Sample(
        b"650 CIRC 1000 EXTENDED moria1,moria2\r\n",
        Reply(650, (ReplyLine("CIRC 1000 EXTENDED moria1,moria2"),)),
        (b"650CIRC 1000 EXTENDED\r\n",),
    ),
    "event of several lines": Sample(
        b"650-CIRC 1000 EXTENDED moria1,moria2 0xBEEF\r\n650-EXTRAMAGIC=99\r\n650 ANONYMITY=high\r\n",
        Reply(
            650,
            (
                ReplyLine("CIRC 1000 EXTENDED moria1,moria2 0xBEEF"),
                ReplyLine("EXTRAMAGIC=99"),
                ReplyLine("ANONYMITY=high"),
            ),
        ),
        (b"650-CIRC 1000 EXTENDED\r\n250 OK\r\n",),
    ),
    "not UTF-8": Sample(b"250 \xff\xc3\xa9\r\n", Reply(250, (ReplyLine("\udcffé"),)), ()),
    "a lone LF and a lone CR are characters": Sample(b"250 a\nb\rc\r\n", Reply(250, (ReplyLine("a\nb\rc"),)), ()),
}

STRANGERS = {
    "http": b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x16",
    "socks5": b"\x05\xff",
    "line feed only": b"hello\n",
}


def parse(raw: bytes, chunk_bytes: int | None = None) -> list[Reply]:
    """All replies in some bytes, fed in pieces."""
    parser = ControlParser()
    replies = []
    step = chunk_bytes or max(len(raw), 1)
    for start in range(0, len(raw), step):
        parser.feed(raw[start : start + step])
        while (reply := parser.next_reply()) is not None:
            replies.append(reply)
    return replies


def parse_until_error(raw: bytes, cuts: list[int], max_line_bytes: int = 60) -> tuple[list[Reply], bool]:
    """The replies before an error, and whether there was one; fed in pieces that end at `cuts`."""
    parser = ControlParser(max_line_bytes=max_line_bytes, max_reply_bytes=max(200, max_line_bytes))
    replies = []
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    try:
        for start, end in itertools.pairwise(edges):
            parser.feed(raw[start:end])
            while (reply := parser.next_reply()) is not None:
                replies.append(reply)
    except ControlProtocolError:
        return replies, True
    return replies, False


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("chunk_bytes", [None, 1, 2, 3])
def test_sample(name: str, chunk_bytes: int | None) -> None:
    """Each sample gives its reply, whole or in pieces, alone or twice in a row."""
    sample = SAMPLES[name]
    assert parse(sample.raw, chunk_bytes) == [sample.reply]
    assert parse(sample.raw * 2, chunk_bytes) == [sample.reply] * 2


@pytest.mark.parametrize("name", SAMPLES)
def test_half_a_sample(name: str) -> None:
    """A reply that has not arrived in full is not given, and is no error."""
    raw = SAMPLES[name].raw
    for end in range(len(raw)):
        assert parse(raw[:end], 1) == []


@pytest.mark.parametrize("raw", [twin for sample in SAMPLES.values() for twin in sample.malformed])
@pytest.mark.parametrize("chunk_bytes", [None, 1])
def test_malformed_twin(raw: bytes, chunk_bytes: int | None) -> None:
    """Each broken twin is an error of the other side."""
    with pytest.raises(ControlProtocolError):
        parse(raw, chunk_bytes)


@pytest.mark.parametrize("name", STRANGERS)
def test_stranger(name: str) -> None:
    """A server of another kind is recognised by its first bytes, before its first line ends."""
    with pytest.raises(ControlProtocolError, match="three digits"):
        parse(STRANGERS[name][:4], 1)


def test_error_stays() -> None:
    """After an error the parser gives nothing any more, whatever it is fed; what came before was given."""
    parser = ControlParser()
    parser.feed(b"250 OK\r\nnonsense\r\n250 OK\r\n")
    assert parser.next_reply() == SAMPLES["ok"].reply
    for _ in range(2):
        with pytest.raises(ControlProtocolError, match="not with b'nonsense'"):
            parser.next_reply()
        parser.feed(b"250 OK\r\n")


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_line_cap(end: bytes) -> None:
    """A line may have as many bytes as the cap says and not one more, whether its end has come or not."""
    parser = ControlParser(max_line_bytes=20)
    parser.feed(b"250 " + b"x" * 16 + b"\r\n")
    assert parser.next_reply() == Reply(250, (ReplyLine("x" * 16),))
    parser.feed(b"250 " + b"x" * 18 + end)
    with pytest.raises(ControlProtocolError, match="more than 20 bytes"):
        parser.next_reply()


@pytest.mark.parametrize(
    "raw",
    [b"250-0123456789\r\n" * 4, b"250+x\r\n" + b"y" * 60 + b"\r\n.\r\n", b"250+x\r\n" + b"y" * 60],
    ids=["mid lines", "data", "data without end"],
)
def test_reply_cap(raw: bytes) -> None:
    """All lines of a reply together have a cap."""
    parser = ControlParser(max_reply_bytes=50)
    parser.feed(raw)
    with pytest.raises(ControlProtocolError, match="more than 50 bytes"):
        parser.next_reply()


def test_reply_cap_is_of_one_reply() -> None:
    """Replies do not add up to the cap of one."""
    parser = ControlParser(max_reply_bytes=30)
    parser.feed(b"250-0123456789\r\n250 OK\r\n" * 10)
    assert sum(1 for _ in iter(parser.next_reply, None)) == 10


def test_asynchronous_between_replies() -> None:
    """Events may stand before, between and after replies."""
    raw = b"".join(SAMPLES[name].raw for name in ("event", "data block", "event of several lines", "ok"))
    assert [(reply.code, reply.is_event) for reply in parse(raw)] == [
        (650, True),
        (250, False),
        (650, True),
        (250, False),
    ]


def test_success() -> None:
    """2yz is a success, 4yz, 5yz and 6yz are not."""
    assert [Reply(code, (ReplyLine(""),)).is_success for code in (250, 251, 451, 552, 650)] == [
        True,
        True,
        False,
        False,
        False,
    ]


LINE_TEXT = st.binary(max_size=20).filter(lambda text: b"\r" not in text)
BLOCK = st.lists(st.binary(max_size=10).filter(lambda line: b"\r" not in line and b"\n" not in line), max_size=4)


@st.composite
def reply_bytes(draw: st.DrawFn) -> tuple[bytes, Reply]:
    """A reply and how it goes over the wire."""
    code = draw(st.sampled_from([b"250", b"552", b"650"]))
    raw = b""
    lines: list[ReplyLine] = []
    for text, block in draw(st.lists(st.tuples(LINE_TEXT, st.none() | BLOCK), max_size=3)):
        raw += code + (b"-" if block is None else b"+") + text + b"\r\n"
        data = None
        if block is not None:
            raw += b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in block) + b".\r\n"
            data = b"\n".join(block).decode("utf-8", "surrogateescape")
        lines.append(ReplyLine(text.decode("utf-8", "surrogateescape"), data))
    text = draw(LINE_TEXT)
    lines.append(ReplyLine(text.decode("utf-8", "surrogateescape")))
    return raw + code + b" " + text + b"\r\n", Reply(int(code), tuple(lines))


@given(st.lists(reply_bytes(), max_size=4), st.integers(1, 40))
def test_round_trip(drawn: list[tuple[bytes, Reply]], chunk_bytes: int) -> None:
    """What is written by the specification's grammar is read, in pieces of any size."""
    assert parse(b"".join(raw for raw, _ in drawn), chunk_bytes) == [reply for _, reply in drawn]


EVENTS = (b"650 A\r\n", b"650 \r\n", b"650 B \xff\r\r\n", b"650 C\n650 D\r\n", b"650 E" + b"x" * 9000 + b"\r\n")
OTHERS = (b"250 OK\r\n", b"650-A\r\n650 B\r\n", b"650+A\r\n650 B\r\n.\r\n650 C\r\n", b"6500\r\n", b"650 half", b"\r\n")


@given(
    st.lists(st.sampled_from(EVENTS) | st.sampled_from(OTHERS), max_size=12).map(b"".join), st.sampled_from([60, 9999])
)
def test_events_that_come_together(raw: bytes, max_line_bytes: int) -> None:
    """Events that arrive at once, alone or among whatever else, are read as if each byte came alone."""
    piecemeal = parse_until_error(raw, [*range(100), *range(0, len(raw), 7)], max_line_bytes)
    assert parse_until_error(raw, [], max_line_bytes) == piecemeal


PIECES = st.sampled_from(
    [b"250", b"650", b"-", b"+", b" ", b"\r\n", b".\r\n", b".", b"\r", b"\n", b"x" * 30, b"250 OK\r\n", b"250+a\r\n"]
)


@given(st.lists(PIECES | st.binary(max_size=5), max_size=20).map(b"".join), st.lists(st.integers(0, 1000), max_size=10))
def test_any_bytes(raw: bytes, cuts: list[int]) -> None:
    """Any bytes give the same replies and the same verdict at any chunking, and no other exception."""
    assert parse_until_error(raw, cuts) == parse_until_error(raw, list(range(len(raw))))


# --- commands -------------------------------------------------------------------------------------------------------


def test_encode() -> None:
    """A command is its keyword and its arguments, with one space between, and CRLF."""
    assert encode_command(Command.TAKEOWNERSHIP) == b"TAKEOWNERSHIP\r\n"
    assert encode_command(Command.GETINFO, "version", "ns/all") == b"GETINFO version ns/all\r\n"
    assert encode_command(Command.AUTHENTICATE, quote('a "b" \\ é')) == b'AUTHENTICATE "a \\"b\\" \\\\ \xc3\xa9"\r\n'
    assert encode_command(Command.AUTHENTICATE, quote("\udcff")) == b'AUTHENTICATE "\xff"\r\n'


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "a b",
        "a\r\nQUIT",
        "a\n",
        "a\r",
        "a\0",
        "é",
        '"',
        '"a',
        '"a" b"',
        '"a\n"',
        '"a\\"',
        '"\ud800"',
        "\x1b[2J",
        "a\tb",
    ],
)
def test_refused_argument(argument: str) -> None:
    """What could be read as something else than one argument is refused, without being shown."""
    with pytest.raises(ConfigurationError, match="an argument of GETINFO") as caught:
        encode_command(Command.GETINFO, argument)
    assert not argument or argument not in str(caught.value)


@pytest.mark.parametrize("text", ["a\r", "a\nb", "\0"])
def test_refused_quote(text: str) -> None:
    """CR, LF and NUL cannot be in a quoted string: they are refused, not escaped."""
    with pytest.raises(ConfigurationError, match="must not contain CR, LF or NUL"):
        quote(text)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")))
def test_quote_round_trip(text: str) -> None:
    """A quoted string is one argument, and one word again when it is split; unquoted by tor's rule it is the text."""
    line = encode_command(Command.AUTHENTICATE, quote(text))
    assert line.endswith(b"\r\n")
    assert b"\r" not in line[:-2]
    assert b"\n" not in line[:-2]
    words = split_arguments(line[:-2].decode())
    assert words == ["AUTHENTICATE", quote(text)]
    # In a QuotedString a backslash stands for the character behind it (2.1), which `unquote` reads otherwise for n, r,
    # t and digits (2.1.1); `quote` puts it before backslashes and quotation marks only.
    assert unquote(words[1]) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b=c", ["a", "b=c"]),
        ('a="b c" d', ['a="b c"', "d"]),
        (r'a="b \" c" d', [r'a="b \" c"', "d"]),
        (r'a="b \\" d', [r'a="b \\"', "d"]),
        ('"a b" "c"', ['"a b"', '"c"']),
        ('a="" b', ['a=""', "b"]),
    ],
)
def test_split_arguments(text: str, words: list[str]) -> None:
    """Spaces within quotation marks do not split."""
    assert split_arguments(text) == words


@pytest.mark.parametrize("text", ['a="b', '"', r'a="b\"', 'a="b" c"', r'"\\\"'])
def test_open_quote(text: str) -> None:
    """A quotation mark that is never closed is an error."""
    with pytest.raises(ControlProtocolError, match="never closed"):
        split_arguments(text)


@given(st.text('ab "\\=', max_size=60))
def test_split_arguments_keeps_all(text: str) -> None:
    """Splitting raises, or loses nothing but spaces."""
    try:
        words = split_arguments(text)
    except ControlProtocolError:
        return
    assert "".join(words).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("plain", "plain"),
        ('"', '"'),
        ('""', ""),
        ('"a b"', "a b"),
        (r'"a\"b\\c"', r'a"b\c'),
        (r'"a\tb\nc\rd"', "a\tb\nc\rd"),
        (r'"\303\251"', "é"),
        (r'"\0"', "\0"),
        (r'"\377"', "\udcff"),
        (r'"\400"', " 0"),
        (r'"\x\8"', "x8"),
        ('"/run/tor/control.authcookie"', "/run/tor/control.authcookie"),
    ],
)
def test_unquote(value: str, meaning: str) -> None:
    """Both ways in which tors escape are read (control-spec 2.1.1)."""
    assert unquote(value) == meaning


@given(st.text(max_size=40))
def test_unquote_anything(text: str) -> None:
    """No text is an error."""
    unquote(text)
    unquote(f'"{text}"')
