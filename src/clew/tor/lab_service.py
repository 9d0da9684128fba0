"""Onion services in the lab: a tor for each, and when it can be reached.

A service can be reached once its descriptors are with the directories that clients will ask. It makes two at a time,
for this period and for the one before or after: which one a client asks for depends on the hour.

Source: rend-spec-v3, "Publishing shared random values" and "Client behavior"; control-spec 4.1.25 (HS_DESC).
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clew.tor.events import HsDescEvent

if TYPE_CHECKING:
    from clew.tor.events import Event

__all__ = ["OnionService", "Publication"]


@dataclass(frozen=True, slots=True)
class OnionService:
    """An onion service of a lab.

    Args:
        name: of its node ("service1").
        address: with ".onion".
        port: that clients connect to.
        target_port: TCP port of 127.0.0.1 where the program behind it listens.
        control: path of the control socket of its tor.
    """

    name: str
    address: str
    port: int
    target_port: int
    control: str


class Publication:
    """What a service's tor tells of its descriptors, from its start on.

    Thread: one calls `handle` while another reads `share`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._directories: dict[str, set[str]] = {}  # by descriptor: who is to have it
        # By directory, how many descriptors: an answer does not tell which one it is about.
        self._asked: Counter[str] = Counter()
        self._accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def handle(self, event: Event) -> None:
        """Take an event; those that do not matter are ignored."""
        if not isinstance(event, HsDescEvent):
            return
        directory = "" if event.hs_dir is None else event.hs_dir.fingerprint
        with self._lock:
            if event.action in ("CREATED", "UPLOAD") and event.descriptor_id is not None:
                directories = self._directories.setdefault(event.descriptor_id, set())
                if event.action == "UPLOAD":
                    directories.add(directory)
                    self._asked[directory] += 1
            elif event.action == "UPLOADED":
                self._accepted[directory] += 1
            elif event.action == "FAILED":
                self._refused[directory] += 1

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1.

        1 means that every directory has answered for every descriptor, and that each descriptor is with one of them at
        least: a client that asks one in vain goes on to the next.
        """
        with self._lock:
            if not self._directories:
                return 0.0
            complete = {name for name, count in self._asked.items() if self._accepted[name] >= count}
            if all(names & complete for names in self._directories.values()):
                settled = sum(
                    min(count, self._accepted[name] + self._refused[name]) for name, count in self._asked.items()
                )
                return settled / self._asked.total()
            return 0.5 * len(complete) / max(1, len(self._asked))
