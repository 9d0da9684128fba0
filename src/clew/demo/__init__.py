"""The demo: seven parts, each of which shows on the terminal what it demonstrates. One file a part."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from clew.demo.stage import Stage

__all__ = ["PARTS", "Part", "run_part"]


class Part(NamedTuple):
    """One part of the demo."""

    name: str  # on the command line
    title: str
    module: str  # has `run(stage)`
    summary: str


PARTS = (
    Part("basic", "Basic Tracing", "clew.demo.basic", "one span: ids, attributes, duration"),
    Part("hierarchy", "Span Hierarchy", "clew.demo.hierarchy", "parents and children, also in tasks and threads"),
    Part("errors", "Error Recording", "clew.demo.errors", "an exception, one that was handled, a cancellation"),
    Part("events", "Events and Attributes", "clew.demo.events", "what a span can carry, and its limits"),
    Part("sampling", "Sampling Strategies", "clew.demo.sampling", "what each of the four samplers keeps"),
    Part("export", "File Export", "clew.demo.export", "a trace file, and what clew view makes of it"),
    Part("circuit", "Circuit Building", "clew.demo.circuit", "real circuits in a private Tor network"),
)


def run_part(part: Part, stage: Stage) -> None:
    """Run a part.

    Raises: ClewError, if it cannot do what it shows.
    """
    stage.title(part.title)
    import_module(part.module).run(stage)
