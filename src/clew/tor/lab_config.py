"""What a private Tor network looks like on disk: its nodes, their ports and their torrcs.

Each option that a torrc has is there for a reason, given beside it. What makes the network one of its own:
`TestingTorNetwork`, the authorities' `DirAuthority` lines in place of the public ones, and addresses that are 127.0.0.1
without exception, those of outgoing connections included (`OutboundBindAddress`): nothing can leave the machine.

Source: tor(1), "TESTING NETWORK OPTIONS".
"""

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
    "bandwidths",
    "can_listen",
    "control_socket",
    "default_directory",
    "empty_file",
    "is_complete",
    "node_directory",
    "plan",
    "torrc",
    "valid_until",
    "with_ports",
]

# sockaddr_un.sun_path on Linux, the closing NUL included (unix(7)).
_SOCKET_PATH_BYTES = 108

# Authorities vote at the clock's multiples of this, moved by an offset that the lab chooses (`Layout.voting_offset`).
# The consensus lives for two of them; a short one would have every node fetch a new consensus in the middle of a
# measurement. 300 s is the shortest that tor takes without a complaint.
VOTING_INTERVAL_SECONDS = 300
# Votes are exchanged for so long, then signatures: the shortest that tor accepts.
VOTE_DELAY_SECONDS = 2
DIST_DELAY_SECONDS = 2

# Ports are chosen from here on; below, well-known services have theirs.
_FIRST_PORT = 10_000
# Some of those tried may be taken; out of so many at random, all are only if nearly all are.
_PORT_ATTEMPTS = 100

# Any number will do, if it is everybody's.
_BANDWIDTH_KB = 1000
_BANDWIDTH_AGE_SECONDS = 365 * 86_400

# Two guards and two exits, so that one of each may be stopped and conflux finds two legs; roles repeat from here.
_RELAY_ROLES = ("guard", "middle", "exit", "guard", "exit")


class Role(StrEnum):
    """What a node is in the network."""

    AUTHORITY = "authority"
    GUARD = "guard"
    MIDDLE = "middle"
    EXIT = "exit"
    CLIENT = "client"


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
        or_port: TCP port for other relays on 127.0.0.1; 0 on the client.
        dir_port: TCP port for the directory on 127.0.0.1; 0 but on authorities.
        socks_port: TCP port of the SOCKS proxy on 127.0.0.1; 0 but on the client.
        fingerprint: 40 upper-case hex digits; empty until its keys were made, and on the client.
        v3_identity: an authority's identity key, 40 upper-case hex digits; empty on others.
    """

    name: str
    role: Role
    or_port: int = 0
    dir_port: int = 0
    socks_port: int = 0
    fingerprint: str = ""
    v3_identity: str = ""

    @property
    def is_relay(self) -> bool:
        """True but for the client: it has an ORPort and is in the consensus."""
        return self.role is not Role.CLIENT


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole network as it is kept from one start to the next.

    Args:
        seats: every node.
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
        seats = tuple(Seat(**{**seat, "role": Role(seat["role"])}) for seat in value["seats"])
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


def torrc(layout: Layout, seat: Seat, directory: Path) -> str:
    """The text of one node's torrc."""
    home = node_directory(directory, seat.name)
    lines = [
        f"Nickname {seat.name}",
        f"DataDirectory {_quoted(home)}",
        # The log is for people who look for a fault; addresses in it are 127.0.0.1.
        "Log " + _quoted(f"notice file {home / 'log'}"),
        "SafeLogging 0",
        f"ControlSocket {_quoted(control_socket(directory, seat.name))}",
        "CookieAuthentication 1",
        "TestingTorNetwork 1",
        *(
            f"DirAuthority {each.name} orport={each.or_port} no-v2 v3ident={each.v3_identity} "
            f"127.0.0.1:{each.dir_port} {each.fingerprint}"
            for each in layout.of_role(Role.AUTHORITY)
        ),
        "OutboundBindAddress 127.0.0.1",
        "ShutdownWaitLength 0",
        # Circuits are built as long as a quarter of all paths is there, however many relays are down.
        "PathsNeededToBuildCircuits 0.25",
        # Two cores for all nodes together: a pool of worker threads in each would only take turns.
        "NumCPUs 1",
        # No geoip data of Debian's is read: 10 MB a node, and 127.0.0.1 is in no country.
        "GeoIPFile /dev/null",
        "GeoIPv6File /dev/null",
    ]
    if seat.role is Role.CLIENT:
        lines += _client_lines(seat)
    else:
        lines += _relay_lines(seat)
    if seat.role is Role.EXIT:
        lines += _exit_lines(directory)
    if seat.role is Role.AUTHORITY:
        lines += _authority_lines(layout, seat, directory)
    return "\n".join(lines) + "\n"


