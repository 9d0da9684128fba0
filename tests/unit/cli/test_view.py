"""clew view: which traces, from which files, and what is said about them."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from clew.cli import terminal
from clew.cli.main import main
from clew.otlp import decode_json

DATA = Path(__file__).parents[2] / "data" / "traces"
OTLP = str(DATA / "otlp.jsonl")
GOTOR = str(DATA / "gotor.json")
SLOW, QUICK = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


class Result:
    """What a run of `clew view` did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def traces(self) -> list[str]:
        """The ids of the traces that were drawn, in their order."""
        return re.findall(r"· trace ([0-9a-f]{32})", self.out)


View: TypeAlias = Callable[..., Result]


@pytest.fixture
def view(capsys: pytest.CaptureFixture[str]) -> View:
    """Runs `clew view` in this process."""

    def run(*arguments: str) -> Result:
        try:
            status = main(["view", *arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Result(status, *capsys.readouterr())

    return run


def span(trace_id: str, name: str, start: int, end: int, parent_id: str = "", *, error: bool = False) -> str:
    """A line of OTLP/JSON with one span."""
    fields = {
        "traceId": trace_id,
        "spanId": f"{start:08x}{end:08x}",
        "parentSpanId": parent_id,
        "name": name,
        "startTimeUnixNano": str(1_790_000_000_000_000_000 + start * 1_000_000),
        "endTimeUnixNano": str(1_790_000_000_000_000_000 + end * 1_000_000),
        "status": {"code": 2 if error else 0},
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}) + "\n"


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(lines))
    return str(path)


# --- what is shown ----------------------------------------------------------------------------------------------


def test_the_newest_last(view: View) -> None:
    """All traces of a small file are drawn, the newest at the end, where the eye is; then the legend."""
    result = view(OTLP)
    assert (result.status, result.err) == (0, "")
    assert result.traces == [SLOW, QUICK]
    assert "✗ build-circuit" in result.out
    assert "timeout: relay is down" in result.out
    assert result.out.endswith("its children ran\n")
    assert "\x1b" not in result.out


@pytest.mark.parametrize(
    ("options", "traces"),
    [
        (["--slowest", "2"], [SLOW, QUICK]),
        (["--slowest", "1"], [SLOW]),
        (["--limit", "1"], [QUICK]),
        (["--errors"], [SLOW]),
        (["--name", "select"], [SLOW]),
        (["--name", "GET *"], [QUICK]),
        (["--name", "GET"], [QUICK]),
        (["--name", "extend-circuit", "--errors"], [SLOW]),
        (["--trace", "4BF92"], [SLOW]),
        (["--trace", SLOW, "--trace", "0af7"], [SLOW, QUICK]),
        (["--since", "2026-09-21T14:13:22Z"], [QUICK]),
        (["--since", "2026-09-21"], [SLOW, QUICK]),
        (["--since", "36500d"], [SLOW, QUICK]),
    ],
)
def test_choosing(options: list[str], traces: list[str], view: View) -> None:
    """Each option narrows what is shown."""
    result = view(OTLP, *options)
    assert result.status == 0
    assert result.traces == traces


@pytest.mark.parametrize("options", [["--name", "nothing"], ["--name", "select", "--errors"], ["--trace", "ffff"]])
def test_nothing_matches(options: list[str], view: View) -> None:
    """Like grep: nothing found is said, and is status 1."""
    result = view(OTLP, *options)
    assert (result.status, result.out) == (1, "")
    assert result.err == f"clew: {OTLP}: none of the 5 spans matches\n"


def test_an_empty_file(view: View, tmp_path: Path) -> None:
    """An empty file is no error of the format; it just has no span."""
    path = write(tmp_path / "empty.jsonl")
    assert view(path).err == f"clew: {path}: no span is there\n"


def test_limits_are_told(view: View) -> None:
    """When more traces match than are shown, it is said how many, and how to see them."""
    assert view(OTLP, "--limit", "1").err == "clew: these are the newest 1 of 2 traces; --limit N shows more\n"
    assert view(OTLP, "--slowest", "1").err == "clew: these are the slowest 1 of 2 traces; --slowest N shows more\n"


