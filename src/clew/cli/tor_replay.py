"""What `clew tor replay` does: recorded events to traces."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.cli.terminal import byte_progress
from clew.cli.tor_traces import Counts, TracedRun
from clew.errors import ConfigurationError
from clew.formats.files import STDIN
from clew.pretty import escape
from clew.tor.event_log import LogNotes
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.replay import read_log
from clew.tor.replay import replay as replay_log

if TYPE_CHECKING:
    from clew.tor.event_log import Began
    from clew.tor.events import Event

__all__ = ["Options", "replay"]

_EVENTS_BETWEEN_WAITS = 500
_PROBLEMS_NAMED = 3  # the rest is only counted


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    logs: tuple[str, ...]  # "-" is standard input
    file: str
    privacy: Privacy = Privacy.PSEUDONYMOUS
    public_network: bool = False  # Privacy.LAB is meant for recordings of the public network too
    json: bool = False


def replay(options: Options) -> int:
    """Make traces of logs.

    Returns: the exit status: 1 if a log has no event in it, or something was not written.
    Raises:
        ClewError: a level that is not for these logs, a recording of a newer clew, a file that cannot be written.
        OSError: a log cannot be read.
    """
    for path in options.logs:
        if path != STDIN and Path(options.file).exists() and Path(path).samefile(options.file):
            raise ConfigurationError(f"{path} is the log, and traces are not for it: give another --file")
    replayer = _Replayer(options)
    notes = []
    try:
        with byte_progress("replaying", _total_bytes(options.logs)) as advance:
            for path in options.logs:
                notes.append(LogNotes())
                replay_log(read_log(path, notes[-1], on_bytes=advance), replayer.begin)
    finally:
        total = replayer.end()
    for path, found in zip(options.logs, notes, strict=True):
        _say(path, found)
    _note(f"{total} to {options.file}")
    if options.json:
        logs = [{"path": path, **_as_json(found)} for path, found in zip(options.logs, notes, strict=True)]
        print(json.dumps({"file": options.file, "runs": replayer.runs, **asdict(total), "logs": logs}))
    return 1 if total.spans_lost or not all(found.events for found in notes) else 0


class _Replayer:
    """Makes a tracer for each run, and adds up what was written."""

    def __init__(self, options: Options) -> None:
        self.runs = 0
        self._options = options
        self._privacy = PrivacyFilter(options.privacy)  # one for all runs: what is hashed stays the same
        self._total = Counts()
        self._run: TracedRun | None = None

    def begin(self, began: Began) -> _Replayer:
        """A run begins; its events are for us too."""
        options = self._options
        if options.privacy is Privacy.LAB and not (options.public_network or began.is_testing):
            raise ConfigurationError(
                "nothing says that this was recorded on a testing network, and --privacy lab keeps everything that "
                "would tell who the users are and where they go: use --privacy operator, or say --public-network too"
            )
        self._run = TracedRun(options.file, self._privacy, began.tor_version)
        self._handle = self._run.handle
        self._until_wait = _EVENTS_BETWEEN_WAITS
        self.runs += 1
        return self

    def handle(self, event: Event) -> None:
        """Take an event, and wait for the disk now and then: reading may be quicker."""
        self._handle(event)
        self._until_wait -= 1
        if not self._until_wait:
            self._until_wait = _EVENTS_BETWEEN_WAITS
            assert self._run is not None
            self._run.wait_for_disk()

    def close(self, reason: str, time_ns: int | None = None) -> None:
        """The run is over."""
        assert self._run is not None
        self._run.lose(reason, time_ns)
        self.end()

    def end(self) -> Counts:
        """Write what is left of a run that was interrupted. Returns all counts."""
        run, self._run = self._run, None
        if run is not None:
            self._total += run.end()
        return self._total


def _total_bytes(paths: tuple[str, ...]) -> int | None:
    """Of all files together, None if somebody knows only later. Raises: OSError."""
    return None if STDIN in paths else sum(Path(path).stat().st_size for path in paths)


def _say(path: str, notes: LogNotes) -> None:
    name = "standard input" if path == STDIN else path
    if not notes.events:
        _note(f"{name}: there is no event of tor in it")
    if notes.missed:
        _note(f"{name}: {notes.missed:,} events are missing in it, as it says itself")
    if notes.problems:
        first = [f"line {problem.line:,} {problem.what}" for problem in notes.first_problems[:_PROBLEMS_NAMED]]
        more = ["..."] if notes.problems > len(first) else []
        lines = "1 line was" if notes.problems == 1 else f"{notes.problems:,} lines were"
        _note(f"{name}: {lines} not used: {'; '.join(first + more)}")


def _note(sentence: str) -> None:
    print(escape(sentence), file=sys.stderr, flush=True)


def _as_json(notes: LogNotes) -> dict[str, Any]:
    found = asdict(notes)
    return {**found, "first_problems": [problem._asdict() for problem in notes.first_problems]}
