"""A lab's directory: who may use it, what is kept in it, who runs in it now.

    lab.lock     held (flock) by the process whose lab is up; the kernel lets go of it when that process ends
    lab.json     the layout: nodes, ports, fingerprints; written once all keys are made, so that it vouches for nodes/
    run.json     who runs: the owner and its tor processes; there from `up` to `down`
    nodes/NAME   a node's data directory, torrc, log, control socket
    bandwidth, empty    two files that torrcs name

Directories have mode 0700, files 0600, and each of ours is written whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any

from clew.errors import LabError
from clew.tor.lab_config import Layout, Seat
from clew.tor.lab_process import ProcessMark

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LabDirectory", "RunRecord"]

# Raised when what is kept changes its meaning: then everything is made anew.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Who runs a lab.

    Args:
        owner: the process that holds the lab.
        is_keeper: whether that process is there for nothing else, so that `clew lab down` may end it.
        since: wall-clock seconds at which it began.
        is_ready: whether the network can be used.
        nodes: the tor processes by their nodes' names.
        services: the nodes of onion services, which are no part of the layout.
    """

    owner: ProcessMark
    is_keeper: bool
    since: float
    is_ready: bool = False
    nodes: dict[str, ProcessMark] = field(default_factory=dict)
    services: tuple[Seat, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        return {
            "owner": list(self.owner),
            "is_keeper": self.is_keeper,
            "since": self.since,
            "is_ready": self.is_ready,
            "nodes": {name: list(mark) for name, mark in self.nodes.items()},
            "services": [asdict(seat) for seat in self.services],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunRecord:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: value is not of that form.
        """
        return cls(
            owner=ProcessMark(*map(int, value["owner"])),
            is_keeper=bool(value["is_keeper"]),
            since=float(value["since"]),
            is_ready=bool(value["is_ready"]),
            nodes={str(name): ProcessMark(*map(int, mark)) for name, mark in value["nodes"].items()},
            services=tuple(map(Seat.from_json, value["services"])),
        )


class LabDirectory:
    """Args:
        path: the directory; it need not exist.

    Thread: one at a time; any process may read, only the one that has acquired it may write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A file object: should the lab be forgotten, its file is closed with it.
        self._lock: IO[bytes] | None = None

    @property
    def is_acquired(self) -> bool:
        """Whether this process has it for itself."""
        return self._lock is not None

    def acquire(self) -> None:
        """Have it for ourselves; made if it is not there.

        Raises:
            LabError: another process has it, or it is not a lab's directory and not empty, or it cannot be used.
        """
        try:
            self._prepare()
            lock = os.fdopen(os.open(self.path / "lab.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
        except OSError as error:
            raise LabError(
                f"the lab's directory {self.path} cannot be used ({error.strerror}): choose another"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise LabError(f"the lab in {self.path} is up already{self._owner_words()}") from None
        self._lock = lock

    def release(self) -> None:
        """Let others have it. Also what a forked child does with its copy of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_layout(self) -> Layout | None:
        """The layout; None if there is none that this version can use."""
        value = self._read("lab.json")
        try:
            return Layout.from_json(value["layout"]) if value and value["version"] == _VERSION else None
        except (KeyError, TypeError, ValueError):
            return None  # as if it had never been: everything is made anew

    def write_layout(self, layout: Layout) -> None:
        """Keep the layout."""
        self.write(self.path / "lab.json", json.dumps({"version": _VERSION, "layout": layout.to_json()}, indent=1))

    def read_run(self) -> RunRecord | None:
        """Who runs or ran last without ending in order; None if nobody."""
        value = self._read("run.json")
        try:
            return RunRecord.from_json(value) if value else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None  # of another version of clew: its processes end with their owner

    def write_run(self, record: RunRecord) -> None:
        """Keep who runs."""
        self.write(self.path / "run.json", json.dumps(record.to_json(), indent=1))

    def clear_run(self) -> None:
        """Nobody runs."""
        (self.path / "run.json").unlink(missing_ok=True)

    def clear_nodes(self) -> None:
        """Remove all nodes with their keys."""
        (self.path / "lab.json").unlink(missing_ok=True)  # first: it vouches for them
        shutil.rmtree(self.path / "nodes", ignore_errors=True)
        (self.path / "nodes").mkdir(mode=0o700)

    def write(self, path: Path, text: str) -> None:
        """Write a file of this directory, whole or not at all.

        Raises: LabError: it cannot be written.
        """
        assert self.is_acquired
        # One writer only, who holds the lock: the name may be fixed, and what a killed one left is written over.
        temporary = path.with_name(path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
                file.write(text)
            temporary.replace(path)
        except OSError as error:
            raise LabError(f"{path} cannot be written ({error.strerror})") from error

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = (self.path / "lab.lock").exists() or not any(self.path.iterdir())
        if not is_ours:
            raise LabError(f"{self.path} holds other files: choose an empty or new directory for the lab")
        if self.path.stat().st_uid != os.geteuid():
            raise LabError(f"{self.path} belongs to another user: choose another directory for the lab")
        self.path.chmod(0o700)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            return None  # not ours, or of a version that wrote something else
        except OSError as error:
            raise LabError(f"{self.path / name} cannot be read ({error.strerror}): choose another directory") from error

    def _owner_words(self) -> str:
        record = self.read_run()
        if record is None or not record.owner.is_alive:
            return ""
        if record.is_keeper:
            return f" (process {record.owner.pid}): clew lab down ends it"
        return f" (process {record.owner.pid}): end that program first, or choose another directory"
