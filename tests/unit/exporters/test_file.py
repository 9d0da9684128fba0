"""FileExporter: a file that stays whole whatever happens to its writers."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew import Batch, ConfigurationError, FileExporter, Tracer
from clew.otlp import decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 30.0
LINE = b'{"resourceSpans":[]}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def write(path: Path, *names: str) -> None:
    """A line for each name."""
    with Tracer("test", FileExporter(path)) as tracer:
        for name in names:
            tracer.start_span(name).end()
            assert tracer.flush(SECONDS)


def names(path: Path) -> list[str]:
    """The spans of a file whose every line is whole."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [record.name for line in data.splitlines() for record in decode_json(line)]


# --- what it writes --------------------------------------------------------------------------------------------------


def test_one_traces_object_a_line(path: Path) -> None:
    """Each batch is a line that any reader of OTLP JSON Lines takes."""
    write(path, "a", "b")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [list(line) for line in lines] == [["resourceSpans"]] * 2
    assert names(path) == ["a", "b"]


def test_pretty(path: Path) -> None:
    """pretty=True writes the picture."""
    with Tracer("test", FileExporter(path, pretty=True)) as tracer:
        tracer.start_span("a").end()
    first, second = path.read_text().splitlines()
    assert first.startswith("trace  ")
    assert second.startswith("  a  ")


def test_it_appends(path: Path) -> None:
    """What was there stays."""
    write(path, "a")
    write(path, "b")
    assert names(path) == ["a", "b"]


def test_file_and_folder_are_private(tmp_path: Path) -> None:
    """A file is made with 0600, its folder with 0700; those that exist keep their modes."""
    before = os.umask(0)
    try:
        write(tmp_path / "new" / "traces.jsonl", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "traces.jsonl").stat().st_mode) == 0o600
    (tmp_path / "new").chmod(0o755)
    (tmp_path / "new" / "traces.jsonl").chmod(0o640)
    write(tmp_path / "new" / "traces.jsonl", "b")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "new" / "traces.jsonl").stat().st_mode) == 0o640


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of the moment of construction counts, as a str too."""
    monkeypatch.chdir(tmp_path)
    exporter = FileExporter("traces.jsonl")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert exporter.path == str(tmp_path / "traces.jsonl")
    (tmp_path / "traces.jsonl").unlink()
    with Tracer("test", exporter) as tracer:
        tracer.start_span("a").end()
    assert names(tmp_path / "traces.jsonl") == ["a"]


def test_closing_closes_the_file(path: Path) -> None:
    """No descriptor is left, and another span is counted as dropped."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    tracer = Tracer("test", FileExporter(path))
    tracer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_device_takes_lines_too() -> None:
    """What is no regular file is neither mended nor cut."""
    with Tracer("test", FileExporter("/dev/null")) as tracer:
        tracer.start_span("a").end()
        assert tracer.flush(SECONDS)


# --- construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder, "is a folder; name a file in it"),
        (lambda folder: folder / "link", "is a symbolic link, which is not followed"),
        (lambda folder: folder / "missing" / "deeper" / "x.jsonl", "because there is no folder to make it in"),
        (lambda folder: folder / "file" / "x.jsonl", "a part of its path is a file and not a folder"),
        (lambda folder: "/proc/version/x.jsonl", "a part of its path is a file and not a folder"),
        (lambda folder: "/proc/sys/kernel/ostype", "choose another path"),
        (lambda folder: "", "takes the path of a file"),
        (lambda folder: "a\0b", "choose another path"),
        (lambda folder: 5, "choose another path"),
        (lambda folder: None, "choose another path"),
        (lambda folder: folder / ("x" * 300), "choose another path"),
    ],
)
def test_a_path_that_cannot_be_used(tmp_path: Path, make: Callable[[Path], Any], words: str) -> None:
    """It is said at construction, in a sentence that names the path and what to do."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigurationError, match=words):
        FileExporter(make(tmp_path))
    assert not (tmp_path / "target").exists()
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_file_that_may_not_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The system's reason is in the sentence."""

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("clew.exporters.file.os.open", refuse)
    with pytest.raises(ConfigurationError, match=f"cannot be opened.*{os.strerror(code)}"):
        FileExporter(path)


