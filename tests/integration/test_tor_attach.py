"""`clew tor attach` as a process: against a scripted tor, that can be told to do anything, and against the lab's."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from clew import Status
from clew.otlp import decode_json
from clew.tor.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clew import SpanRecord
    from clew.tor.lab import Lab

    Make = Callable[..., "ScriptedTor"]
    Start = Callable[..., subprocess.Popen[str]]

HELLO = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
RELAYS = ["$" + letter * 40 + f"~relay{letter}" for letter in "ABC"]
MADE = "BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL"


def events(circuit_id: int, end: str = "BUILT") -> bytes:
    """A circuit of three hops from its launch to its end, which comes before the third unless it is built."""
    hops = 3 if end == "BUILT" else 2
    lines = [f"LAUNCHED {MADE}"]
    lines += [f"EXTENDED {','.join(RELAYS[: hop + 1])} {MADE}" for hop in range(hops)]
    if end:
        lines.append(f"{end} {','.join(RELAYS[:hops])} {MADE}" + ("" if end == "BUILT" else " REASON=TIMEOUT"))
    return b"".join(b"650 CIRC %d %s\r\n" % (circuit_id, line.encode()) for line in lines)


class ScriptedTor:
    """Lets everybody in and then, for each connection, sends the events that it was given."""

    def __init__(self, scripts: list[bytes], testing: bytes = b"1") -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._answers = {b"PROTOCOLINFO": HELLO, b"GETCONF": b"250 TestingTorNetwork=%s\r\n" % testing}
        self._scripts = scripts
        self.hang_up = threading.Event()  # ends the connection that is there
        self.sent = threading.Semaphore(0)  # released when a script was sent
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection, script)
            self.hang_up.clear()

    def _serve(self, connection: socket.socket, script: bytes) -> None:
        with connection.makefile("rb") as lines:
            for line in lines:
                command = line.split()[0]
                connection.sendall(self._answers.get(command, b"250 OK\r\n"))
                if command == b"SETEVENTS":
                    connection.sendall(script)
                    self.sent.release()
                    break
            else:
                return
            if script is not self._scripts[-1]:
                assert self.hang_up.wait(30)
            else:
                assert lines.read() == b""  # until the client has gone

    def close(self) -> None:
        """Wait for the end of the last connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.fixture
def make_tor() -> Iterator[Callable[..., ScriptedTor]]:
    """Makes scripted tors, and closes them."""
    made: list[ScriptedTor] = []

    def make(*scripts: bytes, testing: bytes = b"1") -> ScriptedTor:
        made.append(ScriptedTor(list(scripts), testing))
        return made[-1]

    yield make
    for tor in made:
        tor.close()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs the command, and ends it after a test that failed to."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "clew.cli.main", "tor", "attach", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        )
        return running[-1]

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def read(path: Path) -> list[SpanRecord]:
    """The spans of a file."""
    return [record for line in path.read_text().splitlines() for record in decode_json(line)]


