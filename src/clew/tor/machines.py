"""What the tables of states have in common: their cells, and how each is described.

A machine is a module with a table, (state, what happened) -> next state and actions, as data. Nothing here runs one:
each module has the few lines that carry its actions out.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.model import SpanKind

__all__ = ["Machine", "SpanDescription", "Transition"]

S = TypeVar("S", bound=StrEnum)
T = TypeVar("T", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)


class Transition(NamedTuple, Generic[S, A]):
    """One cell of a table."""

    state: S  # the next one
    actions: tuple[A, ...] = ()
    why: str = ""


class SpanDescription(NamedTuple):
    """One row of the documentation's table of spans."""

    name: str
    kind: SpanKind
    begins: str
    ends: str
    parent: str


class Machine(NamedTuple, Generic[S, T, A]):
    """A table with what a page needs to show it (`mapping_doc.py`). Texts are Markdown."""

    title: str
    introduction: str
    spans: tuple[SpanDescription, ...]
    table: Mapping[tuple[S, T], Transition[S, A]]
    initial: S
    final: S | None = None  # what is in this state is forgotten: nothing happens to it any more
    notes: Mapping[T, str] = {}  # the names of the events that the action NOTE makes, by what happened
    noted_on: str = ""  # the span that has them
    remarks: str = ""  # after the table of spans

    def unanswered(self) -> set[tuple[S, T]]:
        """The pairs that have no cell. There must be none: what tor sends could raise there."""
        state, trigger = next(iter(self.table))
        states = [each for each in type(state) if each is not self.final]
        return set(product(states, type(trigger))) - set(self.table)
