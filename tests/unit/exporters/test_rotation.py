"""Trace files that are put aside: by size and age, compressed, deleted, shared; and what is synced."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from clew import ConfigurationError, FileExporter, Tracer
from clew.exporters import _shared_file
from clew.otlp import decode_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def write(exporter: FileExporter, names: list[str]) -> None:
    """One batch for each name."""
    with Tracer("t", exporter) as tracer:
        for name in names:
            with tracer.start_span(name):
                pass
            assert tracer.flush()


def aside(path: Path) -> list[Path]:
    """What was put aside, the oldest first."""
    return sorted(each for each in path.parent.iterdir() if each != path)


def names(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [record.name for line in data.splitlines() for record in decode_json(line)]


def test_by_size(path: Path) -> None:
    """A file that is large enough is put aside before the next batch; nothing is lost, the order is kept."""
    wanted = [f"span-{number}" for number in range(20)]
    write(FileExporter(path, max_bytes=2000), wanted)
    files = [*aside(path), path]
    assert len(files) > 3
    assert [name for each in files for name in names(each)] == wanted
    for each in files[:-1]:
        assert 2000 <= each.stat().st_size < 4000
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
        assert each.name.startswith("traces.2")
        assert each.suffix == ".jsonl"


def test_by_age(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its age is that of its first span, also where another process began it."""
    write(FileExporter(path), ["old"])
    write(FileExporter(path, max_age=3600), ["young"])
    assert names(path) == ["old", "young"]
    now = time.time()
    monkeypatch.setattr("clew.exporters.rotation.time.time", lambda: now + 3600)
    exporter = FileExporter(path, max_age=3600)
    write(exporter, ["new"])
    assert [names(each) for each in aside(path)] == [["old", "young"]]
    assert names(path) == ["new"]


def test_a_file_without_times_is_as_old_as_its_first_sight(path: Path) -> None:
    """A file for people has no times to read."""
    write(FileExporter(path, pretty=True, max_age=3600), ["a", "b"])
    assert aside(path) == []


def test_the_age_of_a_file_that_was_emptied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the first span which came then, not of what is gone."""
    began = time.time()
    clock = began
    monkeypatch.setattr("clew.exporters.rotation.time.time", lambda: clock)
    with Tracer("t", FileExporter(path, max_age=3600)) as tracer:
        for name in ("old", "older", "new", "newer"):
            if name == "new":
                os.truncate(path, 0)
                clock = began + 3600
            tracer.start_span(name, start_time_ns=round(clock * 1e9)).end()
            assert tracer.flush()
    assert aside(path) == []
    assert names(path) == ["new", "newer"]


def test_what_is_kept(path: Path) -> None:
    """The newest; what has another name is not ours to delete."""
    others = [path.with_name(name) for name in ("traces.old.jsonl", "traces.2026.jsonl", "other.jsonl")]
    for other in others:
        other.write_text("mine")
    wanted = [f"span-{number}" for number in range(12)]
    for name in wanted:  # so that each cleaner has ended
        write(FileExporter(path, max_bytes=1, keep=2), [name])
    assert [names(each) for each in aside(path) if each not in others] == [["span-9"], ["span-10"]]
    assert all(other.exists() for other in others)


def test_compressed(path: Path) -> None:
    """What was put aside becomes gzip, private too; a torn last line is mended before it goes."""
    write(FileExporter(path), ["first"])
    with path.open("ab") as file:
        file.write(b'{"resourceSpans":[{"torn')
    for name in ("second", "third"):
        write(FileExporter(path, max_bytes=1, compress=True), [name])
    files = aside(path)
    assert [each.suffixes[-2:] for each in files] == [[".jsonl", ".gz"]] * 2
    assert [names(each) for each in files] == [["first"], ["second"]]
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files)
    assert names(path) == ["third"]


def test_a_disk_that_is_full_while_it_compresses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays as it is, and no piece of another one."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clew.exporters.rotation.os.fsync", full)
    write(FileExporter(path, max_bytes=1, compress=True), ["first", "second"])
    assert [names(each) for each in aside(path)] == [["first"]]


PROGRAM = """
import sys
from clew import FileExporter, Tracer
with Tracer("t", FileExporter(sys.argv[1], max_bytes=3000, compress=sys.argv[3] == "1")) as tracer:
    for number in range(60):
        with tracer.start_span(f"{sys.argv[2]}-{number}"):
            pass
        assert tracer.flush(), tracer.stats()
"""


@pytest.mark.parametrize("compress", ["0", "1"])
def test_several_processes(path: Path, compress: str) -> None:
    """Whoever puts the file aside, whoever has it open: every line is in one of the files, once."""
    command = [sys.executable, "-c", PROGRAM, str(path)]
    processes = [subprocess.Popen([*command, str(number), compress]) for number in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    found = [name for each in [*aside(path), path] for name in names(each)]
    assert sorted(found) == sorted(f"{process}-{number}" for process in range(4) for number in range(60))
    assert len(aside(path)) > 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_bytes": True},
        {"max_age": 0},
        {"max_age": float("nan")},
        {"max_bytes": 1, "keep": -1},
        {"keep": 3},
        {"compress": True},
        {"fsync": "sometimes"},
    ],
)
def test_mistakes(path: Path, arguments: dict[str, Any]) -> None:
    """Each is one sentence, and no file is made."""
    with pytest.raises(ConfigurationError):
        FileExporter(path, **arguments)
    assert not path.exists()


def test_what_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 27: nothing, or every batch and the end, or a while after the first that was not."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append("file"))
    monkeypatch.setattr(os, "fsync", lambda _: synced.append("folder"))
    write(FileExporter(path), ["a", "b"])
    assert synced == []
    write(FileExporter(path.with_name("batch.jsonl"), fsync="batch"), ["a", "b"])
    assert synced == ["folder", "file", "file"]
    synced.clear()
    monkeypatch.setattr(_shared_file, "_SYNC_SECONDS", 0.01)
    exporter = FileExporter(path.with_name("interval.jsonl"), fsync="interval")
    with Tracer("t", exporter) as tracer:
        tracer.start_span("a").end()
        assert tracer.flush()
        deadline = time.monotonic() + 30
        while synced != ["folder", "file"] and time.monotonic() < deadline:
            time.sleep(0.001)
        assert synced == ["folder", "file"]
