"""clew's own recordings: what is written is what is read."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import limits
from clew.errors import ConfigurationError, ControlProtocolError
from clew.tor import recording
from clew.tor.event_log import Began, Ended, LogItem, LogNotes, Problem
from clew.tor.events import UnknownEvent, parse_event, without_credentials
from clew.tor.recording import Recorder, RecorderStats, event_line
from clew.tor.replay import read_events, read_log
from clew.tor.wire import ControlParser, Reply, ReplyLine

if TYPE_CHECKING:
    from pathlib import Path

LAUNCHED = Reply(650, (ReplyLine("CIRC 7 LAUNCHED PURPOSE=GENERAL"),))
LATER = Reply(650, (ReplyLine("STREAM_BW 16 93 0"),))
SEVERAL = Reply(650, (ReplyLine("CONF_CHANGED"), ReplyLine("NS", ".r moria1\n\n..\n"), ReplyLine("OK")))
ODD = Reply(651, (ReplyLine("FUTURE \udcff é\r a\nb\t"),))
REPLIES = [LAUNCHED, SEVERAL, ODD, LATER]


def read(path: Path) -> tuple[list[LogItem], LogNotes]:
    """What a file gives."""
    notes = LogNotes()
    return list(read_log(str(path), notes)), notes


def read_lines(*lines: str) -> tuple[list[LogItem], LogNotes]:
    """What a recording with these lines behind the first gives."""
    notes = LogNotes()
    text = "".join(f"{line}\n" for line in ("clew-tor-recording 1 raw", *lines))
    return list(read_events(iter([text.encode("utf-8", "surrogateescape")]), notes)), notes


@pytest.fixture(params=["", ".gz", ".xz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to record, in each form."""
    return tmp_path / f"tor.log{request.param}"


def test_round_trip(path: Path) -> None:
    """A recording gives the events with their times to the nanosecond, and the connections with their ends."""
    recorder = Recorder(str(path))
    recorder.begin(1_700_000_000_000_000_001, "0.4.9.11", is_testing=True, events=["CIRC"])
    for number, reply in enumerate(REPLIES):
        recorder.write(reply, 1_700_000_000_000_000_002 + number)
        recorder.flush()
    recorder.end(1_700_000_000_000_000_009, "CONNECTION_LOST", missed=3)
    recorder.begin(1_700_000_000_000_000_010, "0.4.9.12-dev", is_testing=False, events=[])
    recorder.end(1_700_000_000_000_000_011, "DETACHED")
    recorder.close()
    recorder.close()
    items, notes = read(path)
    assert items == [
        Began(1_700_000_000_000_000_001, "0.4.9.11", is_testing=True),
        *[parse_event(reply, 1_700_000_000_000_000_002 + number) for number, reply in enumerate(REPLIES)],
        Ended(1_700_000_000_000_000_009, "CONNECTION_LOST"),
        Began(1_700_000_000_000_000_010, "0.4.9.12-dev", is_testing=False),
        Ended(1_700_000_000_000_000_011, "DETACHED"),
    ]
    assert (notes.lines, notes.events, notes.missed, notes.problems) == (9, 4, 3, 0)
    assert recorder.error is None


def test_the_text(tmp_path: Path) -> None:
    """The file is what the module's docstring says."""
    path = tmp_path / "tor.log"
    recorder = Recorder(str(path))
    recorder.begin(1, "0.4.9.11", is_testing=False, events=["CIRC", "STREAM"])
    recorder.write(LAUNCHED, 2)
    recorder.write(SEVERAL, 3)
    recorder.end(4, "DETACHED")
    recorder.close()
    header, *lines = path.read_text().splitlines()
    assert header.startswith("clew-tor-recording 1 raw: ")
    assert lines == [
        '1 BEGIN {"tor_version": "0.4.9.11", "is_testing": false, "events": ["CIRC", "STREAM"]}',
        "2 650 CIRC 7 LAUNCHED PURPOSE=GENERAL",
        '3 LINES "650-CONF_CHANGED\\r\\n650+NS\\r\\n..r moria1\\r\\n\\r\\n...\\r\\n\\r\\n.\\r\\n650 OK\\r\\n"',
        '4 END {"reason": "DETACHED", "missed": 0}',
    ]
    assert recorder.stats() == RecorderStats(2, path.stat().st_size, 0)


