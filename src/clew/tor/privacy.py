"""The four levels of privacy. Everything that comes from tor passes through here before it becomes an attribute.

What is not declared in `attributes.py` counts as telling: it is dropped or hashed everywhere but at the last level.
Never seen here, because the parsers do not keep it: SOCKS credentials, cookies, keys, descriptors, payload.
"""

from __future__ import annotations

import os
import re
from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NoReturn

from clew.errors import ConfigurationError
from clew.tor.attributes import ATTRIBUTES, LEVEL_ATTRIBUTE, RULES, Attribute, Content, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ATTRIBUTES",
    "LEVEL_ATTRIBUTE",
    "RULES",
    "Attribute",
    "Content",
    "Privacy",
    "PrivacyFilter",
    "Rule",
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


_UNDECLARED = Attribute("", Content.UNDECLARED, "")
_BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}

# A keyword of tor's is short, of letters, digits and "_" (the longest of today has 24). Names, addresses, fingerprints
# and onion addresses that stray into such a field are longer, or have other characters, or are caught by neither: those
# fields are written by tor itself, and hold nothing that others choose.
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")

# CircuitID, StreamID (control-spec 2.4); a number may be negative.
_ID = re.compile(r"-?[A-Za-z0-9]{1,16}")
_HEX = re.compile(r"[0-9a-f]{1,32}")
_HASH = re.compile(r"hash:[0-9a-f]{16}")
_KEY_BYTES = 32
_HASH_BYTES = 8  # 64 bits: among the 10,000 relays of the network, two collide once in 4e11 files

# Values that stand for a place in the network. A place has one hash, in whichever of these attributes it stands.
_PLACES = frozenset({Content.RELAY, Content.GUARD, Content.DESTINATION, Content.CLIENT})
# A relay as a stream's target: tor's own requests to a directory (tor's manual, MAPADDRESS and ".exit").
_EXIT_NAME = re.compile(r"(?:.*\.)?\$?([0-9a-f]{40})(?:[~=][0-9a-z]+)?\.exit")
_LONG_NAME = re.compile(r"\$([0-9a-f]{40})(?:[~=].*)?", re.DOTALL)


class PrivacyFilter:
    """Applies one level. It holds the key of the hashes: made new here, never written, gone with the object.

    Equal values have equal hashes within one filter; use one filter for what is to be compared, such as a program's
    own spans and the mapper's. A hash passes unchanged: what went through a filter may go through it again, or through
    one of a lower level made from it by `at`.

    Thread: any; nothing changes after construction.
    """

    __slots__ = ("_key", "_rules", "level")

    level: Privacy

    def __init__(self, level: Privacy = Privacy.PSEUDONYMOUS) -> None:
        self.level = Privacy(level)
        self._key = os.urandom(_KEY_BYTES)
        self._rules = {content: rules[self.level] for content, rules in RULES.items()}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivacyFilter cannot be written: its key would be")

    def at(self, level: Privacy) -> PrivacyFilter:
        """A filter of another level, whose hashes are the same as this one's."""
        other = PrivacyFilter(level)
        other._key = self._key
        return other

    @property
    def level_name(self) -> str:
        """What LEVEL_ATTRIBUTE says."""
        return self.level.name.lower()

    def resource(self) -> dict[str, str]:
        """Attributes for the resource of a tracer whose spans pass through this filter."""
        return {LEVEL_ATTRIBUTE: self.level_name}

    def attributes(self, attributes: Mapping[str, object]) -> dict[str, object]:
        """The attributes that may be recorded, changed as the level says. None stands for an absent one.

        A relay is taken for the guard unless `tor.hop.index` among the attributes says otherwise.
        """
        hop = attributes.get("tor.hop.index", 1)
        is_guard = not isinstance(hop, int) or hop <= 1
        kept: dict[str, object] = {}
        for name, value in attributes.items():
            if value is None:
                continue
            row = _BY_NAME.get(name, _UNDECLARED)
            content = row.at_guard if is_guard and row.at_guard is not None else row.content
            if content is Content.DESTINATION and isinstance(value, str) and _EXIT_NAME.fullmatch(value.lower()):
                content = Content.GUARD if is_guard else Content.RELAY
            rule = self._rules[content]
            if not _is_plausible(content, value):
                rule = self._rules[Content.UNDECLARED]
            if rule is Rule.KEEP:
                kept[name] = value
            elif rule is Rule.HASH:
                kept[name] = self.hash(name, value)
            elif rule is Rule.BUCKET and isinstance(value, int):
                kept[name] = _bucket(value)
        return kept

    def keyword(self, value: str | None) -> str | None:
        """A word of tor's protocol, for where there is no attribute (a status description); None if it is not one."""
        return value if value is not None and _KEYWORD.fullmatch(value) else None

    def hash(self, name: str, value: object) -> str:
        """The keyed hash of a value, by the attribute it stands in: "hash:" and 16 hex digits.

        Relays, destinations and clients have one hash each, whichever attribute they stand in and however they are
        written: in capitals or not, with or without .onion, a relay as $FINGERPRINT~nickname or FINGERPRINT.exit.
        """
        if isinstance(value, str):
            if _HASH.fullmatch(value):
                return value
            if _BY_NAME.get(name, _UNDECLARED).content in _PLACES:
                name, value = "", _place(value)
        data = f"{name}\0{value}".encode("utf-8", "backslashreplace")
        return "hash:" + blake2b(data, key=self._key, digest_size=_HASH_BYTES).hexdigest()


def _place(text: str) -> str:
    """One spelling for all of a relay, a name or an address."""
    text = text.lower()
    if "$" in text or text.endswith(".exit"):
        relay = _LONG_NAME.fullmatch(text) or _EXIT_NAME.fullmatch(text)
        return text if relay is None else relay[1]
    return text.removesuffix(".").removesuffix(".onion").removeprefix("[").removesuffix("]")


def _is_plausible(content: Content, value: object) -> bool:
    """Whether a value can be what its attribute is declared to be. A name in the place of a number must not slip by."""
    if content is Content.MEASURE or content is Content.BYTES:
        return isinstance(value, int | float)
    if content is Content.ID:
        return isinstance(value, int) or (isinstance(value, str) and _ID.fullmatch(value) is not None)
    if content is Content.MACHINE:
        return isinstance(value, int | float) or (isinstance(value, str) and _HEX.fullmatch(value) is not None)
    if content is Content.KEYWORD:
        if isinstance(value, str):
            return _KEYWORD.fullmatch(value) is not None
        return isinstance(value, tuple) and all(isinstance(v, str) and _KEYWORD.fullmatch(v) for v in value)
    return True


def _bucket(value: int) -> int:
    """The next power of four: 0, 1, 4, 16, ... So few steps that a page is hardly recognised by its size."""
    if value <= 0:
        return 0
    return 1 << (((value - 1).bit_length() + 1) & ~1)
