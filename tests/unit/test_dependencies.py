"""Every dependency has a reason on record, and the core has none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("path", sorted((ROOT / "src/clew").rglob("*.py")), ids=lambda path: path.stem)
def test_patterns_mean_the_same_to_debians_python(path: Path) -> None:
    """No group is repeated possessively: CPython before 3.11.5 gets that wrong (gh-106052); Debian 12 has 3.11.2."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if re.search(r"\br?b?[rf]?['\"].*\)[*+?]\+", line):
            pytest.fail(f"{path.name}:{number}: {line.strip()}")
