"""The documents tell the truth: their code runs, their links lead somewhere, every command is in them."""

from __future__ import annotations

import argparse
import os
import re
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from clew.cli.main import COMMANDS
from tests.documents import DOCUMENTS, PAGES, ROOT, run_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page that need no lab, run one after the other, end without a fault."""
    run_page(page, tmp_path, os.environ, lab=False)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link of a document points at a file that exists, and at a heading that this file has."""
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if "://" in target:
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_promise_has_its_test() -> None:
    """docs/reliability.md has each scenario from 1 to 27, in order, and every test that it names exists."""
    rows = re.findall(
        r"^\| (?:(\d+):)?[^|]*\| [^|]+ \| `(.+?)::(\w+)` \|$", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE
    )
    assert [int(number) for number, _, _ in rows if number] == list(range(1, 28))
    missing = [name for _, path, name in rows if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_and_option_is_documented(command: str) -> None:
    """Every command of `clew` has a section in docs/guide/commands.md, with each of its actions and options."""
    page = (ROOT / "docs/guide/commands.md").read_text()
    section = re.search(rf"^## `clew {command}`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[command].module).configure(parser)
    missing = [word for word in words(parser) if not re.search(rf"(?<![\w-]){word}(?![\w-])", section[1])]
    assert missing == []


def words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The long options of a command, and its actions with theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield name
                yield from words(subparser)
        yield from (option for option in action.option_strings if option.startswith("--") and option != "--help")
