"""The four levels of privacy. Everything that comes from tor passes through here before it becomes an attribute.

What is not declared in `attributes.py` counts as telling: it is dropped or hashed everywhere but at the last level.
Never seen here, because the parsers do not keep it: SOCKS credentials, cookies, keys, descriptors, payload.
"""

from __future__ import annotations

import os
import re
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from clew import limits
from clew.errors import ConfigurationError
from clew.tor.attributes import ATTRIBUTES, LEVEL_ATTRIBUTE, RULES, Attribute, Content, Rule
from clew.tor.places import Places, relay_of_exit_name, spelling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ATTRIBUTES",
    "LEVEL_ATTRIBUTE",
    "PLAUSIBLE",
    "RULES",
    "Attribute",
    "Content",
    "Privacy",
    "PrivacyFilter",
    "Rule",
    "bucket",
    "parse_privacy",
]


class Privacy(IntEnum):
    """How much of what tor says is kept."""

    ANONYMOUS = 0  # what leaves the machine: durations, purposes, hop index, reasons, bytes in buckets
    PSEUDONYMOUS = 1  # what is stored, unless one asks: destinations and relays as keyed hashes
    OPERATOR = 2  # asked for, stays on loopback: destinations and relays in clear, guard and client hashed
    LAB = 3  # everything; for testing networks, or asked for by name


def parse_privacy(text: str) -> Privacy:
    """The level that a person named, by its number or its name.

    Raises:
        ConfigurationError: there is no such level.
    """
    for level in Privacy:
        if text.strip().lower() in (level.name.lower(), str(level.value)):
            return level
    names = ", ".join(f"{level.value} or {level.name.lower()}" for level in Privacy)
    raise ConfigurationError(f"there is no privacy level {text!r}; say {names}")


# A keyword of tor's is short, of letters, digits and "_" (the longest of today has 24). Names, addresses, fingerprints
# and onion addresses that stray into such a field are longer, or have other characters, or are caught by neither: those
# fields are written by tor itself, and hold nothing that others choose.
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_KEYWORD_CHARACTERS = 32

# CircuitID, StreamID (control-spec 2.4); a number may be negative.
_ID_CHARACTERS = 16
_HEX = re.compile(r"[0-9a-f]{1,32}")
_HASH = re.compile(r"hash:[0-9a-f]{16}")
_KEY_BYTES = 32
_HASH_BYTES = 8  # 64 bits: among the 10,000 relays of the network, two collide once in 4e11 files

# Values that stand for a place in the network. A place has one hash, in whichever of these attributes it stands.
_PLACES = (Content.RELAY, Content.GUARD, Content.DESTINATION, Content.CLIENT)
_PLACE_NAMES = frozenset(attribute.name for attribute in ATTRIBUTES if attribute.content in _PLACES)

# To look a member up in its class takes ten times as long as a global.
_KEEP, _HASHED, _BUCKET = Rule.KEEP, Rule.HASH, Rule.BUCKET


