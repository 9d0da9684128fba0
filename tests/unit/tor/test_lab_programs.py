"""Programs that the lab runs: found or missed, and their words when they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.errors import LabError, TorNotFoundError
from clew.tor import lab_programs
from clew.tor.lab_config import Layout, empty_file, node_directory, plan
from clew.tor.lab_programs import Programs, last_words

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(lab_programs, "_SYSTEM_PATH", "")
    return path


def install(path: Path, name: str, script: str) -> None:
    program = path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_found(path: Path, tmp_path: Path) -> None:
    """On PATH; tor reads no defaults but an empty file."""
    install(path, "tor", "")
    install(path, "tor-gencert", "")
    programs = Programs.find(tmp_path)
    assert (programs.tor, programs.gencert) == (str(path / "tor"), str(path / "tor-gencert"))
    torrc = tmp_path / "torrc"
    command = [programs.tor, "--defaults-torrc", str(empty_file(tmp_path)), "-f", str(torrc)]
    assert programs.tor_command(torrc) == command


def test_where_debian_puts_them(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where PATH does not lead."""
    install(path, "tor", "")
    install(path, "tor-gencert", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(lab_programs, "_SYSTEM_PATH", str(path))
    assert Programs.find(tmp_path).tor == str(path / "tor")


@pytest.mark.parametrize(("installed", "missing"), [("tor-gencert", "tor"), ("tor", "tor-gencert")])
def test_missing(path: Path, tmp_path: Path, installed: str, missing: str) -> None:
    """One sentence names what is missing and says what to type."""
    install(path, installed, "")
    with pytest.raises(TorNotFoundError, match=rf"^There is no {missing} on this machine: type '.*install tor'\.$"):
        Programs.find(tmp_path)


def test_keys(path: Path, tmp_path: Path) -> None:
    """Fingerprints come from what the programs print and write; the passphrase is on standard input, never shown."""
    certificate = "dir-key-certificate-version 3\\nfingerprint " + "AB" * 20
    install(
        path,
        "tor-gencert",
        f'echo "$@" > {tmp_path}/arguments; read line; echo "$line" > {tmp_path}/passphrase\n'
        f'while [ $# -gt 0 ]; do if [ "$1" = -c ]; then printf "{certificate}\\n" > "$2"; fi; shift; done',
    )
    install(path, "tor", 'echo "auth1 ' + " ".join(["CDEF"] * 10) + '"')
    layout = Layout(plan(1, 3), made_at=7)
    for seat in layout.seats:
        node_directory(tmp_path, seat.name).mkdir(parents=True)
    made = Programs.find(tmp_path).make_keys(layout)
    assert [seat.v3_identity for seat in made.seats] == ["AB" * 20, "", "", "", ""]
    assert [seat.fingerprint for seat in made.seats] == ["CDEF" * 10] * 4 + [""]
    assert made.made_at == 7
    passphrase = (tmp_path / "passphrase").read_text().strip()
    assert len(passphrase) >= 32
    assert passphrase not in (tmp_path / "arguments").read_text()


def test_refused(path: Path, tmp_path: Path) -> None:
    """Its last words are in the error, and the command that it was."""
    install(path, "tor-gencert", "")
    install(path, "tor", "echo 'Nov 22 15:00:12.781 [err] Reading config failed'; exit 1")
    with pytest.raises(LabError, match=r"^tor refuses: Reading config failed \(the command was .*--verify-config"):
        Programs.find(tmp_path).verify(plan(1, 3))


def test_no_fingerprint(path: Path, tmp_path: Path) -> None:
    """A program that says something else is not believed."""
    install(
        path, "tor-gencert", 'while [ $# -gt 0 ]; do if [ "$1" = -c ]; then echo fingerprint > "$2"; fi; shift; done'
    )
    install(path, "tor", "echo nonsense")
    layout = Layout(plan(1, 3))
    for seat in layout.seats:
        node_directory(tmp_path, seat.name).mkdir(parents=True)
    with pytest.raises(LabError, match="no fingerprint where one was expected: nonsense"):
        Programs.find(tmp_path).make_keys(layout)


def test_too_slow(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end is ended."""
    monkeypatch.setattr(lab_programs, "_PROGRAM_SECONDS", 0.01)
    install(path, "tor-gencert", "")
    install(path, "tor", "exec sleep 100")
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    with pytest.raises(LabError, match="tor did not end"):
        Programs.find(tmp_path).verify(plan(1, 3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it said nothing"),
        ("\n \n", "it said nothing"),
        ("one\ntwo\n", "two"),
        ("Nov 22 [notice] a\nNov 22 [warn] b\nNov 22 [notice] c\n", "b"),
        ("x [warn] 1\nx [warn] 2\nx [warn] 3\nx [err] 4\n", "2 / 3 / 4"),
    ],
)
def test_last_words(text: str, words: str) -> None:
    """The latest warnings and errors; else the last line."""
    assert last_words(text) == words
