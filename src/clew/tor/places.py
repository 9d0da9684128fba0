"""Places in the network: one spelling for each, and those that went by, so that a text which names them is known."""

from __future__ import annotations

import encodings.punycode  # noqa: F401 - else the codec is imported at its first use, which may be on a worker thread
import re

from clew import limits

__all__ = ["Places", "relay_of_exit_name", "spelling"]

_LONG_NAME = re.compile(r"\$([0-9a-f]{40})(?:[~=].*)?", re.DOTALL)
_EXIT_NAME = re.compile(r"(?:.*\.)?\$?([0-9a-f]{40})(?:[~=][0-9a-z]+)?\.exit", re.DOTALL)


def spelling(place: str) -> str:
    """One spelling for all that name the same relay, host or onion service."""
    text = place.lower()
    if "$" in text:
        relay = _LONG_NAME.fullmatch(text) or _EXIT_NAME.fullmatch(text)
        return text if relay is None else relay[1]
    if not text.isascii():
        text = _to_ascii(text)
    return text.removesuffix(".").removesuffix(".onion").removeprefix("[").removesuffix("]")


def relay_of_exit_name(target: str) -> str | None:
    """The fingerprint where a stream's target is a relay: tor's own requests go to `ADDRESS.$FINGERPRINT.exit`."""
    if not target.endswith((".exit", ".EXIT")):
        return None
    match = _EXIT_NAME.fullmatch(target.lower())
    return None if match is None else match[1]


class Places:
    """Names of hosts that went by. They are held in memory only, and never written.

    Names without a dot are not remembered: they are words too. Nor are numbers: those are recognised anyway.

    Thread: any.
    """

    __slots__ = ("_names", "additions")

    def __init__(self) -> None:
        self._names: dict[str, None] = {}  # the oldest first; lower case
        self.additions = 0  # grows whenever a name becomes known

    def add(self, name: str) -> None:
        """Remember a name, and how it is written in Unicode, or without it."""
        if name in self._names or "." not in name or len(name) > limits.PLACE_CHARACTERS:
            return
        text = name.lower().removesuffix(".")
        for known in {text, _to_ascii(text), _to_unicode(text)}:
            if known not in self._names and "." in known and not known.replace(".", "").isdigit():
                self._names[known] = None
                self.additions += 1
        while len(self._names) > limits.PLACES_REMEMBERED:
            self._names.pop(next(iter(self._names)), None)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)


# RFC 3492, without the preparation of names (RFC 3491), which is not needed to compare what was prepared already.


def _to_ascii(name: str) -> str:
    if name.isascii():
        return name
    return ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in name.split(".")
    )


def _to_unicode(name: str) -> str:
    if "xn--" not in name:
        return name
    try:
        labels = [_label_to_unicode(label) for label in name.split(".")]
    except ValueError:  # it only begins like one
        return name
    return ".".join(labels)


def _label_to_unicode(label: str) -> str:
    return label[4:].encode("ascii").decode("punycode") if label.startswith("xn--") else label
