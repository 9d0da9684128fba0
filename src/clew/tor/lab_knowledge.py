"""What a lab's node knows of the network, asked on its control socket.

Each question is answered with what stands for "not yet" while the node has no answer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clew.tor.consensus import parse_router_statuses
from clew.tor.lab_config import is_complete

if TYPE_CHECKING:
    from clew.tor.lab_config import Layout
    from clew.tor.lab_process import Node

__all__ = [
    "bootstrap_share",
    "connected_relays",
    "has_consensus",
    "has_descriptions",
    "has_live_consensus",
    "uploaded_descriptors",
]


def uploaded_descriptors(node: Node) -> set[str]:
    """The names of the relays whose descriptors an authority has (dir-spec 2.1.1: "router" begins one)."""
    lines = node.ask("desc/all-recent").get("desc/all-recent", "").split("\n")
    return {line.split(" ")[1] for line in lines if line.startswith("router ")}


def has_consensus(node: Node, layout: Layout) -> bool:
    """True if it has a consensus in which all relays run where they are, with the flags of their roles."""
    return is_complete(layout, parse_router_statuses(node.ask("ns/all").get("ns/all", "")))


def has_live_consensus(node: Node) -> bool:
    """True if the end of its consensus is still to come."""
    until = node.ask("consensus/valid-until").get("consensus/valid-until")
    return until is not None and datetime.fromisoformat(until).replace(tzinfo=UTC).timestamp() > time.time()


def has_descriptions(node: Node, layout: Layout) -> bool:
    """True if it can build a circuit through any of the relays: it has all microdescriptors."""
    keys = [f"md/id/{seat.fingerprint}" for seat in layout.seats if seat.is_relay]
    return len(node.ask(*keys)) == len(keys)


def bootstrap_share(node: Node, layout: Layout) -> float:
    """How much of its own bootstrap it has done, 0 to 1; 1 if it also knows all relays."""
    phase = node.ask("status/bootstrap-phase").get("status/bootstrap-phase", "")
    percent = next((int(word[9:]) for word in phase.split(" ") if word.startswith("PROGRESS=")), 0)
    if percent == 100:
        return 1 if has_consensus(node, layout) and has_descriptions(node, layout) else 0.99
    return percent / 100


def connected_relays(node: Node) -> set[str]:
    """The fingerprints of those that it has a connection with (control-spec 3.9, orconn-status)."""
    lines = node.ask("orconn-status").get("orconn-status", "").split("\n")
    return {line[1:41] for line in lines if line.endswith(" CONNECTED")}
