"""`clew tor replay`: logs in, traces and sentences out."""

from __future__ import annotations

import gzip
import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from clew import Tracer
from clew.cli import tor_replay, tor_traces
from clew.cli.main import main
from clew.otlp import decode_json

if TYPE_CHECKING:
    from pathlib import Path

    from clew import SpanRecord

RELAYS = [f"${letter * 40}~relay{letter}" for letter in "ABC"]


START_NS = 1_769_860_800_000_000_000
SECOND_NS = 1_000_000_000


def events(number: int) -> list[str]:
    """A circuit that is built, and one that is begun, in eight steps."""
    paths = [",".join(RELAYS[:hops]) for hops in (1, 2, 3)]
    steps = ["LAUNCHED", *(f"EXTENDED {path}" for path in paths), f"BUILT {paths[2]}"]
    return [f"CIRC {number} {step} PURPOSE=GENERAL" for step in steps] + [f"CIRC {number + 1} LAUNCHED PURPOSE=GENERAL"]


def recording(*more: str, testing: bool = False) -> str:
    """A recording of them, a second each, with these lines before."""
    begin = f'{START_NS} BEGIN {{"tor_version": "0.4.9.11", "is_testing": {str(testing).lower()}}}'
    lines = [f"{START_NS + (1 + step) * SECOND_NS} 650 {event}" for step, event in enumerate(events(7))]
    end = f'{START_NS + 9 * SECOND_NS} END {{"reason": "CONNECTION_LOST", "missed": 0}}'
    return "".join(f"{line}\n" for line in ("clew-tor-recording 1 raw", begin, *more, *lines, end))


def read(path: Path) -> list[SpanRecord]:
    """The spans of a file."""
    return [record for line in path.read_text().splitlines() for record in decode_json(line)]


def test_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Traces are written as they would have been at the time, and all is counted."""
    log, file = tmp_path / "tor.log.gz", tmp_path / "traces.jsonl"
    log.write_bytes(gzip.compress(recording().encode()))
    assert main(["tor", "replay", str(log), "--file", str(file), "--json"]) == 0
    output, said = capsys.readouterr()
    records = read(file)
    assert said == (
        "circuits: 0 building, 0 open, 1 built, 0 failed, 1 lost; streams: 0 open, 0 done, 0 failed; "
        f"{len(records)} spans written to {file}\n"
    )
    counts = json.loads(output)
    assert (counts["file"], counts["runs"], counts["circuits"], counts["spans"]) == (str(file), 1, 2, len(records))
    (found,) = counts["logs"]
    assert (found["path"], found["lines"], found["events"], found["problems"]) == (str(log), 9, 6, 0)
    builds = {record.attributes["tor.circuit.id"]: record for record in records if not record.parent_id}
    assert builds["7"].start_time_ns == START_NS + SECOND_NS
    assert builds["7"].end_time_ns == START_NS + 5 * SECOND_NS
    assert builds["8"].end_time_ns == START_NS + 9 * SECOND_NS
    assert builds["8"].attributes["error.type"] == "connection_lost"
    resource = records[0].resource.attributes
    assert resource["service.name"] == "tor"
    assert resource["service.version"] == "0.4.9.11"
    assert resource["clew.privacy.level"] == "pseudonymous"
    assert not any(relay[1:41] in file.read_text() for relay in RELAYS)


def test_several_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each log is on its own, each run has its own id, and equal relays have equal hashes in all of them."""
    first, second, file = tmp_path / "a", tmp_path / "b", tmp_path / "traces.jsonl"
    first.write_text(recording())
    second.write_text("".join(f"1769860900.{step}0 650 {event}\n" for step, event in enumerate(events(1))))
    assert main(["tor", "replay", str(first), str(second), "--file", str(file)]) == 0
    records = read(file)
    assert len({record.resource.attributes["tor.instance.id"] for record in records}) == 2
    assert [record.resource.attributes.get("service.version") for record in records].count(None) == len(records) // 2
    first_hops = [record.attributes for record in records if record.attributes.get("tor.hop.index") == 1]
    assert len({hop["tor.relay.fingerprint"] for hop in first_hops if "tor.relay.fingerprint" in hop}) == 1


