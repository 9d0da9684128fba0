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
def test_a_quick_run_prints_every_row_and_bar(tmp_path: Path) -> None:
    """`bench_span.py --quick` measures every row for every contender, and judges every bar."""
    result = tmp_path / "quick.json"
    command = [sys.executable, str(BENCH / "bench_span.py"), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(result.read_text())
    contenders = {"clew", "otel", "fastotel"}
    rows = ["root", "below", "empty", "typical", "queued", "import", "modules"]
    assert [(entry["row"], set(entry["value"])) for entry in report["rows"]] == [(row, contenders) for row in rows]
    assert [bar["row"] for bar in report["bars"]] == rows
    for entry in report["rows"]:
        assert entry["what"] in done.stdout


def test_a_quick_run_of_what_is_kept(tmp_path: Path) -> None:
    """`bench_keep.py --quick` prints every row; what keeps little writes little."""
    result = tmp_path / "quick.json"
    command = [sys.executable, str(BENCH / "bench_keep.py"), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = {row["row"]: row["written"] for row in json.loads(result.read_text())["rows"]}
    assert written["encoded"] == written["recorder"] == 0
    assert 0 < written["tail"] < written["file"] / 10
    assert all(row in done.stdout for row in ("TailSample over a file", "FlightRecorder over a file"))


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


def test_the_readme_says_what_was_recorded() -> None:
    """The table of costs in README.md is that of the recorded run."""
    readme = (ROOT / "README.md").read_text()
    for entry in json.loads((BENCH / "results/bench_span.json").read_text())["rows"]:
        if "floors" in entry:
            clew, times = entry["value"]["clew"] / 1000, entry["times_clew"]
            row = f"| {entry['what']} | {clew:.2f} µs | {entry['floors']['clew']:.1f} |"
            assert f"{row} {times['otel']:.0f} x | {times['fastotel']:.0f} x |" in readme


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


def test_a_quick_run_of_opentelemetrys_api(tmp_path: Path) -> None:
    """`bench_otel.py --quick`: both providers, sampled and not, and each span arrives."""
    result = tmp_path / "quick.json"
    command = [sys.executable, str(BENCH / "bench_otel.py"), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(result.read_text())["rows"]
    assert [(row["row"], set(row["cpu_ns"])) for row in rows] == [
        (name, {"clew", "sdk"}) for name in ("sampled", "unsampled")
    ]
    assert all(row["what"] in done.stdout for row in rows)


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
