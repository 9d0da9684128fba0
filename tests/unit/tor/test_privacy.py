"""The four levels: what each keeps, and that nothing else gets through."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew._hot import Queue, TracerCore
from clew.errors import ConfigurationError
from clew.tor.circuit_mapper import CircuitMapper
from clew.tor.circuits import CHANGES, STATUSES
from clew.tor.events import CircuitEvent, CircuitMinorEvent, Relay
from clew.tor.mapping_doc import MACHINES
from clew.tor.privacy import ATTRIBUTES, RULES, Content, Privacy, PrivacyFilter, Rule, parse_privacy

SOURCES = Path(__file__).parents[3] / "src/clew/tor"
FINGERPRINT = "0011223344556677889900112233445566778899"
HASH = re.compile(r"hash:[0-9a-f]{16}")

SAMPLE = {
    "tor.circuit.id": "17",
    "tor.circuit.purpose": "GENERAL",
    "tor.circuit.build_flags": ("IS_INTERNAL", "NEED_UPTIME"),
    "tor.hop.index": 2,
    "tor.relay.fingerprint": FINGERPRINT,
    "tor.relay.nickname": "karl",
    "server.address": "example.com",
    "server.port": 443,
    "network.local.port": 54321,
    "tor.stream.bytes_read": 1000,
    "exception.message": "no route to example.com",
    "error.type": "timeout",
    "something.else": "x",
    "absent": None,
}


def hide(attributes: dict[str, object]) -> dict[str, object]:
    """Hashes differ from run to run."""
    return {k: "#" if isinstance(v, str) and HASH.fullmatch(v) else v for k, v in attributes.items()}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (
            Privacy.ANONYMOUS,
            {
                "tor.circuit.purpose": "GENERAL",
                "tor.circuit.build_flags": ("IS_INTERNAL", "NEED_UPTIME"),
                "tor.hop.index": 2,
                "tor.stream.bytes_read": 1024,
                "error.type": "timeout",
            },
        ),
        (
            Privacy.PSEUDONYMOUS,
            {
                "tor.circuit.id": "17",
                "tor.circuit.purpose": "GENERAL",
                "tor.circuit.build_flags": ("IS_INTERNAL", "NEED_UPTIME"),
                "tor.hop.index": 2,
                "tor.relay.fingerprint": "#",
                "server.address": "#",
                "server.port": "#",
                "network.local.port": "#",
                "tor.stream.bytes_read": 1000,
                "error.type": "timeout",
                "something.else": "#",
            },
        ),
        (
            Privacy.OPERATOR,
            {
                "tor.circuit.id": "17",
                "tor.circuit.purpose": "GENERAL",
                "tor.circuit.build_flags": ("IS_INTERNAL", "NEED_UPTIME"),
                "tor.hop.index": 2,
                "tor.relay.fingerprint": FINGERPRINT,
                "tor.relay.nickname": "karl",
                "server.address": "example.com",
                "server.port": 443,
                "network.local.port": "#",
                "tor.stream.bytes_read": 1000,
                "error.type": "timeout",
                "something.else": "#",
            },
        ),
        (Privacy.LAB, {key: value for key, value in SAMPLE.items() if value is not None}),
    ],
)
def test_levels(level: Privacy, expected: dict[str, object]) -> None:
    """Each level keeps, hashes and drops what the tables say; None stands for nothing."""
    assert hide(PrivacyFilter(level).attributes(SAMPLE)) == expected


@pytest.mark.parametrize("attributes", [{"tor.hop.index": 1}, {}, {"tor.hop.index": "2"}])
def test_the_guard_is_hashed_for_the_operator_too(attributes: dict[str, object]) -> None:
    """At level 2 a relay that is the guard, or may be, has a hash and no nickname."""
    relay = {"tor.relay.fingerprint": FINGERPRINT, "tor.relay.nickname": "karl"}
    kept = PrivacyFilter(Privacy.OPERATOR).attributes(attributes | relay)
    assert hide(kept) in ({"tor.hop.index": 1, "tor.relay.fingerprint": "#"}, {"tor.relay.fingerprint": "#"}) or hide(
        kept
    ) == {"tor.hop.index": "#", "tor.relay.fingerprint": "#"}


def test_hashes_compare_within_a_filter_only() -> None:
    """Equal places have equal hashes in one filter, whatever names them, and others in the next filter."""
    one, other = PrivacyFilter(), PrivacyFilter()
    assert one.hash("tor.relay.fingerprint", FINGERPRINT) == one.hash("tor.relay.fingerprint", FINGERPRINT)
    assert one.hash("tor.relay.fingerprint", FINGERPRINT) != other.hash("tor.relay.fingerprint", FINGERPRINT)
    assert one.hash("server.address", "Abc.onion.") == one.hash("tor.hs.address", "abc")
    assert one.hash("server.port", 80) != one.hash("network.local.port", 80)
    assert one.hash("tor.circuit.extra.x", "abc") != one.hash("tor.hs.address", "abc")
    hidden = one.hash("tor.relay.fingerprint", FINGERPRINT)
    for name in (f"${FINGERPRINT}", f"${FINGERPRINT}~karl", f"${FINGERPRINT}=karl", f"127.0.0.1.${FINGERPRINT}.exit"):
        assert one.hash("server.address", name) == hidden


def test_a_hash_is_not_hashed_again() -> None:
    """What went through a filter goes through it again unchanged, and through a lower one of the same key."""
    once = PrivacyFilter()
    kept = once.attributes(SAMPLE)
    assert once.attributes(kept) == kept
    lower = once.at(Privacy.ANONYMOUS)
    assert lower.attributes(kept) == lower.attributes(SAMPLE)
    assert once.at(Privacy.OPERATOR).hash("server.address", "a") == once.hash("server.address", "a")


@pytest.mark.parametrize("hop", [{}, {"tor.hop.index": 2}])
def test_a_directory_as_a_target_is_a_relay(hop: dict[str, object]) -> None:
    """tor's own streams go to `ADDRESS.$FINGERPRINT.exit`: a relay, at level 2 hashed where it may be the guard."""
    target: dict[str, object] = {"server.address": f"127.0.0.1.${FINGERPRINT}.exit"}
    kept = [hide(PrivacyFilter(level).attributes(target | hop)) for level in Privacy]
    at_operator = target if hop else {"server.address": "#"}
    assert kept == [hop, {"server.address": "#"} | hop, at_operator | hop, target | hop]


