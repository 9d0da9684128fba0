"""The four levels of privacy. Everything that comes from tor passes through here before it becomes an attribute.

What is not declared below counts as telling: it is dropped or hashed everywhere but at the last level. Never seen here,
because the parsers do not keep it: SOCKS credentials, cookies, keys, descriptors, payload.
"""

from __future__ import annotations

import os
import re
from enum import Enum, IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from clew.errors import ConfigurationError

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

# On the resource of whatever was made for tor alone, and on every build span, whose resource may be somebody else's.
LEVEL_ATTRIBUTE = "clew.privacy.level"


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


class Content(Enum):
    """What a value tells. The values are what the documentation shows."""

    MEASURE = "a number, a duration, a yes or no"
    KEYWORD = "a word of tor's protocol"
    BYTES = "an amount of traffic"
    ID = "an id that counts up within one run of tor"
    RELAY = "a relay"
    RELAY_LABEL = "a relay's nickname"
    GUARD = "the guard"
    GUARD_LABEL = "the guard's nickname"
    DESTINATION = "where the user goes"
    CLIENT = "where the user is"
    TEXT = "free text"
    UNDECLARED = "anything else"


class Rule(Enum):
    """What is done with a value."""

    KEEP = "kept"
    HASH = "hashed"
    BUCKET = "rounded up to a power of four"
    DROP = "dropped"


_K, _H, _B, _D = Rule.KEEP, Rule.HASH, Rule.BUCKET, Rule.DROP

# For each content: at ANONYMOUS, PSEUDONYMOUS, OPERATOR, LAB.
RULES: dict[Content, tuple[Rule, Rule, Rule, Rule]] = {
    Content.MEASURE: (_K, _K, _K, _K),
    Content.KEYWORD: (_K, _K, _K, _K),
    Content.BYTES: (_B, _K, _K, _K),
    # It tells how many circuits the user's tor has made, and joins what left the machine to what stayed there.
    Content.ID: (_D, _K, _K, _K),
    Content.RELAY: (_D, _H, _K, _K),
    # Its fingerprint's hash tells relays apart; a hash of a chosen name, often the same for many, adds nothing.
    Content.RELAY_LABEL: (_D, _D, _K, _K),
    # Guards are few and stay for months: who knows a user's guards can recognise the user, and knows where to watch.
    Content.GUARD: (_D, _H, _H, _K),
    Content.GUARD_LABEL: (_D, _D, _D, _K),
    Content.DESTINATION: (_D, _H, _K, _K),
    Content.CLIENT: (_D, _H, _H, _K),
    Content.TEXT: (_D, _D, _D, _K),
    Content.UNDECLARED: (_D, _H, _H, _K),
}


class Attribute(NamedTuple):
    """One row of the table of attributes."""

    name: str  # ends with ".*" where the rest of the name comes from tor
    content: Content
    meaning: str
    at_guard: Content | None = None  # what it tells where the relay is, or may be, the guard


