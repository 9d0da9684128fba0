"""The lab's directory: one owner at a time, private, files whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from clew.errors import LabError
from clew.tor.lab_config import Layout, Role, Seat, plan
from clew.tor.lab_directory import LabDirectory, RunRecord
from clew.tor.lab_process import ProcessMark

if TYPE_CHECKING:
    from pathlib import Path

ME = ProcessMark.of(os.getpid())
assert ME is not None
SERVICE = Seat("service1", Role.SERVICE, onion_port=80, target_port=8000, onion_address="x.onion")
NODES = {"auth1": ProcessMark(1, 2)}
RECORD = RunRecord(owner=ME, is_keeper=True, since=12.5, is_ready=True, nodes=NODES, services=(SERVICE,))
LAYOUT = Layout(plan(1, 3), voting_offset=3, made_at=5)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def acquired(path: Path) -> LabDirectory:
    directory = LabDirectory(path)
    directory.acquire()
    return directory


def test_it_is_made_private(tmp_path: Path) -> None:
    """Mode 0700, its files 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        directory = acquired(tmp_path / "a" / "b" / "lab")
        directory.write_layout(LAYOUT)
        directory.write_run(RECORD)
        directory.clear_nodes()
    finally:
        os.umask(before)
    assert mode(directory.path) == mode(directory.path / "nodes") == 0o700
    assert {mode(directory.path / name) for name in ("lab.lock", "run.json")} == {0o600}
    directory.release()


def test_an_empty_directory_becomes_private(tmp_path: Path) -> None:
    """One that the user made for it."""
    tmp_path.chmod(0o755)
    acquired(tmp_path).release()
    assert mode(tmp_path) == 0o700


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    """A lab removes files: it does not take a directory that has others in it, and leaves it as it was."""
    tmp_path.chmod(0o755)
    (tmp_path / "letter").touch()
    with pytest.raises(LabError, match="holds other files"):
        LabDirectory(tmp_path).acquire()
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]
    assert mode(tmp_path) == 0o755


def test_a_file_in_its_place(tmp_path: Path) -> None:
    """One sentence, not an OSError."""
    (tmp_path / "lab").touch()
    with pytest.raises(LabError, match="cannot be used"):
        LabDirectory(tmp_path / "lab").acquire()
    with pytest.raises(LabError, match="cannot be used"):
        LabDirectory(tmp_path / "lab" / "below").acquire()
    assert LabDirectory(tmp_path / "lab").read_layout() is None


def test_a_lock_that_is_a_link(tmp_path: Path) -> None:
    """It is not followed: it would make or open a file elsewhere."""
    acquired(tmp_path).release()
    (tmp_path / "lab.lock").unlink()
    (tmp_path / "lab.lock").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").touch()
    with pytest.raises(LabError, match="cannot be used"):
        LabDirectory(tmp_path).acquire()


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    """The second is told who the first is, and what to do about it; after it, it is free."""
    first = acquired(tmp_path)
    first.write_run(RECORD)
    with pytest.raises(LabError, match=rf"up already \(process {os.getpid()}\): clew lab down ends it"):
        LabDirectory(tmp_path).acquire()
    first.write_run(RunRecord(owner=RECORD.owner, is_keeper=False, since=0))
    with pytest.raises(LabError, match="end that program first"):
        LabDirectory(tmp_path).acquire()
    first.clear_run()
    with pytest.raises(LabError, match=r"up already$"):
        LabDirectory(tmp_path).acquire()
    first.release()
    first.release()
    acquired(tmp_path).release()


def test_an_owner_that_was_killed(tmp_path: Path) -> None:
    """Its lock ends with it."""
    script = (
        "import os, signal, sys, pathlib\n"
        "from clew.tor.lab_directory import LabDirectory\n"
        "LabDirectory(pathlib.Path(sys.argv[1])).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    acquired(tmp_path).release()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The layout, and who runs; by anybody, also without the lock."""
    reader = LabDirectory(tmp_path)
    assert reader.read_layout() is None
    assert reader.read_run() is None
    directory = acquired(tmp_path)
    directory.write_layout(LAYOUT)
    directory.write_run(RECORD)
    assert reader.read_layout() == LAYOUT
    assert reader.read_run() == RECORD
    directory.clear_run()
    directory.clear_run()
    assert reader.read_run() is None
    directory.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "7", '{"version": 1}', '{"version": 1, "layout": {}}', "\0"])
def test_a_file_that_is_damaged(tmp_path: Path, text: str) -> None:
    """As if it were not there."""
    (tmp_path / "lab.json").write_text(text)
    (tmp_path / "run.json").write_text(text)
    assert LabDirectory(tmp_path).read_layout() is None
    assert LabDirectory(tmp_path).read_run() is None


def test_a_layout_of_another_version(tmp_path: Path) -> None:
    """It may mean something else."""
    (tmp_path / "lab.json").write_text(json.dumps({"version": 0, "layout": LAYOUT.to_json()}))
    assert LabDirectory(tmp_path).read_layout() is None


def test_a_write_that_fails(tmp_path: Path) -> None:
    """The old file stays whole."""
    directory = acquired(tmp_path)
    directory.write_layout(LAYOUT)
    (tmp_path / "lab.json.new").mkdir()  # where the new one would be written
    with pytest.raises(LabError, match="cannot be written"):
        directory.write_layout(Layout(()))
    assert directory.read_layout() == LAYOUT
    directory.release()


def test_clearing_nodes(tmp_path: Path) -> None:
    """The layout goes first: it vouches for them."""
    directory = acquired(tmp_path)
    directory.clear_nodes()
    (tmp_path / "nodes" / "auth1").mkdir()
    directory.write_layout(LAYOUT)
    directory.clear_nodes()
    assert directory.read_layout() is None
    assert list((tmp_path / "nodes").iterdir()) == []
    directory.release()
