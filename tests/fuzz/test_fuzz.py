"""What every target promises, tried with its corpus, with mutations of it, and with more and more of the same."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.mutation import inputs
from tests.fuzz.targets import CORPUS, TARGETS, corpus_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

NAMES = list(TARGETS)
# Each of them does the same for each byte; the others decide by bytes what to do, or look at a part of them only.
GROWING = [
    name for name in NAMES if name not in ("file-parquet", "rotation", "torn-line", "first-bytes", "compression")
]


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_breaks_no_promise(name: str) -> None:
    """What was found worth keeping, all that ever broke a promise among it."""
    files = corpus_of(name)
    assert files, f"tests/fuzz/corpus/{name} has no files"
    for file in files:
        try:
            TARGETS[name].check(file.read_bytes())
        except Exception as error:
            error.add_note(f"again: .venv/bin/python -m tests.fuzz.run --target {name} --replay {file}")
            raise


@pytest.mark.parametrize("name", NAMES)
def test_mutations_break_no_promise(name: str) -> None:
    """The corpus changed here and there. `make fuzz` does the same for longer, and knows what it reaches."""

    @settings(
        max_examples=20,
        derandomize=True,  # the same each time: what is new is looked for by make fuzz
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(name))
    def keeps_promises(data: bytes) -> None:
        TARGETS[name].check(data)

    keeps_promises()


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of clew's are run. It is the same on every machine, and under any load."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if event == "call":
            return trace if "/clew/" in frame.f_code.co_filename else None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", GROWING)
def test_twice_as_much_takes_twice_as_long(name: str) -> None:
    """Input that is repeated costs no more than in proportion, counted in lines of Python.

    What is slow within a line (patterns, copies) is looked for by `make fuzz`, which gives up on what takes seconds.
    """
    for file in corpus_of(name)[:3]:
        data = file.read_bytes()
        few, many = (lines_run(partial(TARGETS[name].check, data * times)) for times in (4, 16))
        assert many <= 4 * few * 1.5 + 2000, (file, few, many)


def test_each_file_of_the_corpus_is_somebodys() -> None:
    """A folder that no target has would never be tried."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(NAMES)


def test_the_corpus_is_small() -> None:
    """It is read by people, and tried by every run of the suite."""
    for name in NAMES:
        sizes = [file.stat().st_size for file in corpus_of(name)]
        assert len(sizes) <= 40, name
        assert max(sizes) <= 16_384, name
