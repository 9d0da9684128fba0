"""`clew tor doctor`: its options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clew.cli.tor_connection_options import add_connection_options, password_of
from clew.errors import ConfigurationError

if TYPE_CHECKING:
    from clew.tor.address import ControlAddress

    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

__all__ = ["add_doctor"]

_DESCRIPTION = """\
Is a running tor well, and can clew see what it does? A line for each check, and below it what to do: the control port,
how tor lets clew in, its version and events, its bootstrap, the SOCKS port, one circuit hop by hop, the clock.
Nothing is changed; the circuit is closed again and carries nothing.
"""

_EPILOG = """\
examples:
  clew tor doctor                       the tor of this machine
  clew tor doctor --control 9151        Tor Browser's
  clew tor doctor --json | jq .healthy

exit status: 0, or 1 if something is broken.
"""


def add_doctor(actions: _Actions) -> None:
    """Add the action."""
    doctor = actions.add_parser(
        "doctor",
        help="is a running tor well, and can clew see what it does",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_connection_options(doctor)
    doctor.add_argument(
        "--socks",
        type=_socks_address,
        metavar="ADDRESS",
        help="tor's SOCKS port: a port, host:port or the path of a Unix socket (default: as tor says)",
    )
    doctor.add_argument("--timeout", type=_timeout, default=60.0, metavar="SECONDS", help="for all of it (default: 60)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from clew.cli.tor_doctor import Options, examine

    return examine(Options(args.control, password_of(args), args.cookie_file, args.socks, args.timeout, args.json))


def _socks_address(text: str) -> ControlAddress:
    from clew.tor.address import ControlAddress

    try:
        return ControlAddress.parse(text)
    except ConfigurationError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address: give a port (9050), host:port or the path of a Unix socket"
        ) from None


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to 3600")
    return seconds
