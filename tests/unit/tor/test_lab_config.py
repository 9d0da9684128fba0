"""The lab's plan, ports, torrcs and what its files mean."""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import LabError
from clew.tor.consensus import RelayStatus
from clew.tor.lab_config import (
    Layout,
    Role,
    Seat,
    bandwidths,
    can_listen,
    control_socket,
    default_directory,
    is_complete,
    plan,
    torrc,
    valid_until,
    with_ports,
)

LAB = Path("/lab")


def layout() -> Layout:
    """The usual network, with ports and fingerprints that tell what they are of."""
    seats = []
    for number, seat in enumerate(plan(3, 5), start=1):
        seats.append(
            replace(
                seat,
                or_port=1000 + number if seat.is_relay else 0,
                dir_port=2000 + number if seat.role is Role.AUTHORITY else 0,
                socks_port=0 if seat.is_relay else 3000,
                fingerprint=f"{number:040X}" if seat.is_relay else "",
                v3_identity=f"{number + 160:040X}" if seat.role is Role.AUTHORITY else "",
            )
        )
    return Layout(tuple(seats), voting_offset=77, made_at=1_700_000_000)


def text_of(name: str, network: Layout | None = None, directory: Path = LAB) -> str:
    network = network or layout()
    return torrc(network, next(seat for seat in network.seats if seat.name == name), directory)


def options_of(name: str) -> dict[str, list[str]]:
    options: dict[str, list[str]] = {}
    for line in text_of(name).splitlines():
        option, _, value = line.partition(" ")
        options.setdefault(option, []).append(value)
    return options


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_usual_network() -> None:
    """Two guards and two exits, so that one of each may be down."""
    assert [(seat.name, str(seat.role)) for seat in plan(3, 5)] == [
        ("auth1", "authority"),
        ("auth2", "authority"),
        ("auth3", "authority"),
        ("guard1", "guard"),
        ("middle1", "middle"),
        ("exit1", "exit"),
        ("guard2", "guard"),
        ("exit2", "exit"),
        ("client", "client"),
    ]


@given(st.integers(1, 9), st.integers(3, 50))
def test_any_network(authorities: int, relays: int) -> None:
    """Every network has each role, the number of nodes that was asked for, and no name twice."""
    seats = plan(authorities, relays)
    assert len({seat.name for seat in seats}) == len(seats) == authorities + relays + 1
    assert {seat.role for seat in seats} == set(Role)
    assert sum(seat.role is Role.AUTHORITY for seat in seats) == authorities


@pytest.mark.parametrize(("authorities", "relays"), [(0, 5), (10, 5), (3, 2), (3, 51), (-1, -1)])
def test_a_network_that_cannot_be(authorities: int, relays: int) -> None:
    """The sentence says what can be."""
    with pytest.raises(LabError, match=r"a lab has \d to \d+ (authorities|relays)"):
        plan(authorities, relays)


# --- ports ------------------------------------------------------------------------------------------------------------


def test_ports_are_of_their_own() -> None:
    """No port is given twice; relays, authorities and the client get those that they need."""
    seats = with_ports(plan(3, 5))
    ports = [port for seat in seats for port in (seat.or_port, seat.dir_port, seat.socks_port) if port]
    assert len(ports) == len(set(ports)) == 8 + 3 + 1
    for seat in seats:
        assert bool(seat.or_port) == seat.is_relay
        assert bool(seat.dir_port) == (seat.role is Role.AUTHORITY)
        assert bool(seat.socks_port) == (seat.role is Role.CLIENT)
    assert can_listen(seats)


