"""`make fuzz`: what it says, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import run
from tests.fuzz.run import Result, main, missing_atheris
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]


def test_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what it fuzzes; a name that is none is refused with those that are."""
    assert main(["--list"]) == 0
    assert [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()] == list(TARGETS)
    with pytest.raises(SystemExit, match="2"):
        main(["--target", "otlp-jsn"])
    assert "no target 'otlp-jsn'" in capsys.readouterr().err


def test_a_finding_is_replayed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that breaks a promise says so with the traceback and status 1, one that does not with status 0."""

    def check(data: bytes) -> None:
        assert data != b"bad"

    monkeypatch.setitem(TARGETS, "escape", TARGETS["escape"]._replace(check=check))
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"good")
    bad.write_bytes(b"bad")
    assert main(["--target", "escape", "--replay", str(good)]) == 0
    assert main(["--target", "escape", "--replay", str(good), str(bad)]) == 1
    said = capsys.readouterr()
    assert f"{bad}: breaks a promise of escape" in said.out
    assert "AssertionError" in said.err


def test_without_atheris_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where atheris is not to be had nothing fails: a sentence says why nothing is done."""

    def no_module(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1)

    monkeypatch.setattr(subprocess, "run", no_module)
    assert main(["--target", "escape"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("clew: atheris")
    assert "clew[fuzz]" in said
    assert said.count("\n") == 1


def test_the_summary_tells_how_to_replay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every target has its line, a finding the file and the command; the status is 1."""

    def fuzz(name: str, seconds: float) -> Result:
        return Result(
            name, seconds, 1000, 50, 7, tmp_path / "crash-1" if name == "places" else None, "AssertionError\n"
        )

    monkeypatch.setattr(run, "missing_atheris", lambda: "")
    monkeypatch.setattr(run, "_fuzz", fuzz)
    assert main(["--target", "escape places", "--seconds", "3"]) == 1
    said = capsys.readouterr().out
    assert "[1/2] escape: " in said
    assert f"python -m tests.fuzz.run --target places --replay {tmp_path / 'crash-1'}" in said
    assert "2 targets, 2,000 inputs, 1 with findings." in said


@pytest.mark.skipif(missing_atheris() != "", reason="atheris is not installed: make fuzz installs it")
def test_atheris_finds_what_is_broken(tmp_path: Path) -> None:
    """A target that is wrong about one input is found out, the input is kept, and found again by replaying it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "import atheris\n"
        "def check(data):\n"
        "    assert not data.startswith(b'{')\n"
        "atheris.instrument_func(check)\n"
        f"atheris.Setup([sys.argv[0], '-runs=100000', '-artifact_prefix={tmp_path}/'], check)\n"
        "atheris.Fuzz()\n"
    )
    done = _run([sys.executable, str(program)])
    assert done.returncode != 0
    (crash,) = tmp_path.glob("crash-*")
    assert crash.read_bytes().startswith(b"{")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
