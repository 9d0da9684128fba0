"""The documents tell the truth: their code runs, their links lead somewhere, every command is in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clew.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]

# A block of Python; those that need the lab say so on the line above, and run in tests/integration/test_docs.py.
BLOCK = re.compile(r"^(?P<lab><!-- lab -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page, run in their order as one program in an empty folder, end without a fault."""
    text = page.read_text()
    # Every block stands on the line that it has in the page, so that a traceback points there.
    program = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        if not block["lab"]:
            first = text.count("\n", 0, block.start("code"))
            for number, line in enumerate(block["code"].splitlines()):
                program[first + number] = line
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(program))
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link of a document points at a file that exists."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_is_documented(command: str) -> None:
    """Every command of `clew` has a section in docs/guide/commands.md."""
    assert re.search(rf"^## `clew {command}\b", (ROOT / "docs/guide/commands.md").read_text(), re.MULTILINE)
