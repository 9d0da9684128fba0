"""A recording gives the spans that live gave."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import MemoryExporter, Tracer
from clew.errors import ControlConnectionError, FormatError
from clew.tor.dispatch import EventDispatcher
from clew.tor.event_log import Began, Ended, LogNotes
from clew.tor.mapper import TorMapper
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.recording import Recorder
from clew.tor.replay import read_events, read_log, replay
from clew.tor.wire import ControlParser

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clew import SpanRecord

START = 1_769_860_800_123_456_789
RELAYS = [f"${letter * 40}~relay{letter}" for letter in "ABCD"]
ONION = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvid"
MADE = "BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL TIME_CREATED=2026-01-31T12:00:00.123456"
SCRIPT = [
    'STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=90 TAG=ap_handshake_done SUMMARY="Handshake finished"',
    'STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"',
    f"ORCONN {RELAYS[0]} LAUNCHED ID=1",
    f"ORCONN {RELAYS[0]} CONNECTED ID=1",
    "BUILDTIMEOUT_SET COMPUTED TOTAL_TIMES=100 TIMEOUT_MS=1500 CUTOFF_QUANTILE=0.8 TIMEOUT_RATE=0.1",
    'STREAM 20 NEW 0 example.com:443 SOURCE_ADDR=127.0.0.1:40000 SOCKS_USERNAME="hunter" PURPOSE=USER',
    f"CIRC 7 LAUNCHED {MADE}",
    f"CIRC 7 EXTENDED {RELAYS[0]} {MADE}",
    f"CIRC 7 EXTENDED {RELAYS[0]},{RELAYS[1]} {MADE}",
    f"CIRC 7 EXTENDED {','.join(RELAYS[:3])} {MADE}",
    f"CIRC 7 BUILT {','.join(RELAYS[:3])} {MADE}",
    "STREAM 20 SENTCONNECT 7 example.com:443",
    "STREAM 20 SUCCEEDED 7 192.0.2.1:443",
    f"STREAM 21 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:40001 PURPOSE=USER",
    f"HS_DESC REQUESTED {ONION} NO_AUTH {RELAYS[1]} blinded HSDIR_INDEX=00",
    f"HS_DESC FAILED {ONION} NO_AUTH {RELAYS[1]} blinded REASON=NOT_FOUND",
    "STREAM_BW 20 93 74286 2026-01-31T12:00:01.123456",
    f"CIRC 8 LAUNCHED {MADE}",
    f"CIRC 8 FAILED {MADE} REASON=TIMEOUT",
    "STREAM 20 CLOSED 7 192.0.2.1:443 REASON=END REMOTE_REASON=DONE",
    "FUTURE with \udcff and é",
    "CIRC",
    f"CIRC 9 LAUNCHED {MADE}",
    f"CIRC 9 EXTENDED {RELAYS[0]} {MADE}",
]


def put(dispatcher: EventDispatcher, lines: Iterable[str], time_ns: int) -> None:
    """Hand over events, each 37.000001 ms after the one before."""
    for number, line in enumerate(lines):
        parser = ControlParser()
        parser.feed(f"650 {line}\r\n".encode("utf-8", "surrogateescape"))
        reply = parser.next_reply()
        assert reply is not None
        dispatcher.put([reply], time_ns + number * 37_000_001)


def normalised(records: list[SpanRecord]) -> str:
    """Records with their ids replaced by the order in which they came first."""
    names: dict[str, str] = {}
    return re.sub(
        r"'(?:[0-9a-f]{32}|[0-9a-f]{16})'", lambda match: names.setdefault(match[0], f"id {len(names)}"), repr(records)
    )


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_replay_gives_what_live_gave(tmp_path: Path, suffix: str) -> None:
    """Spans of a recording are those of the connections that it was written from, byte for byte but for ids."""
    privacy = PrivacyFilter(Privacy.PSEUDONYMOUS)
    live, recorded = MemoryExporter(), MemoryExporter()
    recorder = Recorder(str(tmp_path / f"tor.log{suffix}"))
    with Tracer("tor", live) as tracer:
        for connection in range(2):
            begin_ns = START + connection * 10**10
            end_ns = begin_ns + 10**9
            mapper = TorMapper(tracer, privacy)
            dispatcher = EventDispatcher()
            recorder.begin(begin_ns, "0.4.9.11", is_testing=False, events=["CIRC"])
            dispatcher.add_raw_listener(recorder.write)
            dispatcher.add_listener(mapper.handle)
            put(dispatcher, SCRIPT, begin_ns)
            dispatcher.end(ControlConnectionError("gone"))
            dispatcher.join(10)
            mapper.close("CONNECTION_LOST", end_ns)
            recorder.end(end_ns, "CONNECTION_LOST")
    recorder.close()
    notes = LogNotes()
    began = []
    with Tracer("tor", recorded) as tracer:

        def begin(run: Began) -> TorMapper:
            began.append(run.time_ns)
            return TorMapper(tracer, privacy)

        replay(read_log(recorder.path, notes), begin)
    assert began == [START, START + 10**10]
    assert (notes.events, notes.problems) == (2 * len(SCRIPT) - 2, 2)
    names = {record.name for record in live.records}
    assert {
        "tor.bootstrap",
        "tor.orconn",
        "tor.circuit.build",
        "tor.circuit.extend",
        "tor.stream",
        "tor.hs.connect",
    } <= names
    assert len(live.records) > 30
    assert "connection_lost" in repr(live.records)
    assert normalised(recorded.records) == normalised(live.records)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log may come through a pipe, and how far reading is is told."""
    reading, writing = os.pipe()
    os.write(writing, b"1769860800.14 650 X\r\n")
    os.close(writing)
    with os.fdopen(reading) as file:
        monkeypatch.setattr(sys, "stdin", file)
        sizes: list[int] = []
        items = list(read_log("-", on_bytes=sizes.append))
    assert len(items) == 3
    assert sizes == [21]


def test_a_newer_recording(tmp_path: Path) -> None:
    """A format that is not known yet is refused."""
    path = tmp_path / "tor.log"
    path.write_text("clew-tor-recording 2 raw\n1 650 X\n")
    with pytest.raises(FormatError, match=r"tor\.log: it was recorded by a newer clew"):
        list(read_log(str(path)))


@pytest.mark.parametrize("data", [b"", b"clew-tor-recording 1 raw\n", b"\n"])
def test_nothing(data: bytes) -> None:
    """A log without events gives nothing."""
    assert list(read_events(iter([data]), LogNotes())) == []


def test_a_torn_header() -> None:
    """A recording that was interrupted before its first line ended has nothing in it, and says so."""
    notes = LogNotes()
    assert list(read_events(iter([b"clew-tor-rec"]), notes)) == []
    assert notes.problems == 1


@given(st.binary(max_size=300), st.sampled_from([b"", b"clew-tor-recording 1\n", b"\x1f\x8b\x08\x00", b"\xfd7zXZ\0"]))
def test_any_bytes(data: bytes, head: bytes) -> None:
    """Whatever a file has gives whole runs or a FormatError, and a mapper takes all of it."""
    with Tracer("tor", None) as tracer:
        mapper = TorMapper(tracer)
        try:
            items = list(read_events(iter([head + data]), LogNotes()))
        except FormatError:
            return
        replay(items, lambda _: mapper)
        assert mapper.counts.open == 0
        assert sum(isinstance(item, Began) for item in items) == sum(isinstance(item, Ended) for item in items)
