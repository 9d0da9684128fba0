"""What all tests share: hypothesis' settings, the lab, and what happens to tests that need tor where there is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from clew.tor.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The machine's speed is nobody's bug: no deadlines. CI draws many examples, the same each time; elsewhere they vary.
in_ci = bool(os.environ.get("CI"))
hypothesis.settings.register_profile("clew", deadline=None, derandomize=in_ci, max_examples=100 if in_ci else 25)
hypothesis.settings.load_profile("clew")

# Debian puts tor where the PATH of a user may not lead.
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
HAS_TOR = shutil.which("tor", path=SYSTEM_PATH) is not None

left_out = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Skip what needs tor where there is no tor, and count it."""
    config.stash[left_out] = 0
    if HAS_TOR:
        return
    for item in items:
        if item.get_closest_marker("tor") or "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="there is no tor on this machine"))
            config.stash[left_out] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly what was left out."""
    if count := config.stash.get(left_out, 0):
        terminalreporter.section("NOT TESTED: TOR", red=True, bold=True)
        terminalreporter.line(
            f"{count} tests need tor, and this machine has none: type 'sudo apt-get install tor' and run again.",
            red=True,
        )


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, str]]:
    """The environment for programs that bring up the lab of their user: the user is one without any.

    The path is short, because the lab's sockets lie below it.
    """
    with tempfile.TemporaryDirectory(prefix="clew") as home:
        yield {**os.environ, "XDG_STATE_HOME": home}


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A private Tor network that is up, for all tests of the session: who stops a node of it starts it again.

    Its directory is not pytest's own, whose path may be too long for a socket.
    """
    with tempfile.TemporaryDirectory(prefix="clew") as directory, Lab(Path(directory) / "lab") as lab:
        yield lab
