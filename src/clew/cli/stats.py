"""`clew stats`: its options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clew.cli.option_values import point_in_time, positive
from clew.cli.terminal import add_terminal_options

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]

_NAMES = 20
_TRACES = 5
_SORTS = ("count", "errors", "total", "p50", "p90", "p99", "max", "name")

_DESCRIPTION = """\
What the spans in files say in numbers: how many, how many failed, how long they took by name and altogether, and which
traces were the slowest. Files are those that 'clew view' reads, however long they are.

Without a file, or for "-", standard input is read.
"""

_EPILOG = """\
examples:
  clew stats traces.jsonl                            all of it
  clew stats a.jsonl b.jsonl.gz --since 10m          what ended in the last ten minutes
  clew stats traces.jsonl --name "GET *" --sort p99  some spans, the name with the largest p99 first
  clew stats traces.jsonl --json | jq '.names[] | {name, p99_ns}'

exit status: 0 if a span was counted, 1 if none was, or on an error, 2 for a wrong option.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clew stats`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="*", metavar="FILE", help='a file of traces; "-" is standard input')
    parser.add_argument(
        "--name", default="", metavar="PATTERN",
        help="count spans whose name contains this, or matches it if it has * ? or [",
    )  # fmt: skip
    parser.add_argument(
        "--since", type=point_in_time, default=0, metavar="WHEN",
        help="count spans that ended within 90s, 10m, 2h or 1d, or since a time such as 2026-01-31T03:00",
    )  # fmt: skip
    parser.add_argument(
        "--sort", choices=_SORTS, default="total",
        help="which names come first: those with the largest total time (the default), count, ..., or by the alphabet",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=positive, default=_NAMES, metavar="N", help=f"show at most N names (default: {_NAMES})"
    )
    parser.add_argument(
        "--slowest", type=positive, default=_TRACES, metavar="N",
        help=f"list the N traces with the longest of these spans (default: {_TRACES})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the same numbers as JSON")
    add_terminal_options(parser)
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Count. Returns: the exit status."""
    if not args.files:
        if sys.stdin.isatty():
            args.refuse("which FILE?")
        args.files = ["-"]
    if args.files.count("-") > 1:
        args.refuse("standard input can be read only once")
    from clew.cli.stats_files import Options, show

    return show(
        Options(
            files=args.files,
            name=args.name,
            since_ns=args.since,
            sort=args.sort,
            limit=args.limit,
            slowest=args.slowest,
            json=args.json,
            color=args.color,
            width=args.width,
        )
    )
