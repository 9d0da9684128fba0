"""clew stats: what is counted, what is printed, and what is said about the files."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from clew.cli import terminal
from clew.cli.main import main
from clew.cli.stats import configure
from clew.stats.figures import SORTS

DATA = Path(__file__).parents[2] / "data" / "traces"
OTLP = str(DATA / "otlp.jsonl")
SLOW, QUICK = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


class Result(NamedTuple):
    """What a run of `clew stats` did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Stats: TypeAlias = Callable[..., Result]


@pytest.fixture
def stats(capsys: pytest.CaptureFixture[str]) -> Stats:
    """Runs `clew stats` in this process."""

    def run(*arguments: str) -> Result:
        try:
            status = main(["stats", *arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Result(status, *capsys.readouterr())

    return run


def span(name: str, number: int, length_ms: int = 1) -> str:
    """A line of OTLP/JSON with one span of a trace of its own."""
    start = 1_790_000_000_000_000_000 + number * 1_000_000
    fields = {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": name,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + length_ms * 1_000_000),
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}) + "\n"


def test_the_picture(stats: Stats) -> None:
    """Counts with their shares, rate, names by total time, the histogram, and the slowest traces with their ids."""
    result = stats(OTLP)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("━━ 5 spans of 2 traces ━")
    assert lines[1:4] == [
        "✗ 2 errors (40.0%) · no cancelled",
        lines[2],
        "1 service: tor-client 100.0%",
    ]
    assert lines[2].endswith("over 2.50 s · 2 spans/s")
    assert lines[5].split()[-7:] == ["count", "errors", "total", "p50", "p90", "p99", "max"]
    assert lines[6].split() == ["build-circuit", "1", "1", *["1.52", "s"] * 5]
    assert "     1 s to    2 s ██████████████████████████████████████████████████ 2  40.0%" in lines
    assert f"  {SLOW}        3        2   1.52 s  build-circuit" in lines
    assert f"  {QUICK}        2        0   510 ms  GET /" in lines
    assert "\x1b" not in result.out
    assert max(map(len, lines)) <= 100


def test_json_has_the_same_numbers(stats: Stats) -> None:
    """--json prints one object with units in its keys."""
    found = stats(OTLP, "--json").json
    assert (found["spans"], found["traces"], found["errors"], found["errors_share"]) == (5, 2, 2, 0.4)
    assert found["services"] == [{"name": "tor-client", "spans": 5}]
    assert found["spans_per_second"] == pytest.approx(1.996, abs=0.01)
    assert found["names"][0]["name"] == "build-circuit"
    assert found["names"][0]["total_ns"] == found["slowest_traces"][0]["duration_ns"]
    assert [trace["trace_id"] for trace in found["slowest_traces"]] == [SLOW, QUICK]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--sort", "name"], ["GET /", "build-circuit", "extend-circuit", "fetch", "select-guard"]),
        (["--limit", "2"], ["build-circuit", "extend-circuit"]),
        (["--name", "circuit"], ["build-circuit", "extend-circuit"]),
        (["--name", "GET *"], ["GET /"]),
        (["--since", "2026-09-21T14:13:22Z"], ["GET /", "fetch"]),
    ],
)
def test_choosing(options: list[str], names: list[str], stats: Stats) -> None:
    """Each option narrows or orders what is shown."""
    result = stats(OTLP, "--json", *options)
    assert [figures["name"] for figures in result.json["names"]] == names


def test_a_name_has_its_histogram(stats: Stats) -> None:
    """With --name the histogram is that of these spans, and says so."""
    out = stats(OTLP, "--name", "fetch").out
    assert "Durations of fetch\n  200 ms to 500 ms ███" in out
    assert out.count(" ms to ") == 1
    assert f"  {QUICK}" in out
    assert SLOW not in out


