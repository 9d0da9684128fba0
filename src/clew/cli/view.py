"""`clew view`: draws the traces in files, once or as they arrive."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from clew.cli.option_values import point_in_time, positive
from clew.cli.terminal import add_terminal_options, make_console

if TYPE_CHECKING:
    from clew.formats import Query

__all__ = ["configure", "run"]

_TRACES = 20
_SPANS = 1000

_DESCRIPTION = """\
Draw the traces in files: OTLP JSON Lines, OTLP protobuf, or go-tor's traces.json, each also compressed by gzip or xz.
Without a file, or for "-", standard input is read.

A trace is shown when one of its spans is all that was asked for: with --name connect --errors, when a span whose
name contains "connect" failed. Without --slowest the newest traces are shown, the newest last.
"""

_EPILOG = """\
examples:
  clew view traces.jsonl --slowest 5               the five slowest traces, the slowest first
  clew view a.jsonl b.jsonl --errors --since 10m   what failed in the last ten minutes
  clew view traces.jsonl -f                        draw traces as they arrive
  clew view traces.jsonl --trace 4bf9 -d           one trace with all its attributes

exit status: 0 if a trace was shown, 1 if none was, or on an error, 2 for a wrong option.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clew view`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="*", metavar="FILE", help='a file of traces; "-" is standard input')
    parser.add_argument(
        "--trace", action="append", default=[], type=_trace_id, metavar="ID", help="the trace whose id begins so"
    )
    parser.add_argument("--errors", action="store_true", help="spans that failed (not: were cancelled)")
    parser.add_argument("--name", default="", help="spans whose name contains this, or matches it if it has * ? or [")
    parser.add_argument(
        "--since", type=point_in_time, default=0, metavar="WHEN",
        help="spans that ended within 90s, 10m, 2h or 1d, or since a time such as 2026-01-31T03:00",
    )  # fmt: skip
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--slowest", type=positive, metavar="N", help="the N traces with the longest spans")
    number.add_argument(
        "--limit", type=positive, default=_TRACES, metavar="N", help=f"show at most N traces (default: {_TRACES})"
    )
    parser.add_argument(
        "--spans", type=positive, default=_SPANS, metavar="N",
        help=f"draw at most N spans of a trace: roots, errors and the longest (default: {_SPANS})",
    )  # fmt: skip
    parser.add_argument("-d", "--details", action="store_true", help="draw all attributes, events and links")
    parser.add_argument("--json", action="store_true", help="print the spans as OTLP JSON Lines instead of a picture")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is appended, until Ctrl-C")
    add_terminal_options(parser)
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Draw. Returns: the exit status."""
    if not args.files:
        if sys.stdin.isatty():
            args.refuse("which FILE?")
        args.files = ["-"]
    if args.files.count("-") > 1:
        args.refuse("standard input can be read only once")
    if args.follow and args.slowest:
        args.refuse("--slowest needs the whole file, and a file that is followed has no end")
    from clew.cli.view_output import Output

    output = Output(None if args.json else make_console(args.color, args.width), details=args.details)
    if args.follow:
        from clew.cli.view_follow import follow as work
    else:
        from clew.cli.view_files import show as work
    return work(args.files, _query(args), args.spans, output)


def _query(args: argparse.Namespace) -> Query:
    from clew.formats import Query

    return Query(
        trace_ids=tuple(trace_id for forms in args.trace for trace_id in forms),
        name=args.name,
        errors_only=args.errors,
        since_ns=args.since,
        slowest=args.slowest is not None,
        limit=args.slowest or args.limit,
    )


def _trace_id(text: str) -> tuple[str, ...]:
    """The beginning of an id, in hex; a decimal one, as go-tor writes them, in the form that it is read as, too."""
    text = text.lower()
    if not text or len(text) > 32 or any(char not in "0123456789abcdef" for char in text):
        raise argparse.ArgumentTypeError("a trace id is up to 32 hex digits")
    return (text, f"{int(text):032x}") if text.isdecimal() and int(text) else (text,)
