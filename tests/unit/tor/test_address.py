"""Where a control port is, and what is said if it cannot be reached."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from clew.errors import ConfigurationError, ControlConnectionError
from clew.tor.address import ControlAddress

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("9051", ControlAddress("127.0.0.1", 9051), "127.0.0.1:9051"),
        (":9051", ControlAddress("127.0.0.1", 9051), "127.0.0.1:9051"),
        ("localhost:9151", ControlAddress("localhost", 9151), "localhost:9151"),
        ("[::1]:9051", ControlAddress("::1", 9051), "[::1]:9051"),
        ("/run/tor/control", ControlAddress("", 0, "/run/tor/control"), "/run/tor/control"),
        ("unix:/run/tor/control", ControlAddress("", 0, "/run/tor/control"), "/run/tor/control"),
        ("./control", ControlAddress("", 0, "./control"), "./control"),
    ],
)
def test_parse(text: str, address: ControlAddress, shown: str) -> None:
    """Ports, hosts with ports and paths are read, and shown in one way each."""
    assert ControlAddress.parse(text) == address
    assert str(address) == shown
    assert ControlAddress.parse(shown) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tor",
        "unix:",
        "localhost:",
        "::1:9051",
        "::1",
        "0",
        "65536",
        "-1",
        "\uff19\uff10",
        "127.0.0.1:90 51",
        "999999",
    ],
)
def test_malformed(text: str) -> None:
    """Anything else is refused with what would be right."""
    with pytest.raises(ConfigurationError, match=r"give a port \(9051\), host:port or the path"):
        ControlAddress.parse(text)


def test_nothing_listens_on_a_port() -> None:
    """A port that nobody listens on: how to make tor do so."""
    with socket.socket() as taken:  # bound and not listening: nobody else gets it meanwhile
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ControlConnectionError) as caught:
            ControlAddress.parse(str(port)).open(5)
    assert str(caught.value) == (
        f"nothing listens on 127.0.0.1:{port}: start tor with ControlPort {port} in its torrc, or give another address"
    )


def test_no_socket(tmp_path: Path) -> None:
    """A path where there is nothing."""
    with pytest.raises(ControlConnectionError, match=f"there is no socket {tmp_path}/control: start tor with Control"):
        ControlAddress.parse(f"{tmp_path}/control").open(5)


def test_nothing_listens_on_a_socket(tmp_path: Path) -> None:
    """A socket that was left behind by a tor that is gone."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(ControlConnectionError, match=f"nothing listens on {path}: start tor with ControlSocket"):
        ControlAddress.parse(str(path)).open(5)


def test_not_a_path_for_a_socket(tmp_path: Path) -> None:
    """A path that no socket can have: the system's own words."""
    with pytest.raises(ControlConnectionError, match=r"no connection to .*AF_UNIX path too long"):
        ControlAddress.parse(f"{tmp_path}/{'x' * 200}").open(5)


def test_not_accepted_in_time(tmp_path: Path) -> None:
    """A listener whose queue is full."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with (
            ControlAddress.parse(str(path)).open(5),
            pytest.raises(ControlConnectionError, match=r"did not accept a connection within 0\.01 s"),
        ):
            ControlAddress.parse(str(path)).open(0.01)


def test_open(tmp_path: Path) -> None:
    """An open socket is in blocking mode, whatever time the connection was given."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with ControlAddress.parse(str(path)).open(5) as connection:
            assert connection.gettimeout() is None
