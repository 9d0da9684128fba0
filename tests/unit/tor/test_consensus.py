"""Router status entries -> relays."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import ControlProtocolError
from clew.tor.consensus import RelayStatus, parse_router_statuses

IDENTITY = "AAoQQoQ4kd5nb93CKYJa/b9eqDQ"
KEY = base64.b64decode(IDENTITY + "=").hex().upper()
DIGEST = "K7Oc4KSV0SPjDkqCn1kqVSDhfYs"

ENTRY = f"""r relay1 {IDENTITY} {DIGEST} 2038-01-01 00:00:00 127.0.0.1 5001 0
a [::1]:5001
s Exit Fast Guard Running Stable V2Dir Valid
v Tor 0.4.9.11
pr Cons=1-2 Link=1-5
w Bandwidth=120 Unmeasured=1
p accept 1-65535"""
RELAY = RelayStatus(
    KEY,
    "relay1",
    "127.0.0.1",
    5001,
    frozenset({"Exit", "Fast", "Guard", "Running", "Stable", "V2Dir", "Valid"}),
    120,
)


@pytest.mark.parametrize(
    ("text", "relays"),
    [
        ("", []),
        (ENTRY, [RELAY]),
        (ENTRY + "\n", [RELAY]),
        (f"{ENTRY}\n{ENTRY}", [RELAY, RELAY]),
        (ENTRY.splitlines()[0], [RelayStatus(KEY, "relay1", "127.0.0.1", 5001)]),
        (
            f"r n {IDENTITY} {DIGEST} 2038-01-01 00:00:00 10.0.0.1 0 0 more of the future\ns NewFlag\nw Weight=1\nzz ?",
            [RelayStatus(KEY, "n", "10.0.0.1", 0, frozenset({"NewFlag"}))],
        ),
    ],
    ids=["none", "one", "newline at the end", "two", "no flags, no bandwidth", "unknown flags, words and lines"],
)
def test_sample(text: str, relays: list[RelayStatus]) -> None:
    """Each entry gives a relay; what a later tor adds is skipped."""
    assert parse_router_statuses(text) == relays


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (IDENTITY, "AAoQ", 1),
        (IDENTITY, "A" * 29, 1),
        (IDENTITY, "*" * 27, 1),
        (" 5001 0", " fivethousand 0", 1),
        (" 5001 0", " 65536 0", 1),
        (" 5001 0", " -1 0", 1),
        (" 127.0.0.1 5001 0", "", 1),
        ("Bandwidth=120", "Bandwidth=much", 6),
        ("Bandwidth=120", "Bandwidth=-1", 6),
        ("Bandwidth=120", "Bandwidth=99999999999", 6),
        ("r relay1", "x relay1", 1),
    ],
)
def test_malformed_twin(old: str, new: str, line: int) -> None:
    """A broken entry is an error that names its line."""
    with pytest.raises(ControlProtocolError, match=f"line {line} "):
        parse_router_statuses(ENTRY.replace(old, new))


@given(st.lists(st.sampled_from([*ENTRY.splitlines(), "r", "s", "w", "w Bandwidth=", ""]) | st.text(), max_size=8))
def test_any_text(lines: list[str]) -> None:
    """Any text gives relays, or the one exception."""
    try:
        parse_router_statuses("\n".join(lines))
    except ControlProtocolError:
        return
