"""Router status entries -> relays.

They are the lines of a consensus that GETINFO ns/all and its like give: an "r" line begins a relay, further lines say
more about it. Those that are not listed here are skipped, as dir-spec 1.2 demands of keywords that are not known.

Source: dir-spec 3.4.1 (router status entries), control-spec 3.9 (GETINFO ns/all, in the format of version 2 and 3).
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from clew.errors import ControlProtocolError

__all__ = ["RelayStatus", "parse_router_statuses"]


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """A relay as the consensus has it."""

    fingerprint: str  # 40 upper-case hex digits
    nickname: str
    address: str  # IPv4
    or_port: int
    flags: frozenset[str] = frozenset()  # Exit, Fast, Guard, HSDir, Running, Stable, Valid, ...; unknown ones too
    bandwidth: int = 0  # the consensus weight, "currently kilobytes per second"; 0 if there is none


def parse_router_statuses(text: str) -> list[RelayStatus]:
    """The relays, in the order of the text.

    Args:
        text: lines separated by "\\n".

    Raises:
        ControlProtocolError: an entry is not one; the text says which line.
    """
    relays: list[RelayStatus] = []
    entry: list[str] | None = None
    flags: frozenset[str] = frozenset()
    bandwidth = 0
    number = begin = 0
    for number, line in enumerate(text.split("\n"), start=1):
        keyword, *words = line.split(" ")
        if keyword == "r":
            if entry is not None:
                relays.append(_parse_entry(entry, flags, bandwidth, begin))
            entry, flags, bandwidth, begin = words, frozenset(), 0, number
        elif keyword == "s":
            flags = frozenset(words)
        elif keyword == "w":
            bandwidth = _parse_bandwidth(words, number)
        elif entry is None and line:
            raise ControlProtocolError(f"line {number} of the consensus stands before any relay")
    if entry is not None:
        relays.append(_parse_entry(entry, flags, bandwidth, begin))
    return relays


def _parse_entry(words: list[str], flags: frozenset[str], bandwidth: int, number: int) -> RelayStatus:
    """An "r" line: nickname identity digest date time IP ORPort DirPort, and perhaps more in the future."""
    try:
        nickname, identity, _, _, _, address, or_port, *_ = words
        # "encoded in base64, with trailing equals sign(s) removed"
        key = binascii.a2b_base64(identity + "=" * (-len(identity) % 4), strict_mode=True)
        port = int(or_port)
    except ValueError:  # binascii.Error is one
        raise ControlProtocolError(f"line {number} of the consensus is not a relay's") from None
    if len(key) != 20 or not 0 <= port <= 65535:
        raise ControlProtocolError(f"line {number} of the consensus has a wrong identity or port")
    return RelayStatus(key.hex().upper(), nickname, address, port, flags, bandwidth)


def _parse_bandwidth(words: list[str], number: int) -> int:
    for word in words:
        key, _, value = word.partition("=")
        if key == "Bandwidth":
            if not (value.isascii() and value.isdigit() and len(value) <= 10):
                raise ControlProtocolError(f"line {number} of the consensus has a bandwidth that is no number")
            return int(value)
    return 0
