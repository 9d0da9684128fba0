"""The benchmark works, and its recorded results say nothing of the machine's owner."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "benchmarks"


@pytest.mark.timeout(300)
def test_everything_in_one_quick_run(tmp_path: Path) -> None:
    """`make bench QUICK=1` measures every row beside its peers, judges every bar and records nothing."""
    before = {path: path.read_bytes() for path in [ROOT / "README.md", *(BENCH / "results").glob("*")]}
    result = tmp_path / "quick.json"
    command = [sys.executable, str(BENCH / "bench.py"), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["row"]: row for row in json.loads(result.read_text())["rows"]}
    everybody, both, alone = {"clew", "otel", "fastotel"}, {"clew", "otel"}, {"clew"}
    spans = ["delivered", "gzip", "empty", "typical", "below", "root", "queued"]
    assert {name: set(row["values"]) for name, row in rows.items()} == {
        **dict.fromkeys([*spans, "end-server", "import", "modules"], everybody),
        **dict.fromkeys(["end-fifo", "end-full", "api-sampled", "api-unsampled"], both),
        **dict.fromkeys([f"threads-{who}" for who in ("1", "2", "4", "8", "tasks")], both),
        **dict.fromkeys([f"keep-{what}" for what in ("encoded", "file", "tail", "recorder")], alone),
        **dict.fromkeys([f"keep-{what}" for what in ("otlp", "tail-otlp", "recorder-otlp")], alone),
        "tor": alone,
    }
    without_bar = {name for name, row in rows.items() if not row["bars"]}
    assert without_bar == {name for name in rows if name.startswith(("gzip", "threads-", "keep-"))}
    assert all(row["what"] in done.stdout for row in rows.values())
    assert rows["keep-encoded"]["mb"] == rows["keep-recorder"]["mb"] == rows["keep-recorder-otlp"]["mb"] == 0
    assert 0 < rows["keep-tail"]["mb"] < rows["keep-file"]["mb"] / 10
    assert 0 < rows["keep-otlp"]["mb"] < rows["keep-file"]["mb"]
    assert before == {path: path.read_bytes() for path in before}


def test_a_short_long_run(tmp_path: Path) -> None:
    """`long_run.py` for two seconds: every span is exported and received, by the ledger and by the receiver."""
    result = tmp_path / "run.json"
    command = [sys.executable, str(BENCH / "long_run.py"), "--seconds", "2", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(result.read_text())
    assert report["stats"]["exported"] == report["stats"]["started"] == report["received"] > 0
    assert report["dropped"] == report["stats"]["failed"] == 0
    assert report["memory_mb"]["most"] >= report["memory_mb"]["after_warm_up"] > 0


def test_recorded_results_hold_no_paths() -> None:
    """What is committed names the processor and versions, no folder of the machine."""
    for path in (BENCH / "results").glob("*.json"):
        assert not re.search(r"/(home|root|tmp|usr|work)\b", path.read_text()), path.name


def test_a_quick_run_of_the_control_port() -> None:
    """`bench_control.py --quick` prints its steps, its rate and the eight lags, and records nothing."""
    before = sorted((BENCH / "results").glob("*"))
    command = [sys.executable, str(BENCH / "bench_control.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(",")[0].split("  ")[0] for line in lines] == [
        "bytes to replies",
        "replies to events",
        "a plain split",
        "through a client",
        *["lag"] * 8,
    ]
    assert sorted((BENCH / "results").glob("*")) == before


def test_a_quick_run_of_tors_events(tmp_path: Path) -> None:
    """`bench_tor.py --quick` goes the whole way: every stage is measured, every span delivered, the bar judged."""
    result = tmp_path / "quick.json"
    command = [sys.executable, str(BENCH / "bench_tor.py"), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(result.read_text())
    rows = ["whole", "split", "parse", "map", "deliver", "protected", "plain"]
    assert [row["row"] for row in report["rows"]] == rows
    for row in report["rows"]:
        assert row["what"] in done.stdout
    types = report["recording"]["types"]
    assert {"CIRC", "CIRC_MINOR", "STREAM", "STREAM_BW", "HS_DESC", "ORCONN", "STATUS_CLIENT"} < set(types)
    assert report["recording"]["events"] == sum(types.values())
    assert report["recording"]["spans"] > types["CIRC"] / 2
    assert report["bar"]["per_second"] == 50_000


def test_a_quick_run_of_privacy() -> None:
    """`bench_privacy.py --quick` prints a figure for each kind of span and each level."""
    command = [sys.executable, str(BENCH / "bench_privacy.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[-4:] == ["anonymous", "pseudonymous", "operator", "lab"]
    assert [len(re.findall(r" [0-9.]+", line)) for line in lines[1:]] == [4, 4, 4]


def test_a_quick_run_of_the_join() -> None:
    """`bench_join.py --quick` prints its three rows of connecting and three of first bytes, and records nothing."""
    before = sorted((BENCH / "results").glob("*"))
    command = [sys.executable, str(BENCH / "bench_join.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [re.split(r",| \d", line)[0] for line in done.stdout.splitlines()] == [
        *["connect"] * 3,
        *["first byte", "first byte", "  noted"] * 3,
    ]
    assert sorted((BENCH / "results").glob("*")) == before


def test_a_quick_run_on_files(tmp_path: Path) -> None:
    """`bench_files.py --quick` runs every command on a file, within the memory that each may need."""
    result = tmp_path / "quick.json"
    command = [sys.executable, str(BENCH / "bench_files.py"), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(result.read_text())["rows"]
    commands = ["view", "view", "stats", *["convert"] * 8, "view,", "stats,", "convert"]
    assert [row["row"].partition(" ")[0] for row in rows] == commands
    assert all(row["peak_mb"] < 300 and (row["written_bytes"] > 0) == row["row"].startswith("convert") for row in rows)
