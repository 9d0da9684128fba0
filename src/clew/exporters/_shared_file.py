"""A file that several processes append to: opened, followed, locked, mended, synced."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from clew._hot import fork_count
from clew.errors import ExportError
from clew.exporters._patience import of_system
from clew.exporters._torn import mend
from clew.pipeline import allocate_lock, time_left

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Iterator

    from clew.exporters.rotation import Rotation

__all__ = ["SharedFile", "open_private", "sync_folder"]

_SYNC_SECONDS = 1.0
_CLEAN_SECONDS = 2.0  # that the end of the program waits for a file to be compressed
_PAUSE_SECONDS = 0.005  # between looks at a lock that another process has
_STUCK_SECONDS = 1.0  # a lock that is held for so long is not that of a process which just writes
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_SLICE_SECONDS = 0.1  # of waiting for another thread: the program may end meanwhile
_INFINITY = float("inf")


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read, without following a link; whatever the umask, it is never readable.

    Returns: its descriptor.
    Raises: OSError.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, _FILE_MODE)


def sync_folder(folder: str) -> None:
    """Have the system keep that a file was made, renamed or removed, too.

    Raises: OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SharedFile:
    """A file that is appended to under a lock, and mended.

    The lock (flock) is what makes it safe to cut: whoever of us writes holds it from before the look at the end of the
    file to after the last byte. Where the file system has no locks, nothing is cut: a torn line is ended by a newline.

    Args:
        json_lines: a torn last line is a piece of JSON, which may be cut off.
        rotation: when the file is put aside; None for never.
        fsync: "none", "interval" or "batch".

    Raises: OSError.
    """

    def __init__(self, path: str, *, json_lines: bool, rotation: Rotation | None, fsync: str) -> None:
        self._rotation = rotation
        self._fsync = fsync
        self._path = path
        self._json_lines = json_lines
        self._generation = fork_count()  # whose descriptor and lock these are
        self._descriptor = -1
        self._identity = (0, 0)
        self._regular = False
        self._locked = False
        # Whether nobody else has this opening of the file, which is what flock locks: not so in a child that could not
        # open it again.
        self._own = True
        self._mutexes: dict[int, LockType] = {}  # by process: a child's parent may hold its own for ever
        self._unsynced = False  # something was written that "interval" has to sync
        self._syncer: tuple[int, LockType] | None = None  # the process whose thread syncs, and what ends its waiting
        self._problem: Exception | None = None  # what is to be told with the next batch
        self._open()
        try:
            if self._try_lock(wait=False):  # else somebody writes at this moment, and mends before
                with suppress(OSError):  # the disk is full, say: the first batch tries again
                    self._mend_now()
        finally:
            self._unlock()

    def append(self, data: bytes) -> None:
        """Write all of it, or nothing.

        Raises:
            OSError: it was not written.
            ExportError: it was, but something else is wrong: `rejected` is 0.
        """
        with self._alone():
            self._follow()
            self._lock()
            try:
                if self._locked and self._rotation is not None and self._rotation.is_due(self._descriptor):
                    self._rotate(self._rotation)
                if self._regular:
                    data = self._mend() + data
                self._write(data)
            finally:
                self._unlock()
            self._sync_soon()
            self._tell()

    def close(self) -> None:
        """Sync what has to be, and close the file; the next `append` opens it again.

        Raises: ExportError: something is wrong; it is closed nevertheless.
        """
        with self._alone():
            self._leave()
            if self._syncer is not None and self._syncer[0] == fork_count():
                with suppress(RuntimeError):  # it was told already
                    self._syncer[1].release()
        if self._rotation is not None:
            self._rotation.wait(min(max(time_left(), 0.0), _CLEAN_SECONDS))
        self._tell()

    def _tell(self) -> None:
        problem, self._problem = self._problem, None
        if problem is None and self._rotation is not None:
            problem = self._rotation.take_problem()
        if problem is not None:
            raise ExportError(f"the spans are in {self._path}, but {problem}", rejected=0) from problem

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Between threads of this process, which flock does not keep apart: tracers may share an exporter.

        Raises: TimeoutError: the program ends, and another thread is stuck, because the disk does not answer, say.
        """
        mutex = self._mutexes.setdefault(fork_count(), allocate_lock())
        while not mutex.acquire(timeout=min(max(time_left(), 0.0), _SLICE_SECONDS)):
            if time_left() <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "another thread still writes to it", self._path)
        try:
            yield
        finally:
            mutex.release()

    def __del__(self) -> None:
        descriptor: int = getattr(self, "_descriptor", -1)  # it has none if it could not be opened
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        folder = os.path.dirname(self._path)  # noqa: PTH120 - a str, as everywhere with this file
        is_new_folder = _make_folder(folder)
        descriptor = open_private(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            status = os.fstat(descriptor)
            regular = _is_regular(status)
            if regular and self._fsync != "none":
                sync_folder(folder)
                if is_new_folder:
                    sync_folder(os.path.dirname(folder))  # noqa: PTH120
        except BaseException:
            os.close(descriptor)
            raise
        self._leave()
        self._descriptor = descriptor
        self._identity = status.st_dev, status.st_ino
        self._regular = regular
        self._own = True

    def _leave(self) -> None:
        """Close what is open."""
        self._forget_parents()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            if self._locked:
                # To close it is not enough, if a child was forked meanwhile: it has the same opening of the file.
                self._locked = False
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            if self._unsynced:
                self._unsynced = False
                os.fdatasync(descriptor)
        except OSError as error:
            self._problem = error
        finally:
            try:
                os.close(descriptor)
            except OSError as error:  # what network file systems could not write
                self._problem = error

    def _forget_parents(self) -> None:
        """In a child: what the parent had locked and not synced at the fork is the parent's to unlock and sync."""
        if self._generation != fork_count():
            self._locked = self._unsynced = False
            self._problem = None

    def _follow(self) -> None:
        """Open the file again in a child process, after `close`, and when another took its place, or none did."""
        if self._generation != fork_count():
            self._forget_parents()
            try:
                self._open()
            except PermissionError:
                if self._descriptor < 0:
                    raise
                self._own = False  # the child gave up the right to; what it inherited still works
            self._generation = fork_count()
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

    def _try_lock(self, *, wait: bool) -> bool:
        """Lock what is open, or have no lock where there is none; False if somebody else has it."""
        if self._regular and self._own:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                self._locked = True
            except BlockingIOError:
                return False
            except OSError:
                # This file system has none.
                self._locked = False
        return True

    def _lock(self) -> None:
        """Lock the file that has the path, as soon as nobody else has it locked."""
        begin = monotonic()
        while True:
            # A worker waits in its turn. Where the program waits (it ends, or there is no worker), it is looked after
            # again and again: whoever has the lock may have been stopped.
            if self._try_lock(wait=time_left() == _INFINITY):
                before = self._identity
                try:
                    self._follow()  # meanwhile, another process may have put aside what we had opened
                except BaseException:
                    self._unlock()
                    raise
                if self._identity == before:
                    return
                # The lock went with the file that was closed.
            elif time_left() <= 0 and monotonic() - begin > _STUCK_SECONDS:
                raise TimeoutError(errno.ETIMEDOUT, "another process keeps it locked", self._path)
            else:
                _pause(_PAUSE_SECONDS)
                self._follow()

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    # --- putting aside -----------------------------------------------------------------------------------------------

    def _rotate(self, rotation: Rotation) -> None:
        self._mend_now()
        try:
            rotation.put_aside(self._path)
        except OSError as error:
            # The folder is one that nothing may be renamed in, say: that is no reason to lose spans.
            self._problem = OSError(error.errno, f"it could not be put aside ({error.strerror}) and goes on growing")
            return
        self._unlock()
        self._follow()
        rotation.clean(self._path)
        self._lock()

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        begin = os.fstat(self._descriptor).st_size
        rest = memoryview(data)
        try:
            # Once, unless the disk fills up or a signal comes; the lock is held either way.
            while rest:
                rest = rest[_write_some(self._descriptor, rest) :]
            if self._fsync == "batch" and self._regular:
                os.fdatasync(self._descriptor)
        except OSError:
            self._take_back(begin, len(data) - len(rest))
            raise

    def _take_back(self, begin: int, written: int) -> None:
        # If the end is elsewhere, a stranger who does not lock wrote behind the piece: then nothing is cut.
        with suppress(OSError):  # what stays is mended before the next batch
            if self._locked and written and os.fstat(self._descriptor).st_size == begin + written:
                os.ftruncate(self._descriptor, begin)

    def _sync_soon(self) -> None:
        if self._fsync != "interval" or not self._regular:
            return
        self._unsynced = True
        if self._syncer is None or self._syncer[0] != fork_count():
            end = allocate_lock()
            end.acquire()
            self._syncer = fork_count(), end
            try:
                of_system("_thread", "start_new_thread")(self._sync_later, (end,))
            except RuntimeError:  # no thread to be had, at the end of the program
                self._syncer = None
                self._unsynced = False
                os.fdatasync(self._descriptor)

    def _sync_later(self, end: LockType) -> None:
        """On a thread of its own: sync once a second, until a second brought nothing, or the file is closed."""
        while True:
            end.acquire(timeout=_SYNC_SECONDS)
            with self._alone():
                if not self._unsynced:
                    self._syncer = None
                    return
                self._unsynced = False
                try:
                    os.fdatasync(self._descriptor)
                except OSError as error:
                    self._problem = error

    def _mend(self) -> bytes:
        return mend(self._descriptor, may_cut=self._locked and self._json_lines)

    def _mend_now(self) -> None:
        if self._regular and (missing := self._mend()):
            self._write(missing)


def _is_regular(status: os.stat_result) -> bool:
    """Whether it is a file; else it is a terminal, /dev/null or the like.

    Raises: OSError, if it is neither.
    """
    if stat.S_ISREG(status.st_mode):
        return True
    if stat.S_ISCHR(status.st_mode):
        return False
    # What is written to a pipe that nobody reads is lost without a word, or never returns.
    raise OSError(errno.ENOTSUP, "it is a pipe or a device, and no file")


def _make_folder(folder: str) -> bool:
    """Make it if it is missing; whether it was."""
    try:
        os.mkdir(folder, _FOLDER_MODE)  # noqa: PTH102
    except FileExistsError:
        return False
    except OSError:
        # A folder that is there may be one that this user cannot make: then opening the file tells.
        if not os.path.isdir(folder):  # noqa: PTH112
            raise
        return False
    return True


def _pause(seconds: float) -> None:
    """Wait; time.sleep may be gevent's."""
    lock = allocate_lock()
    lock.acquire()
    lock.acquire(timeout=seconds)


def _write_some(descriptor: int, data: memoryview) -> int:
    written = os.write(descriptor, data)
    if written == 0:
        raise OSError(errno.EIO, "nothing can be written")
    return written
