"""To whom a trace may be told: the hosts that the operator listed, and nobody else.

A `traceparent` that reaches a host links all requests of a user's trace for whoever runs it. So there are no patterns
here: a host is on the list, letter by letter, or it is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clew.errors import ConfigurationError
from clew.tor.client_ports import normal_host

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Destinations"]

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
# A name in the letters of RFC 1123 and the underscore, or an IPv6 address in brackets; a port.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_LISTED = re.compile(rf"(?:({_LABEL}(?:\.{_LABEL})*)|\[([0-9a-f:.]{{2,45}})\])(?::([0-9]{{1,5}}))?")


class Destinations:
    """The hosts of `propagate_to`.

    Args:
        hosts: "abc...xyz.onion", on any port, or "abc...xyz.onion:8080", on that one.

    Raises: ConfigurationError.
    Thread: any; nothing changes after construction.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        if isinstance(hosts, str):
            raise ConfigurationError(f"propagate_to is a list of hosts: write [{hosts!r}]")
        self._listed = frozenset(map(_parse, hosts))

    def __bool__(self) -> bool:
        return bool(self._listed)

    def allow(self, host: str | None, port: int | None) -> bool:
        """Whether a trace may be told to this host.

        Args:
            host: as the request has it; an IPv6 address with or without brackets.
            port: None if it is not known: then only a host that is listed without one will do.
        """
        if not host:
            return False
        name = host.lower().removeprefix("[").removesuffix("]")
        return (name, None) in self._listed or (port is not None and (name, port) in self._listed)

    def allow_url(self, url: str) -> bool:
        """Whether a trace may be told to the host of this URL."""
        if "\\" in url:
            return False  # to some it is a slash, and ends the host's name
        try:
            parts = urlsplit(url)
            return self.allow(parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme))
        except ValueError:
            return False


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _parse(text: str) -> tuple[str, int | None]:
    if not isinstance(text, str) or not text:
        raise ConfigurationError(f"propagate_to lists hosts such as 'abc.onion' or 'abc.onion:8080', not {text!r}")
    if "*" in text or text.startswith("."):
        raise ConfigurationError(
            f"propagate_to takes no patterns ({text!r}): who owns a name below a domain need not be who owns the "
            "domain; list each host by its whole name"
        )
    if "/" in text or "@" in text:
        raise ConfigurationError(f"propagate_to lists hosts, not URLs: write {_host_of(text) or 'a.onion'!r}")
    found = _LISTED.fullmatch(text.lower())
    if found is None:
        raise ConfigurationError(
            f"{text!r} in propagate_to is no host: give its name as requests have it ('abc.onion', 'abc.onion:8080') "
            "or its address ('192.0.2.1', '[2001:db8::1]:8080')"
        )
    name, address, port = found.groups()
    if address is not None:
        name = normal_host(address)
    if name is None or (port is not None and not 0 < int(port) <= 65535):
        raise ConfigurationError(f"{text!r} in propagate_to has a wrong address or port: correct it")
    return name, None if port is None else int(port)
