"""What a node knows, from its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from clew.tor.lab_knowledge import (
    bootstrap_share,
    connected_relays,
    has_consensus,
    has_descriptions,
    has_live_consensus,
    uploaded_descriptors,
)
from tests.lab_layout import layout

if TYPE_CHECKING:
    from clew.tor.lab_process import Node


def node(**answers: str) -> Node:
    """One that answers these keys, of which "_" stands for the characters that Python has no names for."""

    class Answering:
        def ask(self, *keys: str) -> dict[str, str]:
            known = {key: answers.get(key.replace("/", "_").replace("-", "_")) for key in keys}
            return {} if None in known.values() else {key: value for key, value in known.items() if value is not None}

    return cast("Node", Answering())


def test_a_node_that_has_no_answer() -> None:
    """It knows nothing."""
    silent = node()
    assert uploaded_descriptors(silent) == connected_relays(silent) == set()
    assert not has_consensus(silent, layout())
    assert not has_live_consensus(silent)
    assert not has_descriptions(silent, layout())
    assert bootstrap_share(silent, layout()) == 0


def test_descriptors() -> None:
    """The names in lines that begin one."""
    text = "router guard1 127.0.0.1 1 0 0\nplatform Tor\nrouter exit1 127.0.0.1 2 0 0\nonion-key"
    assert uploaded_descriptors(node(desc_all_recent=text)) == {"guard1", "exit1"}


@pytest.mark.parametrize(("until", "expected"), [("2001-01-01 00:00:00", False), ("2999-01-01 00:00:00", True)])
def test_a_live_consensus(until: str, expected: bool) -> None:
    """In UTC."""
    assert has_live_consensus(node(consensus_valid_until=until)) is expected


def test_bootstrap() -> None:
    """A node that has done it, but does not know all relays, has not done it."""
    assert bootstrap_share(node(status_bootstrap_phase="NOTICE BOOTSTRAP PROGRESS=75 TAG=x"), layout()) == 0.75
    assert bootstrap_share(node(status_bootstrap_phase="NOTICE BOOTSTRAP PROGRESS=100 TAG=done"), layout()) == 0.99


def test_connections() -> None:
    """Those that stand, not those that are tried."""
    lines = f"${'A' * 40}~guard1 CONNECTED\n${'B' * 40} LAUNCHED\n127.0.0.1:3 CONNECTED"
    assert connected_relays(node(orconn_status=lines)) >= {"A" * 40}
    assert "B" * 40 not in connected_relays(node(orconn_status=lines))
