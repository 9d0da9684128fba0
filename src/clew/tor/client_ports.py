"""Which connections of a program lead to tor: the ports that it listens on for programs.

tor lists its listeners as "127.0.0.1:9050", "[::1]:9050", "0.0.0.0:9050" (all addresses of the machine) and
"unix:/run/tor/socks". The last ones are left out: a connection to a Unix socket has no address of its own that tor
could tell, so that nothing can be joined to it.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from clew.errors import ConfigurationError, ControlProtocolError
from clew.tor.wire import split_arguments, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

    RawAddress: TypeAlias = "tuple[Any, ...]"  # as sockets call it: host, port, and for IPv6 two more

__all__ = ["NO_PORTS", "Address", "ClientPorts", "normal_address", "normal_host", "parse_address"]


class Address(NamedTuple):
    """An end of a TCP connection."""

    host: str  # in numbers, in the one form that an address has here
    port: int


# A host's text is looked at once, not for each connection. A machine has few addresses of its own.
@lru_cache(maxsize=256)
def normal_host(text: str) -> str | None:
    """An address in the one form that it has here; None if it is none in numbers."""
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # an IPv4 connection of an IPv6 socket: tor sees an IPv4 one
    return str(address)


def parse_address(text: str) -> Address | None:
    """Read "127.0.0.1:9050", "[::1]:9050" or, as tor's events have it, "::1:9050"; None if it is something else."""
    host, _, port = text.rpartition(":")
    return normal_address((host, int(port))) if port.isascii() and port.isdigit() and len(port) <= 5 else None


def normal_address(address: object) -> Address | None:
    """An address as sockets call it; None if it is not one of TCP, or has a name instead of numbers."""
    match address:
        case (str(text), int(port), *_) if 0 < port <= 65535 and (host := normal_host(text)) is not None:
            return Address(host, port)
    return None


class ClientPorts(NamedTuple):
    """Where a tor listens for programs.

    Args:
        exact: its addresses.
        anywhere: ports on which it listens on all addresses of its machine.
        control_host: where its control port is, in numbers; "" if that is not TCP.
    """

    exact: frozenset[Address]
    anywhere: frozenset[int]
    control_host: str = ""

    @classmethod
    def parse(cls, listeners: Iterable[str], control_host: str = "") -> Self:
        """What tor answers to GETINFO net/listeners/socks and net/listeners/httptunnel (control-spec 3.9).

        Args:
            listeners: the answers: quoted addresses with spaces between. What is none is left out.
        """
        exact = set()
        anywhere = set()
        for answer in listeners:
            try:
                words = split_arguments(answer)
            except ControlProtocolError:
                continue
            for word in words:
                address = parse_address(unquote(word))
                if address is None:
                    continue
                if address.host in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound to
                    anywhere.add(address.port)
                else:
                    exact.add(address)
        return cls(frozenset(exact), frozenset(anywhere), control_host)

    @classmethod
    def of(cls, socks: str | Iterable[str]) -> Self:
        """The addresses that a person gave: "9050", "127.0.0.1:9050", "[::1]:9050", one or several.

        Raises: ConfigurationError.
        """
        exact = set()
        for text in [socks] if isinstance(socks, str) else socks:
            address = parse_address(f"127.0.0.1:{text}" if text.isdigit() else text.replace("localhost:", "127.0.0.1:"))
            if address is None:
                raise ConfigurationError(
                    f"{text!r} is no address of tor's SOCKS port: give a port (9050) or an address in numbers "
                    "(127.0.0.1:9050)"
                )
            exact.add(address)
        if not exact:
            raise ConfigurationError("socks names no address: leave it out and tor is asked")
        return cls(frozenset(exact), frozenset())

    @property
    def numbers(self) -> frozenset[int]:
        """All port numbers: connections to others need no further look."""
        return self.anywhere | {address.port for address in self.exact}

    def lead_to_tor(self, remote: Address, local: Address) -> bool:
        """Whether a connection between these two addresses is one to this tor."""
        if remote in self.exact:
            return True
        if remote.port not in self.anywhere:
            return False
        # The same port of another machine is not tor's. A connection within a machine has the same host at both ends,
        # or loopback's.
        return remote.host in (local.host, self.control_host) or ip_address(remote.host).is_loopback


NO_PORTS = ClientPorts(frozenset(), frozenset())
