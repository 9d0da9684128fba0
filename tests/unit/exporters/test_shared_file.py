"""SharedFile: what its lock and its descriptor are to other processes, and what it does where something is stuck."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from clew import FileExporter, Tracer
from clew._hot import fork_count
from clew.errors import ExportError
from clew.exporters import _shared_file
from clew.exporters._shared_file import SharedFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE = b'{"resourceSpans":[]}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


@pytest.fixture
def file(path: Path) -> Iterator[SharedFile]:
    file = SharedFile(str(path), json_lines=True, rotation=None, fsync="none")
    yield file
    file.close()


def is_locked(path: Path) -> bool:
    """As another process sees it."""
    with path.open("ab") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def fail(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "no")


def be_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had been forked at this moment."""
    generation = fork_count() + 1
    monkeypatch.setattr(_shared_file, "fork_count", lambda: generation)


def test_the_lock_is_given_back_when_the_file_cannot_be_looked_for(
    path: Path, file: SharedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would wait for ever for a process that does nothing."""
    real, looks = os.stat, iter([True, False])

    def stat_once(*arguments: Any, **more: Any) -> os.stat_result:
        return real(*arguments, **more) if next(looks) else fail()

    monkeypatch.setattr(os, "stat", stat_once)
    with pytest.raises(OSError, match="no"):
        file.append(LINE)
    monkeypatch.undo()
    assert not is_locked(path)
    file.append(LINE)
    assert path.read_bytes() == LINE


def test_a_child_keeps_no_lock_of_its_parent(path: Path, file: SharedFile) -> None:
    """It has the same opening of the file, also of one that the parent has left meanwhile."""
    inherited = os.dup(file._descriptor)
    assert file._try_lock(wait=False)
    assert is_locked(path)
    path.rename(path.with_suffix(".1"))
    file._follow()
    assert not is_locked(path.with_suffix(".1"))
    os.close(inherited)


def test_a_child_unlocks_nothing_of_its_parent(path: Path, file: SharedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked while the parent writes, it closes what it inherited; the parent's lock holds."""
    parents = os.dup(file._descriptor)
    assert file._try_lock(wait=False)
    be_a_child(monkeypatch)
    file.close()
    assert is_locked(path)
    os.close(parents)
    assert not is_locked(path)


def test_a_child_that_cannot_open_the_file_tries_again(
    path: Path, file: SharedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never writes by its parent's opening, whose lock does not keep them apart."""
    be_a_child(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="no"):
                file.append(LINE)
    assert path.read_bytes() == b""
    file.append(LINE)
    assert path.read_bytes() == LINE


def test_a_thread_that_is_stuck(path: Path, file: SharedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one that shares the file waits for it no longer than it has time."""
    with file._alone():
        monkeypatch.setattr(_shared_file, "time_left", lambda: 0.0)
        with pytest.raises(TimeoutError, match="another thread"):
            file.append(LINE)
        with pytest.raises(TimeoutError, match="another thread"):
            file.close()
    file.append(LINE)
    assert path.read_bytes() == LINE


def test_what_could_not_be_synced_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next batch, which is written; or when the file is closed. Nothing is printed."""
    monkeypatch.setattr(_shared_file, "_SYNC_SECONDS", 0.001)
    tried = threading.Event()

    def fail_to_sync(_: int) -> None:
        tried.set()
        fail()

    monkeypatch.setattr(os, "fdatasync", fail_to_sync)
    file = SharedFile(str(path), json_lines=True, rotation=None, fsync="interval")
    file.append(LINE)
    assert tried.wait(30)
    with file._alone():  # until it is over
        pass
    with pytest.raises(ExportError, match=r"the spans are in .*, but .*no") as caught:
        file.append(LINE)
    assert caught.value.rejected == 0
    assert path.read_bytes() == 2 * LINE
    file._sync_soon()
    with pytest.raises(ExportError, match="no"):
        file.close()


def test_where_no_thread_can_be_had(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be synced soon is synced at once."""
    synced: list[int] = []

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_shared_file, "of_system", lambda *_: refuse)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    file = SharedFile(str(path), json_lines=True, rotation=None, fsync="interval")
    file.append(LINE)
    assert len(synced) == 1
    file.close()
    assert len(synced) == 1


def test_a_torn_line_on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program starts all the same; the first batch mends."""
    path.write_bytes(LINE[:-1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        exporter = FileExporter(path)
    with Tracer("t", exporter) as tracer:
        tracer.start_span("a").end()
        assert tracer.flush()
    first, second = path.read_bytes().splitlines(keepends=True)
    assert first == LINE
    assert b'"name":"a"' in second


def test_a_path_of_bytes(path: Path) -> None:
    """Is a path as any other, also when the file is put aside."""
    exporter = FileExporter(os.fsencode(path), max_bytes=1)  # type: ignore[arg-type]
    with Tracer("t", exporter) as tracer:
        for _ in range(2):
            tracer.start_span("a").end()
            assert tracer.flush()
    assert all(each.name.startswith("traces.") for each in path.parent.iterdir())
    assert len(list(path.parent.iterdir())) == 2