def test_ports_are_not_those_of_outgoing_connections() -> None:
    """Else a connection that happens to come from there would be in the way of the next start."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    if first_outgoing < 20_000:
        pytest.skip("on this machine nearly all ports are for outgoing connections")
    assert all(10_000 <= seat.or_port < first_outgoing for seat in with_ports(plan(3, 5)) if seat.is_relay)


def test_a_port_that_is_taken() -> None:
    """A network cannot start where somebody listens on one of its ports, nor before it has any."""
    seats = with_ports(plan(1, 3))
    assert not can_listen(plan(1, 3))
    with socket.create_server(("127.0.0.1", seats[2].or_port)):
        assert not can_listen(seats)
    assert can_listen(seats)


# --- torrcs -----------------------------------------------------------------------------------------------------------


def test_authority() -> None:
    """It votes, at the moment that the lab chose, with the flags that the roles say."""
    options = options_of("auth2")
    assert options["ORPort"] == ["127.0.0.1:1002"]
    assert options["DirPort"] == ["127.0.0.1:2002"]
    assert options["V3AuthoritativeDirectory"] == ["1"]
    assert options["TestingV3AuthVotingStartOffset"] == ["77"]
    assert options["TestingDirAuthVoteGuard"] == [f"{4:040X},{7:040X}"]
    assert options["TestingDirAuthVoteExit"] == [f"{6:040X},{8:040X}"]
    assert options["ExitRelay"] == options["SocksPort"] == ["0"]


def test_exit() -> None:
    """It lets connections out, and looks no names up."""
    options = options_of("exit1")
    assert options["ExitRelay"] == ["1"]
    assert options["ExitPolicy"] == ["accept *:*"]
    assert options["ServerDNSResolvConfFile"] == ['"/lab/empty"']
    assert "V3AuthoritativeDirectory" not in options


@pytest.mark.parametrize("name", ["guard1", "middle1"])
def test_relay(name: str) -> None:
    """Nothing leaves the network through it."""
    options = options_of(name)
    assert options["ExitRelay"] == ["0"]
    assert not {"ExitPolicy", "DirPort", "TestingV3AuthVotingStartOffset"} & set(options)


def test_client() -> None:
    """It has a SOCKS port, and is no relay."""
    options = options_of("client")
    assert options["SocksPort"] == ["127.0.0.1:3000"]
    assert not {"ORPort", "DirPort", "ExitRelay"} & set(options)


@pytest.mark.parametrize("name", [seat.name for seat in plan(3, 5)])
def test_every_node_is_in_this_network_only(name: str) -> None:
    """It knows the lab's authorities and no others, listens and connects on loopback, and ends when told to."""
    options = options_of(name)
    assert options["TestingTorNetwork"] == ["1"]
    assert options["DirAuthority"] == [
        f"auth{number} orport={1000 + number} no-v2 v3ident={number + 160:040X} 127.0.0.1:{2000 + number} {number:040X}"
        for number in (1, 2, 3)
    ]
    assert options["OutboundBindAddress"] == ["127.0.0.1"]
    assert options["ShutdownWaitLength"] == ["0"]
    assert options["CookieAuthentication"] == ["1"]
    assert options["ControlSocket"] == [f'"/lab/nodes/{name}/control"']
    assert "ControlPort" not in options
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", text_of(name))) == {"127.0.0.1"}


@pytest.mark.parametrize("directory", [r"/with space", r'/with "quotes"', r"/with\backslash", "/with #hash", "/with ü"])
def test_any_directory(directory: str) -> None:
    """Paths are quoted as tor reads them, so that no part of one is taken for something else."""
    quoted = directory.replace("\\", "\\\\").replace('"', '\\"')
    text = text_of("exit1", directory=Path(directory))
    assert f'DataDirectory "{quoted}/nodes/exit1"' in text
    assert f'Log "notice file {quoted}/nodes/exit1/log"' in text


def test_a_directory_with_a_line_end() -> None:
    """It would add an option to the torrc."""
    with pytest.raises(LabError, match="control character"):
        text_of("client", directory=Path("/lab\nLog debug stdout"))


# --- paths ------------------------------------------------------------------------------------------------------------


def test_a_path_that_fits() -> None:
    """A socket's path may have 107 bytes (unix(7)); one more, and the sentence says by how many it is too long."""
    room = 107 - len("/nodes/client/control")
    fits = Path("/" + "x" * (room - 1))
    assert len(os.fsencode(control_socket(fits, "client"))) == 107
    with pytest.raises(LabError, match="1 bytes too long"):
        control_socket(Path(f"{fits}x"), "client")
    with pytest.raises(LabError, match="1 bytes too long"):
        control_socket(Path("/" + "x" * (room - 2) + "ü"), "client")


