"""What `clew tor doctor` does: a line for each check as soon as it is made."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from clew.cli.terminal import make_console
from clew.cli.tor_connection import connect
from clew.limits import CONTROL_TIMEOUT_SECONDS
from clew.pretty import escape
from clew.tor.doctor import Examination
from clew.tor.finding import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from clew.tor.address import ControlAddress
    from clew.tor.finding import Finding

__all__ = ["Options", "examine"]

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.SKIPPED: "dim"}


class Options(NamedTuple):
    """What was asked for on the command line."""

    address: str | None = None  # None: search
    password: str | Callable[[], str] | None = None
    cookie_file: str | None = None
    socks: ControlAddress | None = None  # None: as tor says
    timeout: float = 60.0  # seconds
    json: bool = False


def examine(options: Options) -> int:
    """Examine a tor, and print what was found.

    Returns: the exit status: 1 if something is broken.
    Thread: the main one; blocks.
    """
    timeout = min(options.timeout, CONTROL_TIMEOUT_SECONDS)
    findings = []
    console = None if options.json else make_console()
    with _progress() as progress:
        examination = Examination(
            lambda: connect(options.address, options.password, options.cookie_file, timeout=timeout),
            socks=options.socks,
            timeout=options.timeout,
            progress=progress,
        )
        for finding in examination.findings():
            findings.append(finding)
            if console is not None:
                _print(console, finding)
    broken = [finding.check for finding in findings if finding.verdict is Verdict.FAILED]
    doubtful = [finding.check for finding in findings if finding.verdict is Verdict.WARNING]
    if console is None:
        print(json.dumps({"healthy": not broken, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        doubts = f"; look at: {', '.join(doubtful)}" if doubtful else ""
        console.print(f"broken: {', '.join(broken)}{doubts}" if broken else f"nothing is broken{doubts}")
    return 1 if broken else 0


def _print(console: Console, finding: Finding) -> None:
    """A line, and below it what to do. What tor said may contain anything."""
    from rich.text import Text

    verdict = Text(f"{finding.verdict:<8}", style=_STYLES[finding.verdict])
    console.print(verdict + Text(f" {finding.check:<15} {escape(finding.text)}"), soft_wrap=True)
    if finding.advice:
        console.print(f"{'':<24} -> {escape(finding.advice)}", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """On a terminal, what is being checked."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True, markup=False)
    with console.status("") as status:
        yield lambda what: status.update(f"checking: {escape(what)}")
