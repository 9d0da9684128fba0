"""`clew tor attach` as a process: against a scripted tor, that can be told to do anything, and against the lab's."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import termios
import threading
from typing import TYPE_CHECKING

import pytest

from clew import Status
from clew.otlp import decode_json
from clew.tor.control import ControlClient
from tests.scripted_tor import RELAYS, ScriptedTor, events, stream

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from clew import SpanRecord
    from clew.tor.lab import Lab

    Make = Callable[..., ScriptedTor]
    Start = Callable[..., subprocess.Popen[str]]


def read(path: Path) -> list[SpanRecord]:
    """The spans of a file."""
    return [record for line in path.read_text().splitlines() for record in decode_json(line)]


def read_builds(path: Path) -> dict[str, SpanRecord]:
    """The spans of whole circuits, by the circuit's id."""
    builds = [record for record in read(path) if record.name == "tor.circuit.build"]
    return {str(record.attributes["tor.circuit.id"]): record for record in builds}


def wait_for(path: Path, is_there: Callable[[list[SpanRecord]], bool]) -> None:
    """Wait until a file has what is waited for."""
    pause = threading.Event()
    for _ in range(1200):
        if path.exists() and is_there(read(path)):
            return
        pause.wait(0.05)
    pytest.fail(f"it never came: {path.read_text() if path.exists() else 'no file'}")


def circuits(count: int) -> Callable[[list[SpanRecord]], bool]:
    """Whether there are the spans of so many circuits."""
    return lambda records: sum(record.name == "tor.circuit.build" for record in records) >= count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_record(script_tor: Make, clew_tor: Start, tmp_path: Path, number: signal.Signals) -> None:
    """What tor does is recorded until Ctrl-C or SIGTERM; what is open then ends with that, and all is counted."""
    tor = script_tor(events(1) + events(2, "FAILED") + events(3, "") + stream(20, 1) + stream(21, 1, ends=False))
    path = tmp_path / "traces.jsonl"
    process = clew_tor("attach", "--control", tor.address, "--file", str(path), "--json")
    wait_for(path, lambda records: any(record.name == "tor.stream" for record in records))
    process.send_signal(number)
    output, said = process.communicate(timeout=30)
    assert process.returncode == 0
    counts = "circuits: 0 building, 0 open, 1 built, 1 failed, 1 lost; streams: 0 open, 1 done, 0 failed, 1 lost"
    assert said.splitlines() == [
        f"recording what tor 0.4.9.11 at {tor.address} does to {path}",
        f"{counts}; {len(read(path))} spans written to {path}",
    ]
    assert json.loads(output) == {
        "file": str(path),
        "circuits": 3,
        "circuits_building": 0,
        "circuits_open": 0,
        "circuits_built": 1,
        "circuits_failed": 1,
        "circuits_lost": 1,
        "streams": 2,
        "streams_open": 0,
        "streams_done": 1,
        "streams_failed": 0,
        "streams_cancelled": 0,
        "streams_lost": 1,
        "onion_connections": 0,
        "spans": len(read(path)),
        "spans_lost": 0,
        "events_lost": 0,
    }
    records = read(path)
    builds = read_builds(path)
    assert {key: record.attributes.get("error.type") for key, record in builds.items()} == {
        "1": None,
        "2": "timeout",
        "3": "detached",
    }
    assert [builds[key].status for key in "12"] == [Status.UNSET, Status.ERROR]
    resource = records[0].resource.attributes
    assert resource["service.name"] == "tor"
    assert resource["service.version"] == "0.4.9.11"
    assert resource["clew.privacy.level"] == "pseudonymous"
    assert len(str(resource["tor.instance.id"])) == 16
    content = path.read_text()
    assert not any(relay[1:41] in content or relay[42:] in content for relay in RELAYS)
    assert not any(word in content for word in ("example.com", "hunter2", "40000"))
    assert tor.asked == [b"CIRC CIRC_MINOR STREAM HS_DESC"]  # what this tor knows of what the mapper takes


