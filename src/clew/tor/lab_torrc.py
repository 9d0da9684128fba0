"""The torrcs of a lab's nodes, and the files that they name.

Each option is there for a reason, given beside it. What makes the network one of its own: `TestingTorNetwork`, the
authorities' `DirAuthority` lines in place of the public ones, and addresses that are 127.0.0.1 without exception, those
of outgoing connections included (`OutboundBindAddress`): nothing can leave the machine.

Source: tor(1), "TESTING NETWORK OPTIONS".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.errors import LabError
from clew.tor.lab_config import (
    Role,
    bandwidth_file,
    control_socket,
    empty_file,
    node_directory,
    onion_directory,
)

if TYPE_CHECKING:
    from pathlib import Path

    from clew.tor.lab_config import Layout, Seat

__all__ = ["DIST_DELAY_SECONDS", "VOTE_DELAY_SECONDS", "VOTING_INTERVAL_SECONDS", "bandwidths", "torrc"]

# Authorities vote at the clock's multiples of this, moved by an offset that the lab chooses (`Layout.voting_offset`).
# The consensus lives for two of them; a short one would have every node fetch a new consensus in the middle of a
# measurement. 300 s is the shortest that tor takes without a complaint.
VOTING_INTERVAL_SECONDS = 300
# Votes are exchanged for so long, then signatures: the shortest that tor accepts.
VOTE_DELAY_SECONDS = 2
DIST_DELAY_SECONDS = 2

# Any number will do, if it is everybody's.
_BANDWIDTH_KB = 1000
_BANDWIDTH_AGE_SECONDS = 365 * 86_400


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
    if seat.is_relay:
        lines += _relay_lines(seat)
    else:
        lines += _origin_lines()
    if seat.role is Role.CLIENT:
        lines += _client_lines(seat)
    if seat.role is Role.SERVICE:
        lines += _service_lines(seat, directory)
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


def _origin_lines() -> list[str]:
    """For those that build circuits of their own."""
    return [
        # A learned timeout follows loopback's few milliseconds and then fails circuits when the machine is busy.
        "LearnCircuitBuildTimeout 0",
        "CircuitBuildTimeout 15",
        # A lab that nobody used for a day is still a lab.
        "DormantTimeoutEnabled 0",
    ]


def _client_lines(seat: Seat) -> list[str]:
    return [
        f"SocksPort 127.0.0.1:{seat.socks_port}",
        # Destinations of the lab are this machine's own.
        "ClientRejectInternalAddresses 0",
        "ClientDNSRejectInternalAddresses 0",
        # Exits look no names up (see there): this one is known here.
        "MapAddress localhost 127.0.0.1",
        # A name that cannot be looked up would hang for two minutes; on loopback everything else takes far less.
        "SocksTimeout 30",
    ]


def _service_lines(seat: Seat, directory: Path) -> list[str]:
    return [
        "SocksPort 0",
        f"HiddenServiceDir {_quoted(onion_directory(directory, seat.name))}",
        f"HiddenServicePort {seat.onion_port} 127.0.0.1:{seat.target_port}",
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
