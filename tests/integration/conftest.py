"""What integration tests share: a lab."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew.tor.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A private Tor network that is up, for all tests of the session: who stops a node of it starts it again.

    Its directory is not pytest's own, whose path may be too long for a socket.
    """
    with tempfile.TemporaryDirectory(prefix="clew") as directory, Lab(Path(directory) / "lab") as lab:
        yield lab