def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that were not used are counted, the first named; a log that says that it is not whole is believed."""
    log, file = tmp_path / "tor.log", tmp_path / "traces.jsonl"
    text = recording("\x1b[31m", "nonsense", "5 650 CIRC", "x", "y").replace('"missed": 0', '"missed": 12')
    log.write_text(text + "17000000")
    assert main(["tor", "replay", str(log), "--file", str(file)]) == 0
    missed, unused = capsys.readouterr().err.splitlines()[:2]
    assert missed == f"{log}: 12 events are missing in it, as it says itself"
    assert unused == (
        f"{log}: 6 lines were not used: line 3 does not begin with a time; line 4 does not begin with a time; "
        "line 5 is not understood: a CIRC event has fewer than 2 arguments; ..."
    )


def test_nothing_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no log is status 1, and nothing is written."""
    log, file = tmp_path / "tor.log", tmp_path / "traces.jsonl"
    log.write_text('{"resourceSpans": []}\n')
    assert main(["tor", "replay", str(log), "--file", str(file)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        f"{log}: there is no event of tor in it",
        f"{log}: 1 line was not used: line 1 has no time, and belongs to no event",
    ]
    assert not file.exists()


def test_everything_of_the_public_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last level is for recordings of a testing network, unless it is asked for twice."""
    log, file = tmp_path / "tor.log", tmp_path / "traces.jsonl"
    arguments = ["tor", "replay", str(log), "--file", str(file), "--privacy", "lab"]
    log.write_text(recording())
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith("clew: nothing says that this was recorded on a testing network")
    assert not file.exists()
    assert main([*arguments, "--public-network"]) == 0
    assert RELAYS[0][1:41] in file.read_text()
    file.unlink()
    log.write_text(recording(testing=True))
    assert main(arguments) == 0
    assert RELAYS[0][1:41] in file.read_text()


def test_the_log_itself_is_safe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Traces are not appended to the log that is read."""
    log = tmp_path / "tor.log"
    log.write_text(recording())
    assert main(["tor", "replay", str(log), "--file", str(log)]) == 1
    assert "is the log, and traces are not for it: give another --file" in capsys.readouterr().err
    assert log.read_text() == recording()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "clew: {}: No such file or directory\n"),
        ("newer", "clew: {}: it was recorded by a newer clew: read it with that one\n"),
    ],
)
def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str) -> None:
    """A log that cannot be read at all is one sentence."""
    (tmp_path / "newer").write_text("clew-tor-recording 2\n")
    log = tmp_path / name
    assert main(["tor", "replay", str(log), "--file", str(tmp_path / "traces.jsonl")]) == 1
    assert capsys.readouterr().err == sentence.format(log)


def test_standard_input_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes through a pipe cannot be read twice."""
    with pytest.raises(SystemExit) as caught:
        main(["tor", "replay", "-", "-"])
    assert caught.value.code == 2
    assert "standard input can be read only once" in capsys.readouterr().err


def test_reading_waits_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However quick reading is, no span is dropped because too many wait."""
    monkeypatch.setattr(tor_traces, "_PLENTY_BYTES", 0)
    monkeypatch.setattr(tor_replay, "_EVENTS_BETWEEN_WAITS", 1)
    flushed: list[float] = []
    flush = Tracer.flush

    def count(self: Tracer, timeout: float | None = None) -> bool:
        flushed.append(timeout or 0)
        return flush(self, timeout)

    monkeypatch.setattr(Tracer, "flush", count)
    log, file = tmp_path / "tor.log", tmp_path / "traces.jsonl"
    log.write_text(recording())
    assert main(["tor", "replay", str(log), "--file", str(file)]) == 0
    assert len(flushed) == 2  # where spans wait, and at the end
    assert len(read(file)) == 6


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves what was made until then in the file."""
    log, file = tmp_path / "tor.log", tmp_path / "traces.jsonl"
    log.write_text(recording())
    handle = tor_replay._Replayer.handle
    events: list[object] = []

    def interrupt(self: tor_replay._Replayer, event: object) -> None:
        events.append(event)
        if len(events) == 6:
            raise KeyboardInterrupt
        handle(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(tor_replay._Replayer, "handle", interrupt)
    assert main(["tor", "replay", str(log), "--file", str(file)]) == 130
    assert len(read(file)) == 4


def test_the_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a long read shows how far it is, out of all logs together."""
    monkeypatch.setattr("clew.cli.terminal.PROGRESS_BYTES", 0)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    log = tmp_path / "tor.log"
    log.write_text(recording())
    assert main(["tor", "replay", str(log), str(log), "--file", str(tmp_path / "traces.jsonl")]) == 0
    assert "replaying" in screen.getvalue()
