"""A tor that is kept from every network, for tests of its control port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TOR = shutil.which("tor", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"]))
PASSWORD = 'open "sesame" \\ é'


class Tor:
    """A tor process with a control socket and a control port of its own."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.socket = str(home / "control")
        self.cookie = home / "data" / "control_auth_cookie"
        self.port = ""
        self._port_file = home / "port"
        self._process: subprocess.Popen[bytes] | None = None
        home.chmod(0o700)
        lines = [
            f"DataDirectory {home}/data",
            f"ControlSocket {self.socket}",
            "ControlPort 127.0.0.1:auto",
            f"ControlPortWriteToFile {self._port_file}",
            f"__OwningControllerProcess {os.getpid()}",
            *(
                default
                for default in ("SocksPort 0", "DisableNetwork 1")
                if not any(default[:-1] in o for o in options)
            ),
            *options,
        ]
        (home / "torrc").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start it, and wait until its control port is open."""
        assert TOR is not None
        self._port_file.unlink(missing_ok=True)
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [TOR, "-f", str(self.home / "torrc"), "--defaults-torrc", os.devnull, "--quiet"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._port_file.exists() or "\n" not in self._port_file.read_text():
            assert self._process.poll() is None, (self.home / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.port = next(line for line in self._port_file.read_text().splitlines() if line.startswith("PORT="))[5:]

    def keep_port(self) -> None:
        """Have the port that was found be taken again by the next start."""
        torrc = self.home / "torrc"
        torrc.write_text(torrc.read_text().replace("ControlPort 127.0.0.1:auto", f"ControlPort {self.port}"))

    def wait(self) -> int:
        """Wait until it has ended by itself."""
        assert self._process is not None
        return self._process.wait(20)

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self.wait()


def hash_password() -> str:
    """The option that makes tor ask for PASSWORD."""
    assert TOR is not None
    output = subprocess.run([TOR, "--hash-password", PASSWORD], check=True, capture_output=True, text=True).stdout
    return "HashedControlPassword " + output.splitlines()[-1]