def bandwidths(layout: Layout, now: float) -> str:
    """The text of the authorities' bandwidth file: the same for every relay, so that tor picks them evenly.

    Args:
        now: wall-clock seconds. The file is dated in the future: tor forgets measurements after three days.

    Source: bandwidth-file-spec, version 1.0.0.
    """
    lines = [str(int(now) + _BANDWIDTH_AGE_SECONDS)]
    lines += [
        f"node_id=${seat.fingerprint} bw={_BANDWIDTH_KB} nick={seat.name}" for seat in layout.seats if seat.is_relay
    ]
    return "\n".join(lines) + "\n"


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


def _client_lines(seat: Seat) -> list[str]:
    return [
        f"SocksPort 127.0.0.1:{seat.socks_port}",
        # Destinations of the lab are this machine's own.
        "ClientRejectInternalAddresses 0",
        "ClientDNSRejectInternalAddresses 0",
        # Exits look no names up (see there): this one is known here.
        "MapAddress localhost 127.0.0.1",
        # A learned timeout follows loopback's few milliseconds and then fails circuits when the machine is busy.
        "LearnCircuitBuildTimeout 0",
        "CircuitBuildTimeout 15",
        # A name that cannot be looked up would hang for two minutes; on loopback everything else takes far less.
        "SocksTimeout 30",
        # A lab that nobody used for a day is still a lab.
        "DormantTimeoutEnabled 0",
    ]


def _relay_lines(seat: Seat) -> list[str]:
    return [
        "SocksPort 0",
        "Address 127.0.0.1",
        f"ORPort 127.0.0.1:{seat.or_port}",
        # Published at once, without testing whether others can reach it.
        "AssumeReachable 1",
        f"ExitRelay {int(seat.role is Role.EXIT)}",
        "ContactInfo none",
    ]


def _exit_lines(directory: Path) -> list[str]:
    return [
        # A client sees only a summary of this, in which a policy for 127.0.0.0/8 alone is "reject". Other addresses are
        # out of reach by OutboundBindAddress.
        "ExitPolicy accept *:*",
        "ExitPolicyRejectPrivate 0",
        # Names are looked up in /etc/hosts only: no query leaves the machine.
        f"ServerDNSResolvConfFile {_quoted(empty_file(directory))}",
        "ServerDNSAllowBrokenConfig 1",
        "ServerDNSDetectHijacking 0",
        "ServerDNSTestAddresses",
    ]


def _authority_lines(layout: Layout, seat: Seat, directory: Path) -> list[str]:
    def named(*roles: Role) -> str:
        return ",".join(each.fingerprint for each in layout.of_role(*roles))

    return [
        f"DirPort 127.0.0.1:{seat.dir_port}",
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        f"V3AuthVotingInterval {VOTING_INTERVAL_SECONDS}",
        f"V3AuthVoteDelay {VOTE_DELAY_SECONDS}",
        f"V3AuthDistDelay {DIST_DELAY_SECONDS}",
        "V3AuthNIntervalsValid 2",
        f"TestingV3AuthInitialVotingInterval {VOTING_INTERVAL_SECONDS}",
        f"TestingV3AuthInitialVoteDelay {VOTE_DELAY_SECONDS}",
        f"TestingV3AuthInitialDistDelay {DIST_DELAY_SECONDS}",
        f"TestingV3AuthVotingStartOffset {layout.voting_offset}",
        # Flags follow the roles, not a history of bandwidth and uptime that a new network does not have.
        f"TestingDirAuthVoteGuard {named(Role.GUARD)}",
        "TestingDirAuthVoteGuardIsStrict 1",
        f"TestingDirAuthVoteExit {named(Role.EXIT)}",
        "TestingDirAuthVoteExitIsStrict 1",
        "TestingDirAuthVoteHSDir *",
        "TestingMinExitFlagThreshold 0",
        f"V3BandwidthsFile {_quoted(bandwidth_file(directory))}",
        # Relays run until they say otherwise. The authorities' own tests would find the latest ones too late for the
        # first vote, and would take a node that was stopped out of the consensus.
        "AuthDirTestReachability 0",
        # Several relays have one address here.
        "AuthDirMaxServersPerAddr 0",
    ]


def _quoted(path: Path | str) -> str:
    """A path as a torrc's quoted string (tor(1): C-style escapes)."""
    text = str(path)
    if any(ord(character) < 0x20 for character in text):
        raise LabError(f"the lab's directory {text!r} has a control character in its name: choose another one")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
