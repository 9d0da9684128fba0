"""`clew tor doctor` against real tors: one that is well, and what can be wrong with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from clew.tor.control import ControlClient
from tests.lone_tor import PASSWORD, Tor, hash_password

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clew.tor.lab import Lab

pytestmark = pytest.mark.tor

WELL = ["control port", "authentication", "tor", "events", "bootstrap", "SOCKS port", "circuit", "clock"]


def doctor(*arguments: str, **variables: str) -> tuple[int, dict[str, dict[str, object]]]:
    """Run it. Returns: its exit status, and its findings by check."""
    command = [sys.executable, "-m", "clew.cli.main", "tor", "doctor", "--json", *arguments]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["healthy"] == (done.returncode == 0)
    return done.returncode, {finding["check"]: finding for finding in told["findings"]}


def test_a_tor_that_is_well(lab: Lab) -> None:
    """The lab's client: nothing is broken, a circuit of three hops is built and gone again."""
    with ControlClient.connect(lab.control) as control:
        status, found = doctor("--control", lab.control)
        open_now = control.get_info("circuit-status")["circuit-status"]
    assert status == 0, found
    assert list(found) == WELL
    assert {name: finding["verdict"] for name, finding in found.items() if name not in ("clock", "circuit")} == (
        dict.fromkeys([*WELL[:6]], "ok")
    )
    circuit = found["circuit"]["facts"]
    assert isinstance(circuit, dict)
    assert len(circuit["hops_ms"]) == 3
    assert sum(circuit["hops_ms"]) <= circuit["duration_ms"] + 0.1
    assert " PURPOSE=CONTROLLER" not in open_now
    assert found["SOCKS port"]["text"] == f"127.0.0.1:{lab.socks_port} answers"


def test_a_socks_port_instead(lab: Lab) -> None:
    """It says so."""
    status, found = doctor("--control", str(lab.socks_port))
    assert (status, list(found)) == (1, ["control port"])
    assert "is a SOCKS port, not a control port" in str(found["control port"]["text"])


def test_no_circuit_can_be_built(lab: Lab) -> None:
    """All guards are gone."""
    guards = ("guard1", "guard2")
    for name in guards:
        lab.stop_node(name)
    try:
        status, found = doctor("--control", lab.control, "--timeout", "20")
    finally:
        for name in guards:
            lab.start_node(name)
    assert status == 1
    assert found["circuit"]["verdict"] == "failed"
    assert found["circuit"]["advice"]


def test_a_tor_without_socks(lab: Lab) -> None:
    """A relay can build circuits, but nobody can use it."""
    status, found = doctor("--control", lab.node("middle1").control)
    assert status == 1
    assert {name for name, finding in found.items() if finding["verdict"] == "failed"} == {"SOCKS port"}


def test_a_tor_without_network(make_tor: Callable[..., Tor]) -> None:
    """DisableNetwork 1: it is told at once; nobody is asked for a password that is not there."""
    tor = make_tor()
    status, found = doctor("--control", tor.socket)
    assert status == 1
    assert {name: finding["verdict"] for name, finding in found.items()} == {
        "control port": "ok",
        "authentication": "warning",
        "tor": "ok",
        "events": "ok",
        "bootstrap": "failed",
        "SOCKS port": "skipped",
        "circuit": "skipped",
        "clock": "skipped",
    }
    assert "DisableNetwork is set" in str(found["bootstrap"]["text"])


def test_a_wrong_password(make_tor: Callable[..., Tor], tmp_path: Path) -> None:
    """It is refused; the right one is not shown."""
    tor = make_tor(hash_password())
    status, found = doctor("--control", tor.socket, CLEW_TOR_PASSWORD="wrong")
    assert (status, list(found)) == (1, ["control port", "authentication"])
    assert found["authentication"]["text"] == "tor refused the password"
    status, found = doctor("--control", tor.socket, CLEW_TOR_PASSWORD=PASSWORD)
    assert found["authentication"]["text"] == "by the password (HASHEDPASSWORD)"
    assert "sesame" not in json.dumps(found)


def test_no_password(make_tor: Callable[..., Tor]) -> None:
    """Where nobody can be asked, it says how to give it."""
    status, found = doctor("--control", make_tor(hash_password()).socket)
    assert status == 1
    assert "--password-file" in str(found["authentication"]["advice"])


def test_a_cookie_that_is_not_there(make_tor: Callable[..., Tor]) -> None:
    """tor's control port answers, but does not let clew in."""
    tor = make_tor("CookieAuthentication 1")
    status, found = doctor("--control", tor.socket, "--cookie-file", str(tor.home / "none"))
    assert (status, list(found)) == (1, ["control port", "authentication"])
    assert "is not on this machine" in str(found["authentication"]["text"])
