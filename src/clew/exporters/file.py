"""To a file, as OTLP JSON Lines, which several processes may append to."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from clew.errors import ConfigurationError
from clew.exporters._text import batch_text

if TYPE_CHECKING:
    from clew.exporters.rotation import Rotation
    from clew.otlp import Batch

__all__ = ["FileExporter"]


class FileExporter:
    """Appends to a file: the format of the OpenTelemetry file exporter, one TracesData object a line.

    The file is made with mode 0600, its folder, if it is missing, with 0700; a symbolic link in place of the file is
    not followed, and nothing is written to a pipe in its place. Every batch is one write to the end of the file, so
    that several processes may share one path, and several tracers one exporter; if the file is moved away or removed,
    a new one is made.

    What was written survives the end of the process, however it ends. Whether it survives that of the machine is what
    `fsync` says: "none" leaves it to the system, "interval" loses the last second at the most, "batch" nothing; the
    folder is synced too when a file is made. On a disk that is slow to sync, spans queue up meanwhile.

    A file that is too large or too old is put aside before the next batch, where the file system has locks: renamed to
    have the time in its name, compressed if that is asked for, and deleted when `keep` newer ones are there.
    What goes wrong with that is told in the log and loses no span: a file that cannot be put aside grows on.

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
        # Here and not above: `import clew` is to be quick.
        from clew.exporters._shared_file import SharedFile

        try:
            # The program may change its working directory later.
            self.path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib costs 3 ms of every import
            self._file = SharedFile(self.path, json_lines=not pretty, rotation=rotation, fsync=fsync)
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(_explain(path, error)) from error

    def export(self, batch: Batch) -> None:
        """Append the batch.

        Raises:
            OSError: it could not be written, or not synced; then none of it is in the file.
            ExportError: it is in the file, but an earlier one could not be synced, put aside or compressed.
        """
        self._file.append(batch_text(batch, pretty=self._pretty))

    def close(self) -> None:
        """Close the file, synced as `fsync` says.

        Raises: ExportError: what was to be synced, put aside or compressed could not be.
        """
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
