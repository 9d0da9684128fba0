"""What the parts of the demo show themselves on: a terminal, or whatever standard output is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clew.pretty import escape
from clew.render import Waterfall, assemble

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clew.model import SpanRecord

__all__ = ["Stage"]


class Stage:
    """Prints, and knows where files go.

    Args:
        directory: of the files that the demo writes.
        simulated: whether Circuit Building does without tor.
    """

    def __init__(self, directory: Path, *, simulated: bool = False) -> None:
        self.directory = directory
        self.simulated = simulated
        self.console = Console(highlight=False)
        # Progress is for who watches: it is no part of the output.
        self.progress_console = Console(stderr=True, highlight=False)

    def title(self, title: str) -> None:
        """Begin a part."""
        self.console.print()
        self.console.rule(Text(title, style="bold"), align="left", characters="─")
        self.console.print()

    def say(self, text: str) -> None:
        """A sentence about what is shown next."""
        self.console.print(Text(text))

    def facts(self, rows: Iterable[tuple[str, object]]) -> None:
        """Names and values."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(f"  {name}", Text(escape(str(value))))
        self.console.print(table)
        self.console.print()

    def table(self, headings: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
        """Numbers under headings; all but the first column to the right."""
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(escape(str(cell))) for cell in row))
        self.console.print(table)
        self.console.print()

    def traces(self, records: Iterable[SpanRecord], *, details: bool = False) -> None:
        """Draw traces, each as a tree with its waterfall."""
        for trace in assemble(records):
            self.console.print(Waterfall(trace, details=details))
            self.console.print()

    def view(self, *arguments: str) -> None:
        """Run `clew view`, as a person would."""
        shown = " ".join(["clew", "view", *arguments])
        self.console.print(Text(f"$ {shown}", style="bold"))
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "clew.cli.main", "view", *arguments], check=True)  # noqa: S603 - ourselves
        self.console.print()
