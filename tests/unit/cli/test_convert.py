"""clew.cli.convert: what was read comes back from what was written, and nothing is broken or replaced by accident."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew.cli import convert
from clew.cli.main import main
from clew.formats import FORMATS, TraceFile, by_trace, records_of
from tests.asleep import wait_until_asleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.model import SpanRecord

DATA = Path(__file__).parents[2] / "data" / "traces"


def read(path: Path) -> list[SpanRecord]:
    with TraceFile(str(path)) as file:
        return [record for records in records_of(file.items(), lambda _: None) for record in records]


SUFFIXES = [suffix for form in FORMATS.values() for suffix in form.suffixes]


@pytest.mark.parametrize("source", ["otlp.jsonl", "gotor.json"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.pb", "out.binpb.gz", "out.jsonl.gz"])
def test_spans_come_back_equal(tmp_path: Path, source: str, name: str) -> None:
    """Every format that is read is written as OTLP, whole, for its owner only."""
    out = tmp_path / name
    assert main(["convert", str(DATA / source), str(out)]) == 0
    assert read(out) == read(DATA / source)
    assert out.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", ["otlp.jsonl", "zipkin.json", "jaeger.json", "chrome-object.json"])
def test_every_format_is_read_as_it_was_written(
    tmp_path: Path, source: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From any format to any other: each span arrives with its ids, its name and its times; statistics agree."""
    out = tmp_path / ("out" + suffix)
    assert main(["convert", str(DATA / source), str(out)]) == 0
    spans, written = read(DATA / source), read(out)
    key = {span.span_id: span for span in written}
    assert len(spans) == len(written) == len(key)
    for span in spans:
        back = key[span.span_id]
        assert (back.trace_id, back.parent_id, back.name) == (span.trace_id, span.parent_id, span.name)
        assert abs(back.start_time_ns - span.start_time_ns) < 1000
        assert back.service_name == span.service_name
        assert back.status is span.status
    capsys.readouterr()
    assert main(["stats", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spans"] == len(spans)


@pytest.mark.parametrize("name", FORMATS)
def test_no_spans(tmp_path: Path, name: str) -> None:
    """A file without a span becomes one of the other format, without a span."""
    (tmp_path / "in.jsonl").write_bytes(b"")
    out = tmp_path / "out"
    assert main(["convert", str(tmp_path / "in.jsonl"), str(out), "--to", name]) == 0
    assert read(out) == []


def test_the_formats_of_the_options() -> None:
    """--to and --from offer what the table has."""
    assert list(FORMATS) == list(convert._TO)
    assert [name for name, form in FORMATS.items() if form.reader] == list(convert._FROM)


def test_losses_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the format cannot hold is said at the end, a sentence for each kind, and counted with --json."""
    source = str(DATA / "gotor.json")
    assert main(["convert", source, str(tmp_path / "out.zipkin.json")]) == 0
    lost = "time of which what is below a microsecond was cut off"
    typed = "attribute that became text (tags of Zipkin are nothing else)"
    assert capsys.readouterr().err == (
        f"clew: 2 spans written\nclew: lost in zipkin: 1 {lost}\nclew: lost in zipkin: 1 {typed}\n"
    )
    assert main(["convert", source, str(tmp_path / "out.2.zipkin.json"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"spans": 2, "files": 1, "damaged_files": 0, "losses": {lost: 1, typed: 1}}
    assert captured.err == ""


def test_single_spans_are_written_together(tmp_path: Path) -> None:
    """Formats with a span in each object give lines of many spans, and not a line with a resource for each."""
    out = tmp_path / "out.jsonl"
    assert main(["convert", str(DATA / "zipkin.json"), str(DATA / "otlp.jsonl"), str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    spans = [len(line["resourceSpans"][0]["scopeSpans"][0]["spans"]) for line in lines]
    assert sum(spans) == 8
    assert spans[:2] == [2, 1]  # the two services of Zipkin's file


def test_traces_in_pieces_are_one_for_jaeger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of a trace that are in several files, and far apart, are in one element of Jaeger's."""
    monkeypatch.setattr(by_trace, "SORTED_BYTES", 100)
    out = tmp_path / "out.jaeger.json"
    sources = [str(DATA / "otlp.jsonl"), str(DATA / "gotor.json"), str(DATA / "otlp.jsonl")]
    assert main(["convert", *sources, str(out)]) == 0
    traces = json.loads(out.read_text())["data"]
    assert len({trace["traceID"] for trace in traces}) == len(traces) == 3
    assert sorted(len(trace["spans"]) for trace in traces) == [2, 4, 6]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_format_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--from reads a file whose beginning tells nothing."""
    source = tmp_path / "in"
    source.write_bytes(b"~" * 2_000_000 + (DATA / "zipkin.json").read_bytes())
    assert main(["convert", str(source), str(tmp_path / "out.jsonl")]) == 1
    assert "no format that clew reads" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "out.jsonl"), "--from", "zipkin"]) == 0
    assert len(read(tmp_path / "out.jsonl")) == 3
    assert "1 damaged span left out: span 1" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jsonl", ".jaeger.json"])
def test_progress_is_shown(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the progress of reading is on stderr; its bytes are those of the file."""
    seen: list[tuple[str, int | None, list[int]]] = []

    @contextmanager
    def progress(description: str, total: int | None) -> Iterator[Callable[[int], object]]:
        seen.append((description, total, []))
        yield seen[-1][2].append

    monkeypatch.setattr(convert, "byte_progress", progress)
    assert main(["convert", str(DATA / "otlp.jsonl"), str(tmp_path / ("out" + suffix))]) == 0
    done = [(description, total == sum(steps)) for description, total, steps in seen if total]
    expected = ["converting"] if suffix == ".jsonl" else ["sorting by trace", "converting"]
    assert done == [(description, True) for description in expected]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jaeger.json", "out.zipkin.json.gz"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, name: str) -> None:
    """Ctrl-C ends it with the status that a shell expects, without a word, and no file is left, whole or in parts."""
    source = tmp_path / "in"
    os.mkfifo(source)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "clew.cli.main", "convert", str(DATA / "otlp.jsonl"), str(source)]
    with subprocess.Popen([*command, str(tmp_path / "out" / name)], stderr=subprocess.PIPE) as process:
        with source.open("wb") as pipe:  # as soon as it reads this one, it has read the other
            pipe.write((DATA / "gotor.json").read_bytes())
            pipe.flush()
            wait_until_asleep(process.pid)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert list((tmp_path / "out").iterdir()) == []


def test_an_existing_file_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is replaced only with --force; the counts can be had as JSON."""
    out = tmp_path / "out.pb"
    out.write_bytes(b"mine")
    assert main(["convert", str(DATA / "otlp.jsonl"), str(out)]) == 1
    assert out.read_bytes() == b"mine"
    capsys.readouterr()
    assert main(["convert", str(DATA / "otlp.jsonl"), str(out), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spans"] == len(read(out)) == 5


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """When the input cannot be read, no file is left, not even a part of one."""
    assert main(["convert", "/dev/null/none", str(tmp_path / "out.pb")]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["-", "-", "x.pb"], ["a", "x.txt"], ["a", "-", "--json", "--to", "pb"]])
def test_wrong_options(arguments: list[str]) -> None:
    """What cannot work is refused before anything is read."""
    with pytest.raises(SystemExit, match="2"):
        main(["convert", *arguments])
