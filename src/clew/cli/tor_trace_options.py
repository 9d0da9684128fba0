"""Options of commands that write traces of tor: where to, and how much they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.cli.privacy_option import add_privacy_options

if TYPE_CHECKING:
    import argparse

__all__ = ["DEFAULT_FILE", "add_trace_options"]

DEFAULT_FILE = "traces.jsonl"


def add_trace_options(parser: argparse.ArgumentParser) -> None:
    """Add --file, --privacy, --public-network and --json."""
    parser.add_argument(
        "--file",
        default=DEFAULT_FILE,
        metavar="FILE",
        help=f"where the traces are appended (default: {DEFAULT_FILE})",
    )
    add_privacy_options(parser)
    parser.add_argument("--json", action="store_true", help="at the end, print the counts as JSON on standard output")
