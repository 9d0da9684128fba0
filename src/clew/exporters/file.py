"""To a file, as OTLP JSON Lines, which several processes may append to."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from clew._hot import fork_count
from clew.errors import ConfigurationError
from clew.exporters._text import batch_text
from clew.limits import LINE_BYTES
from clew.pipeline import allocate_lock

if TYPE_CHECKING:
    from _thread import LockType
    from threading import Timer

    from clew.exporters.rotation import Rotation
    from clew.otlp import Batch

__all__ = ["FileExporter"]

_BLOCK_BYTES = 64 * 1024
_SYNC_SECONDS = 1.0
_CLEAN_SECONDS = 2.0  # that the end of the program waits for a file to be compressed
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


class FileExporter:
    """Appends to a file: the format of the OpenTelemetry file exporter, one TracesData object a line.

    The file is made with mode 0600, its folder, if it is missing, with 0700; a symbolic link in place of the file is
    not followed. Every batch is one write to the end of the file, so that several processes may share one path, and
    several tracers one exporter; if the file is moved away or removed, a new one is made.

    What was written survives the end of the process, however it ends. Whether it survives that of the machine is what
    `fsync` says: "none" leaves it to the system, "interval" loses the last second at the most, "batch" nothing; the
    folder is synced too when a file is made. On a disk that is slow to sync, spans queue up meanwhile.

    A file that is too large or too old is put aside before the next batch: renamed to have the time in its name,
    compressed if that is asked for, and deleted when `keep` newer ones are there.

    A torn last line, left by a process that was killed while it wrote, is mended before anything is appended: cut off
    if it is a piece of JSON, ended if it is whole, or is something else. When the disk is full the batch fails and its
    piece is cut off again. No line that ends is ever changed.

    Args:
        path: of the file.
        pretty: an indented tree for people, which is not a format; else OTLP JSON Lines.
        max_bytes: a file of so many bytes is put aside; a batch is never split. None for any size.
        max_age: seconds after its first span began; None for any age.
        keep: how many files that were put aside are kept; None for all.
        compress: whether those are compressed (gzip, which `clew view` reads).
        fsync: "none", "interval" (once a second) or "batch".

    Raises: ConfigurationError, when the file cannot be opened, or another argument is none.
    """

    leaves_machine = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        pretty: bool = False,
        max_bytes: int | None = None,
        max_age: float | None = None,
        keep: int | None = None,
        compress: bool = False,
        fsync: str = "none",
    ) -> None:
        if path == "":
            raise ConfigurationError('FileExporter takes the path of a file, as in FileExporter("traces.jsonl").')
        self._pretty = pretty
        rotation = _rotation(max_bytes, max_age, keep, compress)
        if fsync not in ("none", "interval", "batch"):
            raise ConfigurationError(f'FileExporter takes fsync as "none", "interval" or "batch", not {fsync!r}.')
        try:
            # The program may change its working directory later.
            self.path = os.path.abspath(os.fspath(path))  # noqa: PTH100 - pathlib costs 3 ms of every import
            self._file = _SharedFile(self.path, json_lines=not pretty, rotation=rotation, fsync=fsync)
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(_explain(path, error)) from error

    def export(self, batch: Batch) -> None:
        """Append the batch.

        Raises: OSError, when it could not be written; then none of it is in the file.
        """
        self._file.append(batch_text(batch, pretty=self._pretty))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __repr__(self) -> str:
        return f"FileExporter({self.path!r}, pretty={self._pretty})"


def _rotation(max_bytes: int | None, max_age: float | None, keep: int | None, compress: bool) -> Rotation | None:
    if max_bytes is None and max_age is None:
        if keep is not None or compress:
            raise ConfigurationError(
                "FileExporter keeps or compresses what was put aside: give max_bytes or max_age too."
            )
        return None
    for name, value in (("max_bytes", max_bytes), ("keep", keep)):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < (name == "max_bytes")
        ):
            raise ConfigurationError(f"FileExporter takes {name} as a whole number, not {value!r}.")
    if max_age is not None and (
        isinstance(max_age, bool) or not isinstance(max_age, (int, float)) or not 0 < max_age < float("inf")
    ):
        raise ConfigurationError(f"FileExporter takes max_age in seconds above 0, not {max_age!r}.")
    # Here and not above: few programs need it, and `import clew` is to be quick.
    from clew.exporters.rotation import Rotation

    return Rotation(max_bytes, max_age, keep, compress=bool(compress))


def _explain(path: object, error: Exception) -> str:
    code, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, error)
    if code == errno.EISDIR:
        return f"{path} is a folder; name a file in it, such as {path}/traces.jsonl."
    if code == errno.ELOOP:
        return f"{path} is a symbolic link, which is not followed; name the file that it leads to."
    if code == errno.ENOENT:
        return f"{path} cannot be made, because there is no folder to make it in; make that folder first."
    if code == errno.ENOTDIR:
        return f"{path} cannot be made, because a part of its path is a file and not a folder; choose another path."
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} cannot be opened for reading and appending ({reason}); choose another path."
    return f"{path!r} cannot be used as a trace file ({reason}); choose another path."


class _SharedFile:
    """A file that is appended to under a lock, and mended.

    The lock (flock) is what makes it safe to cut: whoever of us writes holds it from before the look at the end of the
    file to after the last byte. Where the file system has no locks, nothing is cut: a torn line is ended by a newline.

    Args:
        json_lines: a torn last line is a piece of JSON, which may be cut off.
        rotation: when the file is put aside; None for never.
        fsync: "none", "interval" or "batch".
    """

    def __init__(self, path: str, *, json_lines: bool, rotation: Rotation | None, fsync: str) -> None:
        self._rotation = rotation
        self._fsync = fsync
        self._syncer: Timer | None = None  # syncs what was written since it was started
        self._path = path
        self._json_lines = json_lines
        self._generation = fork_count()
        self._descriptor = -1
        self._identity = (0, 0)
        self._regular = False
        # Whether nobody else has this opening of the file, which is what flock locks: not so in a child that could not
        # open it again.
        self._own = True
        self._mutexes: dict[int, LockType] = {}  # by process: a child's parent may hold its own for ever
        self._open()
        if self._lock(wait=False):  # else somebody writes at this moment, and mends before
            try:
                self._mend_now()
            finally:
                self._unlock()

    def append(self, data: bytes) -> None:
        """Write all of it, or nothing."""
        with self._mutex():
            self._follow()
            locked = self._lock_current()
            try:
                if locked and self._rotation is not None and self._rotation.is_due(self._descriptor):
                    self._mend_now()
                    self._rotation.put_aside(self._path)
                    self._unlock()
                    locked = False
                    self._follow()
                    self._rotation.clean(self._path)
                    locked = self._lock_current()
                if self._regular:
                    data = self._mend(may_cut=locked) + data
                self._write(data, may_cut=locked)
            finally:
                if locked:
                    self._unlock()
            self._sync()

    def close(self) -> None:
        with self._mutex():
            if self._descriptor >= 0:
                self._sync(now=True)
            self._close()
        if self._rotation is not None:
            self._rotation.wait(_CLEAN_SECONDS)

    def _mutex(self) -> LockType:
        """Between threads of this process, which flock does not keep apart: tracers may share an exporter."""
        return self._mutexes.setdefault(fork_count(), allocate_lock())

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:  # it has none if it could not be opened
            self._close()

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        folder = os.path.dirname(self._path)  # noqa: PTH120
        try:
            os.mkdir(folder, _FOLDER_MODE)  # noqa: PTH102
        except FileExistsError:
            pass
        except OSError:
            # A folder that is there may be one that this user cannot make: then opening the file tells.
            if not os.path.isdir(folder):  # noqa: PTH112
                raise
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(self._path, flags, _FILE_MODE)
        status = os.fstat(descriptor)
        if status.st_size == 0 and self._fsync != "none":
            _sync_folder(folder)
        self._close()
        self._descriptor = descriptor
        self._identity = status.st_dev, status.st_ino
        self._regular = stat.S_ISREG(status.st_mode)

    def _follow(self) -> None:
        """Open the file again in a child process, after `close`, and when another took its place, or none did."""
        if self._generation != fork_count():
            self._generation = fork_count()
            try:
                self._open()
                self._own = True
            except PermissionError:
                self._own = False  # the child gave up the right to; what it inherited still works
            return
        if self._descriptor < 0:
            self._open()  # another tracer closed it that shares it
            return
        try:
            status = os.stat(self._path, follow_symlinks=False)  # noqa: PTH116
        except FileNotFoundError:
            self._open()
        except PermissionError:
            return  # the process gave up the right to look
        else:
            if (status.st_dev, status.st_ino) != self._identity:
                self._open()

    # --- the lock ----------------------------------------------------------------------------------------------------

    def _lock(self, *, wait: bool) -> bool:
        if not self._regular or not self._own:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            # Held by another, or this file system has none.
            return False
        return True

    def _lock_current(self) -> bool:
        """Lock the file that has the path: while we waited, another process may have put aside what we had opened."""
        while self._lock(wait=True):
            if self._rotation is None or self._generation != fork_count():
                return True
            before = self._identity
            self._follow()
            if self._identity == before:
                return True
            # The lock went with the file that was closed.
        return False

    def _unlock(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, data: bytes, *, may_cut: bool) -> None:
        begin = os.fstat(self._descriptor).st_size
        rest = memoryview(data)
        try:
            # Once, unless the disk fills up or a signal comes; the lock is held either way.
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            written = len(data) - len(rest)
            # If the end is elsewhere, a stranger who does not lock wrote behind the piece: then nothing is cut.
            if may_cut and written and os.fstat(self._descriptor).st_size == begin + written:
                os.ftruncate(self._descriptor, begin)
            raise

    def _sync(self, *, now: bool = False) -> None:
        if self._fsync == "none" or not self._regular:
            return
        if now or self._fsync == "batch":
            os.fdatasync(self._descriptor)
        elif self._syncer is None or not self._syncer.is_alive():
            # Here and not above: `import clew` is to be quick.
            from threading import Timer

            self._syncer = Timer(_SYNC_SECONDS, self._sync_later)
            self._syncer.daemon = True
            try:
                self._syncer.start()
            except RuntimeError:  # no thread to be had, at the end of the program
                os.fdatasync(self._descriptor)

    def _sync_later(self) -> None:
        with self._mutex():
            self._syncer = None
            if self._descriptor >= 0:
                os.fdatasync(self._descriptor)

    def _mend_now(self) -> None:
        if self._regular and (missing := self._mend(may_cut=True)):
            self._write(missing, may_cut=True)

    def _mend(self, *, may_cut: bool) -> bytes:
        """Deal with a last line that does not end; returns what is to be written before anything else."""
        size = os.fstat(self._descriptor).st_size
        if size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n":
            return b""
        begin = self._last_line(size)
        if not may_cut or not self._json_lines or os.pread(self._descriptor, 2, begin) not in (b'{"', b"{"):
            return b"\n"
        if size - begin <= LINE_BYTES and _is_json(self._read(begin, size)):
            return b"\n"
        os.ftruncate(self._descriptor, begin)
        return b""

    def _last_line(self, size: int) -> int:
        """Where the last line begins."""
        end = size
        while end > 0:
            begin = max(end - _BLOCK_BYTES, 0)
            found = self._read(begin, end).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0

    def _read(self, begin: int, end: int) -> bytes:
        parts: list[bytes] = []
        while begin < end and (part := os.pread(self._descriptor, end - begin, begin)):
            parts.append(part)
            begin += len(part)
        return b"".join(parts)


def _sync_folder(folder: str) -> None:
    """Have the system keep that a file was made, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_json(line: bytes) -> bool:
    # Here and not above: few files are torn, and `import clew` is to be quick.
    import json

    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
