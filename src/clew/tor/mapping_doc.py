"""Writes docs/tor-mapping.md from the tables that the code runs by.

`python -m clew.tor.mapping_doc > docs/tor-mapping.md`
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from clew.tor.circuits import CANCELLING_REASONS, NOTES, SPANS, TABLE, Action, State, Trigger
from clew.tor.privacy import ATTRIBUTES, LEVEL_ATTRIBUTE, RULES, Attribute, Content, Privacy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["mapping_document"]

_INTRODUCTION = """\
# How tor's events become spans

This page is generated from the tables in `src/clew/tor/circuits.py` and `src/clew/tor/privacy.py` by
`python -m clew.tor.mapping_doc`; a test compares them.

All times are those at which an event arrived from tor, stamped when it was read. tor writes an event when a hop is
there, so a hop's span has everything in it that had to happen for it. The first hop's has the connection to the guard
(TCP, TLS) too, if there was none. What is not seen has no span: a circuit that was half built when clew came has spans
for the hops that it got from then on, and says `tor.circuit.partial`.

## Spans

"""

_READING = """\

### A slow or failed circuit

- *Which hop?* The extend span that takes the time; `tor.hop.index` and, at the levels that allow it, the relay. A build
  that failed says `tor.circuit.failed_hop`, and that hop's span has the error.
- *How long?* The hops follow each other without gaps. Time between the last hop and the end of the build is tor's own:
  an event `guard_wait` tells that it waited for a better guard.
- *Why?* `tor.circuit.reason` is what this tor says, `tor.circuit.remote_reason` what the relay said that ended the
  circuit: the last one before the hop that failed. tor does not tell which relay it was extending to; the failed hop
  names it only where this program chose the path. An event `purpose_changed` to MEASURE_TIMEOUT tells when tor's own
  build timeout was over.

## The life of a circuit
"""

_AFTER_DIAGRAM = """
What each event does. `(extend)`, `(lost)` and `(unknown)` are clew's own names: this program extended the circuit; tor
or the connection went away, or tracing ended; tor sent a status that is not in the table.

"""

_PRIVACY = """\

## Attributes and privacy

Everything that comes from tor passes through `privacy.py` before it becomes an attribute. What is declared here is
treated as its row says, what is not is treated as "anything else". A value that cannot be what its attribute is
declared to be (text in the place of a number, say) is "anything else" too.

"""

_AFTER_LEVELS = f"""\

A hash is keyed (BLAKE2b, 64 bits); the key is made when the filter is, and is never written. So hashes can be compared
within one run and cannot be undone or compared between runs. `{LEVEL_ATTRIBUTE}` is on the resource of what clew makes
for tor alone, and on every `tor.circuit.build`. The time of day is kept at every level. SOCKS credentials, cookies,
keys, descriptors and payload never reach this code.

"""


def mapping_document() -> str:
    """The whole page, in Markdown."""
    cancelling = ", ".join(f"`{reason}`" for reason in sorted(CANCELLING_REASONS))
    parts = [
        _INTRODUCTION,
        _table(
            ("span", "from", "to", "child of"),
            ((f"`{s.name}` ({s.kind.name})", s.begins, s.ends, s.parent) for s in SPANS),
        ),
        f"\nA build that ended without BUILT is an ERROR, or CANCELLED where the reason is one of {cancelling}.\n",
        _READING,
        _diagram(),
        _AFTER_DIAGRAM,
        _table(
            ("state", "event", "next state", "spans", "why"),
            (
                (state, trigger, step.state, "; ".join(step.actions), step.why)
                for (state, trigger), step in TABLE.items()
            ),
        ),
        "\nEvents on the build span: " + ", ".join(f"`{name}` ({t})" for t, name in NOTES.items()) + ".\n",
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
    ]
    return "".join(parts)


def _rules(attribute: Attribute, level: Privacy) -> str:
    rule = RULES[attribute.content][level]
    at_guard = rule if attribute.at_guard is None else RULES[attribute.at_guard][level]
    return rule.value if at_guard is rule else f"{rule.value}; the guard's {at_guard.value}"


def _diagram() -> str:
    """The table as a picture, without the rows that change nothing."""
    edges: dict[tuple[State, State], list[Trigger]] = {}
    for (state, trigger), step in TABLE.items():
        if step.actions or step.state is not state:
            target = State.BUILDING if Action.RESTART in step.actions else step.state
            edges.setdefault((state, target), []).append(trigger)
    lines = ["\n```mermaid", "stateDiagram-v2", f"    [*] --> {State.UNSEEN}"]
    lines += [f"    {a} --> {b}: {', '.join(triggers)}" for (a, b), triggers in edges.items()]
    lines += [f"    {State.GONE} --> [*]", "```", ""]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(mapping_document())
