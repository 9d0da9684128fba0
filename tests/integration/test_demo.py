"""`clew demo`, run as a person runs it: each part shows what it is about, the last one with a real tor."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew.demo import PARTS
from clew.model import Status
from clew.otlp import decode_json
from clew.tor.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.model import SpanRecord

CLEW = [sys.executable, "-m", "clew.cli.main"]


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for the lab's sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="clew-") as path:
        yield Path(path)


def demo(directory: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, COLUMNS="100")
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [*CLEW, "demo", "--dir", str(directory), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
        check=False,
    )


def spans_of(path: Path) -> list[SpanRecord]:
    return [record for line in path.read_text().splitlines() for record in decode_json(line)]


EXPECTED = {
    "basic": [
        r"trace id +[0-9a-f]{32}",
        r"span id +[0-9a-f]{16}",
        r"duration +\d+(\.\d+)? ms",
        r"spans made, ended .* ns each",
    ],
    "hierarchy": [r"load-page +[0-9a-f]{16} +none", r"parse-page +[0-9a-f]{16} +[0-9a-f]{16}", r"└ render"],
    "errors": [
        r"type +ConnectionRefusedError",
        r"message +127\.0\.0\.1 refused",
        r"✗ read-cache",
        r"⊘ wait-for-answer",
    ],
    "events": [
        r"rendered +8?\d?\.?\d+ ms",
        r"job\.hosts = \[\"alpha\", \"beta\"\]",
        r"128 were kept .* 22 were dropped",
    ],
    "sampling": [
        r"AlwaysSample\(\) +2,000 +2,000 +2,000 +0",
        r"NeverSample\(\) +2,000 +0 +0 +6,000",
        r"ProbabilitySample\(0\.1\) +2,000 +(1\d\d|2\d\d) ",
        r"RateLimitSample\(50\) +2,000 +50 ",
        r"1\. +\d+ +50 ",
        r"2\. +\d+ +50 ",
    ],
    "export": [
        r"size +[\d,]+ bytes for 15 spans",
        r"its owner alone",
        r"\$ clew view .*export\.jsonl",
        r"GET /cart \(server\)",
    ],
}


@pytest.mark.parametrize("part", EXPECTED)
def test_a_part_shows_what_it_is_about(part: str, directory: Path) -> None:
    """Ids, parents, durations, errors, events, counts, files: with the real values of this run."""
    result = demo(directory, part)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "" or part == "export"
    assert next(each.title for each in PARTS if each.name == part) in result.stdout
    for pattern in EXPECTED[part]:
        assert re.search(pattern, " ".join(result.stdout.split())), (pattern, result.stdout)


def test_the_exported_file_is_what_was_said(directory: Path) -> None:
    """15 spans in 5 traces, for the eyes of its owner."""
    assert demo(directory, "export").returncode == 0
    path = directory / "export.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records = spans_of(path)
    assert len(records) == 15
    assert len({record.trace_id for record in records}) == 5


@pytest.mark.tor
def test_the_whole_demo_ends_with_circuits_that_tor_built(directory: Path) -> None:
    """All parts run; the file of the last has a circuit of exactly three hops, all in the lab's consensus, and one that
    failed, with tor's reason. Nothing is left running."""
    result = demo(directory)
    assert result.returncode == 0, result.stderr
    for part in PARTS:
        assert part.title in result.stdout
    assert "All 7 parts ran" in result.stdout
    assert "SIMULATION" not in result.stdout
    records = spans_of(directory / "circuits.jsonl")
    nodes = {node.fingerprint: node.name for node in Lab(directory / "lab").nodes}
    built, failed = (
        [record for record in records if record.trace_id == root.trace_id]
        for root in records
        if root.name == "build-circuit"
    )
    built.sort(key=lambda record: (record.start_time_ns, -record.end_time_ns))  # a parent comes before its children
    assert [record.name for record in built] == [
        "build-circuit",
        "select-guard",
        "select-middle",
        "select-exit",
        "extend-circuit",
        "tor.circuit.build",
        *["tor.circuit.extend"] * 3,
    ]
    assert {record.status for record in built} == {Status.UNSET}
    for trace in (built, failed):
        hops = [record for record in trace if record.name == "tor.circuit.extend"]
        assert [hop.attributes["tor.hop.index"] for hop in hops] == [1, 2, 3]
        assert all(hop.attributes["tor.relay.fingerprint"] in nodes for hop in hops)
        assert all(hop.duration_ns > 0 for hop in hops)
    (root,) = (record for record in failed if record.name == "build-circuit")
    (last,) = (record for record in failed if record.attributes.get("tor.hop.index") == 3)
    assert root.status is last.status is Status.ERROR
    assert last.attributes["error.type"] == "destroyed"
    assert nodes[str(last.attributes["tor.relay.fingerprint"])] in result.stdout
    assert not Lab(directory / "lab").status().is_up


def test_without_tor_the_demo_says_what_it_left_out(directory: Path) -> None:
    """Six parts run, exit 0, and one sentence says what to type; the part alone fails."""
    empty = directory / "bin"
    empty.mkdir()
    script = (
        "import sys, clew.tor.lab_programs as programs\n"
        "programs._SYSTEM_PATH = ''\n"
        "from clew.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for arguments, code in (([], 0), (["circuit"], 1)):
        result = subprocess.run(
            [sys.executable, "-c", script, "demo", "--dir", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=110,
            env=dict(os.environ, PATH=str(empty)),
            check=False,
        )
        assert result.returncode == code, result.stderr
        words = " ".join((result.stdout + result.stderr).split())
        assert "install tor" in words
        assert "--simulated" in words
    assert "Traceback" not in result.stderr


def test_the_simulation_says_so_on_every_screen(directory: Path) -> None:
    """Before, between and after its traces; and in the file."""
    result = demo(directory, "circuit", "--simulated")
    assert result.returncode == 0, result.stderr
    for screen in result.stdout.split("━━ build-circuit"):
        assert "THIS IS A SIMULATION" in screen
    records = spans_of(directory / "circuits.jsonl")
    assert all(record.resource.attributes["clew.simulated"] is True for record in records)
    assert sum(record.name == "tor.circuit.extend" for record in records) == 6


@pytest.mark.tor
def test_ctrl_c_leaves_nothing_running(directory: Path) -> None:
    """Interrupted while the lab comes up: exit status 130, no traceback, no tor."""
    process = subprocess.Popen(
        [*CLEW, "demo", "--dir", str(directory), "circuit"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not any(node.pid for node in Lab(directory / "lab").nodes):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        pids = [node.pid for node in Lab(directory / "lab").nodes if node.pid]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_folder_that_cannot_be_made(directory: Path) -> None:
    """One sentence that says what to do."""
    file = directory / "file"
    file.touch()
    result = demo(file / "below", "basic")
    assert result.returncode == 1
    assert "--dir" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
