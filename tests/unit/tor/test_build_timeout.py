"""What tor waits for a circuit, as far as it is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.tor.build_timeout import KINDS, BuildTimeout, Trigger
from clew.tor.events import BuildTimeoutEvent

COMPUTED = BuildTimeoutEvent(1, "COMPUTED", 1000, 815, 0.8, 0.02)
LEARNED = {"tor.cbt.timeout_ms": 815, "tor.cbt.quantile": 0.8, "tor.cbt.timeout_rate": 0.02}


def known_after(*events: BuildTimeoutEvent) -> dict[str, object]:
    timeout = BuildTimeout()
    for event in events:
        timeout.handle(event)
    return timeout.attributes()


def test_nothing_is_known_at_first() -> None:
    """No attribute is made up before tor has said anything."""
    assert known_after() == {}


def test_what_tor_computed() -> None:
    """Timeout, quantile and rate hold from the event on."""
    assert known_after(COMPUTED) == LEARNED


@pytest.mark.parametrize("kind", ["RESET", "SUSPENDED"])
def test_a_timeout_that_was_not_learned(kind: str) -> None:
    """The timeout holds; it is no quantile of anything, whatever the event says."""
    assert known_after(COMPUTED, BuildTimeoutEvent(2, kind, 0, 60_000, 1.0, 0.0)) == {"tor.cbt.timeout_ms": 60_000}


def test_discarded_times_change_nothing_yet() -> None:
    """tor drops what it measured while the network was down; what it learned before holds until it computes anew."""
    assert known_after(COMPUTED, BuildTimeoutEvent(2, "DISCARD", 900, 815, 1.0, 0.0)) == LEARNED


def test_the_network_is_back() -> None:
    """After SUSPENDED, RESUME brings what was learned."""
    suspended = BuildTimeoutEvent(2, "SUSPENDED", 1000, 60_000, 1.0, 0.0)
    assert known_after(suspended, BuildTimeoutEvent(3, "RESUME", 1000, 900, 0.8, 0.03)) == {
        "tor.cbt.timeout_ms": 900,
        "tor.cbt.quantile": 0.8,
        "tor.cbt.timeout_rate": 0.03,
    }


def test_a_kind_of_a_newer_tor() -> None:
    """What it waits is taken from a kind that is not known, too."""
    assert known_after(BuildTimeoutEvent(1, "GUESSED", timeout_ms=7)) == {"tor.cbt.timeout_ms": 7}


def test_another_run_of_tor() -> None:
    """When tor goes away, what it had learned goes with it."""
    timeout = BuildTimeout()
    timeout.handle(COMPUTED)
    timeout.forget()
    assert timeout.attributes() == {}


def test_what_is_given_is_a_copy() -> None:
    """Who gets the attributes may add to them."""
    timeout = BuildTimeout()
    timeout.handle(COMPUTED)
    timeout.attributes()["more"] = 1
    assert timeout.attributes() == LEARNED


@given(st.lists(st.sampled_from([*KINDS, Trigger.UNKNOWN, Trigger.LOST, "", "\0"])))
def test_any_kinds_in_any_order(kinds: list[str]) -> None:
    """Nothing raises, and a word of ours from tor is an unknown one."""
    events = [BuildTimeoutEvent(number, kind, timeout_ms=number) for number, kind in enumerate(kinds)]
    assert set(known_after(*events)) <= set(LEARNED)


def test_ours_are_not_tors() -> None:
    """tor's words are looked up among tor's words."""
    assert set(Trigger) - set(KINDS.values()) == {Trigger.UNKNOWN, Trigger.LOST}
