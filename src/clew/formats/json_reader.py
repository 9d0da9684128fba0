"""OTLP JSON Lines and go-tor's traces.json: JSON objects one after the other, told apart by their keys.

An object may stand on a line of its own, several on one line, one over many lines, or all of them in an array. Lines
that are whole objects, nearly all of them, are parsed at once; for the rest the brackets are counted. After damage it
goes on at the next line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from clew.formats.blocks import GoTorBlock, OtlpJsonBlock
from clew.formats.json_values import without_surrogates
from clew.formats.reading import Damage, Reader
from clew.limits import LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.formats.reading import Item

__all__ = ["JsonReader"]

# What may stand around an object on its line: also the punctuation of an array of objects.
_AROUND = b" \t\r,[]"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Up to and with the next byte that counts: a bracket, or a quotation mark that is not closed on this line. To the end
# if there is none, so that it never goes back into a string.
_STEP = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*"[^"{}\[\]]*+)*([{}\[\]"]|\Z)')
# How an object of the formats that are read begins.
_STARTS = (b'{"resourceSpans"', b'{"TraceID"')

# Half of a character that is written in two escapes. OTLP's own reader looks for those itself.
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOO_LONG = f"it is longer than {LINE_BYTES} bytes"
_TRACE_ID = re.compile(rb'"traceId"\s*:\s*"([0-9A-Fa-f]*)"')
_OTHER_SIGNALS = frozenset(("resourceLogs", "resourceMetrics", "resourceProfiles"))


class _Open:
    """An object that goes on beyond its first line."""

    __slots__ = ("depth", "indent", "lines", "number", "size")

    def __init__(self, number: int, indent: int) -> None:
        self.number = number  # of its first line
        self.indent = indent  # of its first line
        self.lines: list[bytes] = []
        self.size = 0  # of the lines, in bytes
        self.depth = 0  # brackets that are open after them

    def add(self, line: bytes, depth: int) -> None:
        self.lines.append(line)
        self.size += len(line) + 1
        self.depth = depth

    def is_ended_by(self, line: bytes) -> bool:
        """Whether a line is the first one of the next object, so that this one was never finished."""
        start = line.lstrip(b" \t")
        if start.startswith(_STARTS):
            return True
        # An object that is indented closes before another one begins at its own level.
        is_indented = len(self.lines) > 1 and _indent(self.lines[1]) > self.indent
        return is_indented and start.startswith(b"{") and _indent(line) <= self.indent


class JsonReader(Reader):
    """Reads objects.

    Args:
        wanted: lines of OTLP/JSON without any of these trace ids (lower-case hex) need not be parsed, and damage in
            them need not be told; None reads everything.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._number = 1  # of the line that is being read
        self._rest: list[bytes] = []  # the beginning of a line whose end has not come yet
        self._rest_size = 0
        self._is_too_long = False  # that line is, and is let go
        self._open: _Open | None = None
        self.other_signals = 0  # objects of logs, metrics and the like that were passed over

    def feed(self, data: bytes) -> Iterator[Item]:
        if b"\n" not in data:
            self._hold(data)  # not put together before its end comes: it may be long, and come in small pieces
            return
        text, at, looked = b"".join([*self._rest, data]), 0, 0
        while (end := text.find(b"\n", at)) >= 0:
            value = None
            # What was looked at in vain is not looked at again: else damage could make this take a square of the time.
            if self._open is None and at >= looked:
                value, looked = _find_indented(text, at, end)
            if value is None:
                yield from self._end_line(text[at:end])
            else:
                first, end = self._number, looked
                self._number += text.count(b"\n", at, end)
                yield from self._recognise(first, text[at:end].strip(_AROUND), value)
            self._number += 1
            at = end + 1
        self._rest, self._rest_size = [], 0
        self._hold(text[at:])

    def _hold(self, data: bytes) -> None:
        self._rest.append(data)
        self._rest_size += len(data)
        if self._rest_size > LINE_BYTES:
            self._rest, self._rest_size, self._is_too_long = [], 0, True

    def finish(self) -> Iterator[Item]:
        number = self._number
        for item in self._end_line(b"".join(self._rest)):
            # Without a newline it is not damaged: somebody may be writing it.
            yield item._replace(is_tail=True) if isinstance(item, Damage) and item.last == number else item
        if self._open is not None:
            yield Damage(self._open.number, number, "it has no end", is_tail=True)
        self._rest, self._rest_size, self._open = [], 0, None

    def _end_line(self, line: bytes) -> Iterator[Item]:
        if self._is_too_long:
            first = self._open.number if self._open else self._number
            self._open, self._is_too_long = None, False
            yield Damage(first, self._number, _TOO_LONG)
        elif line:
            yield from self._begin(line) if self._open is None else self._continue(self._open, line)

    def _begin(self, line: bytes) -> Iterator[Item]:
        """Read a line outside of any object."""
        if self._number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        text = line.strip(_AROUND)
        if not text or self._is_unwanted(text):
            return
        try:
            value = _parse(text)
        except ValueError:
            yield from self._split(text, line.index(text))
        else:
            yield from self._recognise(self._number, text, value)

    def _split(self, text: bytes, indent: int) -> Iterator[Item]:
        """Read a line on which there is more, or less, than one object."""
        start = 0
        while start < len(text):
            if text[start] != ord("{"):
                yield from self._damage(self._number, "it is no JSON object", text)
                return
            try:
                end, depth = _count_brackets(text, start, 0)
            except ValueError:
                yield from self._damage(self._number, "it is no JSON", text)
                return
            if depth:
                self._open = _Open(self._number, indent)
                self._open.add(text[start:], depth)
                return
            yield from self._read(self._number, text[start:end])
            start = len(text) - len(text[end:].lstrip(_AROUND))

    def _continue(self, unit: _Open, line: bytes) -> Iterator[Item]:
        """Read a line within an object."""
        self._open = None
        if unit.is_ended_by(line):
            yield from self._damage(unit.number, "it has no end", unit.lines[0], self._number - 1)
            yield from self._begin(line)
            return
        try:
            end, depth = _count_brackets(line, 0, unit.depth)
        except ValueError:
            yield Damage(unit.number, self._number, "it is no JSON")
            return
        unit.add(line[:end], depth)
        if unit.size > LINE_BYTES:
            yield Damage(unit.number, self._number, _TOO_LONG)
        elif depth:
            self._open = unit
        else:
            yield from self._read(unit.number, b"\n".join(unit.lines))
            yield from self._split(line[end:].strip(_AROUND), unit.indent)

    def _read(self, number: int, text: bytes) -> Iterator[Item]:
        try:
            value = _parse(text)
        except ValueError:
            yield from self._damage(number, "it is no JSON", text)
        else:
            yield from self._recognise(number, text, value)

    def _recognise(self, number: int, text: bytes, value: Any) -> Iterator[Item]:
        keys = value.keys() if isinstance(value, dict) else ()
        if "resourceSpans" in keys:
            yield OtlpJsonBlock(number, text, value)
        elif "TraceID" in keys:
            if _SURROGATE_ESCAPE.search(text):
                try:
                    value = without_surrogates(value)
                except RecursionError:
                    yield Damage(number, self._number, "it is nested too deep")
                    return
            block = GoTorBlock(number, value)
            if self._wanted is None or block.trace_id in self._wanted:
                yield block
        elif _OTHER_SIGNALS.isdisjoint(keys):
            yield Damage(number, self._number, "it has neither OTLP's resourceSpans nor go-tor's TraceID")
        else:
            self.other_signals += 1

    def _damage(self, number: int, reason: str, text: bytes, last: int | None = None) -> Iterator[Item]:
        """Tell of damage; a whole object that a torn line is glued to is read nevertheless."""
        yield Damage(number, last or self._number, reason)
        start = max(map(text.rfind, _STARTS))
        if start > 0:
            try:
                value = _parse(text[start:])
            except ValueError:
                return
            yield from self._recognise(number, text[start:], value)

    def _is_unwanted(self, text: bytes) -> bool:
        """Whether no span of a line can be wanted, found without parsing it; False when that cannot be known."""
        return (
            self._wanted is not None
            and text.startswith(_STARTS[0])
            and text.endswith(b"}")
            and b"\\u" not in text  # an id, or the word traceId itself, might be written in escapes
            and self._wanted.isdisjoint(map(str.lower, map(bytes.decode, set(_TRACE_ID.findall(text)))))
        )


