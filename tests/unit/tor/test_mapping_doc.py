"""The tables are complete, and the generated page shows them as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clew.tor.mapping_doc import MACHINES, mapping_document

if TYPE_CHECKING:
    from clew.tor.machines import Machine

DOCUMENT = Path(__file__).parents[3] / "docs" / "tor-mapping.md"
EACH = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.title)


@EACH
def test_every_state_answers_every_event(machine: Machine[Any, Any, Any]) -> None:
    """There is a cell for each pair, so that no event, known or not, can raise; none for what is forgotten."""
    assert machine.unanswered() == set()
    assert not [pair for pair in machine.table if pair[0] is machine.final]


@EACH
def test_every_state_is_reached_by_an_event(machine: Machine[Any, Any, Any]) -> None:
    """No row stands for what cannot be."""
    reached = {machine.initial} | {step.state for step in machine.table.values()}
    assert {state for state, _ in machine.table} <= reached


@EACH
def test_every_note_has_a_name(machine: Machine[Any, Any, Any]) -> None:
    """Whatever is noted on a span has a name for it, and no name stands for what is not."""
    noted = {t for (_, t), step in machine.table.items() if any(action.name == "NOTE" for action in step.actions)}
    assert noted == set(machine.notes)


def test_the_document_agrees_with_the_tables() -> None:
    """docs/tor-mapping.md is what `python -m clew.tor.mapping_doc` writes."""
    assert DOCUMENT.read_text(encoding="utf-8") == mapping_document()


def test_the_document_leads_to_its_sections() -> None:
    """Each line of the contents has its heading."""
    text = mapping_document()
    for machine in MACHINES:
        assert f"- [{machine.title}](#" in text
        assert f"\n## {machine.title}\n" in text
