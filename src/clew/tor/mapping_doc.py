"""Writes docs/tor-mapping.md from the tables that the code runs by.

`python -m clew.tor.mapping_doc > docs/tor-mapping.md`
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from clew.tor import bootstrap, build_timeout, circuits, onion, orconn, streams
from clew.tor.conventions import CONVENTIONS
from clew.tor.privacy import ATTRIBUTES, LEVEL_ATTRIBUTE, RULES, Attribute, Content, Privacy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clew.tor.machines import Machine, Transition

__all__ = ["MACHINES", "mapping_document"]

# Every table, in the order of the page's sections.
MACHINES: tuple[Machine[Any, Any, Any], ...] = (
    circuits.MACHINE,
    streams.MACHINE,
    onion.MACHINE,
    bootstrap.MACHINE,
    orconn.MACHINE,
    build_timeout.MACHINE,
)

_INTRODUCTION = """\
# How tor's events become spans

This page is generated from the tables in `src/clew/tor` by `python -m clew.tor.mapping_doc`; a test compares them.

All times are those at which an event arrived from tor, stamped when it was read. What is not seen has no span, and what
was seen from the middle on says so: `tor.circuit.partial` and the like.

Names in parentheses are clew's own, all others are tor's words. The same everywhere: `(lost)`, tor or the connection
went away, or tracing ended; `(unknown)`, tor sent a word that is not in the table.

"""

_PRIVACY_TITLE = "Attributes and privacy"

_PRIVACY = f"""\

## {_PRIVACY_TITLE}

Everything that comes from tor passes through `privacy.py` before it becomes an attribute. What is declared here is
treated as its row says, what is not is treated as "anything else". A value that cannot be what its attribute is
declared to be (text in the place of a number, say) is "anything else" too. Spans pass a level once more when they are
exported, an application's own among them: [the guide](guide/privacy.md) says what is done with those.

"""

_AFTER_LEVELS = f"""\

A hash is keyed (BLAKE2b, 64 bits); the key is made when the filter is, and is never written. So hashes can be compared
within one run and cannot be undone or compared between runs. `{LEVEL_ATTRIBUTE}` is on the resource of what clew makes
for tor alone, and on every `tor.circuit.build`. The time of day is kept at every level. SOCKS credentials, cookies,
keys, descriptors and payload never reach this code.

"""

_CONVENTIONS = """\

### Of an application's spans

Names that OpenTelemetry's conventions give. Where a name stands in both tables, this one is for the application. What
is in neither is "anything else that an application says".

"""


def mapping_document() -> str:
    """The whole page, in Markdown."""
    titles = [machine.title for machine in MACHINES] + [_PRIVACY_TITLE]
    parts = [
        _INTRODUCTION,
        *(f"- [{title}](#{title.lower().replace(' ', '-')})\n" for title in titles),
        *(part for machine in MACHINES for part in _section(machine)),
        _PRIVACY,
        _table(
            ("what a value tells", *(f"{level.value} {level.name.lower()}" for level in Privacy)),
            ((content.value, *(rule.value for rule in RULES[content])) for content in Content),
        ),
        _AFTER_LEVELS,
        _table(
            ("attribute", "meaning", *(f"{level.value}" for level in Privacy)),
            ((f"`{a.name}`", a.meaning, *(_rules(a, level) for level in Privacy)) for a in ATTRIBUTES),
        ),
        "\nA relay is taken for the guard unless `tor.hop.index` beside it is 2 or more.\n",
        _CONVENTIONS,
        _table(
            ("what they tell", "attributes", *(f"{level.value}" for level in Privacy)),
            (
                (meaning, " ".join(f"`{row.name}`" for row in rows), *(rule.value for rule in RULES[rows[0].content]))
                for meaning, rows in _by_meaning().items()
            ),
        ),
    ]
    return "".join(parts)


def _by_meaning() -> dict[str, list[Attribute]]:
    meanings: dict[str, list[Attribute]] = {}
    for row in CONVENTIONS:
        meanings.setdefault(row.meaning, []).append(row)
    return meanings


def _section(machine: Machine[Any, Any, Any]) -> Iterator[str]:
    yield f"\n## {machine.title}\n\n{machine.introduction}\n"
    if machine.spans:
        yield _table(
            ("span", "from", "to", "child of"),
            ((f"`{s.name}` ({s.kind.name})", s.begins, s.ends, s.parent) for s in machine.spans),
        )
    if machine.remarks:
        yield f"\n{machine.remarks}"
    yield _diagram(machine)
    yield _table(
        ("state", "event", "next state", "what is done", "why"),
        (
            (state, trigger, step.state, "; ".join(step.actions), step.why)
            for (state, trigger), step in machine.table.items()
        ),
    )
    if machine.notes:
        names = ", ".join(f"`{name}` ({trigger})" for trigger, name in machine.notes.items())
        yield f"\nEvents on `{machine.noted_on}`: {names}.\n"


def _rules(attribute: Attribute, level: Privacy) -> str:
    rule = RULES[attribute.content][level]
    at_guard = rule if attribute.at_guard is None else RULES[attribute.at_guard][level]
    return rule.value if at_guard is rule else f"{rule.value}; the guard's {at_guard.value}"


def _diagram(machine: Machine[Any, Any, Any]) -> str:
    """The table as a picture, without the rows that change nothing."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, trigger), step in machine.table.items():
        if step.actions or step.state is not state:
            edges.setdefault((state, _reached(machine, trigger, step)), []).append(trigger)
    lines = ["\n```mermaid", "stateDiagram-v2", f"    [*] --> {machine.initial}"]
    lines += [f"    {a} --> {b}: {', '.join(triggers)}" for (a, b), triggers in edges.items()]
    if machine.final is not None:
        lines.append(f"    {machine.final} --> [*]")
    return "\n".join((*lines, "```", "", ""))


def _reached(machine: Machine[Any, Any, Any], trigger: str, step: Transition[Any, Any]) -> str:
    """The state after a step; after a restart the event is taken once more."""
    if any(action.name == "RESTART" for action in step.actions):
        step = machine.table[step.state, trigger]
    return str(step.state)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(mapping_document())