@given(st.binary(max_size=60), st.integers(0, 2**63 - 1))
def test_whatever_tor_sends(data: bytes, time_ns: int) -> None:
    """Each event that the control port can send is read as the same event."""
    parser = ControlParser()
    parser.feed(b"650-A\r\n650+B\r\n" + data + b"\r\n.\r\n650-" + data + b"\r\n650 " + data + b"\r\n650 OK\r\n")
    try:
        while (reply := parser.next_reply()) is not None:
            line = event_line(reply, time_ns)
            assert line.endswith("\n")
            items, notes = read_lines(line[:-1])
            assert notes.problems == 0
            assert items[1:-1] == [parse_event(without_credentials(reply), time_ns)]
    except ControlProtocolError:
        pass


@pytest.mark.parametrize("lines", [0, 1])
def test_credentials_are_not_written(path: Path, lines: int) -> None:
    """What a SOCKS client gave as user name and password is in no recording."""
    secret = 'SOCKS_USERNAME="hunter2" SOCKS_PASSWORD="hunter3"'
    more = (ReplyLine("X", f"a\n{secret}\nb"), ReplyLine(secret), ReplyLine("OK")) if lines else ()
    recorder = Recorder(str(path))
    recorder.write(Reply(650, (ReplyLine(f"STREAM 1 NEW 0 a:1 {secret} PURPOSE=USER"), *more)), 1)
    recorder.close()
    items, _ = read(path)
    assert "hunter" not in repr(items)
    if path.suffix == ".log":
        assert "hunter" not in path.read_text()
    assert getattr(items[1], "purpose", None) == "USER"


def test_nobody_else_reads_it(path: Path) -> None:
    """The file is its owner's alone, and no file that is there is touched."""
    before = os.umask(0)
    try:
        Recorder(str(path)).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is there already"):
        Recorder(str(path))
    assert path.read_bytes() == content
    link = path.with_name("link")
    link.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(ConfigurationError, match="is there already"):
        Recorder(str(link))
    with pytest.raises(FileNotFoundError):
        Recorder(str(path.parent / "nowhere" / "tor.log"))


