"""What the lines of events are made of: words, KEYWORD=VALUE, numbers, times, relays. `events` knows what they mean.

Much of a line is repeated in others: a circuit's keywords from its launch to its end, a stream's but for its circuit.
What was read of it is remembered, within bounds.

Source: control-spec 2.4 (words) and 4.1 (keywords).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from clew.tor.event_types import Relay
from clew.tor.wire import split_arguments, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from clew.tor.wire import ReplyLine

__all__ = [
    "Rest",
    "cut_credentials",
    "frozen",
    "is_number",
    "parse_path",
    "parse_relay",
    "parse_time",
    "put_back",
    "read_words",
    "remembered",
    "split_fields",
    "take_float",
    "take_int",
    "take_time",
]

# The end of a line: as it is, or in words where something was quoted or came on further lines.
Rest: TypeAlias = str | tuple[str, ...]

_T = TypeVar("_T")

# A quoted value that is never closed takes the rest of the line with it.
_SECRET_FIELD = re.compile(r'SOCKS_(?:USERNAME|PASSWORD)=(?:"[^"\\]*+(?:\\.[^"\\]*+)*(?:"|\\?\Z)|[^ ]*) ?', re.DOTALL)
_LONG_NAME = re.compile(r"\$([0-9A-Fa-f]{40})(?:[~=](.*))?", re.DOTALL)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Longer ones than tor ever writes are parsed, but not remembered: a cache must not hold what a hostile peer likes.
_REMEMBERED_CHARACTERS = 1024
_REMEMBERED = 1024
# tor's longest paths have 8 hops; each hop is read on top of the path before it.
_REMEMBERED_HOPS = 10
# About as many as the public network has. At 400 bytes each, 3 MB; a nickname has 19 characters at the most.
_REMEMBERED_RELAYS = 8192
_REMEMBERED_RELAY_CHARACTERS = 64


def cut_credentials(text: str) -> str:
    """The text without what a SOCKS client gave as user name and password."""
    if "SOCKS_USERNAME=" in text or "SOCKS_PASSWORD=" in text:
        return _SECRET_FIELD.sub("", text)
    return text


# --- words ----------------------------------------------------------------------------------------------------------


def read_words(line: str, more: Iterable[ReplyLine]) -> list[str]:
    """The words of a line and what further lines say, without quotation marks.

    Raises:
        ControlProtocolError: a quotation mark is never closed.
    """
    words = split_arguments(line)
    if '"' in line:
        words = [_unquote_value(word) for word in words]
    for text, data in more:
        key, _, value = cut_credentials(text).partition("=")
        if key:
            words.append(f"{key}={unquote(value) if data is None else cut_credentials(data)}")
    return words


def _unquote_value(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{key}={unquote(value)}" if equals else unquote(word)


def put_back(word: str, rest: Rest) -> Rest:
    """The rest of the line, with a word before it that turned out to belong to it."""
    return f"{word} {rest}" if isinstance(rest, str) else (word, *rest)


def remembered(read: Callable[[Rest], _T]) -> Callable[[Rest], _T]:
    """The function, with its last answers kept; they must be immutable."""
    known = lru_cache(maxsize=_REMEMBERED)(read)

    def ask(rest: Rest) -> _T:
        return known(rest) if isinstance(rest, str) and len(rest) <= _REMEMBERED_CHARACTERS else read(rest)

    return ask


# --- keywords -------------------------------------------------------------------------------------------------------


def split_fields(rest: Rest) -> dict[str, str]:
    """The KEYWORD=VALUE arguments; words without "=" map to ""."""
    fields: dict[str, str] = {}
    for word in rest.split(" ") if isinstance(rest, str) else rest:
        if word:
            key, _, value = word.partition("=")
            fields[key] = value
    return fields


def frozen(fields: dict[str, str]) -> Mapping[str, str]:
    """What is left of the fields."""
    return MappingProxyType(fields) if fields else _NOTHING


def take_int(fields: dict[str, str], key: str) -> int | None:
    """A number is taken out of the fields; what is not one stays there."""
    value = fields.get(key)
    if value is None or not is_number(value):
        return None
    del fields[key]
    return int(value)


def is_number(text: str) -> bool:
    """Whether it is one of tor's: digits, not too many."""
    return len(text) <= 18 and text.isascii() and text.isdigit()


def take_float(fields: dict[str, str], key: str) -> float | None:
    """As `take_int`."""
    try:
        number = float(fields[key])
    except (KeyError, ValueError):
        return None
    del fields[key]
    return number


def take_time(fields: dict[str, str], key: str) -> int | None:
    """As `take_int`: nanoseconds."""
    value = fields.get(key)
    if value is None:
        return None
    try:
        time_ns = parse_time(value)
    except ValueError:
        return None
    del fields[key]
    return time_ns


def parse_time(text: str) -> int:
    """ISOTime2Frac, in UTC (control-spec 2.4), as nanoseconds.

    Raises: ValueError: it is none.
    """
    fraction = text[20:]
    if len(fraction) == 6 and text[19] == "." and is_number(fraction):
        return _parse_second(text[:19]) + int(fraction) * 1000  # many times share their second, few more than that
    return _parse_second(text)


@lru_cache(maxsize=_REMEMBERED)
def _parse_second(text: str) -> int:
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


# --- relays ---------------------------------------------------------------------------------------------------------


def parse_relay(text: str) -> Relay:
    """A LongName (control-spec 2.4); a name of another form is kept as a nickname."""
    return _parse_short_relay(text) if len(text) <= _REMEMBERED_RELAY_CHARACTERS else _parse_relay(text)


def _parse_relay(text: str) -> Relay:
    match = _LONG_NAME.fullmatch(text)
    return Relay(match[1].upper(), match[2] or "") if match else Relay("", text)


_parse_short_relay = lru_cache(maxsize=_REMEMBERED_RELAYS)(_parse_relay)


def parse_path(text: str) -> tuple[Relay, ...]:
    """LongName *("," LongName) (control-spec 2.4)."""
    if len(text) <= _REMEMBERED_CHARACTERS and text.count(",") < _REMEMBERED_HOPS:
        return _parse_short_path(text)
    return tuple(parse_relay(name) for name in text.split(","))


@lru_cache(maxsize=_REMEMBERED)
def _parse_short_path(text: str) -> tuple[Relay, ...]:
    before, comma, last = text.rpartition(",")
    return (*_parse_short_path(before), parse_relay(last)) if comma else (parse_relay(text),)
