"""Where commands find a tor, and how they get into it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from clew.errors import ControlConnectionError
from clew.limits import CONTROL_HEARTBEAT_SECONDS, CONTROL_TIMEOUT_SECONDS
from clew.tor.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["connect"]

# Where Debian's tor, a tor that was started by hand, and Tor Browser listen.
_ADDRESSES = ("/run/tor/control", "127.0.0.1:9051", "127.0.0.1:9151")


def connect(
    address: str | None,
    password: str | Callable[[], str] | None = None,
    cookie_path: str | None = None,
    *,
    timeout: float = CONTROL_TIMEOUT_SECONDS,
) -> ControlClient:
    """Connect to the tor that was named, or to the first that is there.

    Args:
        address: None to search.
        password, cookie_path, timeout: as of `ControlClient.connect`.

    Raises: as `ControlClient.connect`.
    Thread: any; blocks.
    """

    def open_one(address: str) -> ControlClient:
        return ControlClient.connect(
            address,
            password=password,
            cookie_path=cookie_path,
            timeout=timeout,
            heartbeat=CONTROL_HEARTBEAT_SECONDS,
        )

    if address is not None:
        return open_one(address)
    for usual in _ADDRESSES:
        try:
            return open_one(usual)
        except ControlConnectionError:
            if usual.startswith("/") and _exists(usual):
                raise  # there is one, and it has to be said why we cannot talk to it
    raise ControlConnectionError(
        f"no tor answers at {', '.join(_ADDRESSES[:-1])} or {_ADDRESSES[-1]}: "
        "start one with ControlPort 9051 and CookieAuthentication 1 in its torrc, or give --control"
    )


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # in a folder that we may not enter
    return True