def test_the_key_cannot_be_written() -> None:
    """A filter cannot be pickled, its repr tells nothing, and the key is within the hash only."""
    one = PrivacyFilter()
    with pytest.raises(TypeError, match="cannot be written"):
        pickle.dumps(one)
    assert repr(one).startswith("<clew.tor.privacy.PrivacyFilter object at ")
    assert not [name for name in one.__slots__ if isinstance(getattr(one, name), bytes)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tor.hop.index", "192.0.2.1"),
        ("tor.circuit.purpose", "two words"),
        ("tor.circuit.purpose", "expyuzz4wqqyqhjn.onion"),
        ("tor.circuit.purpose", FINGERPRINT),
        ("tor.circuit.build_flags", ("IS_INTERNAL", "192.0.2.1")),
        ("error.type", b"bytes"),
        ("tor.stream.bytes_read", "many"),
    ],
)
def test_a_value_that_cannot_be_what_it_is_declared_to_be(name: str, value: object) -> None:
    """It is treated as undeclared: dropped at level 0, hashed at 1 and 2, kept in the lab."""
    kept = [hide(PrivacyFilter(level).attributes({name: value})) for level in Privacy]
    assert kept == [{}, {name: "#"}, {name: "#"}, {name: value}]


@pytest.mark.parametrize(
    ("value", "bucket"), [(-5, 0), (0, 0), (1, 1), (2, 4), (4, 4), (5, 16), (1000, 1024), (10**6, 1048576)]
)
def test_buckets(value: int, bucket: int) -> None:
    """At level 0 an amount of traffic is rounded up to a power of four."""
    assert PrivacyFilter(Privacy.ANONYMOUS).attributes({"tor.stream.bytes_read": value}) == {
        "tor.stream.bytes_read": bucket
    }


def test_every_content_has_rules_that_never_tell_less_at_a_higher_level() -> None:
    """The table is whole, and each level keeps at least what the one below it keeps."""
    order = [Rule.DROP, Rule.HASH, Rule.SEARCH, Rule.BUCKET, Rule.KEEP]
    assert set(RULES) == set(Content)
    for content, rules in RULES.items():
        assert [order.index(rule) for rule in rules] == sorted(order.index(rule) for rule in rules)
        assert rules[Privacy.LAB] is (Rule.DROP if content is Content.SECRET else Rule.KEEP)
    assert len({attribute.name for attribute in ATTRIBUTES}) == len(ATTRIBUTES)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("0", Privacy.ANONYMOUS),
        ("pseudonymous", Privacy.PSEUDONYMOUS),
        (" Operator ", Privacy.OPERATOR),
        ("3", Privacy.LAB),
    ],
)
def test_parse(text: str, level: Privacy) -> None:
    """A level is named by its number or its name."""
    assert parse_privacy(text) is level


@pytest.mark.parametrize("text", ["", "4", "-1", "full"])
def test_parse_says_what_there_is(text: str) -> None:
    """A level that is none gets a sentence with those that are."""
    with pytest.raises(ConfigurationError, match=r"say 0 or anonymous, 1 or pseudonymous, 2 or operator, 3 or lab"):
        parse_privacy(text)


# --- random events with marked secrets ------------------------------------------------------------------------------

