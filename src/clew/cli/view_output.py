"""What `clew view` prints: pictures or JSON on standard output, remarks on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clew.pretty import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from clew.formats import Damage
    from clew.model import SpanRecord
    from clew.render import Totals

__all__ = ["DamageReport", "Output", "count", "say"]

_RANGES_NAMED = 10  # the rest is only counted


class Output:
    """Prints traces.

    Args:
        console: to draw on; None for JSON.
        details: draw all attributes, events and links.
    """

    def __init__(self, console: Console | None, *, details: bool) -> None:
        self._console = console
        self._details = details

    def print_trace(
        self, records: list[SpanRecord], totals: Totals | None = None, *, is_continued: bool = False
    ) -> None:
        """Print the spans of one trace.

        Args:
            totals: of the whole trace, if the records are only a part of it.
            is_continued: other spans of this trace were printed before.
        """
        if self._console is None:
            from clew.formats.writing import json_lines

            for line in json_lines(records):
                sys.stdout.write(line.decode() + "\n")
            if totals is not None and totals.spans > len(records):
                hidden = totals.spans - len(records)
                trace_id = records[0].trace_id
                say(f"trace {trace_id}: {hidden:,} of its {totals.spans:,} spans were left out; --spans N prints more")
        else:
            from clew.render import Waterfall, assemble

            for trace in assemble(records):
                picture = Waterfall(trace, totals=totals, details=self._details, is_continued=is_continued)
                self._console.print(picture)
                self._console.print()
        sys.stdout.flush()

    def print_legend(self) -> None:
        """Print what the bars mean."""
        if self._console is not None:
            from clew.render import Legend

            self._console.print(Legend())


class DamageReport:
    """The parts of a file that could not be read, in a few words however many they are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ranges: list[tuple[int, int]] = []  # the first ones, of numbers
        self._number = 0
        self._first: Damage | None = None
        self._tail: Damage | None = None

    def add(self, damage: Damage) -> None:
        if damage.is_tail:
            self._tail = damage
            return
        self._first = self._first or damage
        self._number += damage.last - damage.first + 1
        # Whatever the first pass leaves out is sorted; the second may find something before its end.
        ranges = sorted([*self._ranges, (damage.first, damage.last)])
        self._ranges = ranges[:1]
        for first, last in ranges[1:]:
            if first == self._ranges[-1][1] + 1:
                self._ranges[-1] = (self._ranges[-1][0], last)
            elif len(self._ranges) <= _RANGES_NAMED:
                self._ranges.append((first, last))

    def say(self) -> None:
        """Tell of it, if there was any."""
        for sentence in self.sentences():
            say(f"{self._name}: {sentence}")

    def sentences(self) -> Iterator[str]:
        """What there is to tell, without the file's name."""
        if self._first is not None:
            named = [str(first) if first == last else f"{first}-{last}" for first, last in self._ranges]
            places = ", ".join(named[:_RANGES_NAMED]) + (", ..." if len(named) > _RANGES_NAMED else "")
            damaged = count(self._number, f"damaged {self._first.unit}")
            yield f"{damaged} left out: {self._first.unit} {places} ({self._first.reason})"
        if self._tail is not None:
            yield f"{self._tail.unit} {self._tail.first} is unfinished, as if it were still being written"


def say(sentence: str) -> None:
    """Print a remark on standard error."""
    print(f"clew: {escape(sentence)}", file=sys.stderr)


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 span", "2,000 spans"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
