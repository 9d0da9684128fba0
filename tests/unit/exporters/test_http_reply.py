"""HTTP responses from bytes: what is read, what is refused, and that it never matters how the bytes are cut."""

from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clew.exporters import _http_reply
from clew.exporters._http_reply import BadReplyError, Reply, ReplyReader

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def read(data: bytes, *, size: int = 0, ended: bool = True) -> Reply | None:
    """Feed all bytes, so many at a time, and perhaps the end of the connection."""
    reader = ReplyReader()
    size = size or max(len(data), 1)
    for at in range(0, len(data), size):
        if (reply := reader.feed(data[at : at + size])) is not None:
            # What comes after a response is not its business.
            return reply._replace(reusable=reply.reusable and at + size >= len(data))
    return reader.feed(b"") if ended else None


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Reply(200, {"content-length": "2"}, b"hi", True, True)),
        (b"HTTP/1.1 200\r\nContent-Length:0\r\n\r\n", Reply(200, {"content-length": "0"}, b"", True, True)),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n1 \r\n!\r\n0\r\nTrailer: 1\r\n\r\n",
            Reply(200, {"transfer-encoding": "chunked"}, b"hi!", True, True),
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n",
            Reply(204, {}, b"", True, True),
        ),
        (
            b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nretry-after: 2\r\nContent-Length: 0, 0\r\n\r\n",
            Reply(503, {"retry-after": "1, 2", "content-length": "0, 0"}, b"", True, True),
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
            Reply(200, {"connection": "Close", "content-length": "0"}, b"", True, False),
        ),
        (
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            Reply(200, {"content-length": "0"}, b"", True, False),
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", Reply(200, {}, b"until the end", True, False)),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbroken",
            Reply(200, {"content-length": "9"}, b"broken", False, False),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n9\r\nbro",
            Reply(200, {"transfer-encoding": "chunked"}, b"hibro", False, False),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
            Reply(200, {"transfer-encoding": "chunked"}, b"hi", False, False),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n!\r\n0\r\n\r\n",
            Reply(200, {"content-length": "1", "transfer-encoding": "chunked"}, b"!", True, False),
        ),
    ],
)
def test_responses(data: bytes, expected: Reply, size: int) -> None:
    """Each way in which a response says how long it is, whole and broken off."""
    assert read(data, size=size) == expected


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", "does not speak HTTP"),  # gRPC's port
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "does not speak HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 020 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header of its answer is none"),
        (b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "a header of its answer is none"),
        (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "a header of its answer is none"),
        (b"HTTP/1.1 200 OK\r\nFolded: a\r\n b: c\r\n\r\n", "a header of its answer is none"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no sensible length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "no sensible length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n", "no sensible length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "no sensible length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n", "longer than 4194304 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "nobody asked for"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "not in the chunks"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "not in the chunks"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", "longer than 4194304 bytes"),
    ],
)
def test_what_is_refused(data: bytes, problem: str, size: int) -> None:
    """What is no HTTP/1.1, or lies about itself, is said in words."""
    with pytest.raises(BadReplyError, match=problem):
        read(data, size=size)


@pytest.mark.parametrize("data", [b"", b"HT", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_end_before_the_body(data: bytes) -> None:
    """A connection that ends before the body is like one that broke: the request may be sent again."""
    with pytest.raises(ConnectionResetError):
        read(data)


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 12_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 12_000,
    ],
)
def test_heads_without_an_end(begin: bytes) -> None:
    """What stands around a body is bounded, whatever part of it goes on and on."""
    with pytest.raises(BadReplyError, match="longer than 65536 bytes"):
        read(begin, size=1000, ended=False)


def test_a_body_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that says no length, or one chunk after the other, is bounded too."""
    monkeypatch.setattr(_http_reply, "OTLP_REPLY_BYTES", 5000)
    for begin, more in (
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"x" * 100 + b"\r\n"),
    ):
        with pytest.raises(BadReplyError, match="longer than 5000 bytes"):
            read(begin + more * 100, size=100, ended=False)


# --- properties ------------------------------------------------------------------------------------------------------

tokens = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=12)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """Bytes of a response, its status and its body."""
    status = draw(st.sampled_from([200, 202, 400, 429, 503]))
    body = draw(st.binary(max_size=60))
    head = f"HTTP/1.1 {status} {draw(values)}\r\n"
    for name in draw(st.lists(tokens, max_size=3)):
        head += f"x-{name}: {draw(values)}\r\n"
    encoded = head.encode("latin-1").replace(b"\x85", b"?")  # which http.client takes for the end of a line
    if draw(st.booleans()):
        return encoded + b"Content-Length: %d\r\n\r\n" % len(body) + body, status, body
    chunks = b""
    rest = body
    while rest:
        size = draw(st.integers(1, len(rest)))
        chunks += b"%x\r\n" % size + rest[:size] + b"\r\n"
        rest = rest[size:]
    return encoded + b"transfer-encoding: Chunked\r\n\r\n" + chunks + b"0\r\n\r\n", status, body


class _Socket:
    """What http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@given(responses(), st.integers(1, 20))
def test_it_reads_what_http_client_reads(response: tuple[bytes, int, bytes], size: int) -> None:
    """Status and body are what Python's own client sees, in whatever pieces they come."""
    data, status, body = response
    peer: Any = http.client.HTTPResponse(_Socket(data))  # type: ignore[arg-type]
    peer.begin()
    assert (peer.status, peer.read()) == (status, body)
    reply = read(data, size=size, ended=False)
    assert reply is not None
    assert (reply.status, reply.body, reply.whole, reply.reusable) == (status, body, True, True)


def _outcome(data: bytes, size: int) -> object:
    try:
        return read(data, size=size)
    except (BadReplyError, ConnectionResetError) as error:
        return repr(error)


pieces: SearchStrategy[bytes] = st.sampled_from(
    [b"HTTP/1.1 ", b"200", b" OK", b"\r\n", b"\r\n\r\n", b"\n", b"Content-Length: ", b"Transfer-Encoding: chunked",
     b"0", b"3", b"a", b":", b" ", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
)  # fmt: skip


@given(st.binary(max_size=40) | st.lists(pieces | st.binary(max_size=3), max_size=12).map(b"".join), st.integers(1, 5))
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1)
def test_any_bytes(data: bytes, size: int) -> None:
    """Whatever comes, there is a response, a reason, or an end; and the pieces in which it comes do not matter."""
    assert _outcome(data, size) == _outcome(data, 0)
