"""What `clew tor attach` does: a run of tor after the other, traced as it happens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from clew.cli.tor_sessions import Connection, Screen, Session, follow
from clew.cli.tor_traces import Counts, TracedRun
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.protection import allow_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.tor.control import ControlClient

__all__ = ["Options", "attach"]

# Spans are written at least so often, so that who follows the file sees them soon.
_BATCH_DELAY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    address: str | None  # None: search
    file: str
    privacy: Privacy = Privacy.PSEUDONYMOUS
    public_network: bool = False  # Privacy.LAB is meant on the public network too
    password: str | Callable[[], str] | None = None
    cookie_file: str | None = None
    json: bool = False


def attach(options: Options) -> int:
    """Record what tor does until Ctrl-C or SIGTERM.

    Returns: the exit status: 1 if something was not written.
    Raises: ClewError: tor cannot be reached, or the file not be written, at the beginning. Later, it is tried again.
    Thread: the main one; blocks.
    """
    privacy = PrivacyFilter(options.privacy)  # one for all connections: what is hashed stays the same
    screen = Screen()
    total = follow(
        Connection(options.address, options.password, options.cookie_file),
        lambda client: _Session(client, options, privacy),
        Counts(),
        screen,
        lambda session: f"recording what tor {session.tor_version} at {session.address} does to {options.file}",
    )
    screen.note(f"{total} to {options.file}")
    if options.json:
        print(json.dumps({"file": options.file, **asdict(total)}))
    return 1 if total.spans_lost else 0


class _Session(Session[Counts]):
    def __init__(self, client: ControlClient, options: Options, privacy: PrivacyFilter) -> None:
        super().__init__(client)
        try:
            allow_level(client, options.privacy, public_network=options.public_network)
            events = self.events()
            self._run = TracedRun(options.file, privacy, client.tor_version, batch_delay=_BATCH_DELAY_SECONDS)
        except BaseException:
            client.close()
            raise
        try:
            client.add_listener(self._run.handle)
            self.start(events)
            self._run.preload(client.get_info("circuit-status")["circuit-status"])
        except BaseException:
            self.end()
            raise

    def lose(self) -> None:
        self._run.lose("CONNECTION_LOST")

    def counts(self) -> Counts:
        events = self.client.stats()
        return replace(self._run.counts(), events_lost=events.dropped + events.malformed)

    def end(self) -> Counts:
        self.client.close()
        self._run.lose("DETACHED")
        return replace(self._run.end(), events_lost=self.counts().events_lost)
