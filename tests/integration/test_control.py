"""The control client against a real tor that is kept from every network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew.errors import (
    ControlAuthenticationError,
    ControlConnectionError,
    ControlProtocolError,
    ControlReplyError,
    TorError,
)
from clew.tor.control import ControlClient
from clew.tor.events import Event, UnknownEvent
from tests.lone_tor import PASSWORD, TOR, Tor, hash_password

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.tor

NOBODY = 65534


def version() -> str:
    """The version of the tor on this machine."""
    assert TOR is not None
    output = subprocess.run([TOR, "--version"], check=True, capture_output=True, text=True).stdout
    return output.splitlines()[0].removeprefix("Tor version ").removesuffix(".")


class CookieOnlyProxy:
    """Stands before a tor and hides that it knows SAFECOOKIE, which every tor of today offers beside COOKIE."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = b""
        self._path = path
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        near, _ = self._listener.accept()
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._path)
            while data := near.recv(4096):
                self.sent += data
                far.sendall(data)
                near.sendall(far.recv(4096).replace(b"METHODS=COOKIE,SAFECOOKIE", b"METHODS=COOKIE"))

    def close(self) -> None:
        """Wait until the client is gone."""
        self._thread.join(20)
        self._listener.close()


def say_as_nobody(act: Callable[[], object]) -> str:
    """What the error says that somebody gets who may not read our files: root's child drops its rights."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on, if there are threads
        child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            act()
        except TorError as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize("by", ["socket", "port"])
def test_null(make_tor: Callable[..., Tor], by: str) -> None:
    """A tor that asks for nothing: connected, over both kinds of socket, and what it tells."""
    tor = make_tor("Nickname somebody")
    with ControlClient.connect(getattr(tor, by)) as client:
        assert client.tor_version == version()
        values = client.get_info("version", "circuit-status", "info/names")
        assert values["version"].startswith(client.tor_version)
        assert values["circuit-status"] == ""
        assert values["info/names"].count("\n") > 50
        assert client.get_conf("nickname", "DisableNetwork") == {"Nickname": ("somebody",), "DisableNetwork": ("1",)}
        assert client.relays() == []


@pytest.mark.parametrize("by", ["socket", "port"])
def test_safe_cookie(make_tor: Callable[..., Tor], by: str) -> None:
    """SAFECOOKIE, found by what tor says of itself."""
    tor = make_tor("CookieAuthentication 1")
    with ControlClient.connect(getattr(tor, by)) as client:
        assert client.get_info("version")


def test_cookie(make_tor: Callable[..., Tor]) -> None:
    """COOKIE, for a tor that offers nothing better, with the file that the user named."""
    tor = make_tor("CookieAuthentication 1")
    proxy = CookieOnlyProxy(tor.socket)
    with ControlClient.connect(proxy.address, cookie_path=str(tor.cookie)) as client:
        assert client.get_info("version")
    proxy.close()
    assert b"AUTHENTICATE " + tor.cookie.read_bytes().hex().encode() in proxy.sent
    assert b"AUTHCHALLENGE" not in proxy.sent


def test_password(make_tor: Callable[..., Tor]) -> None:
    """A password, with all that has to be escaped in it; asked for if it is to be asked for."""
    tor = make_tor(hash_password())
    with ControlClient.connect(tor.port, password=PASSWORD) as client:
        assert client.get_info("version")
    with ControlClient.connect(tor.port, password=lambda: PASSWORD) as client:
        assert client.get_info("version")


def test_wrong_password(make_tor: Callable[..., Tor]) -> None:
    """A wrong password, and none where one is needed."""
    tor = make_tor(hash_password())
    with pytest.raises(ControlAuthenticationError, match="tor refused the password: give the right one"):
        ControlClient.connect(tor.port, password="hunter2")
    with pytest.raises(ControlAuthenticationError, match="tor asks for its control password: give it"):
        ControlClient.connect(tor.port)


def test_cookie_of_another_tor(make_tor: Callable[..., Tor]) -> None:
    """A tor that does not know the cookie that we have is not told anything that could help it."""
    tor, other = make_tor("CookieAuthentication 1"), make_tor("CookieAuthentication 1")
    with pytest.raises(
        ControlAuthenticationError, match=f"does not know the cookie in {other.cookie}: it is another tor"
    ):
        ControlClient.connect(tor.port, cookie_path=str(other.cookie))


def test_unreadable_cookie(make_tor: Callable[..., Tor]) -> None:
    """No permission to read the cookie: which file, and which group to join. With a password it does not matter."""
    home = Path(tempfile.mkdtemp())  # not tmp_path, which nobody else may enter
    try:
        home.chmod(0o755)
        cookie = home / "cookie"
        tor = make_tor("CookieAuthentication 1", f"CookieAuthFile {cookie}", hash_password())
        cookie.chmod(0o040)
        group = cookie.group()
        assert say_as_nobody(lambda: ControlClient.connect(tor.port)) == (
            f"ControlAuthenticationError: no permission to read tor's cookie {cookie}: join the group {group} "
            f"(sudo adduser $USER {group}, then log in again), or use a control password"
        )
        cookie.chmod(0)
        assert "not even for its group: set CookieAuthFileGroupReadable 1" in say_as_nobody(
            lambda: ControlClient.connect(tor.port)
        )
        assert say_as_nobody(lambda: ControlClient.connect(tor.port, password=PASSWORD).close()) == ""
        home.chmod(0)
        assert "join the group debian-tor (sudo adduser" in say_as_nobody(lambda: ControlClient.connect(tor.port))
    finally:
        home.chmod(0o700)
        shutil.rmtree(home)


def test_forbidden_socket(make_tor: Callable[..., Tor]) -> None:
    """No permission to open the socket: which group to join."""
    tor = make_tor()
    Path(tor.socket).chmod(0)
    assert say_as_nobody(lambda: ControlClient.connect(tor.socket)) == (
        f"ControlConnectionError: no permission to open tor's control socket {tor.socket}: "
        "join the group debian-tor (sudo adduser $USER debian-tor, then log in again)"
    )


def test_socks_port(make_tor: Callable[..., Tor]) -> None:
    """The SOCKS port of a tor instead of its control port."""
    fingerprint = "B" * 40
    tor = make_tor(
        "DisableNetwork 0",  # else it opens no SOCKS port; the network that it looks for is a closed port of loopback
        "TestingTorNetwork 1",
        f"DirAuthority nobody orport=9 no-v2 v3ident={'A' * 40} 127.0.0.1:9 {fingerprint}",
        "SocksPort 127.0.0.1:auto",
    )
    with ControlClient.connect(tor.socket) as client:
        listener = client.get_info("net/listeners/socks")["net/listeners/socks"].strip('"')
    with pytest.raises(ControlProtocolError, match=f"{listener} is a SOCKS port, not a control port: give the address"):
        ControlClient.connect(listener)


def test_refused(make_tor: Callable[..., Tor]) -> None:
    """What tor refuses comes with its code and words, and does not disturb what follows."""
    tor = make_tor()
    with ControlClient.connect(tor.socket) as client:
        refused: list[tuple[Callable[[], object], int, str]] = [
            (lambda: client.get_info("nonsense"), 552, 'Unrecognized key "nonsense"'),
            (lambda: client.get_conf("Nonsense"), 552, 'Unrecognized configuration key "Nonsense"'),
            (lambda: client.set_events(["NONSENSE"]), 552, 'Unrecognized event "NONSENSE"'),
            (client.extend_circuit, 551, "Couldn't start circuit"),
            (lambda: client.close_circuit("99"), 552, 'Unknown circuit "99"'),
            (lambda: client.signal("NONSENSE"), 552, 'Unrecognized signal code "NONSENSE"'),
        ]
        for act, code, text in refused:
            with pytest.raises(ControlReplyError) as caught:
                act()
            assert (caught.value.code, caught.value.text) == (code, text)
            assert str(caught.value) == f"tor answered {code} {text}"
        assert client.get_info("version")


def test_events(make_tor: Callable[..., Tor]) -> None:
    """tor's events come with the time of their arrival, and stop when they are no longer asked for."""
    tor = make_tor()
    seen: list[Event] = []
    came = threading.Event()

    def listen(event: Event) -> None:
        seen.append(event)
        came.set()

    with ControlClient.connect(tor.socket) as client:
        client.add_listener(listen)
        client.set_events(["SIGNAL", "CIRC", "CIRC_MINOR", "STREAM", "ORCONN", "STATUS_CLIENT", "BUILDTIMEOUT_SET"])
        before = time.time_ns()
        client.signal("HEARTBEAT")
        assert came.wait(20)
        after = time.time_ns()
        client.set_events([])
        client.signal("CLEARDNSCACHE")
    (event,) = seen
    assert isinstance(event, UnknownEvent)
    assert event.line == "SIGNAL HEARTBEAT"
    assert before <= event.time_ns <= after
    assert client.stats()[:2] == (1, 1)


def test_restart(make_tor: Callable[..., Tor]) -> None:
    """A tor that ends is noticed at once, with words for it; when it is back, one connects again."""
    tor = make_tor("CookieAuthentication 1")
    tor.keep_port()
    reasons: list[TorError] = []
    told = threading.Event()

    def tell(reason: TorError) -> None:
        reasons.append(reason)
        told.set()

    with ControlClient.connect(tor.port) as client:
        client.on_disconnect(tell)
        tor.stop()
        assert told.wait(20)
        assert str(reasons[0]) == (
            f"tor at {tor.port} closed the control connection: it ended or was restarted, connect again"
        )
        with pytest.raises(ControlConnectionError, match="closed the control connection"):
            client.get_info("version")
    with pytest.raises(ControlConnectionError, match=f"nothing listens on {tor.port}: start tor with ControlPort"):
        ControlClient.connect(tor.port)
    tor.start()
    with ControlClient.connect(tor.port) as client:
        assert client.get_info("version")


def test_ownership(make_tor: Callable[..., Tor]) -> None:
    """A tor that was taken ends when the connection does."""
    tor = make_tor()
    with ControlClient.connect(tor.socket) as client:
        client.take_ownership()
    assert tor.wait() == 0