_C = Content
ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("tor.circuit.id", _C.ID, "tor's id of the circuit"),
    Attribute("tor.circuit.purpose", _C.KEYWORD, "GENERAL, HS_CLIENT_REND, CONFLUX_LINKED, ...; the last one seen"),
    Attribute("tor.circuit.old_purpose", _C.KEYWORD, "on the event of a change: the purpose before"),
    Attribute("tor.circuit.build_flags", _C.KEYWORD, "ONEHOP_TUNNEL, IS_INTERNAL, NEED_CAPACITY, NEED_UPTIME"),
    Attribute("tor.circuit.hs_state", _C.KEYWORD, "how far an onion-service circuit is"),
    Attribute("tor.circuit.status", _C.KEYWORD, "on an event: a status that clew does not know"),
    Attribute("tor.circuit.reason", _C.KEYWORD, "why it ended, by this tor: TIMEOUT, DESTROYED, CHANNEL_CLOSED, ..."),
    Attribute("tor.circuit.remote_reason", _C.KEYWORD, "why, by the relay that ended it: CONNECTFAILED, ..."),
    Attribute("tor.circuit.hops", _C.MEASURE, "how many hops it has"),
    Attribute("tor.circuit.failed_hop", _C.MEASURE, "the index of the hop that was in progress when it ended"),
    Attribute("tor.circuit.partial", _C.MEASURE, "true: a part of the build was not seen, so times are missing"),
    Attribute("tor.circuit.reused", _C.MEASURE, "true: the circuit was built before, for something else"),
    Attribute("tor.circuit.age_ms", _C.MEASURE, "how old the circuit was when the span began (milliseconds)"),
    Attribute("tor.circuit.extra.*", _C.UNDECLARED, "a keyword of a CIRC event that clew does not know"),
    Attribute("tor.conflux.id", _C.UNDECLARED, "what the legs of a conflux set share with each other and the exit"),
    Attribute("tor.conflux.rtt_us", _C.MEASURE, "round-trip time of the leg (microseconds)"),
    Attribute("tor.hop.index", _C.MEASURE, "1 for the guard"),
    Attribute("tor.hop.role", _C.KEYWORD, "guard, middle, exit, end, introduction, rendezvous, directory"),
    Attribute("tor.relay.fingerprint", _C.RELAY, "the relay's identity, 40 hex digits", _C.GUARD),
    Attribute("tor.relay.nickname", _C.RELAY_LABEL, "the name its operator chose", _C.GUARD_LABEL),
    Attribute("tor.relay.country", _C.RELAY, "where the relay is", _C.GUARD),
    Attribute("tor.relay.address", _C.RELAY, "the relay's address", _C.GUARD),
    Attribute("tor.hs.address", _C.DESTINATION, "the onion service that the circuit is for"),
    Attribute("tor.stream.bytes_read", _C.BYTES, "bytes received"),
    Attribute("tor.stream.bytes_written", _C.BYTES, "bytes sent"),
    Attribute("server.address", _C.DESTINATION, "the destination's name or address"),
    Attribute("server.port", _C.DESTINATION, "the destination's port: as telling as its name"),
    Attribute("url.full", _C.DESTINATION, "path and query too"),
    Attribute("network.peer.address", _C.CLIENT, "the SOCKS proxy"),
    Attribute("network.peer.port", _C.CLIENT, "the SOCKS proxy's port"),
    Attribute("network.local.address", _C.CLIENT, "the application's own address"),
    Attribute("network.local.port", _C.CLIENT, "the application's own port"),
    Attribute("exception.message", _C.TEXT, "what an exception says"),
    Attribute("exception.stacktrace", _C.TEXT, "where it came from, and what it says"),
    Attribute("error.type", _C.KEYWORD, "tor's reason, lower case; also timeout, reply_552, connection_lost, ..."),
    Attribute("clew.unfinished", _C.MEASURE, "true: the end was not seen"),
    Attribute(LEVEL_ATTRIBUTE, _C.KEYWORD, "the level, lower case: anonymous, pseudonymous, operator, lab"),
)

_UNDECLARED = Attribute("", Content.UNDECLARED, "")
_BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}

# A keyword of tor's is short, of letters, digits and "_" (the longest of today has 24). Names, addresses, fingerprints
# and onion addresses that stray into such a field are longer, or have other characters, or are caught by neither: those
# fields are written by tor itself, and hold nothing that others choose.
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")

_KEY_BYTES = 32
_HASH_BYTES = 8  # 64 bits: among the 10,000 relays of the network, two collide once in 4e11 files


class PrivacyFilter:
    """Applies one level. It holds the key of the hashes: made new here, never written, gone with the object.

    Equal values have equal hashes within one filter; use one filter for what is to be compared, such as a program's
    own spans and the mapper's.

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
        """The keyed hash of a value, by the attribute it stands in: "hash:" and 16 hex digits."""
        data = f"{name}\0{value}".encode("utf-8", "backslashreplace")
        return "hash:" + blake2b(data, key=self._key, digest_size=_HASH_BYTES).hexdigest()


def _is_plausible(content: Content, value: object) -> bool:
    """Whether a value can be what its attribute is declared to be. A name in the place of a number must not slip by."""
    if content is Content.MEASURE or content is Content.BYTES:
        return isinstance(value, int | float)
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