def test_gotor_ids_can_be_asked_for(view: View) -> None:
    """The id as it stands in go-tor's file finds its trace."""
    result = view(GOTOR, "--trace", "1763820000123456700")
    assert result.traces == [f"{1763820000123456700:032x}"]
    assert "relay is down" in result.out
    assert "it was not ended" in result.out


def test_several_files_make_one_trace(view: View, tmp_path: Path) -> None:
    """Spans of one trace are put together wherever they are: scattered over files, formats and compressions."""
    first = write(tmp_path / "a.jsonl", span(SLOW, "child", 1, 2, "0000000000000009"), span(QUICK, "other", 5, 6))
    second = tmp_path / "b.jsonl.gz"
    second.write_bytes(gzip.compress(span(SLOW, "root", 0, 9).encode()))
    result = view(first, str(second), "--trace", SLOW)
    assert result.status == 0
    assert "└ child" in result.out
    assert "2 spans" in result.out


def test_a_huge_trace_is_bounded(view: View, tmp_path: Path) -> None:
    """Of a trace with more spans than are drawn, errors and the longest are, and the rest is counted."""
    lines = [span(SLOW, f"leaf-{n}", n, n + 1, "00000000000003e8") for n in range(50)]
    lines.append(span(SLOW, "failed", 7, 7, "00000000000003e8", error=True))
    path = write(tmp_path / "a.jsonl", *lines, span(SLOW, "root", 0, 1000))
    result = view(path, "--spans", "5")
    assert "52 spans · " in result.out
    assert "47 more spans of this trace are not drawn" in result.out
    assert "✗ failed" in result.out
    assert result.out.count("leaf-") == 3


def test_details(view: View) -> None:
    """-d adds every attribute."""
    assert "hop = 1" not in view(OTLP).out
    assert "hop = 1" in view(OTLP, "-d").out


@pytest.mark.parametrize("width", [80, 200])
def test_width(width: int, view: View) -> None:
    """--width is kept to."""
    lines = view(OTLP, "--width", str(width)).out.splitlines()
    assert max(map(len, lines)) == width


