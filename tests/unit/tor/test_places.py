"""Places: one spelling for each, and what is remembered of them."""

from __future__ import annotations

import pytest

from clew import limits
from clew.tor.places import Places, relay_of_exit_name, spelling

FINGERPRINT = "0011223344556677889900112233445566778899"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Example.COM.", "example.com"),
        ("abcdef.onion", "ABCDEF"),
        ("[2001:db8::1]", "2001:db8::1"),
        (f"${FINGERPRINT}~karl", FINGERPRINT),
        (f"${FINGERPRINT}=karl", FINGERPRINT),
        (f"127.0.0.1.${FINGERPRINT}.exit", FINGERPRINT),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_one_spelling(one: str, other: str) -> None:
    """What names the same place is spelt alike."""
    assert spelling(one) == spelling(other)


@pytest.mark.parametrize("text", ["", "$", ".onion", "$zz", "a$b.exit", "xn--", "\ud800.example", "."])
def test_odd_names_have_a_spelling(text: str) -> None:
    """Nothing that stands in the place of a name raises."""
    assert isinstance(spelling(text), str)
    Places().add(text)


@pytest.mark.parametrize(
    ("target", "relay"),
    [
        (f"127.0.0.1.${FINGERPRINT}.exit", FINGERPRINT),
        (f"${FINGERPRINT}~karl.exit", FINGERPRINT),
        (f"{FINGERPRINT}.EXIT", FINGERPRINT),
        ("example.com", None),
        ("karl.exit", None),
    ],
)
def test_a_relay_as_a_target(target: str, relay: str | None) -> None:
    """tor's name for a relay as a destination is known."""
    assert relay_of_exit_name(target) == relay


def test_what_is_remembered() -> None:
    """Names with dots, in both alphabets; not words, not numbers, nothing twice."""
    places = Places()
    for name in ("Example.com", "example.com.", "localhost", "192.0.2.1", "xn--bcher-kva.example", "straße.example"):
        places.add(name)
    for known in ("example.com", "xn--bcher-kva.example", "bücher.example", "straße.example", "xn--strae-oqa.example"):
        assert known in places
    assert "localhost" not in places
    assert "192.0.2.1" not in places
    assert places.additions == len(places) == 5


def test_the_oldest_is_forgotten() -> None:
    """There is a cap."""
    places = Places()
    for number in range(limits.PLACES_REMEMBERED + 1):
        places.add(f"n{number}.example")
    assert len(places) == limits.PLACES_REMEMBERED
    assert "n0.example" not in places
    assert "n1.example" in places
    places.add("x" * limits.PLACE_CHARACTERS + ".example")
    assert len(places) == limits.PLACES_REMEMBERED
