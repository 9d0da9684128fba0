"""`clew lab up|status|down`: a private Tor network on this machine."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clew.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.tor.lab import Lab, LabProgress, LabStatus

__all__ = ["configure", "run"]

_EPILOG = """\
examples:
  clew lab up                     start it; it stays until 'clew lab down'
  clew lab up --foreground        start it; it stays until Ctrl-C
  clew lab up --dir /tmp/lab --relays 8
  clew lab up --onion-service 80:8000      with an onion service for what listens on port 8000
  clew lab status --json          where its control socket and its SOCKS port are
  clew lab down                   end it; keys and the consensus are kept for the next time

Three authorities, some relays and a client, each a real tor, on 127.0.0.1 only. In Python: with Lab() as lab.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)

    def add(name: str, help_text: str, run_action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        action = actions.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        action.add_argument(
            "--dir",
            type=Path,
            metavar="DIR",
            help="the lab's directory; labs in different directories do not disturb each other "
            "(default: $XDG_STATE_HOME/clew/lab, that is ~/.local/state/clew/lab)",
        )
        action.set_defaults(run_action=run_action)
        return action

    up = add("up", "start the network, in at most 40 s, and leave it running", _up)
    up.add_argument("--authorities", type=int, default=3, metavar="N", help="directory authorities (default: 3)")
    up.add_argument("--relays", type=int, default=5, metavar="N", help="guards, middles and exits (default: 5)")
    up.add_argument(
        "--onion-service",
        type=_ports,
        action="append",
        default=[],
        metavar="PORT:TARGET",
        help="an onion service whose PORT leads to port TARGET of 127.0.0.1; may be given again",
    )
    up.add_argument("--foreground", action="store_true", help="stay until Ctrl-C instead")
    status = add("status", "say whether it is up, and where; exit status 1 if it is not", _status)
    status.add_argument("--json", action="store_true", help="as one JSON object")
    add("down", "end the network", _down)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the actions.

    Raises: ClewError.
    """
    status: int = arguments.run_action(arguments)
    return status


def _up(arguments: argparse.Namespace) -> int:
    from clew.tor import lab_keeper
    from clew.tor.lab import Lab

    size = {"authorities": arguments.authorities, "relays": arguments.relays}
    services: list[tuple[int, int]] = arguments.onion_service
    lab = Lab(arguments.dir, **size, is_keeper=True)
    status = lab.status()
    if status.is_ready:
        if missing := {*services} - {(service.port, service.target_port) for service in status.onion_services}:
            words = ", ".join(f"{port}:{target_port}" for port, target_port in sorted(missing))
            raise LabError(f"the lab in {lab.directory} is up already, without --onion-service {words}: end it first")
        print(f"the lab in {lab.directory} is up already")
        _show(status)
        return 0
    begin = time.monotonic()
    if not arguments.foreground:
        with _progress() as progress:
            lab_keeper.start(lab.directory, **size, services=services, progress=progress)
        _tell_up(lab, begin)
        print("  end it    clew lab down" + ("" if arguments.dir is None else f" --dir {arguments.dir}"))
        return 0
    # What 'clew lab down' sends from another terminal is as good as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _progress() as progress:
        lab_keeper.bring_up(lab, services, progress)
    try:
        _tell_up(lab, begin)
        print("  end it    Ctrl-C", flush=True)
        lab_keeper.stay(lab)
    except KeyboardInterrupt:
        return 0  # as asked; before it was up, it is an error
    finally:
        lab.down()
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from clew.tor import lab_keeper
    from clew.tor.lab import Lab

    lab = Lab(arguments.dir)
    was_up = lab_keeper.end(lab)
    print(f"the lab in {lab.directory} " + ("is down" if was_up else "was not up"))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from clew.tor.lab import Lab

    status = Lab(arguments.dir).status()
    if arguments.json:
        print(json.dumps(_as_json(status), indent=2))
    else:
        state = "up" if status.is_ready else "on its way up or down" if status.is_up else "down"
        print(f"the lab in {status.directory} is {state}")
        if status.is_up:
            _show(status)
    return 0 if status.is_ready else 1


def _tell_up(lab: Lab, begin: float) -> None:
    print(f"the lab in {lab.directory} is up after {time.monotonic() - begin:.1f} s")
    _show(lab.status())


def _show(status: LabStatus) -> None:
    """What one needs to use it, and its nodes."""
    for node in status.nodes:
        if node.socks_port:
            print(f"  control   {node.control}")
            print(f"  SOCKS     127.0.0.1:{node.socks_port}")
    for service in status.onion_services:
        print(f"  onion     {service.address}:{service.port} to 127.0.0.1:{service.target_port}")
    for node in status.nodes:
        state = f"process {node.pid}" if node.pid else "stopped"
        print(f"  {node.name:<9} {node.fingerprint or '-':<40}  {state}")


def _as_json(status: LabStatus) -> dict[str, object]:
    client = next((node for node in status.nodes if node.socks_port), None)
    return {
        "directory": str(status.directory),
        "state": "up" if status.is_ready else "changing" if status.is_up else "down",
        "pid": status.owner.pid if status.owner else None,
        "keeper": status.is_keeper,
        "since_unix_seconds": status.since,
        "control": client.control if client else None,
        "socks_port": client.socks_port if client else None,
        "nodes": [
            {
                "name": node.name,
                "role": str(node.role),
                "fingerprint": node.fingerprint,
                "pid": node.pid,
                "or_port": node.or_port,
                "dir_port": node.dir_port,
                "socks_port": node.socks_port,
                "control": node.control,
            }
            for node in status.nodes
        ],
        "onion_services": [asdict(service) for service in status.onion_services],
    }


def _ports(text: str) -> tuple[int, int]:
    """The argument of --onion-service."""
    port, colon, target_port = text.partition(":")
    if not (colon and port.isdecimal() and target_port.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT:TARGET, such as 80:8000")
    return int(port), int(target_port)


@contextmanager
def _progress() -> Iterator[Callable[[LabProgress], None]]:
    """A bar on a terminal, a line for each step elsewhere; on standard error."""
    if not sys.stderr.isatty():
        said = ""

        def tell(progress: LabProgress) -> None:
            nonlocal said
            if progress.what != said:
                said = progress.what
                print(f"{progress.seconds:5.1f} s  {progress.what}", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda progress: bar.update(task, completed=progress.fraction, description=progress.what)
