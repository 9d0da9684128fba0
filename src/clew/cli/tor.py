"""`clew tor attach`: record the circuits of a running tor."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clew.cli.privacy_option import add_privacy_options, privacy_of
from clew.cli.tor_doctor_options import add_doctor
from clew.cli.tor_report_options import add_report
from clew.errors import ControlAuthenticationError

if TYPE_CHECKING:
    from collections.abc import Callable

    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

__all__ = ["PASSWORD_VARIABLE", "configure", "run"]

# tor's control password, for where no terminal is to ask on and no file to read.
PASSWORD_VARIABLE = "CLEW_TOR_PASSWORD"  # noqa: S105 - the variable's name, not a password

_DEFAULT_FILE = "traces.jsonl"

_EPILOG = f"""\
examples:
  clew tor attach                                  the tor of this machine, to {_DEFAULT_FILE}
  clew tor attach --control 9051 --file tor.jsonl  another control port, another file
  clew view -f {_DEFAULT_FILE}                        draw what is recorded, in another terminal

A password that tor wants is read from --password-file, or else from the environment variable {PASSWORD_VARIABLE}, or
else asked for. tor's cookie, where it may be read, needs none.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options; each action says which function runs it."""
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    _add_attach(actions)
    add_report(actions)
    add_doctor(actions)
    parser.epilog = "example:\n  clew tor attach --control 9051 --file traces.jsonl\n"


def run(args: argparse.Namespace) -> int:
    """Do what was asked for. Returns: the exit status."""
    status: int = args.run(args)
    return status


def _add_attach(actions: _Actions) -> None:
    attach = actions.add_parser(
        "attach",
        help="record the circuits of a running tor until Ctrl-C",
        description="Record the circuits of a running tor until Ctrl-C; go on when tor is restarted.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_connection_options(attach)
    _add_trace_options(attach)
    attach.set_defaults(run=_attach)


def _add_connection_options(parser: argparse.ArgumentParser) -> None:
    """How to get into a tor."""
    parser.add_argument(
        "--control",
        metavar="ADDRESS",
        help="tor's control port: a port, host:port or the path of a Unix socket "
        "(default: the first of /run/tor/control, 9051 and 9151 that answers)",
    )
    parser.add_argument("--password-file", metavar="FILE", help="the first line is tor's control password")
    parser.add_argument("--cookie-file", metavar="FILE", help="tor's cookie, if it is not where tor says")


def _add_trace_options(parser: argparse.ArgumentParser) -> None:
    """Where traces go, and how much they tell."""
    parser.add_argument(
        "--file",
        default=_DEFAULT_FILE,
        metavar="FILE",
        help=f"where the traces are appended (default: {_DEFAULT_FILE})",
    )
    add_privacy_options(parser)
    parser.add_argument("--json", action="store_true", help="at the end, print the counts as JSON on standard output")


def _attach(args: argparse.Namespace) -> int:
    from clew.cli.tor_attach import Options, attach

    return attach(
        Options(
            address=args.control,
            file=args.file,
            privacy=privacy_of(args),
            public_network=args.public_network,
            password=_password(args.password_file),
            cookie_file=args.cookie_file,
            json=args.json,
        )
    )


def _password(path: str | None) -> str | Callable[[], str]:
    if path is not None:
        with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.readline().rstrip("\r\n")
    if (password := os.environ.get(PASSWORD_VARIABLE)) is not None:
        return password
    return _ask


@cache  # asked once, also if tor is restarted
def _ask() -> str:
    import getpass

    if not sys.stdin.isatty():
        raise ControlAuthenticationError(
            f"tor asks for its control password: give --password-file or set {PASSWORD_VARIABLE}"
        )
    try:
        return getpass.getpass("tor's control password: ")
    except EOFError:
        raise ControlAuthenticationError("tor asks for its control password: give it") from None
