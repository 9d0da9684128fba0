"""The lab's plan, ports and what its files mean."""

from __future__ import annotations

import json
import os
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
    can_listen,
    control_socket,
    default_directory,
    is_complete,
    plan,
    valid_until,
    with_ports,
)
from tests.lab_layout import layout

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
    assert {seat.role for seat in seats} == set(Role) - {Role.SERVICE}
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


def test_who_is_a_relay() -> None:
    """Everybody but clients and onion services."""
    for role in Role:
        assert Seat("x", role).is_relay == (role not in (Role.CLIENT, Role.SERVICE))
