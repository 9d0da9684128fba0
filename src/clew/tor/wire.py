"""Control-port bytes <-> replies and commands. No I/O, no clock.

`ControlParser` takes bytes as they come, in pieces of any size, and gives whole replies. A reply is a number of
mid and data lines and one end line:

    250-version=0.4.9.11          mid line
    250+ns/all=                   data line, followed by a block that ends with a lone dot
    r moria1 ...
    .
    250 OK                        end line

What is affected by the framing lives in this file, and nothing else does: `events` knows what the lines mean.

Source: control-spec sections 2.1 to 2.4 (format) and 4.1 (where asynchronous replies may stand).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from clew.errors import ConfigurationError, ControlProtocolError
from clew.limits import CONTROL_LINE_BYTES, CONTROL_REPLY_BYTES

__all__ = ["Command", "ControlParser", "Reply", "ReplyLine", "encode_command", "quote", "split_arguments", "unquote"]

_CRLF = b"\r\n"
_BLOCK_END = b"\r\n.\r\n"
_END, _DATA = b" +"
# An event of one line; nearly all that a control port sends are.
_EVENT_CODE = 650
_EVENT = b"650 "
_NEXT_EVENT = "\r\n650 "
# Events are looked for in so many bytes at once. Where something else stands among them, they are looked for anew after
# each line: a peer that mixes them must not cost more than this for each.
_EVENTS_BYTES = 16_384

# MidReplyLine, DataReplyLine, EndReplyLine = StatusCode ("-" / "+" / SP) ... (control-spec 2.3)
_HEAD = re.compile(rb"[0-9]{3}[-+ ]")
_HEAD_BEGUN = re.compile(rb"[0-9]{3}[-+ ]|[0-9]{0,3}\Z")

# What would end a command early, or would be cut off by tor's C strings.
_FORBIDDEN = re.compile(r"[\r\n\0]")
_ARGUMENT = re.compile(r'[!#-~][!-~]*|"(?:[^"\\\r\n\0]|\\[^\r\n\0])*"')
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_WORD = re.compile(rf'(?:[^ "]++|{_QUOTED})+', re.DOTALL)
_BALANCED = re.compile(rf'[^"]*+(?:{_QUOTED}[^"]*+)*', re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-3]?[0-7]{1,2}|[^0-7])", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Command(Enum):
    """Every command that clew ever sends to a tor. Nothing here changes a tor's configuration.

    Source: control-spec section 3; the member's comment is its subsection.
    """

    PROTOCOLINFO = "PROTOCOLINFO"  # 3.21
    AUTHCHALLENGE = "AUTHCHALLENGE"  # 3.24
    AUTHENTICATE = "AUTHENTICATE"  # 3.5
    GETINFO = "GETINFO"  # 3.9
    GETCONF = "GETCONF"  # 3.3
    SETEVENTS = "SETEVENTS"  # 3.4
    EXTENDCIRCUIT = "EXTENDCIRCUIT"  # 3.10
    CLOSECIRCUIT = "CLOSECIRCUIT"  # 3.17
    SIGNAL = "SIGNAL"  # 3.7
    TAKEOWNERSHIP = "TAKEOWNERSHIP"  # 3.23


class ReplyLine(NamedTuple):
    """One line of a reply, without its status code."""

    text: str
    data: str | None = None  # the block after a data line: dots unstuffed, lines joined with "\n"


class Reply(NamedTuple):
    """A whole reply.

    Bytes that are not UTF-8 are kept as lone surrogates (`surrogateescape`): the protocol allows any 8-bit character
    (control-spec 2.1) and nothing is to be lost before somebody decides what it means.
    """

    code: int  # of the end line
    lines: tuple[ReplyLine, ...]

    @property
    def is_event(self) -> bool:
        """Whether tor sent it unasked: 6yz, an asynchronous reply (control-spec section 4)."""
        return self.code // 100 == 6

    @property
    def is_success(self) -> bool:
        """2yz, a positive completion reply (control-spec section 4)."""
        return self.code // 100 == 2

    @property
    def text(self) -> str:
        """What the end line says: "OK", or why tor refused."""
        return self.lines[-1].text


_new = tuple.__new__


class ControlParser:
    """Bytes in, replies out, at any chunking the same.

    Args:
        max_line_bytes: a longer line outside of a data block is an error.
        max_reply_bytes: a reply with more bytes than this, data blocks included, is an error.

    Thread: one at a time. Never blocks.
    """

    def __init__(self, *, max_line_bytes: int = CONTROL_LINE_BYTES, max_reply_bytes: int = CONTROL_REPLY_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_reply_bytes = max_reply_bytes
        self._buffer = bytearray()
        self._position = 0  # where the unread part of the buffer begins
        self._searched = 0  # up to here the end of the current line or block was looked for already
        self._lines: list[ReplyLine] = []  # of the reply that is under way
        self._is_event = False  # of the reply that is under way
        self._reply_bytes = 0
        self._data_text: str | None = None  # the text of the data line whose block is being read
        self._error: str | None = None
        self._events: list[Reply] = []  # read ahead, the next one last

    def feed(self, data: bytes) -> None:
        """Take bytes as they were received."""
        del self._buffer[: self._position]
        self._searched -= self._position
        self._position = 0
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None until more bytes are fed.

        Raises:
            ControlProtocolError: the bytes are not the control protocol. The parser is of no use any more: where the
                next reply would begin is unknown, and every further call raises the same.
        """
        if self._events or self._read_events():
            return self._events.pop()
        if self._error is not None:
            raise ControlProtocolError(self._error)
        try:
            return self._next_reply()
        except ControlProtocolError as error:
            self._error = str(error)
            self._buffer.clear()
            self._position = self._searched = 0
            raise

    def _read_events(self) -> bool:
        """Read the events of one line that come next, all at once; whether there were any.

        Only where nothing else stands among them, to which `_next_reply` would have to give its place.
        """
        buffer, start = self._buffer, self._position
        if self._lines or self._data_text is not None or not buffer.startswith(_EVENT, start):
            return False
        end = buffer.rfind(_CRLF, start, start + min(self._max_line_bytes, _EVENTS_BYTES))
        if end < 0:
            return False
        text = buffer[start + len(_EVENT) : end].decode("utf-8", "surrogateescape")
        texts = text.split(_NEXT_EVENT)
        if text.count("\r\n") != len(texts) - 1:
            return False
        texts.reverse()
        # As the constructors do it, in half the time.
        self._events = [_new(Reply, (_EVENT_CODE, (_new(ReplyLine, (text, None)),))) for text in texts]
        self._position = self._searched = end + len(_CRLF)
        return True

    def _next_reply(self) -> Reply | None:
        buffer = self._buffer
        while self._data_text is None or self._read_block():
            start = self._position
            end = buffer.find(_CRLF, self._searched)
            if end < 0:
                # A foreign server is recognised by its first bytes, whether it ever ends its line or not.
                if not _HEAD_BEGUN.match(buffer, start):
                    raise ControlProtocolError(_describe_foreign(buffer[start:]))
                if len(buffer) - start > self._max_line_bytes + 1:  # the last one may be half of a CRLF
                    raise ControlProtocolError(f"a line of the reply has more than {self._max_line_bytes} bytes")
                self._searched = max(start, len(buffer) - 1)
                return None
            if not _HEAD.match(buffer, start, end):
                raise ControlProtocolError(_describe_foreign(buffer[start:end]))
            if end - start > self._max_line_bytes:
                raise ControlProtocolError(f"a line of the reply has more than {self._max_line_bytes} bytes")
            code = int(buffer[start : start + 3])
            divider = buffer[start + 3]
            text = buffer[start + 4 : end].decode("utf-8", "surrogateescape")
            self._position = self._searched = end + 2
            lines = self._lines
            if not lines:
                if divider == _END:
                    return Reply(code, (ReplyLine(text),))
                self._is_event = code // 100 == 6
            elif self._is_event != (code // 100 == 6):
                # "They will not be interleaved with other Reply elements" (control-spec 4.1).
                raise ControlProtocolError("an asynchronous reply stands inside of another reply")
            self._count_bytes(end - start)
            if divider == _DATA:
                self._data_text = text
                # Back to the line's own CRLF: it is the one before the lone dot if the block is empty.
                self._position = self._searched = end
                continue
            lines.append(ReplyLine(text))
            if divider == _END:
                self._lines = []
                self._reply_bytes = 0
                return Reply(code, tuple(lines))
        return None

    def _read_block(self) -> bool:
        """Read a CmdData section (control-spec 2.4); whether it was there in full."""
        buffer = self._buffer
        start = self._position
        end = buffer.find(_BLOCK_END, self._searched)
        if end < 0:
            if self._reply_bytes + len(buffer) - start > self._max_reply_bytes + len(_BLOCK_END):
                raise ControlProtocolError(f"a reply has more than {self._max_reply_bytes} bytes")
            self._searched = max(start, len(buffer) - len(_BLOCK_END) + 1)
            return False
        self._count_bytes(end - start)
        # In one piece, not line by line: events wait behind a consensus of some megabytes.
        block = buffer[start:end].replace(b"\r\n.", _CRLF).replace(_CRLF, b"\n")[1:]
        self._lines.append(ReplyLine(self._data_text or "", block.decode("utf-8", "surrogateescape")))
        self._data_text = None
        self._position = self._searched = end + len(_BLOCK_END)
        return True

    def _count_bytes(self, count: int) -> None:
        self._reply_bytes += count
        if self._reply_bytes > self._max_reply_bytes:
            raise ControlProtocolError(f"a reply has more than {self._max_reply_bytes} bytes")


def _describe_foreign(line: bytearray) -> str:
    return f"a reply begins with three digits, not with {bytes(line[:16])!r}"


def quote(text: str) -> str:
    """A QuotedString for an argument of a command.

    Raises:
        ConfigurationError: the text has a line end or a NUL in it, which would end the command early.

    Source: control-spec 2.1. tor reads QuotedStrings as specified, unlike those that it writes (2.1.1).
    """
    if _FORBIDDEN.search(text):
        raise ConfigurationError("a text sent to tor's control port must not contain CR, LF or NUL: remove them")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encode_command(command: Command, *arguments: str) -> bytes:
    """A command as it goes over the wire.

    Args:
        arguments: words without white space, or what `quote` made.

    Raises:
        ConfigurationError: an argument is neither, so that it would be read as something else.

    Source: control-spec 2.2.
    """
    for argument in arguments:
        if not _ARGUMENT.fullmatch(argument):
            # The argument is not shown: it may be a secret.
            raise ConfigurationError(
                f"an argument of {command.value} must be printable, without white space or line ends: correct it"
            )
    try:
        return " ".join((command.value, *arguments)).encode("utf-8", "surrogateescape") + _CRLF
    except UnicodeEncodeError:
        raise ConfigurationError(f"an argument of {command.value} is not valid Unicode: correct it") from None


def split_arguments(text: str) -> list[str]:
    """Split at spaces, but not within the quoted strings that a word or its value may be.

    Raises:
        ControlProtocolError: a quotation mark is never closed, so that nobody can say what belongs to it.

    Source: control-spec 4.1: SP KEYWORD ["=" ( QuotedString / * NonSpDquote ) ].
    """
    if '"' not in text:
        return text.split(" ")
    if not _BALANCED.fullmatch(text):
        raise ControlProtocolError("a quotation mark in a reply is never closed")
    return _WORD.findall(text)


def unquote(value: str) -> str:
    """The meaning of a value that may be quoted, as tor writes it; one that is not comes back as it is.

    Source: control-spec 2.1.1, with the rules that it gives for tors with and without the escaping bug.
    """
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    inner = value[1:-1]
    if "\\" not in inner:
        return inner
    raw = inner.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_unescape, raw).decode("utf-8", "surrogateescape")


def _unescape(match: re.Match[bytes]) -> bytes:
    escaped: bytes = match[1]
    if escaped[0] in b"01234567":
        return bytes((int(escaped, 8) & 0xFF,))
    return _ESCAPES.get(escaped, escaped)
