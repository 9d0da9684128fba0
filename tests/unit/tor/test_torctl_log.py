"""The logs of OnionPerf's monitor."""

from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.tor import torctl_log
from clew.tor.event_log import Began, Ended, LogItem, LogNotes, Problem
from clew.tor.events import CircuitEvent, UnknownEvent
from clew.tor.replay import read_events, read_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = "2026-01-31 13:00:00 1769860800.14"
START = "Starting torctl program on host some host using Tor version 0.4.9.11 (git-0123456789abcdef) status=recommended"
MADE = "BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL"
# What the monitor writes of its own ends in "\n", what it got from tor in "\r\n".
LOG = f"""\
{HEAD} {START}
{HEAD} NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"
{HEAD} 650 CIRC 22 EXTENDED ${"A" * 40}~a {MADE}\r
{HEAD} [WARNING] event TB_EMPTY is recognized by stem but not by tor
2026-01-31 13:00:01 1769860801.00 650+HS_DESC_CONTENT abc def ${"A" * 40}~a\r
hs-descriptor 3\r
1769860801 is not a time here\r
..\r
.\r
650 OK\r
2026-01-31 13:00:01 1769860801.10 650 CIRC 22 BUILT ${"A" * 40}~a {MADE}\r
"""


def read(text: str) -> tuple[list[LogItem], LogNotes]:
    """What a text gives."""
    notes = LogNotes()
    return list(read_events(iter([text.encode("utf-8", "surrogateescape")]), notes)), notes


def tell(text: str) -> list[str]:
    """What a text gives, in words: seconds, and what happened then."""
    told = []
    for item in read(text)[0]:
        if isinstance(item, Began):
            what = f"began {item.tor_version or ''}".strip()
        elif isinstance(item, Ended):
            what = f"ended {item.reason}"
        elif isinstance(item, CircuitEvent):
            what = f"{item.circuit_id} {item.status}"
        else:
            what = item.raw_type
        told.append(f"{item.time_ns / 1e9 - 1769860800:g} {what}")
    return told


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_a_log(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """Events are read with their times exactly; what the monitor says of its own is not an event."""
    path = tmp_path / "onionperf.torctl.log"
    path.write_bytes(compress(LOG.replace("1769860801 is", "it is").encode()))
    notes = LogNotes()
    items = list(read_log(str(path), notes))
    assert items[0] == Began(1_769_860_800_140_000_000, "0.4.9.11", is_testing=False)
    assert [item.time_ns for item in items[1:]] == [
        1_769_860_800_140_000_000,
        1_769_860_801_000_000_000,
        1_769_860_801_100_000_000,
        1_769_860_801_100_000_000,
    ]
    first, block, second, end = items[1:]
    assert isinstance(first, CircuitEvent)
    assert (first.circuit_id, first.status, first.purpose) == ("22", "EXTENDED", "GENERAL")
    assert isinstance(block, UnknownEvent)
    assert block.line.split("\n")[1:] == ["hs-descriptor 3", "it is not a time here", ".", "OK"]
    assert isinstance(second, CircuitEvent)
    assert second.purpose == "GENERAL"
    assert end == Ended(1_769_860_801_100_000_000, "DETACHED")
    assert (notes.lines, notes.events, notes.foreign, notes.problems) == (11, 3, 3, 0)


def test_an_event_that_is_cut_off() -> None:
    """Where something with a time stands in the middle of an event of several lines, the event was cut off."""
    items, notes = read(LOG)
    assert len(items) == 4
    assert notes.first_problems == [
        Problem(5, "is the beginning of an event that has no end"),
        Problem(8, "has no time, and belongs to no event"),
        Problem(9, "has no time, and belongs to no event"),
        Problem(10, "has no time, and belongs to no event"),
    ]


@pytest.mark.parametrize(
    ("stamp", "time_ns"),
    [
        ("1769860800.14", 1_769_860_800_140_000_000),
        ("1769860800.07", 1_769_860_800_070_000_000),
        ("1769860800.123456789", 1_769_860_800_123_456_789),
        ("1769860800", 1_769_860_800_000_000_000),
        ("999999999.1", 999_999_999_100_000_000),
    ],
)
@pytest.mark.parametrize("local", ["", "1970-01-01 00:00:00 "])
def test_times_are_exact(stamp: str, time_ns: int, local: str) -> None:
    """Seconds are read as the decimal number that they are; the local time before them does not matter."""
    items, _ = read(f"{local}{stamp} 650 X\n")
    assert {item.time_ns for item in items} == {time_ns}


# --- where another run of tor begins --------------------------------------------------------------------------------


def log(*lines: str) -> str:
    """Lines, a second after each other."""
    return "".join(f"{1769860800 + number}.00 {line}\r\n" for number, line in enumerate(lines))


def test_the_monitor_starts_again() -> None:
    """Its line ends the run with the last event before, and begins another with tor's version."""
    assert tell(log("650 CIRC 5 LAUNCHED", START, "NOTICE BOOTSTRAP PROGRESS=100", "650 CIRC 6 LAUNCHED", START)) == [
        "0 began",
        "0 5 LAUNCHED",
        "0 ended DETACHED",
        "1 began 0.4.9.11",
        "3 6 LAUNCHED",
        "3 ended DETACHED",
        "4 began 0.4.9.11",
        "4 ended DETACHED",
    ]


@pytest.mark.parametrize("seen", ["LAUNCHED", "EXTENDED", "CLOSED"])
def test_ids_start_over(seen: str) -> None:
    """tor counts circuits up: one that starts below another is of another run."""
    assert tell(log(f"650 CIRC 20 {seen}", "650 CIRC 7 BUILT", "650 CIRC 21 LAUNCHED", "650 CIRC 3 LAUNCHED")) == [
        "0 began",
        f"0 20 {seen}",
        "1 7 BUILT",
        "2 21 LAUNCHED",
        "2 ended TOR_RESTARTED",
        "3 began",
        "3 3 LAUNCHED",
        "3 ended DETACHED",
    ]
    assert len(tell(log("650 CIRC 3 LAUNCHED", "650 CIRC 3 LAUNCHED", "650 CIRC 4 LAUNCHED"))) == 7


def test_ids_of_letters() -> None:
    """Ids that are no numbers tell nothing."""
    told = tell(log("650 CIRC b LAUNCHED", "650 CIRC 9 LAUNCHED", "650 CIRC a LAUNCHED", "650 CIRC b LAUNCHED"))
    assert [line for line in told if "ended" in line] == ["3 ended DETACHED"]


def test_bootstrap_goes_back() -> None:
    """A bootstrap that is less far than it was is another run's; one that reports a problem is not."""
    assert tell(
        log(
            "650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=80 TAG=a",
            "650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=80 TAG=a",
            "650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 TAG=done",
            "650 CIRC 1 LAUNCHED",
            "650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=0 TAG=starting",
            "650 CIRC 1 LAUNCHED",
        )
    ) == [
        "0 began",
        "0 STATUS_CLIENT",
        "1 STATUS_CLIENT",
        "2 STATUS_CLIENT",
        "3 1 LAUNCHED",
        "3 ended TOR_RESTARTED",
        "4 began",
        "4 STATUS_CLIENT",
        "5 1 LAUNCHED",
        "5 ended DETACHED",
    ]


# --- what cannot be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("", "has no time, and belongs to no event"),
        ("650 CIRC 7 LAUNCHED", "has no time, and belongs to no event"),
        ("9999999999 650 CIRC 7 LAUNCHED", "has a time that nobody could mean"),
        (f"{HEAD} 650 CIRC", "is not understood: a CIRC event has fewer than 2 arguments"),
        (f"{HEAD} 650-A\r\nnonsense", "is not how an event goes on"),
    ],
)
def test_problems(line: str, what: str) -> None:
    """What is no line of such a log is counted, with its number; the rest is read."""
    items, notes = read(f"{HEAD} 650 X\n{line}\n{HEAD} 650 Y\n")
    assert [item.line for item in items if isinstance(item, UnknownEvent)] == ["X", "Y"]
    assert notes.problems == 1
    assert notes.first_problems == [Problem(2 + line.count("\n"), what)]