def test_limits_are_told(stats: Stats) -> None:
    """When there are more names than are shown, it is said how many, and how to see them."""
    assert stats(OTLP, "--limit", "2").err == "clew: these are 2 of 5 names; --limit N shows more\n"
    assert stats(OTLP, "--slowest", "1").out.count("\n  4bf9") == 1


def test_nothing_there(stats: Stats, tmp_path: Path) -> None:
    """An empty file says so, and so does one in which nothing matches; like grep, with status 1."""
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert stats(str(path)) == (1, "", f"clew: {path}: no span is there\n")
    assert stats(OTLP, "--name", "xyz") == (1, "", f"clew: {OTLP}: none of the 5 spans matches\n")
    result = stats(str(path), "--json")
    assert (result.status, result.json["spans"], result.json["names"]) == (1, 0, [])


def test_damage_is_told_at_the_end(stats: Stats, tmp_path: Path) -> None:
    """What cannot be read is named and left out; the rest is counted, and JSON says it too."""
    path = tmp_path / "torn.jsonl"
    path.write_text(span("a", 1) + "rubbish\n" + span("b", 2) + span("c", 3)[:-30])
    result = stats(str(path), "--json")
    assert (result.status, result.json["spans"]) == (0, 2)
    assert "1 damaged line left out: line 2 (it is no JSON object)" in result.err
    assert "line 4 is unfinished" in result.err
    assert len(result.json["remarks"]) == 2


def test_several_files_and_one_that_is_not_there(stats: Stats, tmp_path: Path) -> None:
    """Files are counted together; one that cannot be opened is named, and the status is 1."""
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(span("a", 1).encode()))
    result = stats(str(packed), OTLP, str(tmp_path / "none"), "--json")
    assert (result.status, result.json["spans"]) == (1, 6)
    assert "none: No such file or directory" in result.err


def test_control_characters_are_escaped(stats: Stats, tmp_path: Path) -> None:
    """A name from a file moves no cursor."""
    path = tmp_path / "hostile.jsonl"
    path.write_text(span("\x1b[2Jevil\n", 1))
    result = stats(str(path), "--name", "evil\n", "--color", "never")
    assert result.status == 0
    assert "\x1b" not in result.out
    assert "\\x1b[2Jevil" in result.out


def test_colours_only_where_they_are_seen(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    """--color always colours; a terminal that cannot show letters gets ASCII."""
    assert "\x1b[" in stats(OTLP, "--color", "always").out
    monkeypatch.setattr(terminal, "_is_terminal", lambda _: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in stats(OTLP).out


def test_standard_input_in_ascii() -> None:
    """Standard input is read for "-" and for no file; where only ASCII can be printed, only that is."""
    for arguments in ([], ["-"]):
        run = subprocess.run(
            [sys.executable, "-m", "clew.cli.main", "stats", *arguments],
            input=Path(OTLP).read_bytes(),
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=True,
        )
        assert run.stdout.startswith(b"== 5 spans of 2 traces ==")
        assert b"1 s to    2 s ######" in run.stdout
        run.stdout.decode("ascii")


@pytest.mark.parametrize("arguments", [["-", "-"], ["--sort", "colour", OTLP], ["--limit", "0", OTLP]])
def test_wrong_options(arguments: list[str], stats: Stats) -> None:
    """What makes no sense is refused with status 2."""
    assert stats(*arguments).status == 2


def test_every_order_can_be_asked_for() -> None:
    """--sort, which is not to import what only running needs, offers exactly the orders that there are."""
    parser = argparse.ArgumentParser()
    configure(parser)
    (action,) = (action for action in parser._actions if "--sort" in action.option_strings)
    assert tuple(action.choices or ()) == tuple(SORTS)


def test_nothing_of_tor_is_loaded() -> None:
    """It starts quickly: what knows tor is not loaded for it."""
    code = "import sys; from clew.cli.main import main; main(['stats', sys.argv[1]]); print('clew.tor' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, OTLP], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("\nFalse\n")