def test_restart(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """When tor goes away, what was open ends with that reason; when it is back, recording goes on, equal hashes."""
    tor = script_tor(events(1) + events(2, ""), events(1))
    path = tmp_path / "traces.jsonl"
    process = clew_tor("attach", "--control", tor.address, "--file", str(path), "--privacy", "pseudonymous")
    wait_for(path, circuits(1))
    tor.hang_up.set()
    wait_for(path, circuits(3))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    counts = "circuits: 0 building, 0 open, 2 built, 0 failed, 1 lost; streams: 0 open, 0 done, 0 failed"
    gone = "closed the control connection: it ended or was restarted, connect again"
    assert said.splitlines() == [
        f"recording what tor 0.4.9.11 at {tor.address} does to {path}",
        f"tor at {tor.address} {gone}; trying again until Ctrl-C",
        f"recording what tor 0.4.9.11 at {tor.address} does to {path}",
        f"{counts}; {len(read(path))} spans written to {path}",
    ]
    records = read(path)
    lost = [record for record in records if "connection_lost" in str(record.attributes)]
    assert [record.attributes["tor.circuit.id"] for record in lost if not record.parent_id] == ["2"]
    assert len({record.resource.attributes["tor.instance.id"] for record in records}) == 2
    first_hops = {
        record.attributes["tor.relay.fingerprint"] for record in records if record.attributes.get("tor.hop.index") == 1
    }
    assert len(first_hops) == 1


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            120,
            rb"circuits: 0 building, 1 open, 1 built, 1 failed; streams: 0 open, 0 done, 0 failed; [1-9] spans w",
        ),
        (80, rb"circuits: 1 built, 1 failed; streams: 0 done, 0 failed; [1-9] spans"),
    ],
)
def test_live_line(script_tor: Make, clew_tor: Start, tmp_path: Path, columns: int, line: bytes) -> None:
    """On a terminal one line shows the counts as they change, as many as it has room for, and goes away."""
    tor = script_tor(events(1) + events(2, "FAILED"))
    path = tmp_path / "traces.jsonl"
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (25, columns))
    process = clew_tor("attach", "--control", tor.address, "--file", str(path), stderr=far)
    os.close(far)
    shown = b""
    while not re.search(line, shown):
        shown += os.read(near, 4096)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    while b"written to" not in shown:
        shown += os.read(near, 4096)
    os.close(near)
    assert re.search(rb"\r\x1b\[2K" + line + rb"(?:ritten)?\r\x1b\[2K", shown)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--control", "127.0.0.1:1"], "clew: nothing listens on 127.0.0.1:1: start tor with ControlPort 1"),
        (["--control", "nonsense"], "clew: 'nonsense' is no address of a control port: give a port"),
        (["--control", "/nowhere/control"], "clew: there is no socket /nowhere/control: start tor with ControlSocket"),
    ],
)
def test_no_tor(clew_tor: Start, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """A tor that cannot be reached at the beginning is one sentence and status 1."""
    process = clew_tor("attach", *arguments, "--file", str(tmp_path / "traces.jsonl"))
    output, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output == ""
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_unwritable_file(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """A file that cannot be written is one sentence and status 1."""
    tor = script_tor(b"")
    (tmp_path / "file").touch()
    process = clew_tor("attach", "--control", tor.address, "--file", str(tmp_path / "file" / "traces.jsonl"))
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("clew: ")
    assert said.count("\n") == 1


def test_everything_of_the_public_network(script_tor: Make, clew_tor: Start, tmp_path: Path) -> None:
    """The last level is refused for a tor that is not on a testing network, unless it is asked for twice."""
    path = tmp_path / "traces.jsonl"
    tor = script_tor(b"", events(1), testing=b"0")
    process = clew_tor("attach", "--control", tor.address, "--file", str(path), "--privacy", "lab")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("clew: this tor is on the public network")
    process = clew_tor("attach", "--control", tor.address, "--file", str(path), "--privacy", "lab", "--public-network")
    wait_for(path, circuits(1))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert RELAYS[0][1:41] in path.read_text()


@pytest.mark.tor
def test_lab(lab: Lab, clew_tor: Start, tmp_path: Path) -> None:
    """Circuits that another program has the lab's tor build are recorded with the relays of its consensus."""
    path = tmp_path / "traces.jsonl"
    process = clew_tor("attach", "--control", lab.control, "--file", str(path), "--privacy", "lab", "--json")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("recording what tor 0.")
    with ControlClient.connect(lab.control) as client:
        relays = client.relays()
        hops = [relay.fingerprint for relay in relays if "Authority" not in relay.flags][:3]
        asked = {client.extend_circuit(path=hops) for _ in range(10)}
    wait_for(path, lambda records: asked <= {str(record.attributes.get("tor.circuit.id")) for record in records})
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    counts = json.loads(output)
    assert counts["circuits_built"] >= 10
    assert counts["spans_lost"] == counts["events_lost"] == 0
    records = read(path)
    assert len(records) == counts["spans"]
    builds = read_builds(path)
    for circuit_id in asked:
        trace = [record for record in records if record.trace_id == builds[circuit_id].trace_id]
        extends = sorted((record for record in trace if record.parent_id), key=lambda record: record.start_time_ns)
        assert [record.attributes["tor.hop.index"] for record in extends] == [1, 2, 3]
        assert [record.attributes["tor.relay.fingerprint"] for record in extends] == hops