def test_a_torn_end() -> None:
    """The last line is not used if it has no end: nobody can say what is missing."""
    items, notes = read(f"{HEAD} 650 X\r\n{HEAD} 650 CIRC 7 EXTENDED $AAAA")
    assert len(items) == 3
    assert notes.first_problems == [Problem(2, "is the last and has no end: what wrote it was interrupted")]
    _, notes = read(f"{HEAD} 650+X\r\nnever ended\r\n")
    assert notes.first_problems == [Problem(1, "is the beginning of an event that has no end")]


@pytest.mark.parametrize("name", ["example.com", "<script>", "0.4" * 20])
def test_a_version_that_is_none(name: str) -> None:
    """tor's version goes to the output unfiltered, so nothing else is taken for one."""
    (began, _), _ = read(f"{HEAD} Starting torctl program on host x using Tor version {name} status=x\n")
    assert isinstance(began, Began)
    assert began.tor_version is None


parts = st.one_of(
    st.sampled_from([f"{HEAD} ", "650", " ", "-", "+", "CIRC 7 LAUNCHED", START, "\r\n", "\n", ".", "650 OK\r\n"]),
    st.text(max_size=5),
)


@given(st.lists(parts, max_size=30))
def test_any_text(pieces: list[str]) -> None:
    """Whatever a file has raises nothing, and gives whole runs."""
    items, notes = read(HEAD + "".join(pieces))
    is_open = False
    for item in items:
        assert isinstance(item, Began) != is_open
        is_open = not isinstance(item, Ended)
    assert not is_open
    assert notes.events == sum(not isinstance(item, (Began, Ended)) for item in items)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes(data: bytes, size: int) -> None:
    """However the bytes of a file come, they give the same."""
    whole, notes = read(data.decode("utf-8", "surrogateescape"))
    in_pieces = LogNotes()
    assert list(read_events((data[at : at + size] for at in range(0, len(data), size)), in_pieces)) == whole
    assert in_pieces == notes


def test_the_reader_takes_any_lines() -> None:
    """A line that was too long to be kept is a problem like others."""
    notes = LogNotes()
    assert list(torctl_log.read_torctl_log([None], notes)) == []
    assert notes.first_problems == [Problem(1, "is too long")]
