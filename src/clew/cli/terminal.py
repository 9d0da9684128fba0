"""What commands share of the terminal: colour or not, how wide, progress."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from clew.limits import PROGRESS_BYTES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from rich.console import Console

__all__ = ["add_terminal_options", "byte_progress", "make_console"]

# Where no terminal says how wide it is, as in a pipe; COLUMNS and --width say otherwise.
_DEFAULT_COLUMNS = 100


def add_terminal_options(parser: argparse.ArgumentParser) -> None:
    """Add --color and --width."""
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours: on a terminal, unless NO_COLOR is set (auto, the default), always, or never",
    )
    parser.add_argument("--width", type=int, metavar="COLUMNS", help="draw so wide (default: as the terminal is)")


def make_console(color: str = "auto", width: int | None = None) -> Console:
    """A console on standard output that takes no text for markup.

    Args:
        color: "auto", "always" or "never".
        width: in columns; None for the terminal's own.
    """
    from rich.console import Console

    if color == "auto":
        color = "always" if _wants_color() else "never"
    if width is None and not _is_terminal(sys.stdout) and not os.environ.get("COLUMNS"):
        width = _DEFAULT_COLUMNS

    class QuietConsole(Console):
        """Leaves a broken pipe to `clew.cli.main`."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    is_plain = color == "never"
    return QuietConsole(
        color_system=None if is_plain else "standard",
        force_terminal=not is_plain,
        no_color=is_plain,
        width=width,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _wants_color() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody asked for none (no-color.org)."""
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def byte_progress(description: str, total_bytes: int | None) -> Iterator[Callable[[int], object]]:
    """Show on standard error how far reading is, if that is a terminal and there is enough to wait for.

    Args:
        description: what is being done, half a sentence.
        total_bytes: None, if that is not known.

    Returns: a context manager; what it gives is to be called with the number of bytes read since the last call.
    """
    if not _is_terminal(sys.stderr) or (total_bytes is not None and total_bytes < PROGRESS_BYTES):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total_bytes)
        yield lambda number: progress.advance(task, number)