def read_builds(path: Path) -> dict[str, SpanRecord]:
    """The spans of whole circuits, by the circuit's id."""
    return {str(record.attributes["tor.circuit.id"]): record for record in read(path) if not record.parent_id}


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
    return lambda records: sum(not record.parent_id for record in records) >= count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_record(make_tor: Make, start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """Circuits are recorded until Ctrl-C or SIGTERM; what is open then ends with that, and all is counted."""
    tor = make_tor(events(1) + events(2, "FAILED") + events(3, ""))
    path = tmp_path / "traces.jsonl"
    process = start("--control", tor.address, "--file", str(path), "--json")
    wait_for(path, circuits(2))
    process.send_signal(number)
    output, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said.splitlines() == [
        f"recording circuits of tor 0.4.9.11 at {tor.address} to {path}",
        f"circuits: 0 building, 0 open, 1 built, 1 failed, 1 lost, {len(read(path))} spans written to {path}",
    ]
    assert json.loads(output) == {
        "file": str(path),
        "circuits": 3,
        "building": 0,
        "open": 0,
        "built": 1,
        "failed": 1,
        "lost": 1,
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


def test_restart(make_tor: Make, start: Start, tmp_path: Path) -> None:
    """When tor goes away, what was open ends with that reason; when it is back, recording goes on, equal hashes."""
    tor = make_tor(events(1) + events(2, ""), events(1))
    path = tmp_path / "traces.jsonl"
    process = start("--control", tor.address, "--file", str(path), "--privacy", "pseudonymous")
    wait_for(path, circuits(1))
    tor.hang_up.set()
    wait_for(path, circuits(3))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    gone = "closed the control connection: it ended or was restarted, connect again"
    assert said.splitlines() == [
        f"recording circuits of tor 0.4.9.11 at {tor.address} to {path}",
        f"tor at {tor.address} {gone}; trying again until Ctrl-C",
        f"recording circuits of tor 0.4.9.11 at {tor.address} to {path}",
        f"circuits: 0 building, 0 open, 2 built, 0 failed, 1 lost, {len(read(path))} spans written to {path}",
    ]
    records = read(path)
    lost = [record for record in records if "connection_lost" in str(record.attributes)]
    assert [record.attributes["tor.circuit.id"] for record in lost if not record.parent_id] == ["2"]
    assert len({record.resource.attributes["tor.instance.id"] for record in records}) == 2
    first_hops = {
        record.attributes["tor.relay.fingerprint"] for record in records if record.attributes.get("tor.hop.index") == 1
    }
    assert len(first_hops) == 1


def test_live_line(make_tor: Make, start: Start, tmp_path: Path) -> None:
    """On a terminal one line shows the counts as they change, and goes away."""
    tor = make_tor(events(1) + events(2, "FAILED"))
    path = tmp_path / "traces.jsonl"
    near, far = pty.openpty()
    process = start("--control", tor.address, "--file", str(path), stderr=far)
    os.close(far)
    shown = b""
    while not re.search(rb"1 built, 1 failed, [1-9]\d* spans written", shown):
        shown += os.read(near, 4096)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    while b"written to" not in shown:
        shown += os.read(near, 4096)
    os.close(near)
    assert re.search(rb"\r\x1b\[2Kcircuits: 0 building, 1 open, 1 built, 1 failed, \d+ spans written\r\x1b\[2K", shown)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--control", "127.0.0.1:1"], "clew: nothing listens on 127.0.0.1:1: start tor with ControlPort 1"),
        (["--control", "nonsense"], "clew: 'nonsense' is no address of a control port: give a port"),
        (["--control", "/nowhere/control"], "clew: there is no socket /nowhere/control: start tor with ControlSocket"),
    ],
)
def test_no_tor(start: Start, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """A tor that cannot be reached at the beginning is one sentence and status 1."""
    process = start(*arguments, "--file", str(tmp_path / "traces.jsonl"))
    output, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output == ""
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_unwritable_file(make_tor: Make, start: Start, tmp_path: Path) -> None:
    """A file that cannot be written is one sentence and status 1."""
    tor = make_tor(b"")
    (tmp_path / "file").touch()
    process = start("--control", tor.address, "--file", str(tmp_path / "file" / "traces.jsonl"))
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("clew: ")
    assert said.count("\n") == 1


def test_everything_of_the_public_network(make_tor: Make, start: Start, tmp_path: Path) -> None:
    """The last level is refused for a tor that is not on a testing network, unless it is asked for twice."""
    path = tmp_path / "traces.jsonl"
    tor = make_tor(b"", events(1), testing=b"0")
    process = start("--control", tor.address, "--file", str(path), "--privacy", "lab")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("clew: this tor is on the public network")
    process = start("--control", tor.address, "--file", str(path), "--privacy", "lab", "--public-network")
    wait_for(path, circuits(1))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert RELAYS[0][1:41] in path.read_text()


@pytest.mark.tor
def test_lab(lab: Lab, start: Start, tmp_path: Path) -> None:
    """Circuits that another program has the lab's tor build are recorded with the relays of its consensus."""
    path = tmp_path / "traces.jsonl"
    process = start("--control", lab.control, "--file", str(path), "--privacy", "lab", "--json")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("recording circuits of tor 0.")
    with ControlClient.connect(lab.control) as client:
        relays = client.relays()
        hops = [relay.fingerprint for relay in relays if "Authority" not in relay.flags][:3]
        asked = {client.extend_circuit(path=hops) for _ in range(10)}
    wait_for(path, lambda records: asked <= {str(record.attributes.get("tor.circuit.id")) for record in records})
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    counts = json.loads(output)
    assert counts["built"] >= 10
    assert counts["spans_lost"] == counts["events_lost"] == 0
    records = read(path)
    assert len(records) == counts["spans"]
    builds = read_builds(path)
    for circuit_id in asked:
        trace = [record for record in records if record.trace_id == builds[circuit_id].trace_id]
        extends = sorted((record for record in trace if record.parent_id), key=lambda record: record.start_time_ns)
        assert [record.attributes["tor.hop.index"] for record in extends] == [1, 2, 3]
        assert [record.attributes["tor.relay.fingerprint"] for record in extends] == hops
