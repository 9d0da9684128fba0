"""The programs in examples/ run, and leave nothing on stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# fastapi_services.py runs in test_otel_services.py, in the lab that is there already.
EXAMPLES = sorted(
    path for path in (Path(__file__).parents[2] / "examples").glob("*.py") if path.stem != "fastapi_services"
)


def with_tor(example: Path) -> object:
    """An example as a parameter, marked if it brings up the lab."""
    marks = [pytest.mark.tor] if "clew.tor.lab" in example.read_text() else []
    return pytest.param(example, id=example.stem, marks=marks)


@pytest.mark.parametrize("example", [with_tor(example) for example in EXAMPLES])
def test_an_example_runs(example: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """It ends with exit status 0 and says what it did."""
    command = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
