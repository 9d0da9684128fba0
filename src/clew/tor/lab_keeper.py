"""The process that holds a lab in the background: what `clew lab up` leaves behind.

    python -P -m clew.tor.lab_keeper DIRECTORY AUTHORITIES RELAYS [PORT:TARGET_PORT ...]

It brings the lab up and tells how, a JSON object a line on its standard output: `{"fraction": ..., "what": ...,
"seconds": ...}` any number of times, then `{"ready": true}` or `{"error": "..."}`. Once it is ready it lets go of its
terminal and its pipes and stays until SIGTERM, or until somebody removes the lab's directory. If whoever started it
goes away before that, it gives up. However it ends, the network ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from clew.errors import ClewError, LabError
from clew.tor.lab import Lab, LabProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["bring_up", "end", "keep", "start", "stay"]

# How often the keeper looks whether its lab's directory is still there.
_LOOK_SECONDS = 1.0
# The keeper ends its tors within 5 s or kills them.
_END_SECONDS = 20.0
_POLL_SECONDS = 0.05


class _Stop(BaseException):
    """SIGTERM arrived."""


def start(
    directory: Path,
    *,
    authorities: int,
    relays: int,
    services: Sequence[tuple[int, int]] = (),
    progress: Callable[[LabProgress], None],
) -> None:
    """Bring a lab up in a process of its own that stays when this one ends.

    Args:
        directory: the lab's.
        authorities, relays: how many.
        services: onion services: the port of each, and the port behind it.
        progress: called now and then.

    Raises:
        LabError: what went wrong; nothing is left running.

    Thread: blocks for some seconds. Whatever it raises, KeyboardInterrupt included, nothing is left running.
    """
    # -P: modules of the current directory are none of ours.
    command = [sys.executable, "-P", "-m", __name__, str(directory), str(authorities), str(relays)]
    command += [f"{port}:{target_port}" for port, target_port in services]
    keeper = subprocess.Popen(  # noqa: S603 (this very program)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    assert keeper.stdout is not None
    try:
        with keeper.stdout as lines:
            error = _follow(lines, progress)
    except BaseException:
        keeper.terminate()
        keeper.wait()
        raise
    if error is not None:
        keeper.wait()
        raise LabError(error)
    keeper.returncode = 0  # it lives on, which Popen would warn of


def _follow(lines: IO[str], progress: Callable[[LabProgress], None]) -> str | None:
    """Read what a keeper tells until its lab is ready; if it does not get ready, return why."""
    words = "it said nothing"
    for line in lines:
        if not line.startswith("{"):
            words = line.strip() or words  # a traceback; its last line says most
            continue
        message = json.loads(line)
        if "ready" in message:
            return None
        if "error" in message:
            return str(message["error"])
        progress(LabProgress(**message))
    return f"the process that was to hold the lab has ended: {words}"


def end(lab: Lab) -> bool:
    """End a lab that some process holds in the background.

    Returns: whether there was one.
    Raises: LabError: it is held by a program that uses it, which is not ours to end, or it does not end.
    Thread: blocks until it has ended, at the most for some seconds.
    """
    status = lab.status()
    if status.owner is None:
        return False
    if not status.is_keeper:
        raise LabError(f"the lab in {lab.directory} belongs to process {status.owner.pid}: end that program")
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _END_SECONDS
        status.owner.signal(number)
        while time.monotonic() < deadline:
            if not lab.status().is_up:
                return True
            time.sleep(_POLL_SECONDS)
    raise LabError(f"the process {status.owner.pid} that holds the lab in {lab.directory} does not end")


def keep(directory: Path, authorities: int, relays: int, services: Sequence[tuple[int, int]] = ()) -> int:
    """Bring a lab up in this process, and stay until SIGTERM.

    Args: as of `start`.
    Returns: an exit status.
    """

    def stop(_number: int, _frame: object) -> NoReturn:
        raise _Stop

    signal.signal(signal.SIGTERM, stop)
    lab = Lab(directory, authorities=authorities, relays=relays, is_keeper=True)
    try:
        bring_up(lab, services, lambda progress: _tell(asdict(progress)))
        _tell({"ready": True})
        _let_go()
        stay(lab)
    except _Stop:
        pass  # as asked
    except ClewError as error:
        with suppress(BrokenPipeError):  # nobody is there to be told
            _tell({"error": str(error)})
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        lab.down()
    return 0


def bring_up(lab: Lab, services: Sequence[tuple[int, int]], progress: Callable[[LabProgress], None]) -> None:
    """Bring a lab up in this process, with onion services.

    Raises: as `Lab.up` and `Lab.add_onion_service`; the lab is down then.
    """
    lab.up(progress)
    try:
        for port, target_port in services:
            lab.add_onion_service(port, target_port, progress)
    except BaseException:
        lab.down()
        raise


def stay(lab: Lab) -> None:
    """Keep a lab up that this process brought up, until its directory is removed or a signal's handler raises."""
    while (owner := lab.status().owner) is not None and owner.pid == os.getpid():
        time.sleep(_LOOK_SECONDS)


def _tell(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def _let_go() -> None:
    """Hold no terminal, pipe or directory of whoever started us."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


if __name__ == "__main__":
    ports = [argument.split(":") for argument in sys.argv[4:]]
    services = [(int(port), int(target_port)) for port, target_port in ports]
    sys.exit(keep(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), services))
