"""HTTP/1.1 responses from bytes, however they are cut; nothing in them is trusted.

Source: RFC 9112, "HTTP/1.1".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from clew.limits import OTLP_REPLY_BYTES, OTLP_REPLY_HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["BadReplyError", "Reply", "ReplyReader"]

_BEGIN = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: [^\r\n\0]*)?")  # section 4
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(rb"[\r\n\0]")  # section 5.5 of RFC 9110
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")  # section 7.1, with its extensions, which mean nothing
_NUMBER = re.compile(r"[0-9]{1,18}")


class BadReplyError(Exception):
    """What came is no HTTP/1.1, or more than is read. Its text says which."""


class Reply(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]  # names in lower case; the values of one that came several times joined by commas
    body: bytes
    whole: bool  # the body did not break off
    reusable: bool  # another request may follow on the connection


class ReplyReader:
    """Takes the bytes of one response as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended = False
        self._head_bytes = 0
        self._parser = self._parse()
        next(self._parser)

    def feed(self, data: bytes) -> Reply | None:
        """Take what was received; nothing at all means that the connection has ended.

        Returns: the response, once it is there.
        Raises:
            BadReplyError: it is not read any further.
            ConnectionResetError: the connection ended before the response's body began.
        """
        self._ended = not data
        self._buffer += data
        try:
            next(self._parser)
        except StopIteration as stop:
            reply: Reply = stop.value
            return reply
        return None

    # Each of these is resumed whenever more has come.

    def _parse(self) -> Generator[None, None, Reply]:
        while not self._buffer.startswith(_BEGIN):
            if not _BEGIN.startswith(self._buffer):
                raise BadReplyError("it does not speak HTTP/1.1")
            yield from self._more()
        while True:
            head = yield from self._until(b"\r\n\r\n")
            version, status, headers = _parse_head(head)
            if status >= 200:
                break
            if status == 101:
                raise BadReplyError("it wants to speak another protocol")
            # Section 9.2 of RFC 9110: interim responses may come before the one that counts.
        keep = version >= 1 and "close" not in headers.get("connection", "").lower()
        body, whole = yield from self._body(status, headers)
        framed = "transfer-encoding" not in headers or "content-length" not in headers
        return Reply(status, headers, body, whole, whole and keep and framed and not self._ended and not self._buffer)

    def _body(self, status: int, headers: dict[str, str]) -> Generator[None, None, tuple[bytes, bool]]:
        """Section 6.3: how long it is; and whether all of it came."""
        if status in (204, 304):
            return b"", True
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise BadReplyError("its answer is encoded in a way that nobody asked for")
            return (yield from self._chunked())
        if "content-length" in headers:
            lengths = {text.strip() for text in headers["content-length"].split(",")}
            length = lengths.pop()
            if lengths or not _NUMBER.fullmatch(length):
                raise BadReplyError("its answer has no sensible length")
            return (yield from self._take(_checked(int(length))))
        while not self._ended:
            _checked(len(self._buffer))
            yield
        _checked(len(self._buffer))
        body = bytes(self._buffer)
        self._buffer.clear()
        return body, True

    def _chunked(self) -> Generator[None, None, tuple[bytes, bool]]:
        body = bytearray()
        try:
            while True:
                line = yield from self._until(b"\r\n")
                match = _CHUNK_SIZE.fullmatch(line)
                if match is None:
                    raise BadReplyError("its answer is not in the chunks it announced")
                size = int(match[1], 16)
                if size == 0:
                    break
                _checked(len(body) + size)
                piece, whole = yield from self._take(size + 2)
                body += piece[:size]
                if not whole:
                    return bytes(body), False
                if piece[size:] != b"\r\n":
                    raise BadReplyError("its answer is not in the chunks it announced")
            while (yield from self._until(b"\r\n")):
                pass  # trailers
        except ConnectionResetError:
            return bytes(body), False
        return bytes(body), True

    def _take(self, size: int) -> Generator[None, None, tuple[bytes, bool]]:
        while len(self._buffer) < size and not self._ended:
            yield
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece, len(piece) == size

    def _until(self, mark: bytes) -> Generator[None, None, bytes]:
        searched = 0
        while (found := self._buffer.find(mark, searched)) < 0:
            if self._head_bytes + len(self._buffer) > OTLP_REPLY_HEAD_BYTES:
                break
            searched = max(len(self._buffer) - len(mark) + 1, 0)
            yield from self._more()
        self._head_bytes += found + len(mark)
        if found < 0 or self._head_bytes > OTLP_REPLY_HEAD_BYTES:
            raise BadReplyError(f"the head of its answer is longer than {OTLP_REPLY_HEAD_BYTES} bytes")
        part = bytes(self._buffer[:found])
        del self._buffer[: found + len(mark)]
        return part

    def _more(self) -> Generator[None, None, None]:
        if self._ended:
            raise ConnectionResetError("it closed the connection without an answer")
        yield


def _checked(size: int) -> int:
    if size > OTLP_REPLY_BYTES:
        raise BadReplyError(f"its answer is longer than {OTLP_REPLY_BYTES} bytes")
    return size


def _parse_head(head: bytes) -> tuple[int, int, dict[str, str]]:
    """Minor version, status and headers."""
    first, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise BadReplyError("it does not speak HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, text = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name) or _NOT_IN_VALUE.search(text):
            raise BadReplyError("a header of its answer is none")
        key, value = name.decode("ascii").lower(), text.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return int(match[1]), int(match[2]), headers
