"""Every dependency has a reason on record, and the core has none."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# What would make `import clew` slow, or start something, if it came along.
HEAVY = {"asyncio", "dataclasses", "http", "inspect", "logging", "sqlite3", "ssl", "clew.tor", "clew.otel", "clew.cli"}


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return match[0].lower()


def test_each_dependency_has_its_reason_on_record() -> None:
    """docs/decisions/0001-dependencies.md lists what pyproject.toml declares: nothing more, nothing less."""
    declared = {name_of(requirement) for requirement in PROJECT["build-system"]["requires"]}
    for requirements in PROJECT["project"]["optional-dependencies"].values():
        declared |= {name_of(requirement) for requirement in requirements}
    declared -= {"clew"}
    page = (ROOT / "docs/decisions/0001-dependencies.md").read_text()
    listed = set(re.findall(r"^\| ([a-z][a-z0-9-]+) \|", page, re.MULTILINE)) - {"package"}
    assert listed == declared


def test_the_core_has_no_dependency() -> None:
    """Nothing is installed along with clew unless an extra is asked for."""
    assert PROJECT["project"]["dependencies"] == []


def test_importing_clew_loads_only_what_the_core_needs() -> None:
    """`import clew` loads no third-party module and none of the standard library's heavy ones."""
    # What Cython makes up in memory (`cython_runtime`) has no file.
    code = (
        "import sys; before = set(sys.modules); import clew\n"
        "new = set(sys.modules) - before\n"
        "print(*[name for name in new if name in sys.stdlib_module_names or hasattr(sys.modules[name], '__file__')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & HEAVY
    third_party = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"clew"}
    assert not third_party
