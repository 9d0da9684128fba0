"""Trace files that do not grow for ever: when a file is put aside, what it is called then, how many are kept.

What is put aside lies beside the file, with the time in its name: beside traces.jsonl there are
traces.2026-01-31T03-00-00.123456Z.jsonl and others, and with `compress` the same with .gz. Nothing here is done under
the lock of the file but the renaming: to compress takes seconds.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clew._hot import fork_count
from clew.exporters._patience import of_system
from clew.exporters._shared_file import open_private, sync_folder
from clew.pipeline import allocate_lock

if TYPE_CHECKING:
    import io
    from _thread import LockType

__all__ = ["Rotation"]

_TIME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z"
_FIRST_TIME = re.compile(rb'"startTimeUnixNano":"(\d{1,20})"')
_FIRST_BYTES = 64 * 1024
_BLOCK = 1024 * 1024
_PACKED = ".gz"
_UNFINISHED = ".gz.tmp"


class Rotation:
    """When and how a trace file is put aside.

    Args:
        max_bytes: a file of so many bytes or more is put aside before the next batch; None for any size.
        max_age: seconds after its first span's start; None for any age.
        keep: how many files are kept beside the current one; None for all.
        compress: whether they are compressed (gzip).

    Thread: one at a time.
    """

    def __init__(self, max_bytes: int | None, max_age: float | None, keep: int | None, *, compress: bool) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._keep = keep
        self._compress = compress
        self._began: tuple[tuple[int, int], float] | None = None  # which file, and when its first span began
        self._cleaner: tuple[int, LockType] | None = None  # the process that cleans, and what it holds while it does
        self._is_wanted = False  # something was put aside since it last looked
        self._problem: Exception | None = None

    def is_due(self, descriptor: int) -> bool:
        """Whether the file is to be put aside before anything more is written to it."""
        status = os.fstat(descriptor)
        if status.st_size == 0:
            self._began = None  # it was emptied, perhaps
            return False
        if self._max_bytes is not None and status.st_size >= self._max_bytes:
            return True
        if self._max_age is None:
            return False
        identity = status.st_dev, status.st_ino
        if self._began is None or self._began[0] != identity:
            match = _FIRST_TIME.search(os.pread(descriptor, _FIRST_BYTES, 0))
            began = int(match[1]) / 1e9 if match else time.time()
            self._began = identity, began
        return time.time() - self._began[1] >= self._max_age

    def put_aside(self, path: str) -> None:
        """Rename the file, under its lock.

        Raises: OSError.
        """
        while True:
            when = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
            stem, suffix = os.path.splitext(path)  # noqa: PTH122 - a str, as everywhere with this file
            aside = f"{stem}.{when}{suffix}"
            if not os.path.lexists(aside) and not os.path.lexists(aside + _PACKED):
                break
        os.rename(path, aside)  # noqa: PTH104

    def clean(self, path: str) -> None:
        """Compress and delete on a thread of its own, without the lock."""
        if not self._compress and self._keep is None:
            return
        self._is_wanted = True
        if self._is_cleaning():
            return  # it looks once more before it ends
        done = allocate_lock()
        done.acquire()
        self._cleaner = fork_count(), done
        try:
            # The system's, as the worker is: gevent's would wait until the worker yields to it.
            of_system("_thread", "start_new_thread")(self._clean_beside, (path, done))
        except RuntimeError:
            self._cleaner = None  # no thread to be had, at the end of the program: the next program cleans

    def wait(self, timeout: float) -> None:
        """Until what was put aside is compressed, for so many seconds at the most. What is not is readable as it is."""
        if self._cleaner is not None and self._is_cleaning() and self._cleaner[1].acquire(timeout=timeout):
            self._cleaner[1].release()

    def take_problem(self) -> Exception | None:
        """What went wrong while it cleaned, since the last time that this was asked."""
        problem, self._problem = self._problem, None
        return problem

    def _is_cleaning(self) -> bool:
        """Whether a thread of this process does: a child has none of its parent's."""
        return self._cleaner is not None and self._cleaner[0] == fork_count() and self._cleaner[1].locked()

    def _clean_beside(self, path: str, done: LockType) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                self._clean(path)
        except Exception as error:  # noqa: BLE001 - not to the program's stderr: it is told with the next batch
            self._problem = error
        finally:
            done.release()

    def _clean(self, path: str) -> None:
        aside, unfinished = _look(path)
        for each in unfinished - set(aside):
            _remove(each + _UNFINISHED)  # its file was deleted by somebody
        if self._keep is not None:
            surplus = max(len(aside) - self._keep, 0)
            for each in aside[:surplus]:
                _remove(each)
                _remove(each + _PACKED)
            aside = aside[surplus:]
        if self._compress:
            for each in aside:
                try:
                    _compress(each)
                except OSError as error:
                    self._problem = error  # nothing to do with the others


def _look(path: str) -> tuple[list[str], set[str]]:
    """What was put aside, the oldest first and without .gz; and of which of them there are unfinished ones."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    pattern = re.compile(rf"({re.escape(stem)}\.{_TIME}{re.escape(suffix)})(\.gz(?:\.tmp)?)?")
    found = list(filter(None, map(pattern.fullmatch, os.listdir(folder))))  # noqa: PTH208
    aside = {os.path.join(folder, each[1]) for each in found if each[2] != _UNFINISHED}  # noqa: PTH118
    return sorted(aside), {os.path.join(folder, each[1]) for each in found if each[2] == _UNFINISHED}  # noqa: PTH118


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):  # another process was quicker
        os.unlink(path)  # noqa: PTH108


def _compress(path: str) -> None:
    """Replace a file by a compressed one. Whatever stops it, one of the two is there, whole.

    Raises: OSError, also where the file system has no locks.
    """
    try:
        # A pipe in its place would keep us waiting.
        descriptor = open_private(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return  # it is compressed, or was deleted by another process
    with open(descriptor, "rb") as source:  # noqa: PTH123
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.ENOTSUP, "what was put aside is no file any more", path)
        try:
            # From whoever compresses it too, and from whoever may still write to it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            if _is_at(path, before):
                _write_packed(source, path)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _write_packed(source: io.BufferedReader, path: str) -> None:
    temporary = path + _UNFINISHED
    _remove(temporary)  # of a process that was killed: nobody else has the lock
    try:
        with open(open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as raw:  # noqa: PTH123
            with gzip.GzipFile("", "wb", 6, raw, os.fstat(source.fileno()).st_mtime) as packed:
                shutil.copyfileobj(source, packed, _BLOCK)
            raw.flush()
            os.fsync(raw.fileno())
        os.rename(temporary, path + _PACKED)  # noqa: PTH104
        sync_folder(os.path.dirname(path))  # noqa: PTH120 - before the other one goes
    except OSError:
        _remove(temporary)  # the disk is full, say: the file stays as it is
        if os.path.lexists(path):
            raise
        return  # another process deleted it, because there are newer ones enough
    try:
        _remove(path)
    except OSError:
        _remove(path + _PACKED)  # what cannot be deleted must not be there twice
        raise


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), status)  # noqa: PTH116
    except FileNotFoundError:
        return False