# A mark says from which level on it may be seen. "-" is in no keyword of tor's, hex and decimal digits are in many ids.
MARK = re.compile(rb"SEEN-?FROM-?(\d)", re.IGNORECASE)  # `error.type` and descriptions are in lower case

marks = st.integers(0, 999).map(str)
guards = st.builds(lambda n: Relay(f"SEEN-FROM-3-guard-{n}", f"SEEN-FROM-3-name-{n}"), marks)
relays = st.builds(lambda n: Relay(f"SEEN-FROM-2-relay-{n}", f"SEEN-FROM-2-name-{n}"), marks)
paths = st.one_of(st.just(()), st.builds(lambda g, rest: (g, *rest), guards, st.lists(relays, max_size=4)))
ids = st.sampled_from(["SEENFROM1a", "SEENFROM1b"])
secrets = marks.map(lambda n: f"SEEN-FROM-3-{n}")
words = st.one_of(st.none(), st.sampled_from(["GENERAL", "HS_CLIENT_REND", "TIMEOUT", "DESTROYED", "NEW_1"]), secrets)
common = {
    "path": paths,
    "build_flags": st.lists(st.one_of(st.just("IS_INTERNAL"), secrets), max_size=2).map(tuple),
    "purpose": words,
    "hs_state": words,
    "rend_query": st.one_of(st.none(), marks.map(lambda n: f"SEEN-FROM-2-{n}")),
    "reason": words,
    "remote_reason": words,
    "conflux_id": st.one_of(st.none(), secrets),
    "conflux_rtt_us": st.one_of(st.none(), st.integers(0, 10**6)),
    "time_created_ns": st.one_of(st.none(), st.integers(0, 10**10)),
    "extra": st.dictionaries(st.one_of(st.just("NEW_KEYWORD"), secrets), st.one_of(st.just(""), secrets), max_size=2),
}
times = st.integers(0, 10**10)
events = st.one_of(
    st.builds(CircuitEvent, times, ids, st.one_of(st.sampled_from([*STATUSES]), secrets), **common),
    st.builds(
        CircuitMinorEvent, times, ids, st.one_of(st.sampled_from([*CHANGES]), secrets), **common, old_purpose=words
    ),
)


@st.composite
def lives(draw: st.DrawFn) -> list[CircuitEvent | CircuitMinorEvent]:
    """A circuit as tor would build it, with marks all over."""
    events = [replace(draw(events_of_circuits), status="LAUNCHED", path=())]
    path = draw(paths)
    for hops in range(1, len(path) + 1):
        events.append(replace(events[0], status="EXTENDED", path=path[:hops]))
    end = draw(st.sampled_from(["BUILT", "GUARD_WAIT", "FAILED", "CLOSED"]))
    return [*events, replace(draw(events_of_circuits), status=end, circuit_id=events[0].circuit_id, path=path)]


events_of_circuits = st.builds(CircuitEvent, times, ids, st.just(""), **common)
sequences = st.lists(st.one_of(events.map(lambda event: [event]), lives()), max_size=8).map(
    lambda s: [event for life in s for event in life]
)


@pytest.mark.parametrize("level", Privacy)
@given(sequence=sequences)
def test_no_secret_below_its_level(level: Privacy, sequence: list[CircuitEvent | CircuitMinorEvent]) -> None:
    """Whatever tor sends, in whatever order: the encoded spans have no mark that their level forbids.

    And whatever it sends, every build that began has ended after `close`, and nothing raises.
    """
    queue = Queue(1 << 22, 10**6, 1 << 16)
    mapper = CircuitMapper(TracerCore(queue, _Always()), level)
    for event in sequence:
        mapper.handle(event)
    mapper.close("CONNECTION_LOST", 10**10)
    stats, counts = queue.stats(), mapper.counts
    assert (stats.open, stats.coerced, stats.errors) == (0, 0, 0)
    assert (counts.building, counts.known, counts.events) == (0, 0, len(sequence))
    encoded = b""
    while (batch := queue.take(0)) is not None:
        encoded += batch[0]
        queue.settle(batch[1], 0)
    assert all(int(mark[1]) <= level for mark in MARK.finditer(encoded))


class _Always:
    def should_sample(self, *_: object) -> bool:
        return True


def test_every_attribute_that_the_sources_name_has_a_row() -> None:
    """An attribute that somebody adds and nobody declares would be hashed without anybody having meant it."""
    spans = {span.name for machine in MACHINES for span in machine.spans}
    declared = {row.name for row in ATTRIBUTES} | {row.name.removesuffix(".*") for row in ATTRIBUTES}
    named = {
        name
        for path in SOURCES.glob("*.py")
        if path.name not in ("attributes.py", "conventions.py")
        for name in re.findall(r'"((?:tor|clew)\.[a-z0-9_]+\.?[a-z0-9_.]*)"', path.read_text())
    }
    assert len(named) > 50
    assert named - declared - spans - {path.stem for path in SOURCES.glob("*.py")} == set()