@pytest.mark.parametrize(
    ("state", "expected"),
    [("/state", "/state/clew/lab"), ("", "/home/clew/.local/state/clew/lab"), ("relative", None)],
)
def test_default_directory(state: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME, unless it is empty or relative."""
    monkeypatch.setenv("HOME", "/home/clew")
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert str(default_directory()) == (expected or "/home/clew/.local/state/clew/lab")


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_layout_comes_back() -> None:
    """Through JSON, all of it."""
    for network in (layout(), replace(layout(), is_settled=True)):
        assert Layout.from_json(json.loads(json.dumps(network.to_json()))) == network


@pytest.mark.parametrize(
    "value", [{"seats": 7}, {"seats": [{"name": "x", "role": "king"}]}, {"seats": [{}]}, {"made_at": "x"}]
)
def test_a_layout_of_another_version(value: dict[str, object]) -> None:
    """Raises one of three errors, which its reader knows."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        Layout.from_json({**layout().to_json(), **value})
    with pytest.raises(KeyError):
        Layout.from_json({})


def test_bandwidths() -> None:
    """All relays have the same, dated so that it does not grow old."""
    first, *lines = bandwidths(layout(), 1_700_000_000.5).splitlines()
    assert int(first) > 1_700_000_000 + 300 * 86_400
    assert lines[0] == f"node_id=${1:040X} bw=1000 nick=auth1"
    assert len(lines) == 8


# --- what nodes know --------------------------------------------------------------------------------------------------


def consensus() -> list[RelayStatus]:
    """Of the usual network, complete."""
    flags = {Role.AUTHORITY: {"Authority"}, Role.GUARD: {"Guard"}, Role.MIDDLE: set(), Role.EXIT: {"Exit"}}
    return [
        RelayStatus(
            seat.fingerprint, seat.name, "127.0.0.1", seat.or_port, frozenset({"Running", "Valid", *flags[seat.role]})
        )
        for seat in layout().seats
        if seat.is_relay
    ]


def test_a_complete_consensus() -> None:
    """It has all relays where they are, with the flags of their roles; others do not matter."""
    assert is_complete(layout(), consensus())
    assert is_complete(layout(), [*consensus(), RelayStatus("F" * 40, "other", "127.0.0.1", 1)])


@pytest.mark.parametrize("missing", range(8))
def test_a_consensus_that_lacks_something(missing: int) -> None:
    """A relay, its port, that it runs, the flag of its role."""
    relays = consensus()
    seat = layout().seats[missing]
    relay = relays[missing]
    others = relays[:missing] + relays[missing + 1 :]
    assert not is_complete(layout(), others)
    assert not is_complete(layout(), [*others, replace(relay, or_port=1)])
    assert not is_complete(layout(), [*others, replace(relay, flags=relay.flags - {"Running"})])
    flags = replace(relay, flags=frozenset({"Running", "Valid"}))
    assert is_complete(layout(), [*others, flags]) == (seat.role is Role.MIDDLE)


def test_when_a_consensus_ends(tmp_path: Path) -> None:
    """In UTC; what is not there, or damaged, has ended long ago."""
    path = tmp_path / "cached-microdesc-consensus"
    assert valid_until(tmp_path) == 0
    path.write_text("network-status-version 3 microdesc\nvalid-until 2026-11-22 15:05:00\nvoting-delay 2 2\n")
    assert valid_until(tmp_path) == 1_795_359_900
    path.write_bytes(b"\xff\x00 valid-until 2026-11-22 15:05:00")
    assert valid_until(tmp_path) == 0


def test_a_client_is_no_relay() -> None:
    """Everything else is."""
    assert not Seat("client", Role.CLIENT).is_relay
    assert all(Seat("x", role).is_relay for role in Role if role is not Role.CLIENT)
