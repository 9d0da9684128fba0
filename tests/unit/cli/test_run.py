"""`clew run`: a program with a tracer."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from clew.otlp import decode_json

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys, clew, beside
with clew.get_tracer().start_span("work") as span:
    span.set_attribute("argv", sys.argv[1:])
    span.set_attribute("name", __name__)
    span.set_attribute("beside", beside.VALUE)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("VALUE = 5\n")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def clew(*arguments: object, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clew.cli.main", "run", *map(str, arguments)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(command, cwd=cwd, env=kept | environ, capture_output=True, text=True, check=False)


def test_a_file(program: Path, tmp_path: Path) -> None:
    """The program runs as __main__, finds its neighbours, has its own arguments, and its spans are in the file."""
    done = clew("--file", "t.jsonl", "--service", "shop", program, "--file", "x", "-m", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = decode_json((tmp_path / "t.jsonl").read_bytes())
    assert record.resource.service_name == "shop"
    assert dict(record.attributes) == {"argv": ("--file", "x", "-m"), "name": "__main__", "beside": 5}


def test_a_module_and_the_environment(program: Path, tmp_path: Path) -> None:
    """`-m` takes a module of the current folder; without options the environment speaks."""
    done = clew("-m", "program", "a", cwd=tmp_path, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert "work" in done.stdout
    assert "shop" in done.stdout


def test_nothing_is_sampled(program: Path, tmp_path: Path) -> None:
    """--sample is a share."""
    assert clew("--sample", "0", "--exporter", "console", program, cwd=tmp_path).stdout == ""


def test_how_a_program_ends(tmp_path: Path) -> None:
    """Its exit status is ours; its traceback is Python's, without our frames; its errors are not taken for ours."""
    path = tmp_path / "program.py"
    path.write_text("import sys; sys.exit(7)")
    assert clew("--exporter", "none", path, cwd=tmp_path).returncode == 7
    path.write_text("def f():\n    raise FileNotFoundError('mine')\nf()")
    done = clew("--exporter", "none", path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert done.stderr.splitlines()[1].endswith('program.py", line 3, in <module>')
    assert done.stderr.splitlines()[-1] == "FileNotFoundError: mine"


def test_mistakes(program: Path, tmp_path: Path) -> None:
    """One sentence each."""
    for arguments, words in (
        (("--exporter", "none", "no-such.py"), "no program no-such.py"),
        (("--exporter", "zipkin", program), "OTEL_TRACES_EXPORTER"),
        (("--sample", "2", "--exporter", "none", program), "OTEL_TRACES_SAMPLER_ARG"),
    ):
        done = clew(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert clew(cwd=tmp_path).returncode == 2
    assert "--file traces.jsonl shop.py" in clew("--help", cwd=tmp_path).stdout
