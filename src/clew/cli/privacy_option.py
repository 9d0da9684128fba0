"""`--privacy` and `--public-network`, for every command that writes what tor said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from clew.tor.privacy import Privacy

__all__ = ["add_privacy_options", "privacy_of"]


def add_privacy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--privacy",
        default="pseudonymous",
        metavar="LEVEL",
        help="how much is kept: 0 anonymous, 1 pseudonymous (destinations and relays as keyed hashes; the default), "
        "2 operator (both in clear, the guard hashed), 3 lab (everything; for testing networks)",
    )
    parser.add_argument(
        "--public-network",
        action="store_true",
        help="keep everything even of a tor on the public network (with --privacy lab)",
    )


def privacy_of(args: argparse.Namespace) -> Privacy:
    """The level that was asked for.

    Raises:
        ConfigurationError: there is no such level, or --public-network is given with another than level 3.
    """
    from clew.tor.privacy import Privacy, parse_privacy

    level = parse_privacy(args.privacy)
    if args.public_network and level is not Privacy.LAB:
        raise ConfigurationError("--public-network means something with --privacy lab only: leave it out")
    return level
