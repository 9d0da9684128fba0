"""The programs that a lab runs before its nodes: tor-gencert for keys, tor for fingerprints and to check a torrc."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clew.errors import LabError, TorNotFoundError
from clew.tor.lab_config import Role, empty_file, node_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.tor.lab_config import Layout, Seat

__all__ = ["Programs", "last_words"]

# Debian has tor there, which is not on every user's PATH.
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
# Each takes about a second on an idle machine.
_PROGRAM_SECONDS = 60.0
# The longest life that tor-gencert gives a certificate (its option -m).
_CERTIFICATE_MONTHS = 12
# tor's refusal is in its last lines; before them it warns of what every lab does on purpose.
_LAST_WORDS = 3

_FINGERPRINT = re.compile(r"(?:[0-9A-F]{4} ?){10}$", re.MULTILINE)
_V3_IDENTITY = re.compile(r"^fingerprint ([0-9A-F]{40})$", re.MULTILINE)


class Programs(NamedTuple):
    """Where tor and tor-gencert are on this machine, and a lab's directory."""

    tor: str
    gencert: str
    directory: Path

    @classmethod
    def find(cls, directory: Path) -> Programs:
        """Look for them on PATH and where Debian puts them.

        Raises:
            TorNotFoundError: one is missing; the text says what to type.
        """
        path = os.pathsep.join(filter(None, (os.environ.get("PATH", os.defpath), _SYSTEM_PATH)))
        tor, gencert = (shutil.which(name, path=path) for name in ("tor", "tor-gencert"))
        if tor is None or gencert is None:
            missing = "tor" if tor is None else "tor-gencert"
            raise TorNotFoundError(f"There is no {missing} on this machine: type 'sudo apt-get install tor'.")
        return cls(tor, gencert, directory)

    def tor_command(self, torrc: Path) -> list[str]:
        """tor with this torrc and no other: Debian's defaults would have it run as another user."""
        return [self.tor, "--defaults-torrc", str(empty_file(self.directory)), "-f", str(torrc)]

    def make_keys(self, layout: Layout) -> Layout:
        """Make the keys of all nodes, in data directories that exist, and note their fingerprints.

        Raises:
            LabError: a program failed; the text has its words.
        """
        authorities = layout.of_role(Role.AUTHORITY)
        # The identity key is not needed any more once it has signed a certificate: nobody keeps its passphrase.
        passphrase = secrets.token_hex(16).encode() + b"\n"
        self._run([self._gencert(seat) for seat in authorities], passphrase)
        relays = [seat for seat in layout.seats if seat.is_relay]
        answers = self._run([self._list_fingerprint(seat) for seat in relays])
        fingerprints = {seat.name: _find(_FINGERPRINT, text) for seat, text in zip(relays, answers, strict=True)}
        identities = {
            seat.name: _find(_V3_IDENTITY, (self._keys(seat) / "authority_certificate").read_text("ascii"))
            for seat in authorities
        }
        seats = (
            replace(seat, fingerprint=fingerprints.get(seat.name, ""), v3_identity=identities.get(seat.name, ""))
            for seat in layout.seats
        )
        return replace(layout, seats=tuple(seats))

    def verify(self, seats: Sequence[Seat]) -> None:
        """Have tor check the torrcs of these nodes.

        Raises:
            LabError: tor refuses one; the text has tor's words.
        """
        torrcs = [node_directory(self.directory, seat.name) / "torrc" for seat in seats]
        self._run([[*self.tor_command(torrc), "--verify-config", "--hush"] for torrc in torrcs])

    def _keys(self, seat: Seat) -> Path:
        return node_directory(self.directory, seat.name) / "keys"

    def _gencert(self, seat: Seat) -> list[str]:
        keys = self._keys(seat)
        keys.mkdir(mode=0o700)
        return [
            self.gencert,
            "--create-identity-key",
            *("-i", str(keys / "authority_identity_key")),
            *("-s", str(keys / "authority_signing_key")),
            *("-c", str(keys / "authority_certificate")),
            *("-m", str(_CERTIFICATE_MONTHS)),
            *("--passphrase-fd", "0"),
        ]

    def _list_fingerprint(self, seat: Seat) -> list[str]:
        return [
            # Its torrc cannot be written yet: it names the authorities by what this finds out.
            *self.tor_command(empty_file(self.directory)),
            "--list-fingerprint",
            "--quiet",
            *("DataDirectory", str(node_directory(self.directory, seat.name))),
            *("Nickname", seat.name),
            *("ORPort", "auto"),  # nothing listens, but only relays have a fingerprint
            *("Address", "127.0.0.1"),
            *("SocksPort", "0"),
        ]

    @staticmethod
    def _run(commands: Sequence[list[str]], given: bytes = b"") -> list[str]:
        """Run programs at the same time.

        Args:
            commands: each with its arguments.
            given: what each finds on its standard input; less than a pipe holds.

        Returns: what each printed.
        Raises: LabError: one failed.
        """
        running: list[subprocess.Popen[str]] = []
        try:
            for command in commands:
                reading, writing = os.pipe()
                try:
                    os.write(writing, given)
                    os.close(writing)
                    running.append(
                        subprocess.Popen(  # noqa: S603 (programs of the system, arguments of our own)
                            command,
                            stdin=reading,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            text=True,
                            errors="replace",
                            process_group=0,
                        )
                    )
                finally:
                    os.close(reading)
            return [_finish(process) for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


def _finish(process: subprocess.Popen[str]) -> str:
    assert isinstance(process.args, list)
    program = Path(process.args[0]).name
    try:
        output, _ = process.communicate(timeout=_PROGRAM_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError(f"{program} did not end in {_PROGRAM_SECONDS:g} s: try again on a less busy machine") from None
    if process.returncode:
        # The whole command, so that it can be typed again.
        command = shlex.join(process.args)
        raise LabError(f"{program} refuses: {last_words(output)} (the command was {command})")
    return output


def _find(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise LabError(f"no fingerprint where one was expected: {last_words(text)}")
    return found[found.lastindex or 0].replace(" ", "")


def last_words(text: str) -> str:
    """The latest warnings and errors in what tor wrote, in one line; its last line if there are none."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line.partition("] ")[2] for line in lines if "[warn] " in line or "[err] " in line]
    return " / ".join(said[-_LAST_WORDS:] or lines[-1:]) or "it said nothing"