# --- mending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (LINE, LINE),
        (LINE + b'{"resourceSpans":[{"resou', LINE),
        (LINE + b"{", LINE),
        (b'{"resourceSpans":[', b""),
        (b'{"a":"' + b"x" * 200_000, b""),
        (LINE + b'{"a":"' + b"x" * 200_000, LINE),
        (LINE + LINE[:-1], LINE + LINE),
        (b"notes of somebody", b"notes of somebody\n"),
        (LINE + b"\0\0\0", LINE + b"\0\0\0\n"),
        (b"{not JSON, but not ours", b"{not JSON, but not ours\n"),
        (b'damaged\n{"resourceSpans":[', b"damaged\n"),
    ],
)
def test_a_torn_tail_is_mended(path: Path, before: bytes, after: bytes) -> None:
    """A piece of JSON is cut off, a whole line ended, and so is what is none of ours (scenario 26)."""
    path.write_bytes(before)
    FileExporter(path).close()
    assert path.read_bytes() == after


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.data())
def test_wherever_a_file_is_torn(path: Path, data: st.DataObject) -> None:
    """Cut at any byte, every line that was whole is there afterwards, and so is what comes next."""
    path.unlink(missing_ok=True)
    write(path, "one", "two", "é" * 10)
    whole = path.read_bytes()
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    write(path, "next")
    # A line that only lacks its newline is whole.
    kept = sum(size >= end - 1 for end in _ends(whole))
    assert names(path) == [*["one", "two", "é" * 10][:kept], "next"]


def _ends(data: bytes) -> list[int]:
    return [index + 1 for index, byte in enumerate(data) if byte == ord("\n")]


def test_a_tail_torn_by_another_process_later_is_mended_before_the_next_line(path: Path) -> None:
    """A writer that is killed after we opened the file does not spoil our next line."""
    with Tracer("test", FileExporter(path)) as tracer:
        tracer.start_span("a").end()
        assert tracer.flush(SECONDS)
        with path.open("ab") as other:
            other.write(b'{"resourceSpans":[{"re')
        tracer.start_span("b").end()
        assert tracer.flush(SECONDS)
    assert names(path) == ["a", "b"]


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock nothing is cut: a torn line is ended, and the next stands on its own."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("clew.exporters._shared_file.fcntl.flock", refuse)
    path.write_bytes(LINE + b'{"resourceSpans":[')
    write(path, "a")
    first, torn, last = path.read_bytes().splitlines()
    assert first + b"\n" == LINE
    assert torn == b'{"resourceSpans":['
    assert [record.name for record in decode_json(last)] == ["a"]


def test_opening_does_not_wait_for_another_writer(path: Path) -> None:
    """Who holds the lock writes at this moment, and mends before: the program starts at once."""
    path.write_bytes(b'{"torn')
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        exporter = FileExporter(path)
        assert path.read_bytes() == b'{"torn'
    with Tracer("test", exporter) as tracer:
        tracer.start_span("a").end()
    assert names(path) == ["a"]


# --- when writing fails ----------------------------------------------------------------------------------------------


