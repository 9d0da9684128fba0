"""`clew tor record` and `clew tor replay` as processes: against a scripted tor, and against the lab's."""

from __future__ import annotations

import gzip
import json
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from clew.otlp import decode_json
from clew.tor.control import ControlClient
from clew.tor.event_log import Began, Ended, LogItem, LogNotes
from clew.tor.replay import read_log
from tests.scripted_tor import ScriptedTor, events, stream

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from clew import SpanRecord
    from clew.tor.lab import Lab

    Make = Callable[..., ScriptedTor]
    Start = Callable[..., subprocess.Popen[str]]


def read(path: Path) -> list[LogItem]:
    """What a recording gives."""
    return list(read_log(str(path))) if path.exists() else []


def wait_for(path: Path, count: int) -> None:
    """Wait until a recording that is being written has so many events in it."""
    pause = threading.Event()
    for _ in range(600):
        if sum(not isinstance(item, (Began, Ended)) for item in read(path)) >= count:
            return
        pause.wait(0.05)
    pytest.fail(f"it never came: {read(path)}")


def replay(clew_tor: Start, log: Path, *arguments: str) -> list[SpanRecord]:
    """The spans that a recording gives."""
    file = log.with_suffix(".jsonl")
    process = clew_tor("replay", str(log), "--file", str(file), *arguments)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return [record for line in file.read_text().splitlines() for record in decode_json(line)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("suffix", [".log", ".log.gz", ".log.xz"])
def test_record(script_tor: Make, clew_tor: Start, tmp_path: Path, number: signal.Signals, suffix: str) -> None:
    """Events are recorded until Ctrl-C or SIGTERM, restarts of tor included, and replay makes traces of them."""
    first = events(1) + events(2, "") + stream(20, 1)
    second = events(1)
    tor = script_tor(first, second)
    path = tmp_path / f"tor{suffix}"
    process = clew_tor("record", str(path), "--control", tor.address, "--events", "GUARD", "--json")
    assert tor.sent.acquire(timeout=30)
    tor.hang_up.set()
    assert tor.sent.acquire(timeout=30)
    if suffix != ".log.xz":
        wait_for(path, (first + second).count(b"\r\n"))
    else:
        assert process.stderr is not None
        for _ in range(3):
            process.stderr.readline()
        threading.Event().wait(1)
    process.send_signal(number)
    output, said = process.communicate(timeout=30)
    assert process.returncode == 0
    counts = json.loads(output)
    count = (first + second).count(b"\r\n")
    assert (counts["connections"], counts["events"], counts["missed"]) == (2, count, 0)
    assert said.splitlines()[-1] == (
        f"{count:,} events, {counts['bytes']:,} bytes in {path}, in clear: keep it private; "
        "to make traces of it, clew tor replay"
    )
    assert tor.asked == [b"CIRC CIRC_MINOR STREAM HS_DESC GUARD"] * 2
    items = read(path)
    assert [type(item) for item in items if isinstance(item, (Began, Ended))] == [Began, Ended, Began, Ended]
    assert [item.reason for item in items if isinstance(item, Ended)] == ["CONNECTION_LOST", "DETACHED"]
    assert all(item.is_testing and item.tor_version == "0.4.9.11" for item in items if isinstance(item, Began))
    times = [item.time_ns for item in items]
    assert times == sorted(times)
    content = gzip.decompress(path.read_bytes()) if suffix.endswith("gz") else path.read_bytes()
    assert b"hunter2" not in content
    assert (b"example.com" in content) == (suffix != ".log.xz")
    records = replay(clew_tor, path, "--privacy", "lab")
    assert len({record.resource.attributes["tor.instance.id"] for record in records}) == 2
    builds = {
        record.attributes["tor.circuit.id"]: record.attributes.get("error.type")
        for record in records
        if record.name == "tor.circuit.build"
    }
    assert builds == {"1": None, "2": "connection_lost"}
    assert sum(record.name == "tor.stream" for record in records) == 1


def test_killed(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """What was recorded when the recorder was killed can be replayed."""
    tor = script_tor(events(1) + events(2, ""))
    path = tmp_path / "tor.log.gz"
    process = clew_tor("record", str(path), "--control", tor.address)
    wait_for(path, 7)
    process.kill()
    process.communicate(timeout=30)
    notes = LogNotes()
    items = list(read_log(str(path), notes))
    assert isinstance(items[-1], Ended)
    assert items[-1].reason == "DETACHED"
    assert [problem.what for problem in notes.first_problems] == [
        "is the last that can be read: the compressed data ends too early"
    ]
    assert {record.name for record in replay(clew_tor, path)} == {"tor.circuit.build", "tor.circuit.extend"}


def test_a_file_that_is_there(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """A recording never touches a file that is there already."""
    path = tmp_path / "tor.log"
    path.write_text("precious")
    process = clew_tor("record", str(path), "--control", script_tor(b"").address)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == f"clew: {path} is there already, and nothing is added to it: give another name\n"
    assert path.read_text() == "precious"


def test_unknown_events(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """Events that this tor does not have are refused before anything is written."""
    path = tmp_path / "tor.log"
    process = clew_tor("record", str(path), "--control", script_tor(b"").address, "--events", "GUARD,NEWER")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == "clew: this tor does not know events of the type NEWER: leave it out\n"
    assert not path.exists()


def test_a_full_disk(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """A recording that cannot be written ends, with status 1 and one sentence."""
    tor = script_tor(events(1) * 2000)
    path = tmp_path / "tor.log"
    command = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh"]  # 100 KiB
    process = clew_tor("record", str(path), "--control", tor.address, before=command)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.splitlines()[-1] == f"clew: {path}: File too large"
    notes = LogNotes()
    assert len(list(read_log(str(path), notes))) > 100
    assert notes.problems == 1


@pytest.mark.tor
def test_lab(lab: Lab, clew_tor: Start, tmp_path: Path) -> None:
    """What the lab's tor does is the same in a replay as it was to a mapper that listened at the time."""
    path = tmp_path / "tor.log.xz"
    process = clew_tor("record", str(path), "--control", lab.control, "--events", "CIRC_BW")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("recording events of tor 0.")
    with ControlClient.connect(lab.control) as client:
        closed = threading.Semaphore(0)
        client.add_raw_listener(lambda reply, _: closed.release() if " CLOSED " in reply.text else None)
        client.set_events(["CIRC"])
        relays = [relay.fingerprint for relay in client.relays() if "Authority" not in relay.flags]
        asked = [client.extend_circuit(path=relays[:3]) for _ in range(5)]
        threading.Event().wait(1)
        for circuit_id in asked:
            client.close_circuit(circuit_id)
        for _ in asked:
            assert closed.acquire(timeout=30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    records = replay(clew_tor, path, "--privacy", "lab")
    builds = {record.attributes["tor.circuit.id"]: record for record in records if record.name == "tor.circuit.build"}
    for circuit_id in asked:
        extends = [record for record in records if record.parent_id == builds[circuit_id].span_id]
        assert [record.attributes["tor.relay.fingerprint"] for record in extends] == relays[:3]