class PrivacyFilter:
    """Applies one level. It holds the key of the hashes: made new here, never written, gone with the object.

    Equal values have equal hashes within one filter; use one filter for what is to be compared, such as a program's
    own spans and the mapper's. A hash passes unchanged: what went through a filter may go through it again, or through
    one of a lower level made from it by `at`.

    Thread: any.
    """

    __slots__ = ("_hashes", "_keyed", "_plans", "_undeclared", "level", "level_name", "places")

    level: Privacy
    level_name: str  # what LEVEL_ATTRIBUTE says
    places: Places  # the destinations that were hashed or dropped

    def __init__(self, level: Privacy = Privacy.PSEUDONYMOUS) -> None:
        self.level = Privacy(level)
        self.level_name = self.level.name.lower()
        self.places = Places()
        # It holds the key: 32 bytes of the system's random generator.
        self._keyed = blake2b(key=os.urandom(_KEY_BYTES), digest_size=_HASH_BYTES)
        # By name; first where the relay is not the guard, then where it may be.
        self._plans = tuple(
            {row.name: _plan(row, self.level, may_be_guard=is_it) for row in ATTRIBUTES} for is_it in (False, True)
        )
        self._undeclared = _plan(Attribute("", Content.UNDECLARED, ""), self.level, may_be_guard=False)
        self._hashes: dict[tuple[str, object], str] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivacyFilter cannot be written: its key would be")

    def at(self, level: Privacy) -> PrivacyFilter:
        """A filter of another level, whose hashes are the same as this one's, and that knows the same places."""
        other = PrivacyFilter(level)
        other._keyed = self._keyed
        other.places = self.places
        return other

    def resource(self) -> dict[str, str]:
        """Attributes for the resource of a tracer whose spans pass through this filter."""
        return {LEVEL_ATTRIBUTE: self.level_name}

    def attributes(self, attributes: Mapping[str, object]) -> dict[str, object]:
        """The attributes that may be recorded, changed as the level says. None stands for an absent one.

        A relay is taken for the guard unless `tor.hop.index` among the attributes says otherwise.
        """
        hop = attributes.get("tor.hop.index", 1)
        may_be_guard = not isinstance(hop, int) or hop <= 1
        plans, undeclared = self._plans[may_be_guard], self._undeclared
        kept: dict[str, object] = {}
        for name, value in attributes.items():
            if value is None:
                continue
            rule, is_plausible, at_relay = plans.get(name, undeclared)
            if is_plausible is not None and not is_plausible(value):
                rule = undeclared.rule
            elif at_relay is not None and isinstance(value, str):
                if relay_of_exit_name(value) is not None:
                    rule = at_relay
                elif rule is not _KEEP:
                    self.places.add(value)
            if rule is _KEEP:
                kept[name] = value
            elif rule is _HASHED:
                kept[name] = self.hash(name, value)
            elif rule is _BUCKET and isinstance(value, int):
                kept[name] = bucket(value)
        return kept

    def keyword(self, value: str | None) -> str | None:
        """A word of tor's protocol, for where there is no attribute (a status description); None if it is not one."""
        return value if value is not None and _KEYWORD.fullmatch(value) else None

    def hash(self, name: str, value: object) -> str:
        """The keyed hash of a value, by the attribute it stands in: "hash:" and 16 hex digits.

        Relays, destinations and clients have one hash each, whichever attribute they stand in and however they are
        written: in capitals or not, with or without .onion, a relay as $FINGERPRINT~nickname or FINGERPRINT.exit.
        """
        kind = type(value)
        if kind is not int and (kind is not str or len(value) > limits.PLACE_CHARACTERS):  # type: ignore[arg-type]
            return self._hash(name, value)
        # Most of what there is comes again: a circuit's relays at each hop, a destination at each request.
        known = self._hashes.get((name, value))
        if known is None:
            if len(self._hashes) >= limits.PLACES_REMEMBERED:
                self._hashes.clear()
            known = self._hashes[name, value] = self._hash(name, value)
        return known

    def _hash(self, name: str, value: object) -> str:
        if isinstance(value, str):
            if _HASH.fullmatch(value):
                return value
            if name in _PLACE_NAMES:
                name, value = "", spelling(value)
        digest = self._keyed.copy()
        digest.update(f"{name}\0{value}".encode("utf-8", "backslashreplace"))
        return "hash:" + digest.hexdigest()


# --- what a value can be --------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_id(value: object) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int)
    digits = value.removeprefix("-")
    return digits.isalnum() and digits.isascii() and len(digits) <= _ID_CHARACTERS


def _is_of_machine(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and _HEX.fullmatch(value) is not None)


def _is_keyword(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _KEYWORD_CHARACTERS and _is_word(value)
    return isinstance(value, tuple) and all(map(_is_one_keyword, value))


def _is_one_keyword(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _KEYWORD_CHARACTERS and _is_word(value)


@lru_cache(maxsize=1024)
def _is_word(text: str) -> bool:
    return _KEYWORD.fullmatch(text) is not None


# A name in the place of a number must not slip by. Contents that are not here may be any value.
PLAUSIBLE: dict[Content, Callable[[object], bool]] = {
    Content.MEASURE: _is_number,
    Content.BYTES: _is_number,
    Content.ID: _is_id,
    Content.MACHINE: _is_of_machine,
    Content.KEYWORD: _is_keyword,
}


class _Plan(NamedTuple):
    """A row of the table at one level."""

    rule: Rule
    is_plausible: Callable[[object], bool] | None
    at_relay: Rule | None  # of a destination: where it is a relay


def _plan(row: Attribute, level: Privacy, *, may_be_guard: bool) -> _Plan:
    content = row.at_guard if may_be_guard and row.at_guard is not None else row.content
    relay = Content.GUARD if may_be_guard else Content.RELAY
    return _Plan(
        RULES[content][level],
        PLAUSIBLE.get(row.content),
        RULES[relay][level] if row.content is Content.DESTINATION else None,
    )


def bucket(value: int) -> int:
    """The next power of four: 0, 1, 4, 16, ... So few steps that a page is hardly recognised by its size."""
    if value <= 0:
        return 0
    return 1 << (((value - 1).bit_length() + 1) & ~1)