def test_colours(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours: not into a pipe; always with --color always; on a terminal unless NO_COLOR is set."""
    assert "\x1b[" not in view(OTLP).out
    assert "\x1b[1;31mextend-circuit" in view(OTLP, "--color", "always").out
    monkeypatch.setattr(terminal, "_is_terminal", lambda stream: True)
    assert "\x1b[" in view(OTLP).out
    assert "\x1b[" not in view(OTLP, "--color", "never").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in view(OTLP).out
    assert "\x1b[" in view(OTLP, "--color", "always").out


def test_json(view: View) -> None:
    """--json prints the chosen spans as OTLP JSON Lines, which can be read again."""
    result = view(OTLP, "--json", "--errors")
    records = [record for line in result.out.splitlines() for record in decode_json(line)]
    assert {record.trace_id for record in records} == {SLOW}
    assert [record.name for record in records] == ["select-guard", "extend-circuit", "build-circuit"]
    assert records[0].service_name == "tor-client"


def test_json_of_a_cut_trace_says_so(view: View, tmp_path: Path) -> None:
    """Where --spans leaves something out of the JSON, standard error says it."""
    path = write(tmp_path / "a.jsonl", *(span(SLOW, "x", n, n + 1) for n in range(9)))
    result = view(path, "--json", "--spans", "4")
    assert len(result.out.splitlines()) == 1
    assert result.err == f"clew: trace {SLOW}: 5 of its 9 spans were left out; --spans N prints more\n"


# --- what cannot be read ----------------------------------------------------------------------------------------


def test_damaged_lines(view: View, tmp_path: Path) -> None:
    """Damaged lines are counted and named; the rest is shown; an unfinished last line is told apart."""
    lines = Path(OTLP).read_text().splitlines(keepends=True)
    path = write(
        tmp_path / "a.jsonl", lines[0], "garbage\n", "}\n", lines[1], '{"resourceSpans":[{}\n', lines[2], lines[0][:99]
    )
    result = view(path)
    assert result.status == 0
    assert result.traces == [SLOW, QUICK]
    assert result.err == (
        f"clew: {path}: 3 damaged lines left out: line 2-3, 5 (it is no JSON object)\n"
        f"clew: {path}: line 7 is unfinished, as if it were still being written\n"
    )


def test_a_line_whose_spans_are_wrong(view: View, tmp_path: Path) -> None:
    """A line that is JSON but no OTLP is damaged, once, whichever pass finds it."""
    wrong = span(SLOW, "x", 1, 2).replace('"name": "x"', '"name": "x", "kind": "x"')
    path = write(tmp_path / "a.jsonl", span(SLOW, "root", 0, 9), wrong, span("zz", "x", 1, 2))
    result = view(path)
    assert "1 span " in result.out
    assert result.err.startswith(f"clew: {path}: 2 damaged lines left out: line 2-3 (")


def test_very_many_damaged_lines(view: View, tmp_path: Path) -> None:
    """However many lines are damaged, the remark is short."""
    path = write(tmp_path / "a.jsonl", *(["x\n", span(SLOW, "x", 1, 2)] * 1000))
    assert view(path).err == (
        f"clew: {path}: 1,000 damaged lines left out: line 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, ..."
        " (it is no JSON object)\n"
    )


def test_bad_files(view: View, tmp_path: Path) -> None:
    """A file that cannot be read gives one sentence and status 1; the others are shown."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    missing = str(tmp_path / "missing.jsonl")
    result = view(missing, str(tmp_path), str(picture), OTLP)
    assert result.status == 1
    assert result.traces == [SLOW, QUICK]
    assert result.err == (
        f"clew: {missing}: No such file or directory\n"
        f"clew: {tmp_path}: Is a directory\n"
        f"clew: {picture}: it is in no format that clew reads:"
        " OTLP JSON Lines, OTLP protobuf, Zipkin's JSON v2, Jaeger's JSON, go-tor's traces.json,"
        " Chrome's trace events (Perfetto), CSV tables of spans, Parquet (with clew[parquet])\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--trace", "xyz", OTLP], "a trace id is up to 32 hex digits"),
        (["--since", "yesterday", OTLP], "it is neither a duration"),
        (["--since", "5x", OTLP], "it is neither a duration"),
        (["--limit", "0", OTLP], "whole number from 1 on"),
        (["--limit", "-1", OTLP], "whole number from 1 on"),
        (["--slowest", "3", "--limit", "4", OTLP], "not allowed with"),
        (["--slowest", "3", "-f", OTLP], "--slowest needs the whole file"),
        (["-", "-"], "standard input can be read only once"),
        (["--err", OTLP], "unrecognized arguments"),
    ],
)
def test_wrong_options(arguments: list[str], sentence: str, view: View) -> None:
    """What makes no sense is refused with a reason, status 2."""
    result = view(*arguments)
    assert result.status == 2
    assert sentence in result.err


def test_hostile_names(view: View, tmp_path: Path) -> None:
    """Nothing from a file acts on the terminal, neither from names nor from damage."""
    path = write(tmp_path / "a\x1b[2J.jsonl", span(SLOW, "\x1b]0;x\x07[red]\u202e", 0, 9, error=True), "\x1b[2J\n")
    result = view(path, "--color", "never")
    assert "\x1b" not in result.out + result.err
    assert "\\x1b]0;x\\x07[red]\\u202e" in result.out


# --- standard input, pipes, following ---------------------------------------------------------------------------


COMMAND = [sys.executable, "-m", "clew.cli.main", "view"]
ENVIRONMENT = {**os.environ, "PYTHONIOENCODING": "utf-8"}


