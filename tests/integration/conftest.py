"""What integration tests share: an onion service in the lab, tors without a network."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.lone_tor import Tor
from tests.scripted_tor import ScriptedTor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from clew.tor.lab import Lab, OnionService


class Page(BaseHTTPRequestHandler):
    """Answers every GET with its path, and with as many bytes more as the query says: /hello?1000."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """http.server calls this."""
        _, _, count = self.path.partition("?")
        body = self.path.encode() + b"x" * int(count or 0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def web_port() -> Iterator[int]:
    """The TCP port on 127.0.0.1 of a web server (`Page`): behind the onion service, and what exits can reach."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def onion_service(lab: Lab, web_port: int) -> OnionService:
    """An onion service in the lab, on its port 80, with a web server (`Page`) behind it."""
    return lab.add_onion_service(80, web_port)


@pytest.fixture
def make_tor(tmp_path: Path) -> Iterator[Callable[..., Tor]]:
    """Starts tors with further options, and ends them after the test."""
    made: list[Tor] = []

    def make(*options: str) -> Tor:
        home = tmp_path / f"tor{len(made)}"
        home.mkdir()
        made.append(Tor(home, *options))
        made[-1].start()
        return made[-1]

    yield make
    for tor in made:
        tor.stop()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("clew-")] == []


@pytest.fixture
def script_tor() -> Iterator[Callable[..., ScriptedTor]]:
    """Makes scripted tors, and closes them."""
    made: list[ScriptedTor] = []

    def make(*scripts: bytes, testing: bytes = b"1") -> ScriptedTor:
        made.append(ScriptedTor(list(scripts), testing))
        return made[-1]

    yield make
    for tor in made:
        tor.close()


@pytest.fixture
def clew_tor() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs `clew tor`, and ends it after a test that failed to."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str, stderr: int = subprocess.PIPE, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [*before, sys.executable, "-m", "clew.cli.main", "tor", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        )
        return running[-1]

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()
