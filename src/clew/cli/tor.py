"""`clew tor`: its actions, and the options of `clew tor attach`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clew.cli.privacy_option import privacy_of
from clew.cli.tor_connection_options import PASSWORD_HELP, add_connection_options, password_of
from clew.cli.tor_doctor_options import add_doctor
from clew.cli.tor_log_options import add_record, add_replay
from clew.cli.tor_report_options import add_report
from clew.cli.tor_trace_options import DEFAULT_FILE, add_trace_options

if TYPE_CHECKING:
    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

__all__ = ["configure", "run"]

_EPILOG = f"""\
examples:
  clew tor attach                                  the tor of this machine, to {DEFAULT_FILE}
  clew tor attach --control 9051 --file tor.jsonl  another control port, another file
  clew view -f {DEFAULT_FILE}                        draw what is recorded, in another terminal

{PASSWORD_HELP}"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options; each action says which function runs it."""
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    _add_attach(actions)
    add_record(actions)
    add_replay(actions)
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
        help="trace what a running tor does until Ctrl-C",
        description="Trace what a running tor does, its circuits, streams and onion connections, until Ctrl-C; "
        "go on when tor is restarted.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_connection_options(attach)
    add_trace_options(attach)
    attach.set_defaults(run=_attach)


def _attach(args: argparse.Namespace) -> int:
    from clew.cli.tor_attach import Options, attach

    return attach(
        Options(
            address=args.control,
            file=args.file,
            privacy=privacy_of(args),
            public_network=args.public_network,
            password=password_of(args),
            cookie_file=args.cookie_file,
            json=args.json,
        )
    )