def test_standard_input() -> None:
    """Without a file, and for "-", standard input is read, whether a pipe or a file."""
    for arguments in ([], ["-"]):
        with Path(OTLP).open("rb") as file:
            done = subprocess.run([*COMMAND, *arguments], stdin=file, capture_output=True, env=ENVIRONMENT, check=True)
        piped = subprocess.run(
            [*COMMAND, *arguments], input=Path(OTLP).read_bytes(), capture_output=True, env=ENVIRONMENT, check=True
        )
        assert done.stdout == piped.stdout
        assert SLOW.encode() in done.stdout


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """`clew view ... | head` ends without a word."""
    path = write(tmp_path / "a.jsonl", *(span(f"{n:032x}", "x" * 50, n, n + 1) for n in range(2000)))
    with subprocess.Popen(
        [*COMMAND, path, "--limit", "2000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_terminal_without_unicode() -> None:
    """Where the encoding has no blocks, ASCII is drawn, and no name makes it fail."""
    line = span(SLOW, "日本", 0, 9).encode()
    done = subprocess.run(
        COMMAND, input=line, capture_output=True, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}, check=True
    )
    assert b"\\u65e5\\u672c" in done.stdout
    assert b"####" in done.stdout


def test_following_a_pipe() -> None:
    """-f on a pipe shows what came, and ends with it."""
    done = subprocess.run(
        [*COMMAND, "-f", "-"], input=Path(OTLP).read_bytes(), capture_output=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout.decode().count("· trace ") == 2


class Follower:
    """A file that is followed, by steps of a clock that does not sleep."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.now_ns = 0
        self.steps: list[str] = []
        monkeypatch.setattr("clew.cli.view_follow.time.sleep", self.sleep)
        monkeypatch.setattr("clew.cli.view_follow.time.monotonic_ns", lambda: self.now_ns)

    def sleep(self, seconds: float) -> None:
        """Pass a second, and append the next text; press Ctrl-C when there is none."""
        self.now_ns += 1_000_000_000
        if not self.steps:
            raise KeyboardInterrupt
        text = self.steps.pop(0)
        if text == "rotate":
            self.path.rename(self.path.with_suffix(".old"))
            self.path.write_text("")
        else:
            with self.path.open("a") as file:
                file.write(text)


def test_following(view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-f shows what is there, then each trace when it is complete; late spans are told to be a continuation; a rotated
    file is followed to its successor; Ctrl-C ends it without a traceback."""
    follower = Follower(tmp_path / "a.jsonl", monkeypatch)
    third, fourth = "3" * 32, "4" * 32
    write(follower.path, span(QUICK, "present", 0, 1), span(SLOW, "torn", 2, 3)[:30])
    follower.steps = [
        span(SLOW, "torn", 2, 3)[30:] + span(third, "child", 4, 5, "0000000400000009"),
        span(third, "root", 4, 9),
        "",
        span(QUICK, "late", 0, 7),
        "",
        "rotate",
        "garbage\n" + span(fourth, "rotated", 1, 2),
        "",
        span("5" * 32, "incomplete", 4, 5, "0000000400000009"),
    ]
    result = view("-f", str(follower.path))
    assert result.status == 130
    assert result.traces == [QUICK, SLOW, third, QUICK, fourth]
    assert re.findall(r"continued|└ child", result.out) == ["└ child", "continued"]
    assert result.err == (
        f"clew: {follower.path} was replaced or truncated: going on with what it holds now\n"
        f"clew: {follower.path}: 1 damaged line left out: line 1 (it is no JSON object)\n"
        "clew: not drawn: 1 span of traces that were not complete yet\n"
    )


def test_following_shows_what_matches(view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-f narrows as the other options say."""
    follower = Follower(tmp_path / "a.jsonl", monkeypatch)
    write(follower.path)
    follower.steps = [span(SLOW, "good", 0, 1), span(QUICK, "bad", 0, 1, error=True), "", ""]
    assert view("-f", "--errors", str(follower.path)).traces == [QUICK]


def test_ctrl_c_while_following(tmp_path: Path) -> None:
    """A real Ctrl-C: what was there is on the screen, nothing else is, and the status is a shell's."""
    path = write(tmp_path / "a.jsonl", span(SLOW, "present", 0, 1))
    with subprocess.Popen(
        [*COMMAND, "-f", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "children ran" not in process.stdout.readline().decode():
            pass
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
        assert process.wait() == 130