def test_a_crash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was flushed can be read though the recording never ended; a run then ends with its last event."""
    monkeypatch.setattr(recording, "RECORDING_STREAM_SECONDS", 0)
    recorder = Recorder(str(path))
    recorder.begin(1, "0.4.9.11", is_testing=False, events=[])
    for time_ns in range(2, 100):
        recorder.write(LAUNCHED, time_ns)
        recorder.flush()
    data = path.read_bytes()
    recorder.close()
    path.write_bytes(data)
    items, notes = read(path)
    assert items[-1] == Ended(99, "DETACHED")
    assert notes.events == 98
    path.write_bytes(data[:-40])
    items, notes = read(path)
    assert 90 < notes.events < 98
    (problem,) = notes.first_problems
    assert problem.line == notes.lines + 1
    assert "is the last" in problem.what


def test_xz_streams_end_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recording in xz no more than limits.py says is at risk; nothing is written where nothing has come."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(recording, "RECORDING_STREAM_BYTES", 1000)
    path = tmp_path / "tor.log.xz"
    recorder = Recorder(str(path))

    def readable() -> int:
        recorder.flush()
        return read(path)[1].events

    recorder.write(LAUNCHED, 1)
    assert readable() == 0
    now[0] = limits.RECORDING_STREAM_SECONDS
    assert readable() == 1
    size = path.stat().st_size
    now[0] *= 5
    assert readable() == 1
    assert path.stat().st_size == size
    for time_ns in range(2, 32):
        recorder.write(LAUNCHED, time_ns)
    assert readable() == 31
    recorder.close()
    assert read(path)[1].problems == 0


def test_a_large_recording_is_written_as_it_grows(path: Path) -> None:
    """Nobody has to flush."""
    recorder = Recorder(str(path))
    size = path.stat().st_size
    for number in range(3 * limits.RECORDING_BUFFER_BYTES // len(LAUNCHED.text)):
        recorder.write(LAUNCHED, number * 7919)
    assert path.suffix == ".xz" or path.stat().st_size > size
    assert recorder.stats().bytes > 2 * limits.RECORDING_BUFFER_BYTES
    recorder.close()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is cut off and is the last; why is known, and nothing raises on tor's thread."""
    path = tmp_path / "tor.log"
    recorder = Recorder(str(path))
    recorder.write(LAUNCHED, 1)
    recorder.flush()
    write = os.write

    def fail(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    recorder.write(LATER, 2)
    recorder.flush()
    monkeypatch.undo()
    assert recorder.error is not None
    assert recorder.error.filename == str(path)
    recorder.write(LATER, 3)
    recorder.close()
    items, notes = read(path)
    assert [item.time_ns for item in items] == [1, 1, 1]
    assert notes.first_problems == [Problem(3, "is the last and has no end: what wrote it was interrupted")]


def test_a_disk_full_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that takes not even the first line is an error at once."""

    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        Recorder(str(tmp_path / "tor.log"))


def test_an_event_longer_than_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no reader would take is not written, and counted."""
    monkeypatch.setattr(recording, "LINE_BYTES", 50)
    recorder = Recorder(str(tmp_path / "tor.log"))
    recorder.write(Reply(650, (ReplyLine("FUTURE " + "x" * 50),)), 1)
    recorder.write(LATER, 2)
    recorder.close()
    assert (recorder.stats().events, recorder.stats().missed) == (1, 1)
    assert read(tmp_path / "tor.log")[1].problems == 0


def test_missing_beginnings_and_ends() -> None:
    """Runs are whole in what is read, whatever was written."""
    begin = 'BEGIN {"tor_version": "0.4.9.11"}'
    items, notes = read_lines("1 650 X", f"2 {begin}", "3 650 X", f"4 {begin}", '5 END {"reason": "A"}', "6 650 X")
    assert [type(item).__name__ for item in items] == [
        *("Began", "UnknownEvent", "Ended"),
        *("Began", "UnknownEvent", "Ended"),
        *("Began", "Ended"),
        *("Began", "UnknownEvent", "Ended"),
    ]
    assert [item.time_ns for item in items] == [1, 1, 1, 2, 3, 3, 4, 5, 6, 6, 6]
    assert notes.problems == 0


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("", "does not begin with a time"),
        ("x 650 CIRC 7 LAUNCHED", "does not begin with a time"),
        ("² 650 CIRC 7 LAUNCHED", "does not begin with a time"),
        ("-1 650 CIRC 7 LAUNCHED", "does not begin with a time"),
        ("12345678901234567890 650 CIRC 7 LAUNCHED", "does not begin with a time"),
        ("9223372036854775808 650 CIRC 7 LAUNCHED", "has a time that nobody could mean"),
        ("1 650 CIRC", "is not understood: a CIRC event has fewer than 2 arguments"),
        ("1", "has something else than an event behind the time"),
        ("1 250 OK", "has something else than an event behind the time"),
        ("1 650-CIRC 7 LAUNCHED", "has something else than an event behind the time"),
        ("1 LINES", "has something else than an event behind the time"),
        ("1 LINES 5", "has something else than an event behind the time"),
        ('1 LINES "650-A\\r\\n"', "has something else than an event behind the time"),
        ('1 LINES "250 A\\r\\n"', "has something else than an event behind the time"),
        ('1 LINES "\\ud800"', "has something else than an event behind the time"),
        ("1 LINES " + "[" * 100_000, "has something else than an event behind the time"),
        ('1 BEGIN "x"', "has something else than an event behind the time"),
        ("9223372036854775808 BEGIN {}", "has something else than an event behind the time"),
        ("1 END {}", "has something else than an event behind the time"),
        ('1 END {"reason": "why not"}', "has something else than an event behind the time"),
        ('1 END {"reason": "DETACHED"}', "ends what has not begun"),
    ],
)
def test_problems(line: str, what: str) -> None:
    """A line that is none of a recording's is counted, with its number; the rest is read."""
    items, notes = read_lines(line, "5 650 X")
    assert items == [Began(5, None, is_testing=False), UnknownEvent(5, "X", "X"), Ended(5, "DETACHED")]
    assert notes.first_problems == [Problem(2, what)]


def test_a_version_that_is_none() -> None:
    """tor's version goes to the output unfiltered, so nothing else is taken for one."""
    (began, _), _ = read_lines('1 BEGIN {"tor_version": "example.com", "is_testing": "yes"}')
    assert began == Began(1, None, is_testing=False)


pieces = st.one_of(
    st.sampled_from(
        ["1 650 CIRC 7 LAUNCHED", "2 LINES ", '"650 A\\r\\n"', "3 BEGIN {", "4 END ", '"reason"', "}", "\n"]
    ),
    st.text(max_size=5),
)


@given(st.lists(pieces, max_size=20))
def test_any_text(parts: list[str]) -> None:
    """Whatever stands behind the header raises nothing, and gives whole runs."""
    items, _ = read_lines("".join(parts))
    is_open = False
    for item in items:
        assert isinstance(item, Began) != is_open
        is_open = not isinstance(item, Ended)
    assert not is_open
