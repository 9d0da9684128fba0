"""`clew run`: a Python program with a tracer that the command line and the environment describe."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clew.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  clew run shop.py --port 8000                       spans go where OTEL_TRACES_EXPORTER says
  clew run --file traces.jsonl shop.py               to a file
  clew run --service shop --sample 0.01 -m shop      a module; one trace of a hundred

The program gets its tracer by clew.get_tracer(). Options of clew come before the program, its own after it. SIGTERM
delivers what has ended before it ends the program.

environment:
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    import argparse

    from clew.configuration import VARIABLES

    parser.description = "Run a Python program with a tracer."
    parser.usage = "clew run [options] (PROGRAM | -m MODULE) [arguments]"
    width = max(map(len, VARIABLES))
    parser.epilog = _EPILOG + "".join(f"  {name:{width}}  {text}\n" for name, text in VARIABLES.items())
    parser.add_argument("--service", metavar="NAME", help="the service's name (OTEL_SERVICE_NAME)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--file", metavar="FILE", help="append the traces to this file (OTLP JSON Lines)")
    where.add_argument("--exporter", metavar="NAMES", help="otlp, file, console, none (OTEL_TRACES_EXPORTER)")
    parser.add_argument("--sample", metavar="SHARE", help="record this share of the traces, 0 to 1")
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module's name")
    parser.add_argument("program", metavar="PROGRAM", help="a Python file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Run the program in this process. Returns: 0; what the program ends with otherwise is raised through."""
    from clew.configuration import configure as configure_process
    from clew.configuration import flush_on_sigterm

    if not args.module and not Path(args.program).exists():
        raise ConfigurationError(f"there is no program {args.program}")
    chosen = {
        "OTEL_SERVICE_NAME": args.service,
        "OTEL_TRACES_EXPORTER": "file" if args.file else args.exporter,
        "CLEW_TRACES_FILE": args.file,
        "OTEL_TRACES_SAMPLER": None if args.sample is None else "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": args.sample,
    }
    # In the environment, so that processes which the program starts do the same.
    os.environ.update({name: value for name, value in chosen.items() if value is not None})
    sys.argv = [args.program, *args.arguments]
    configure_process()
    flush_on_sigterm()
    try:
        if args.module:
            sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does
            runpy.run_module(args.program, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(args.program).resolve().parent))
            runpy.run_path(args.program, run_name="__main__")
    except BaseException as error:
        _leave(error)
        raise
    return 0


def _leave(error: BaseException) -> None:
    """Show what the program raised as Python does, without our own frames, and end with the same status."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)
    raise SystemExit(1)
