"""Every dependency has a reason on record, and the core has none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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
