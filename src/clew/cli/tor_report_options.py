"""`clew tor report`: its options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clew.cli.terminal import add_terminal_options
from clew.limits import REPORT_SLOWEST

if TYPE_CHECKING:
    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

__all__ = ["add_report"]

_DESCRIPTION = """\
What many traces of tor say together: how long requests took to their first and last byte, how long circuits, hops and
the phases of onion connections took, what failed and why, which relays are slow, and the slowest requests.

Files are those that clew writes (or OTLP, or go-tor's), compressed or not.
"""

_EPILOG = """\
examples:
  clew tor report traces.jsonl                                on the terminal
  clew tor report traces.jsonl --html report.html             a page, at privacy level 0
  clew tor report after.jsonl --before before.jsonl           what changed
  clew tor report traces.jsonl --json | jq .findings.requests

exit status: 0, or 1 if there was no span in the files or one could not be read.
"""


def add_report(actions: _Actions) -> None:
    """Add the action."""
    report = actions.add_parser(
        "report",
        help="what many traces of tor say together: curves, failures, the slowest requests",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    report.add_argument("files", nargs="+", metavar="FILE", help='a file of traces; "-" is standard input')
    report.add_argument(
        "--before", action="append", default=[], metavar="FILE", help="compare with these traces; may be given again"
    )
    report.add_argument("--html", metavar="FILE", help="write one page for a browser, which asks nobody for anything")
    report.add_argument("--json", action="store_true", help="print the same numbers as JSON")
    report.add_argument(
        "--privacy",
        metavar="LEVEL",
        help="how much is shown, but never more than was recorded: 0 anonymous (the default for --html), "
        "1 pseudonymous, 2 operator, 3 lab (default elsewhere: everything as it was recorded)",
    )
    report.add_argument(
        "--limit", type=_limit, metavar="N", help="draw the N slowest requests (default: 3, on a page 10; at most 100)"
    )
    add_terminal_options(report)
    report.set_defaults(run=_run, refuse=report.error)


def _run(args: argparse.Namespace) -> int:
    from clew.cli.tor_report import Options, report
    from clew.tor.privacy import parse_privacy

    if [*args.files, *args.before].count("-") > 1:
        args.refuse("standard input can be read only once")
    return report(
        Options(
            files=args.files,
            before=args.before,
            html=args.html,
            json=args.json,
            privacy=None if args.privacy is None else parse_privacy(args.privacy),
            limit=args.limit,
            color=args.color,
            width=args.width,
        )
    )


def _limit(text: str) -> int:
    if not text.isdecimal() or int(text) > REPORT_SLOWEST:
        raise argparse.ArgumentTypeError(f"it must be a whole number up to {REPORT_SLOWEST}")
    return int(text)
