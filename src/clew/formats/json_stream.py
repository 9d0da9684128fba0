"""JSON of any size, a value at a time: a file that is one array or object is never whole in memory.

Some containers are opened, those on the way to what is wanted; whatever stands in them is given as a whole, with its
path. The path of what is in an array is the array's with `[]` behind it, that of an object's member is the object's
with a dot and the key; the outermost value has the path "". Several values may follow each other, as in JSON Lines.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from clew.formats.json_values import without_surrogates
from clew.limits import LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Broken", "Closed", "Found", "JsonStream", "Piece"]

# Commas are not insisted on: between lines there are none.
_BETWEEN: Final = re.compile(r"[\s,]*")
_COLON: Final = re.compile(r"\s*:\s*")
_CLOSING: Final = {"[": "]", "{": "}"}
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BYTE_ORDER_MARK: Final = "\ufeff"
# What text ends with that was cut within a word, a number or an escape.
_CUT: Final = re.compile(r"[\\\w.+-]{0,16}\s*")
# What is larger than this and has no end yet is looked at again when twice as much is there, and not at each piece.
_PATIENT_CHARACTERS: Final = 64 * 1024
# After damage it goes on behind its beginning, so that what is glued to it is found; but not further back than this
# from where it was noticed: else damage could make reading take a square of the time.
_LOOK_BACK_CHARACTERS: Final = 1024
# The scanner gives up at so many levels, each of which is at least a character.
_DEPTH_CHARACTERS: Final = 900
# What may be the first part of a place to go on from, when the rest has not come yet.
_RESTART_CHARACTERS: Final = 256
_TOO_LONG: Final = f"it is longer than {LINE_BYTES} bytes"

_scan = json.JSONDecoder().raw_decode


class Found(NamedTuple):
    """A whole value."""

    path: str
    value: Any
    text: str  # as it stands in the file


class Closed(NamedTuple):
    """The end of a container that was opened."""

    path: str


class Broken(NamedTuple):
    """Something that could not be read; it goes on behind it where the next value of the wanted kind begins."""

    reason: str  # half a sentence
    is_tail: bool = False  # the text ends before its end


Piece: TypeAlias = Found | Closed | Broken


class _Incomplete(Exception):  # noqa: N818  # nothing is wrong: the text has not come yet
    pass


class JsonStream:
    """Bytes in, values out. Thread: one.

    Args:
        containers: the paths of the containers that are opened, each with the brackets it may have: "[", "{" or "[{".
        home: the containers, opened from the outermost on, in which the wanted values are, each as its path and
            bracket. There it goes on after damage.
        restart: finds where a wanted value begins in damaged text; its group 1 begins with the value's bracket.
    """

    def __init__(
        self, containers: Mapping[str, str], home: tuple[tuple[str, str], ...], restart: re.Pattern[str]
    ) -> None:
        self._containers = containers
        self._home = home
        self._restart = restart
        self._stack: list[tuple[str, str]] = []  # containers that are open: path, bracket
        self._rest = b""  # the beginning of a character
        self._text = ""
        self._at = 0  # how much of the text was read
        self._enough = 0  # before the text is so long it is not worth another look
        self._is_lost = False  # it is looking for a place to go on from
        self._is_begun = False
        # Bytes that are no UTF-8 or escapes of surrogates were seen: from then on each value is looked at.
        self._is_suspect = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Read on; the iterator must be exhausted before the next call."""
        self._take(data)
        if len(self._text) < self._enough:
            return
        yield from self._read(is_whole=False)
        self._text = self._text[self._at :]
        self._at = 0
        waiting = len(self._text)
        if waiting > LINE_BYTES:
            yield from self._lose(_TOO_LONG, 0, 0)
            waiting = 0
        self._enough = min(2 * waiting, LINE_BYTES + 1) if waiting > _PATIENT_CHARACTERS and not self._is_lost else 0

    def finish(self) -> Iterator[Piece]:
        """Nothing follows."""
        if self._rest:
            self._text += "\ufffd"
            self._rest = b""
        yield from self._read(is_whole=True)
        if self._stack and not self._is_lost:
            yield Broken("it has no end", is_tail=True)
        self._text, self._at, self._stack = "", 0, []

    def _take(self, data: bytes) -> None:
        data = self._rest + data
        try:
            text, taken = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            text, taken = codecs.utf_8_decode(data, "surrogateescape", False)
            self._is_suspect = True
        self._rest = data[taken:]
        if not self._is_begun and text:
            self._is_begun = True
            text = text.removeprefix(_BYTE_ORDER_MARK)
        self._is_suspect = self._is_suspect or "\\u" in text or text.endswith("\\")
        self._text += text

    def _read(self, *, is_whole: bool) -> Iterator[Piece]:
        text, stack = self._text, self._stack
        while True:
            if self._is_lost and not self._find_restart(is_whole=is_whole):
                return
            match = _BETWEEN.match(text, self._at)
            assert match is not None
            self._at = at = match.end()
            if at == len(text):
                return
            try:
                if stack:
                    path, bracket = stack[-1]
                    if text[at] == _CLOSING[bracket]:
                        stack.pop()
                        self._at += 1
                        yield Closed(path)
                        continue
                    if bracket == "{":
                        key, at = self._read_key(at, is_whole=is_whole)
                        path = f"{path}.{key}"
                    else:
                        path += "[]"
                elif text[at] in "]}":  # of a container in which damage was
                    self._at += 1
                    continue
                else:
                    path = ""
                if text[at] in self._containers.get(path, ""):
                    stack.append((path, text[at]))
                    self._at = at + 1
                    continue
                value, end = self._read_value(at, is_whole=is_whole)
            except _Incomplete:
                if is_whole:
                    yield Broken("it has no end", is_tail=True)
                    self._at, self._is_lost = len(text), True
                return
            except _Damage as damage:
                yield from self._lose(str(damage), at, damage.at)
                continue
            self._at = end
            yield Found(path, value, text[at:end])

    def _read_key(self, at: int, *, is_whole: bool) -> tuple[str, int]:
        """A member's key, and where its value begins."""
        if self._text[at] != '"':
            raise _Damage("it is no JSON", at)
        key, end = self._read_value(at, is_whole=is_whole)
        match = _COLON.match(self._text, end)
        if match is None:
            if self._text[end:].strip():
                raise _Damage("it is no JSON", end)
            raise _Incomplete
        if match.end() == len(self._text):
            raise _Incomplete
        return key, match.end()

    def _read_value(self, at: int, *, is_whole: bool) -> tuple[Any, int]:
        text = self._text
        try:
            value, end = _scan(text, at)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated string") or _CUT.fullmatch(text, error.pos):
                raise _Incomplete from None
            raise _Damage("it is no JSON", error.pos) from error
        except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
            raise _Damage("it is no JSON that can be read", at + _DEPTH_CHARACTERS + _LOOK_BACK_CHARACTERS) from error
        if not is_whole and text[at] not in '{["' and _CUT.fullmatch(text, end):  # a number may go on
            raise _Incomplete
        if self._is_suspect:
            value = _cleaned(value, text, at, end)
        return value, end

    def _lose(self, reason: str, start: int, noticed: int) -> Iterator[Piece]:
        self._at = max(start + 1, min(noticed - _LOOK_BACK_CHARACTERS, len(self._text)))
        self._is_lost = True
        yield Broken(reason)

    def _find_restart(self, *, is_whole: bool) -> bool:
        match = self._restart.search(self._text, self._at)
        if match is None:
            self._at = len(self._text) if is_whole else max(self._at, len(self._text) - _RESTART_CHARACTERS)
            return False
        self._at = match.start(1)
        self._is_lost = False
        inner = self._home[-1]
        if inner in self._stack:
            del self._stack[self._stack.index(inner) + 1 :]
        else:
            self._stack[:] = self._home
        return True


class _Damage(Exception):  # noqa: N818
    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.at = at


def _cleaned(value: Any, text: str, at: int, end: int) -> Any:
    """A value without surrogates that stand alone, which could not be printed or encoded."""
    part = text[at:end]
    if not part.isascii():
        try:
            part.encode()
        except UnicodeEncodeError:
            raise _Damage("it is not UTF-8", end) from None
    if _SURROGATE_ESCAPE.search(part) is None:
        return value
    try:
        return without_surrogates(value)
    except RecursionError:  # what was just parsed may be too deep to be written
        raise _Damage("it is no JSON that can be read", end) from None
