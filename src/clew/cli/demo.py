"""`clew demo`: everything that clew does, shown on the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clew.demo import PARTS, run_part
from clew.errors import ConfigurationError, TorNotFoundError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]

_EXAMPLES = """\
parts:
{parts}

examples:
  clew demo                       all seven parts
  clew demo sampling              one of them
  clew demo circuit --simulated   the last one on a machine without tor
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.epilog = _EXAMPLES.format(parts="\n".join(f"  {part.name:<12}{part.summary}" for part in PARTS))
    parser.add_argument(
        "part",
        nargs="?",
        choices=[part.name for part in PARTS],
        metavar="PART",
        help="run this part only: " + ", ".join(part.name for part in PARTS),
    )
    parser.add_argument(
        "--simulated", action="store_true", help="Circuit Building without tor: a simulation, and it says so"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where trace files and the lab go (default: $XDG_STATE_HOME/clew/demo)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the parts.

    Raises: ClewError.
    """
    from clew.demo.stage import Stage

    stage = Stage(_directory(arguments.dir), simulated=arguments.simulated)
    if arguments.part is not None:
        (part,) = (part for part in PARTS if part.name == arguments.part)
        try:
            run_part(part, stage)
        except TorNotFoundError as error:
            raise TorNotFoundError(f"{error} Or see a simulation: clew demo {part.name} --simulated") from None
        return 0
    left_out = None
    for part in PARTS:
        try:
            run_part(part, stage)
        except TorNotFoundError as error:
            left_out = f"{part.title} was left out: {error} Or see a simulation: clew demo {part.name} --simulated"
            stage.say(left_out)
    stage.title("The end")
    if left_out is None:
        stage.say(f"All {len(PARTS)} parts ran. Their files are in {stage.directory}")
    else:
        stage.say(f"{len(PARTS) - 1} of {len(PARTS)} parts ran. {left_out}")
    return 0


def _directory(chosen: Path | None) -> Path:
    """Where files go, made if it is not there.

    Raises: ConfigurationError.
    """
    if chosen is None:
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        chosen = Path(state).expanduser() / "clew" / "demo"
    try:
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The demo needs a folder for its files, and {chosen} cannot be made ({error.strerror}): "
            "choose another with --dir."
        ) from None
    return chosen.absolute()