@pytest.fixture
def limited() -> Iterator[Callable[[int], None]]:
    """Sets the size that files of this process may grow to, which is to the writer as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_piece(path: Path, limited: Callable[[int], None]) -> None:
    """The batch that does not fit is failed and cut off; those before and after are whole (scenario 25)."""
    with Tracer("test", FileExporter(path)) as tracer:
        tracer.start_span("a").end()
        assert tracer.flush(SECONDS)
        size = path.stat().st_size
        limited(size + 50)
        tracer.start_span("b").end()
        assert not tracer.flush(SECONDS)
        assert path.stat().st_size == size
        limited(resource.RLIM_INFINITY)
        tracer.start_span("c").end()
        assert tracer.flush(SECONDS)
        assert (tracer.stats().exported, tracer.stats().failed) == (2, 1)
    assert names(path) == ["a", "c"]


def test_a_full_device() -> None:
    """/dev/full fails every batch, and the ledger says so."""
    with Tracer("test", FileExporter("/dev/full")) as tracer:
        tracer.start_span("a").end()
        assert not tracer.flush(SECONDS)
        assert tracer.stats().failed == 1


def test_a_piece_that_is_no_longer_the_end_is_not_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a stranger without a lock wrote behind the piece, cutting would damage its line."""
    exporter = FileExporter(path)
    real = os.write

    def torn(descriptor: int, data: bytes) -> int:
        if getattr(torn, "called", False):
            with path.open("ab") as stranger:
                stranger.write(LINE)
            raise OSError(errno.ENOSPC, "full")
        torn.called = True  # type: ignore[attr-defined]
        return real(descriptor, bytes(data)[:10])

    monkeypatch.setattr("clew.exporters._shared_file.os.write", torn)
    with Tracer("test", exporter) as tracer:
        tracer.start_span("a").end()
        assert not tracer.flush(SECONDS)
    assert path.read_bytes().endswith(LINE)


# --- several writers, and a file that goes away ----------------------------------------------------------------------


def test_a_file_that_is_moved_or_removed_is_made_again(path: Path) -> None:
    """A rotated file keeps what it has, and a new one takes the rest; nothing goes to a file without a name."""
    with Tracer("test", FileExporter(path)) as tracer:
        for name in ("a", "b", "c"):
            tracer.start_span(name).end()
            assert tracer.flush(SECONDS)
            if name == "a":
                path.rename(path.with_suffix(".1"))
            elif name == "b":
                path.unlink()
    assert names(path.with_suffix(".1")) == ["a"]
    assert names(path) == ["c"]


def test_a_link_put_in_its_place_is_not_followed(path: Path) -> None:
    """Batches fail rather than go where somebody else points."""
    target = path.with_name("target")
    with Tracer("test", FileExporter(path)) as tracer:
        path.unlink()
        path.symlink_to(target)
        tracer.start_span("a").end()
        assert not tracer.flush(SECONDS)
    assert not target.exists()


def test_many_writers_of_one_path(path: Path) -> None:
    """Lines of several exporters on one path, mended all the while, are all whole."""

    def work(index: int) -> None:
        for number in range(20):
            with Tracer("test", FileExporter(path)) as tracer:
                tracer.start_span(f"{index} {number}" + "x" * 10_000).end()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name.rstrip("x") for name in names(path)) == sorted(f"{i} {n}" for i in range(8) for n in range(20))


def test_tracers_that_share_an_exporter(path: Path) -> None:
    """Their lines are whole, and to close one tracer does not end the other's."""
    exporter = FileExporter(path)
    with Tracer("a", exporter, batch_spans=1) as first, Tracer("b", exporter, batch_spans=1) as second:
        for number in range(200):
            for tracer in (first, second):
                tracer.start_span(f"{number}" + "x" * 10_000).end()
        assert first.close(SECONDS)
        second.start_span("late").end()
        assert second.flush(SECONDS)
    found = names(path)
    assert len(found) == 401
    assert found[-1] == "late"


def test_it_says_what_it_is(path: Path) -> None:
    """The repr can be typed in again."""
    assert repr(FileExporter(path)) == f"FileExporter({str(path)!r}, pretty=False)"


def test_a_batch_made_by_hand(path: Path) -> None:
    """The exporter needs no tracer."""
    with Tracer("test") as tracer:
        batch = Batch(b"", 0, tracer.resource, tracer._pipeline._scopes[0])
    exporter = FileExporter(path)
    exporter.export(batch)
    exporter.close()
    exporter.close()
    assert path.read_bytes().count(b"\n") == 1
    assert names(path) == []
