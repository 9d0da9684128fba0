"""Trace files that do not grow for ever: when a file is put aside, what it is called then, how many are kept.

What is put aside lies beside the file, with the time in its name: beside traces.jsonl there are
traces.2026-01-31T03-00-00.123456Z.jsonl and others, and with `compress` the same with .gz. Nothing here is done under
the lock of the file but the renaming: to compress takes seconds.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

__all__ = ["Rotation"]

_TIME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z"
_FIRST_TIME = re.compile(rb'"startTimeUnixNano":"(\d{1,20})"')
_FIRST_BYTES = 64 * 1024
_MODE = 0o600
_BLOCK = 1024 * 1024


class Rotation:
    """When and how a trace file is put aside.

    Args:
        max_bytes: a file of so many bytes or more is put aside before the next batch; None for any size.
        max_age: seconds after its first span's start; None for any age.
        keep: how many files are kept beside the current one; None for all.
        compress: whether they are compressed (gzip).

    Thread: `is_due` and `put_aside` by one at a time.
    """

    def __init__(self, max_bytes: int | None, max_age: float | None, keep: int | None, *, compress: bool) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._keep = keep
        self._compress = compress
        self._began: tuple[tuple[int, int], float] | None = None  # which file, and when its first span began
        self._cleaner: threading.Thread | None = None

    def is_due(self, descriptor: int) -> bool:
        """Whether the file is to be put aside before anything more is written to it."""
        status = os.fstat(descriptor)
        if status.st_size == 0:
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
        """Rename the file, under its lock."""
        while True:
            when = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
            stem, suffix = os.path.splitext(path)  # noqa: PTH122 - a str, as everywhere with this file
            aside = f"{stem}.{when}{suffix}"
            if not os.path.lexists(aside):
                break
        os.rename(path, aside)  # noqa: PTH104

    def clean(self, path: str) -> None:
        """Compress and delete on a thread of its own, without the lock."""
        if (not self._compress and self._keep is None) or (self._cleaner is not None and self._cleaner.is_alive()):
            return  # what it does not see, the next one does
        try:
            self._cleaner = threading.Thread(target=self._clean, args=(path,), name="clew-rotate", daemon=True)
            self._cleaner.start()
        except RuntimeError:
            self._cleaner = None  # no thread to be had, at the end of the program: the next program cleans

    def wait(self, timeout: float) -> None:
        """Until what was put aside is compressed, for so many seconds at the most. What is not is readable as it is."""
        if self._cleaner is not None:
            self._cleaner.join(timeout)

    def _clean(self, path: str) -> None:
        aside = self._aside(path)
        if self._keep is not None:
            surplus = max(len(aside) - self._keep, 0)
            for each in aside[:surplus]:
                _remove(each)
            aside = aside[surplus:]
        if self._compress:
            for each in aside:
                if not each.endswith(".gz"):
                    _compress(each)

    def _aside(self, path: str) -> list[str]:
        """What was put aside, the oldest first."""
        folder, name = os.path.split(path)
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        pattern = re.compile(rf"{re.escape(stem)}\.{_TIME}{re.escape(suffix)}(?:\.gz)?")
        return sorted(os.path.join(folder, each) for each in os.listdir(folder) if pattern.fullmatch(each))  # noqa: PTH118, PTH208


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):  # another process was quicker
        os.unlink(path)  # noqa: PTH108


def _compress(path: str) -> None:
    """Replace a file by a compressed one. Whatever stops it, one of the two is there, whole."""
    import gzip
    import shutil

    temporary = f"{path}.{os.getpid()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(path, "rb") as source, open(os.open(temporary, flags, _MODE), "wb") as raw:  # noqa: PTH123
            with gzip.GzipFile("", "wb", 6, raw, os.fstat(source.fileno()).st_mtime) as packed:
                shutil.copyfileobj(source, packed, _BLOCK)
            raw.flush()
            os.fsync(raw.fileno())  # before the other one goes
    except FileNotFoundError:
        return  # another process compressed it, or deleted it
    except OSError:
        _remove(temporary)  # the disk is full, say: it stays as it is
        return
    os.rename(temporary, f"{path}.gz")  # noqa: PTH104
    _remove(path)
