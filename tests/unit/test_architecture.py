"""ARCHITECTURE.md tells the truth about the files that exist and about who may import whom."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/clew"
PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def rows() -> dict[str, str]:
    """The table of modules: path below src/clew -> purpose."""
    section = PAGE.partition("## Modules")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+?) \|$", section, re.MULTILINE))


def modules() -> set[str]:
    """What needs a row: each module, with a package's own `__init__` as the package, and a .pxd without its .pyx."""
    found = set()
    for path in SOURCES.rglob("*"):
        relative = path.relative_to(SOURCES)
        if "__pycache__" in relative.parts:
            continue
        if path.name == "__init__.py":
            found.add("__init__.py" if relative.parent == Path() else f"{relative.parent}/")
        elif path.suffix in {".py", ".pyx"} or (path.suffix == ".pxd" and not path.with_suffix(".pyx").exists()):
            found.add(str(relative))
    return found


def test_each_module_has_a_row_and_each_row_a_module() -> None:
    """The table lists the modules that exist: nothing more, nothing less."""
    listed = set(rows())
    assert sorted(listed - modules()) == [], "rows without a module"
    assert sorted(modules() - listed) == [], "modules without a row"


def test_each_row_states_a_purpose_of_its_own() -> None:
    """No two modules are there for the same."""
    purposes = list(rows().values())
    assert len(set(purposes)) == len(purposes)


def test_the_table_is_in_the_order_of_imports() -> None:
    """Reading the table downwards is reading the layers that import-linter checks upwards."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    order = [layer.strip("()") for layer in reversed(layers)]
    seen: list[str] = []
    for path in rows():
        layer = path.split("/")[0].removesuffix(".py")
        if layer in order and layer not in seen:
            seen.append(layer)
    assert seen == [layer for layer in order if layer in seen]


def test_opentelemetry_is_imported_by_its_own_package_only() -> None:
    """A program that has nothing to do with OpenTelemetry never loads it: no module outside clew.otel imports it."""
    pattern = re.compile(r"^\s*(?:from|import|cimport)\s+opentelemetry\b", re.MULTILINE)
    importing = [
        path.relative_to(SOURCES)
        for path in SOURCES.rglob("*.py*")
        if path.suffix in {".py", ".pyx", ".pxd"} and pattern.search(path.read_text())
    ]
    assert importing
    assert {path.parts[0] for path in importing} == {"otel"}


def test_every_folder_named_exists() -> None:
    """The second table names folders and files that are there."""
    section = PAGE.partition("## Elsewhere")[2]
    for path in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("module", ["wire", "events", "circuits", "circuit_spans", "privacy", "consensus"])
def test_parsers_and_state_machines_have_no_io_and_no_clock(module: str) -> None:
    """What turns bytes into events and events into spans imports neither sockets nor clocks nor threads."""
    tree = ast.parse((SOURCES / f"tor/{module}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & {"asyncio", "pathlib", "select", "socket", "subprocess", "threading", "time"}
