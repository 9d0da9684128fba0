"""What all tests share: hypothesis' settings, the lab, and what happens where a program is missing that tests need."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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


class Need(NamedTuple):
    """A program that some tests need: those with its marker, and those that use its fixture."""

    name: str
    marker: str
    fixture: str
    programs: tuple[str, ...]
    packages: str  # Debian's

    @property
    def is_missing(self) -> bool:
        return any(shutil.which(program, path=SYSTEM_PATH) is None for program in self.programs)


NEEDS = (
    Need("tor", "tor", "lab", ("tor",), "tor"),
    Need("strace", "strace", "strace", ("strace",), "strace"),
    Need("Chromium", "browser", "browser", ("chromium", "chromedriver"), "chromium chromium-driver"),
)
left_out = pytest.StashKey[Counter[Need]]()


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Skip what needs a program where there is none, and count it."""
    config.stash[left_out] = Counter()
    for need in NEEDS:
        if not need.is_missing:
            continue
        for item in items:
            if item.get_closest_marker(need.marker) or need.fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason=f"there is no {need.name} on this machine"))
                config.stash[left_out][need] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly what was left out."""
    for need, count in config.stash.get(left_out, Counter[Need]()).items():
        terminalreporter.section(f"NOT TESTED: {need.name.upper()}", red=True, bold=True)
        terminalreporter.line(
            f"{count} tests need {need.name}, and this machine has none: type 'sudo apt-get install {need.packages}' "
            "and run again.",
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
