"""`clew lab` where no lab is up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from clew.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "arguments",
    [["lab"], ["lab", "sideways"], ["lab", "up", "--relays", "many"], ["lab", "up", "--onion-service", "80"]],
)
def test_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and how it is to be used."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: clew lab" in capsys.readouterr().err


@pytest.mark.parametrize("action", [[], ["up"], ["status"], ["down"]])
def test_help(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With examples."""
    with pytest.raises(SystemExit) as caught:
        main(["lab", *action, "--help"])
    assert caught.value.code == 0
    assert "examples:\n  clew lab up" in capsys.readouterr().out


def test_status_of_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1; the same as JSON."""
    directory = str(tmp_path / "lab")
    assert main(["lab", "status", "--dir", directory]) == 1
    assert capsys.readouterr().out == f"the lab in {directory} is down\n"
    assert main(["lab", "status", "--json", "--dir", directory]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "directory": directory,
        "state": "down",
        "pid": None,
        "keeper": False,
        "since_unix_seconds": None,
        "control": None,
        "socks_port": None,
        "nodes": [],
        "onion_services": [],
    }


def test_down_without_a_lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to do, which is what was asked for."""
    assert main(["lab", "down", "--dir", str(tmp_path / "lab")]) == 0
    assert "was not up" in capsys.readouterr().out


def test_a_lab_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, exit status 1, nothing made."""
    for arguments, words in (
        (["--relays", "2"], "3 to 50 relays"),
        (["--dir", str(tmp_path / ("x" * 100))], "bytes too long"),
    ):
        assert main(["lab", "up", "--dir", str(tmp_path / "lab"), *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("clew: ")
        assert words in error
    assert list(tmp_path.iterdir()) == []
