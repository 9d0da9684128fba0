"""What a private Tor network looks like: its nodes, their ports, and where on disk they are."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.errors import LabError

if TYPE_CHECKING:
    from clew.tor.consensus import RelayStatus

__all__ = [
    "Layout",
    "Role",
    "Seat",
    "bandwidth_file",
    "can_listen",
    "control_socket",
    "default_directory",
    "empty_file",
    "is_complete",
    "node_directory",
    "onion_directory",
    "plan",
    "valid_until",
    "with_ports",
]

# sockaddr_un.sun_path on Linux, the closing NUL included (unix(7)).
_SOCKET_PATH_BYTES = 108

# Ports are chosen from here on; below, well-known services have theirs.
_FIRST_PORT = 10_000
# Some of those tried may be taken; out of so many at random, all are only if nearly all are.
_PORT_ATTEMPTS = 100

# Two guards and two exits, so that one of each may be stopped and conflux finds two legs; roles repeat from here.
_RELAY_ROLES = ("guard", "middle", "exit", "guard", "exit")


class Role(StrEnum):
    """What a node is in the network."""

    AUTHORITY = "authority"
    GUARD = "guard"
    MIDDLE = "middle"
    EXIT = "exit"
    CLIENT = "client"
    SERVICE = "service"


# What a relay of each role must have in the consensus.
_FLAGS = {
    Role.AUTHORITY: frozenset({"Running", "Valid", "Authority"}),
    Role.GUARD: frozenset({"Running", "Valid", "Guard"}),
    Role.MIDDLE: frozenset({"Running", "Valid"}),
    Role.EXIT: frozenset({"Running", "Valid", "Exit"}),
}


@dataclass(frozen=True, slots=True)
class Seat:
    """One node's place in the network, the same at every start of it.

    Args:
        name: its nickname and the name of its directory ("guard1").
        role: what it does.
        or_port: TCP port for other relays on 127.0.0.1; 0 on those that are no relay.
        dir_port: TCP port for the directory on 127.0.0.1; 0 but on authorities.
        socks_port: TCP port of the SOCKS proxy on 127.0.0.1; 0 but on the client.
        fingerprint: 40 upper-case hex digits; empty until its keys were made, and on those that are no relay.
        v3_identity: an authority's identity key, 40 upper-case hex digits; empty on others.
        onion_port: the port of the onion service; 0 but on a service's node.
        target_port: TCP port on 127.0.0.1 of the program behind the onion service; 0 but on a service's node.
        onion_address: with ".onion"; empty until its keys were made, and but on a service's node.
    """

    name: str
    role: Role
    or_port: int = 0
    dir_port: int = 0
    socks_port: int = 0
    fingerprint: str = ""
    v3_identity: str = ""
    onion_port: int = 0
    target_port: int = 0
    onion_address: str = ""

    @property
    def is_relay(self) -> bool:
        """True but for the client and onion services: it has an ORPort and is in the consensus."""
        return self.role not in (Role.CLIENT, Role.SERVICE)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Seat:
        """The inverse of `dataclasses.asdict`.

        Raises:
            KeyError, TypeError, ValueError: value is not of that form.
        """
        return cls(**{**value, "role": Role(value["role"])})


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole network as it is kept from one start to the next.

    Args:
        seats: every node, but for those of onion services, which come and go.
        voting_offset: seconds by which votes are moved from the clock's multiples of the voting interval.
        made_at: wall-clock seconds at which the keys were made.
        is_settled: whether it was up once, so that what the nodes kept is the whole network.
    """

    seats: tuple[Seat, ...]
    voting_offset: int = 0
    made_at: int = 0
    is_settled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, which also tell their roles."""
        return tuple(seat.name for seat in self.seats)

    def of_role(self, *roles: Role) -> tuple[Seat, ...]:
        """The nodes that have one of the roles."""
        return tuple(seat for seat in self.seats if seat.role in roles)

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Layout:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: value is not of that form.
        """
        seats = tuple(map(Seat.from_json, value["seats"]))
        return cls(seats, int(value["voting_offset"]), int(value["made_at"]), bool(value["is_settled"]))


def default_directory() -> Path:
    """`$XDG_STATE_HOME/clew/lab`, by default `~/.local/state/clew/lab` (XDG base directory specification)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    return (Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state") / "clew" / "lab"


def node_directory(directory: Path, name: str) -> Path:
    """A node's data directory, which is also where its torrc, its log and its control socket are."""
    return directory / "nodes" / name


