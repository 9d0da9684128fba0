"""Options of commands that connect to a tor: where it is, and how to be let in."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clew.errors import ControlAuthenticationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["PASSWORD_HELP", "PASSWORD_VARIABLE", "add_connection_options", "password_of"]

# tor's control password, for where no terminal is to ask on and no file to read.
PASSWORD_VARIABLE = "CLEW_TOR_PASSWORD"  # noqa: S105 - the variable's name, not a password

# For the end of a command's help.
PASSWORD_HELP = f"""\
A password that tor wants is read from --password-file, or else from the environment variable {PASSWORD_VARIABLE}, or
else asked for. tor's cookie, where it may be read, needs none.
"""


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add --control, --password-file and --cookie-file."""
    parser.add_argument(
        "--control",
        metavar="ADDRESS",
        help="tor's control port: a port, host:port or the path of a Unix socket "
        "(default: the first of /run/tor/control, 9051 and 9151 that answers)",
    )
    parser.add_argument("--password-file", metavar="FILE", help="the first line is tor's control password")
    parser.add_argument("--cookie-file", metavar="FILE", help="tor's cookie, if it is not where tor says")


def password_of(args: argparse.Namespace) -> str | Callable[[], str]:
    """tor's control password, or what asks for it.

    Raises: OSError: the file cannot be read.
    """
    if args.password_file is not None:
        with Path(args.password_file).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
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
