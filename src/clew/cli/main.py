"""The command `clew`: finds the command that was asked for, and turns every error into one sentence.

A command is a module of this package, which is imported only when it is asked for. It has two functions:
`configure(parser)` adds its options, and must not import what only running needs; `run(args)` does the work and
returns the exit status: 0, or 1 for "did not work" and, like grep, for "found nothing". What argparse refuses is 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TextIO

from clew._version import __version__
from clew.errors import ClewError
from clew.pretty import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "main"]

# How a shell reports a program that ended by these signals.
_INTERRUPTED = 128 + 2
_BROKEN_PIPE = 128 + 13


class Command(NamedTuple):
    """An entry of the table of commands."""

    module: str
    help: str  # what it does, on one line


COMMANDS = {
    "convert": Command("clew.cli.convert", "write the traces of files in another format"),
    "demo": Command("clew.cli.demo", "show what clew does, a real Tor circuit included"),
    "lab": Command("clew.cli.lab", "run a private Tor network on this machine"),
    "run": Command("clew.cli.run", "run a Python program with a tracer"),
    "stats": Command("clew.cli.stats", "count the spans in a file, and how long they took"),
    "tor": Command("clew.cli.tor", "trace a running tor, record and replay it, report on it"),
    "view": Command("clew.cli.view", "draw the traces in a file"),
}

_EPILOG = """\
example:
  clew view traces.jsonl --errors       draw the traces in which something failed

'clew COMMAND --help' tells more about a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line, without the program's name; None for those of this process.

    Returns: the exit status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _keep_printing(sys.stdout)
    _keep_printing(sys.stderr)
    try:
        return _run(arguments)
    except ClewError as error:
        return _fail(str(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        _discard_output()
        return _BROKEN_PIPE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return _fail("this needs the package rich: pip install 'clew[cli]'")
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    parser, commands = _make_parser()
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    if name in COMMANDS:
        command = import_module(COMMANDS[name].module)
        command.configure(commands[name])
        status: int = command.run(parser.parse_args(arguments))
        # Here, where a broken pipe is still told from other errors.
        sys.stdout.flush()
        return status
    parser.parse_args(arguments)
    parser.print_help(sys.stderr)
    return 2


def _make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="clew",
        description="Distributed tracing that reaches all the way through Tor.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clew {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    return parser, {
        name: commands.add_parser(
            name, help=command.help, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        for name, command in COMMANDS.items()
    }


def _keep_printing(stream: TextIO) -> None:
    """Where the terminal's encoding has no letter for a name, print its escape instead of failing."""
    if hasattr(stream, "reconfigure"):  # not so where a test or a program put something else there
        stream.reconfigure(errors="backslashreplace")


def _fail(sentence: str) -> int:
    print(f"clew: {escape(sentence)}", file=sys.stderr)
    return 1


def _discard_output() -> None:
    """Let nothing complain when Python flushes standard output at its exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
