"""The programs in examples/ run, and leave nothing on stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def with_tor(example: Path) -> object:
    """An example as a parameter, marked if it brings up the lab."""
    marks = [pytest.mark.tor] if "clew.tor.lab" in example.read_text() else []
    return pytest.param(example, id=example.stem, marks=marks)


@pytest.mark.parametrize("example", map(with_tor, EXAMPLES))
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """It ends with exit status 0 and says what it did."""
    command = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
