"""clew.pretty: the plain-text tree."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.model import AttributeValue, Event, Link, Resource, SpanContext, SpanKind, SpanRecord, Status
from clew.pretty import escape, format_duration, format_tree, format_value

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MS = 1_000_000
CLIENT = Resource({"service.name": "tor-client"})


def test_whole_tree() -> None:
    """Names, kinds, services, durations, statuses, ids, attributes, events, links, drops: all on the picture."""
    records = [
        SpanRecord(
            TRACE,
            "00000000000000a2",
            "00000000000000a1",
            "extend",
            SpanKind.CLIENT,
            12 * MS,
            40 * MS,
            Status.ERROR,
            "relay is down",
            events=(
                Event("exception", 30 * MS, {"exception.stacktrace": "Traceback:\r\n  line 1\nTimeoutError: 3\n"}),
                Event("early", 11 * MS),
            ),
            resource=Resource({"service.name": "relay"}),
            dropped_events=2,
        ),
        SpanRecord(
            TRACE,
            "00000000000000a1",
            "",
            "build-circuit",
            SpanKind.INTERNAL,
            10 * MS,
            1510 * MS,
            Status.CANCELLED,
            attributes={"circuit.id": 7, "hops": ("guard", "exit"), "note": 'a "b"'},
            links=(Link(SpanContext(TRACE, "00000000000000ff"), {"reused": True}),),
            resource=CLIENT,
        ),
    ]
    assert format_tree(records) == (
        "trace  4bf92f3577b34da6a3ce929d0e0e4736  tor-client  1.50 s\n"
        "  build-circuit  1.50 s  CANCELLED  00000000000000a1\n"
        "    - circuit.id = 7\n"
        '    - hops = ["guard", "exit"]\n'
        '    - note = "a \\"b\\""\n'
        "    > link 4bf92f3577b34da6a3ce929d0e0e4736 00000000000000ff  reused = true\n"
        "    extend  CLIENT  in relay  28.0 ms  ERROR: relay is down  00000000000000a2\n"
        "      * exception  +18.0 ms\n"
        "        - exception.stacktrace =\n"
        "            Traceback:\n"
        "              line 1\n"
        "            TimeoutError: 3\n"
        "      * early  -1.00 ms\n"
        "      ! dropped: 2 events\n"
    )


def test_without_times_and_ids() -> None:
    """times=False and ids=False leave what is the same in every run."""
    records = [
        SpanRecord(TRACE, "b" * 16, "a" * 16, "child", start_time_ns=5, events=(Event("hop", 7, {"n": 1}),)),
        SpanRecord(
            TRACE, "a" * 16, "", "root", SpanKind.SERVER, 1, 9, Status.OK, links=(Link(SpanContext(TRACE, "c")),)
        ),
    ]
    assert format_tree(records, times=False, ids=False) == (
        "trace  unknown_service\n  root  SERVER  OK\n    > link\n    child\n      * hop\n        - n = 1\n"
    )


def test_nothing() -> None:
    """No records, no text."""
    assert format_tree([]) == ""


def test_broken_trees_say_so() -> None:
    """Orphans and rings stand at the root, each with a note."""
    records = [
        SpanRecord(TRACE, "a" * 16, "b" * 16, "one", start_time_ns=1),
        SpanRecord(TRACE, "b" * 16, "a" * 16, "two", start_time_ns=2),
        SpanRecord(TRACE, "c" * 16, "d" * 16, "three", start_time_ns=3),
    ]
    assert format_tree(records, times=False, ids=False) == (
        "trace  unknown_service\n"
        "  one\n"
        "    ! it is its own ancestor: the ring is cut here\n"
        "    two\n"
        "  three\n"
        "    ! its parent dddddddddddddddd is not here\n"
    )


def test_deep_chain_stays_small() -> None:
    """10,000 levels: no recursion, and the indentation ends where nobody can follow it; the depth is a number then."""
    records = [SpanRecord(TRACE, f"{n:016x}", f"{n - 1:016x}" if n else "", "s") for n in range(10_000)]
    lines = format_tree(records, times=False, ids=False).splitlines()
    assert len(lines) == 10_001
    assert lines[-1].strip() == "(10000)  s"
    assert max(map(len, lines)) < 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 日本 🧅", "Grüße 日本 🧅"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202egnp.exe\u2066\u200f", "\\u202egnp.exe\\u2066\\u200f"),
        ("\u2028\u2029\ufeff", "\\u2028\\u2029\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("ක්\u200dෂ", "ක්\u200dෂ"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    """What can move the cursor, reorder or hide text becomes visible; letters of all scripts stay."""
    assert escape(text) == shown


@given(st.text())
def test_escape_leaves_nothing_that_acts(text: str) -> None:
    """Escaped text is on one line, can be encoded, and holds no control or format character that acts."""
    shown = escape(text)
    shown.encode()
    assert all(unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} for char in shown)
    assert not any("\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069" for char in shown)
    assert escape(shown) == shown


HOSTILE = "\x1b]0;x\x07\u202e\n[red]" + "x" * 10_000


def test_hostile_text_everywhere() -> None:
    """Wherever a trace carries text, it comes out escaped, and each thing stays on its line."""
    record = SpanRecord(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        HOSTILE,
        status=Status.ERROR,
        status_description=HOSTILE,
        attributes={HOSTILE: (HOSTILE, {HOSTILE: HOSTILE}), "block": HOSTILE},
        events=(Event(HOSTILE, 0, {HOSTILE: 1}),),
        links=(Link(SpanContext(HOSTILE, HOSTILE), {HOSTILE: HOSTILE}),),
        resource=Resource({"service.name": HOSTILE}),
    )
    text = format_tree([record])
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("duration_ns", "shown"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (9_996, "10.0 µs"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (12_345_678, "12.3 ms"),
        (1_500_000_000, "1.50 s"),
        (59_900_000_000, "59.9 s"),
        (59_960_000_000, "1m 00s"),
        (125_000_000_000, "2m 05s"),
        (3_600_000_000_000, "1h 00m"),
        (90_000_000_000_000, "1d 01h"),
        (100 * 86_400_000_000_000, "100 d"),
        (2**64 - 1, "584.5 y"),
        (-5_000, "-5.00 µs"),
    ],
)
def test_format_duration(duration_ns: int, shown: str) -> None:
    """Three digits in the unit that fits; no "1000 µs", no "60.0 s"."""
    assert format_duration(duration_ns) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\\b", '"a\\\\b"'),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (0.5, "0.5"),
        (b"\x00\xff", "0x00ff"),
        ((), "[]"),
        ({"a": (1, "b"), "c": {}}, '{a = [1, "b"], c = {}}'),
    ],
)
def test_format_value(value: AttributeValue, shown: str) -> None:
    """Every type of value has one form, so that 1 and "1" are told apart."""
    assert format_value(value) == shown