def control_socket(directory: Path, name: str) -> Path:
    """A node's control socket.

    Raises:
        LabError: the path is longer than the system's limit for a socket.
    """
    path = node_directory(directory, name) / "control"
    excess = len(os.fsencode(path)) + 1 - _SOCKET_PATH_BYTES
    if excess > 0:
        raise LabError(
            f"the lab's directory {directory} is {excess} bytes too long for Unix sockets in it: choose a shorter one"
        )
    return path


def onion_directory(directory: Path, name: str) -> Path:
    """Where the node of an onion service has the service's keys and its address."""
    return node_directory(directory, name) / "onion"


def empty_file(directory: Path) -> Path:
    """An empty file, for options that want a file with nothing in it: /dev/null is none to tor."""
    return directory / "empty"


def bandwidth_file(directory: Path) -> Path:
    """What the authorities take for a measurement of every relay's bandwidth."""
    return directory / "bandwidth"


def with_ports(seats: tuple[Seat, ...]) -> tuple[Seat, ...]:
    """The same nodes on TCP ports of 127.0.0.1 that nobody listens on.

    All are held at once while they are chosen, so that no two are the same. They are free again when this returns:
    another program may be quicker, and tor then says so.
    """
    with contextlib.ExitStack() as held:

        def choose(is_wanted: bool) -> int:
            return _hold_port(held) if is_wanted else 0

        return tuple(
            replace(
                seat,
                or_port=choose(seat.is_relay),
                dir_port=choose(seat.role is Role.AUTHORITY),
                socks_port=choose(seat.role is Role.CLIENT),
            )
            for seat in seats
        )


def _hold_port(held: contextlib.ExitStack) -> int:
    """A free port, held until the stack is unwound.

    Not one of those that the kernel gives to outgoing connections: they come and go, and would be in the way of the
    next start. If there are no others, one of these.

    Source: ip(7), ip_local_port_range.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    choices = max(0, first_outgoing - _FIRST_PORT)
    for attempt in range(_PORT_ATTEMPTS):
        is_last = attempt == _PORT_ATTEMPTS - 1
        port = 0 if is_last or not choices else _FIRST_PORT + secrets.randbelow(choices)
        probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            chosen: int = probe.getsockname()[1]
            return chosen
    raise LabError("there is no free TCP port on 127.0.0.1: end some programs")


def can_listen(seats: tuple[Seat, ...]) -> bool:
    """True if the ports are chosen and each can be listened on now, as tor does it.

    (SO_REUSEADDR: connections of an earlier run that are in TIME_WAIT do not matter.)
    """
    if not all(seat.or_port or seat.socks_port for seat in seats):
        return False
    for port in filter(None, (port for seat in seats for port in (seat.or_port, seat.dir_port, seat.socks_port))):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def plan(authorities: int, relays: int) -> tuple[Seat, ...]:
    """The nodes of a network, with names and roles, without ports and keys.

    Args:
        authorities: how many, 1 to 9.
        relays: how many guards, middles and exits together, 3 to 50.

    Raises:
        LabError: a number is out of its range.
    """
    if not 1 <= authorities <= 9:
        raise LabError(f"a lab has 1 to 9 authorities, not {authorities}")
    if not 3 <= relays <= 50:
        raise LabError(f"a lab has 3 to 50 relays (a circuit needs a guard, a middle and an exit), not {relays}")
    seats = [Seat(f"auth{number}", Role.AUTHORITY) for number in range(1, authorities + 1)]
    numbers: dict[str, int] = {}
    for position in range(relays):
        role = _RELAY_ROLES[position % len(_RELAY_ROLES)]
        numbers[role] = numbers.get(role, 0) + 1
        seats.append(Seat(f"{role}{numbers[role]}", Role(role)))
    seats.append(Seat("client", Role.CLIENT))
    return tuple(seats)


def is_complete(layout: Layout, relays: list[RelayStatus]) -> bool:
    """True if all relays of the lab run where they should, with the flags of their roles."""
    known = {relay.fingerprint: relay for relay in relays}
    for seat in layout.seats:
        if not seat.is_relay:
            continue
        relay = known.get(seat.fingerprint)
        if relay is None or relay.or_port != seat.or_port or not _FLAGS[seat.role] <= relay.flags:
            return False
    return True


def valid_until(home: Path) -> float:
    """When the consensus ends that a node kept, in wall-clock seconds; 0 if there is none.

    Source: dir-spec 3.4.1, "valid-until".
    """
    try:
        with (home / "cached-microdesc-consensus").open(encoding="ascii", errors="replace") as file:
            head = file.read(4096)
    except FileNotFoundError:
        return 0.0
    found = re.search(r"^valid-until (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", head, re.MULTILINE)
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp() if found else 0.0
