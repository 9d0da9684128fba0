"""The documents whose Python blocks run as tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]

# A block that brings up the lab says so on the line above it.
BLOCK = re.compile(r"^(?P<lab><!-- lab -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def needs_lab(page: Path) -> bool:
    return any(block["lab"] for block in BLOCK.finditer(page.read_text()))


def run_page(page: Path, folder: Path, environment: Mapping[str, str], *, lab: bool) -> None:
    """Run the blocks of a page in their order, as one program in an empty folder; those with the lab only if asked to.

    Every block stands on the lines that it has in the page, so that a traceback points there.
    """
    text = page.read_text()
    program = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        if lab or not block["lab"]:
            first = text.count("\n", 0, block.start("code"))
            lines = block["code"].splitlines()
            program[first : first + len(lines)] = lines
    script = folder / f"page_{page.stem}.py"  # not the name of a module that it imports
    script.write_text("\n".join(program))
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
