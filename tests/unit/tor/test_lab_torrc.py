"""Torrcs, and the files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clew.errors import LabError
from clew.tor.lab_config import Layout, Role, Seat, plan
from clew.tor.lab_torrc import bandwidths, torrc
from tests.lab_layout import layout

LAB = Path("/lab")


def text_of(name: str, network: Layout | None = None, directory: Path = LAB) -> str:
    network = network or layout()
    return torrc(network, next(seat for seat in network.seats if seat.name == name), directory)


def options_of(name: str) -> dict[str, list[str]]:
    options: dict[str, list[str]] = {}
    for line in text_of(name).splitlines():
        option, _, value = line.partition(" ")
        options.setdefault(option, []).append(value)
    return options


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


def test_the_torrc_of_an_onion_service() -> None:
    """It hosts the service, hands connections to this machine only, and is neither a proxy nor a relay."""
    seat = Seat("service1", Role.SERVICE, onion_port=80, target_port=8000)
    lines = torrc(layout(), seat, LAB).splitlines()
    assert 'HiddenServiceDir "/lab/nodes/service1/onion"' in lines
    assert "HiddenServicePort 80 127.0.0.1:8000" in lines
    assert "SocksPort 0" in lines
    assert not any(line.startswith(("ORPort", "DirPort", "ExitRelay")) for line in lines)
    assert "LearnCircuitBuildTimeout 0" in lines


def test_bandwidths() -> None:
    """All relays have the same, dated so that it does not grow old."""
    first, *lines = bandwidths(layout(), 1_700_000_000.5).splitlines()
    assert int(first) > 1_700_000_000 + 300 * 86_400
    assert lines[0] == f"node_id=${1:040X} bw=1000 nick=auth1"
    assert len(lines) == 8
