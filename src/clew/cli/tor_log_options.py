"""`clew tor record` and `clew tor replay`: their options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clew.cli.privacy_option import privacy_of
from clew.cli.tor_connection_options import PASSWORD_HELP, add_connection_options, password_of
from clew.cli.tor_trace_options import DEFAULT_FILE, add_trace_options

if TYPE_CHECKING:
    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

__all__ = ["add_record", "add_replay"]

_RECORD_DESCRIPTION = """\
Record what a running tor says on its control port, event by event, with the time at which each arrived, until Ctrl-C;
go on when tor is restarted. 'clew tor replay' makes traces of it later, at any level of privacy.

A recording is raw: it has destinations, onion addresses, relays and clients in clear. Only what SOCKS clients give as
user names and passwords is left out. The file is readable by its owner only; keep it private, and delete it in time.
"""

_RECORD_EPILOG = f"""\
examples:
  clew tor record tor.log.gz                       the tor of this machine, compressed
  clew tor record tor.log --control 9051 --events CIRC_BW,GUARD
  clew tor replay tor.log.gz --file traces.jsonl   traces of what was recorded

{PASSWORD_HELP}"""

_REPLAY_DESCRIPTION = """\
Make traces of recorded events: the same that 'clew tor attach' would have written at the time. Logs are recordings of
'clew tor record' and the torctl.log of OnionPerf, compressed by gzip or xz or not, of any size; "-" is standard input.
Lines that cannot be read are counted, and the first of them named.
"""

_REPLAY_EPILOG = f"""\
examples:
  clew tor replay tor.log.gz                                      to {DEFAULT_FILE}
  clew tor replay onionperf.torctl.log.xz --file onionperf.jsonl  what OnionPerf logged
  zcat day1.torctl.log.gz day2.torctl.log.gz | clew tor replay -  one log that was cut in two

exit status: 0, or 1 if a log has no event in it, or something could not be written.
"""


def add_record(actions: _Actions) -> None:
    """Add the action `record`."""
    record = actions.add_parser(
        "record",
        help="record the raw events of a running tor until Ctrl-C",
        description=_RECORD_DESCRIPTION,
        epilog=_RECORD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    record.add_argument("file", metavar="FILE", help="a new file; compressed if its name ends in .gz or .xz")
    add_connection_options(record)
    record.add_argument(
        "--events",
        type=_event_names,
        default=(),
        metavar="NAMES",
        help="record these too, as CIRC_BW,GUARD (default: the events that replay makes spans of)",
    )
    record.add_argument("--json", action="store_true", help="at the end, print the counts as JSON on standard output")
    record.set_defaults(run=_record)


def _record(args: argparse.Namespace) -> int:
    from clew.cli.tor_record import Options, record
    from clew.cli.tor_sessions import Connection

    connection = Connection(args.control, password_of(args), args.cookie_file)
    return record(Options(connection, args.file, args.events, args.json))


def _event_names(text: str) -> tuple[str, ...]:
    names = tuple(text.upper().split(","))
    if not all(name.replace("_", "").isalnum() and name.isascii() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of events as CIRC_BW,GUARD")
    return names


def add_replay(actions: _Actions) -> None:
    """Add the action `replay`."""
    replay = actions.add_parser(
        "replay",
        help="make traces of recorded events",
        description=_REPLAY_DESCRIPTION,
        epilog=_REPLAY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    replay.add_argument("logs", nargs="+", metavar="LOG", help='a recording or a torctl.log; "-" is standard input')
    add_trace_options(replay)
    replay.set_defaults(run=_replay, refuse=replay.error)


def _replay(args: argparse.Namespace) -> int:
    from clew.cli.tor_replay import Options, replay

    if args.logs.count("-") > 1:
        args.refuse("standard input can be read only once")
    return replay(Options(tuple(args.logs), args.file, privacy_of(args), args.public_network, args.json))