def _parse(text: bytes) -> Any:
    """Raises: ValueError."""
    try:
        return json.loads(text.decode())
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _find_indented(text: bytes, at: int, end: int) -> tuple[Any, int]:
    """Find an object of many indented lines as a whole, without looking at each of them.

    Args:
        at: where a line begins.
        end: where it ends.

    Returns: the object and where its last line ends; or None (the line begins no such object, its end has not come
        yet, it is damaged, or more follows it on its last line) and how far the text was looked at.
    """
    if text[end - 1 : end] != b"{" or text[at:end].strip(b" \t") != b"{":
        return None, end
    # No string can hold a newline, so this is a bracket; that it is the right one is shown by the parsing.
    closing = b"\n" + text[at : end - 1] + b"}"
    last = text.find(closing, end)
    if last < 0:
        return None, len(text)
    last += len(closing)
    end = text.find(b"\n", last)
    if end < 0 or text[last:end].strip(_AROUND):
        return None, last
    try:
        return _parse(text[at:last]), end
    except ValueError:
        return None, last


def _count_brackets(text: bytes, start: int, depth: int) -> tuple[int, int]:
    """Follow the brackets of an object through a line.

    Args:
        depth: how many are open at the start.

    Returns: where the object or the line ends, and how many are open there; 0 at the end of the object.
    Raises: ValueError, if a string does not end on its line, which JSON forbids.
    """
    # Not search: it must not start within a string.
    while (step := _STEP.match(text, start)) and (bracket := step[1]):
        start = step.end()
        if bracket in b"{[":
            depth += 1
        elif bracket in b"}]":
            depth -= 1
            if depth == 0:
                return start, 0
        else:
            raise ValueError
    return len(text), depth


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip(b" \t"))
