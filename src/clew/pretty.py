"""Spans as plain text for people and for tests: an indented tree without colour, never a format to be read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clew.model import SpanKind, Status
from clew.tree import assemble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.model import Attributes, AttributeValue, SpanRecord
    from clew.tree import Node, Trace

__all__ = ["escape", "format_attributes", "format_duration", "format_tree", "format_value"]

# Not printable by Python's table, but harmless on a terminal, and Persian, Indic and Japanese names need them:
# no-break space, ideographic space, zero-width non-joiner and joiner.
_HARMLESS = "\u00a0\u3000\u200c\u200d"
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Deeper spans are not indented further, but numbered: a chain of 10,000 would otherwise be 200 MB of spaces.
_INDENT_LEVELS = 40

# A unit, its length, and the duration from which on three digits of it no longer suffice.
_UNITS = (("µs", 1_000, 999_500), ("ms", 1_000_000, 999_500_000), ("s", 1_000_000_000, 59_950_000_000))


def escape(text: str) -> str:
    """Make text from a trace or the network safe to print on a terminal, on one line.

    Everything that Unicode does not call printable is replaced by its backslash escape: control characters (C0, DEL,
    C1, so also ESC), bidirectional overrides and isolates, line separators, invisible format characters, lone
    surrogates, private and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _HARMLESS else _escape_char(char) for char in text)


def _escape_char(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return _SHORT_ESCAPES.get(char) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def format_duration(duration_ns: int) -> str:
    """Write a duration with three significant digits in a unit that fits: "850 ns", "12.3 ms", "1.50 s", "2m 05s"."""
    if duration_ns < 0:
        return "-" + format_duration(-duration_ns)
    if duration_ns < 1000:
        return f"{duration_ns} ns"
    for unit, unit_ns, bound_ns in _UNITS:
        if duration_ns < bound_ns:
            value = duration_ns / unit_ns
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    seconds = (duration_ns + 500_000_000) // 1_000_000_000
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    minutes = (seconds + 30) // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h {minutes % 60:02}m"
    hours = (minutes + 30) // 60
    if hours < 100 * 24:
        return f"{hours // 24}d {hours % 24:02}h"
    days = (hours + 12) // 24
    return f"{days} d" if days < 1000 else f"{days / 365.25:.1f} y"


def format_value(value: AttributeValue) -> str:
    """Write an attribute's value on one line: strings in quotes, bytes as hex, mappings as `{key = value}`."""
    match value:
        case str():
            return '"' + escape(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case bytes():
            return f"0x{value.hex()}"
        case tuple():
            return "[" + ", ".join(map(format_value, value)) + "]"
        case Mapping():
            return "{" + format_attributes(value) + "}"
        case _:
            return str(value)


def format_attributes(attributes: Attributes) -> str:
    """Write attributes on one line: `hop = 1, role = "guard"`."""
    return ", ".join(f"{escape(key)} = {format_value(value)}" for key, value in attributes.items())


def format_tree(records: Iterable[SpanRecord], *, times: bool = True, ids: bool = True) -> str:
    """Draw traces as an indented tree, one line a span; under it "-" attributes, "*" events, ">" links, "!" notes.

    Kind INTERNAL and status UNSET are not written. Siblings stand by their start times, traces in the order of their
    first record. Every span is drawn: one whose parent is not among the records, or which is its own ancestor, stands
    at the root with a note.

    Args:
        records: of any number of traces, in any order.
        times: write durations and the offsets of events from the start of their span.
        ids: write trace and span ids, and those that links point to.

    Returns: lines that each end with a newline; "" for no records.
    """
    lines: list[str] = []
    for trace in assemble(records):
        lines.append(_headline(trace, times=times, ids=ids))
        for node in trace.walk():
            lines.extend(_node_lines(node, times=times, ids=ids))
    return "".join(line + "\n" for line in lines)


def _headline(trace: Trace, *, times: bool, ids: bool) -> str:
    words = ["trace"]
    if ids:
        words.append(escape(trace.trace_id))
    words.append(escape(trace.root.record.service_name))
    if times:
        words.append(format_duration(trace.end_time_ns - trace.start_time_ns))
    return "  ".join(words)


def _node_lines(node: Node, *, times: bool, ids: bool) -> Iterator[str]:
    record = node.record
    indent = "  " * min(node.depth + 1, _INDENT_LEVELS)
    words = [escape(record.name)]
    if node.depth >= _INDENT_LEVELS:
        words.insert(0, f"({node.depth + 1})")
    if record.kind != SpanKind.INTERNAL:
        words.append(record.kind.name)
    if node.parent is not None and record.service_name != node.parent.record.service_name:
        words.append(f"in {escape(record.service_name)}")
    if times:
        words.append(format_duration(record.duration_ns))
    if record.status != Status.UNSET or record.status_description:
        description = f": {escape(record.status_description)}" if record.status_description else ""
        words.append(record.status.name + description)
    if ids:
        words.append(escape(record.span_id))
    yield indent + "  ".join(words)

    indent += "  "
    for note in node.notes:
        yield f"{indent}! {escape(note)}"
    for key, value in record.attributes.items():
        yield from _value_lines(f"{indent}- {escape(key)}", value)
    for event in record.events:
        offset = event.time_ns - record.start_time_ns
        sign = "+" if offset >= 0 else ""
        yield f"{indent}* {escape(event.name)}" + (f"  {sign}{format_duration(offset)}" if times else "")
        for key, value in event.attributes.items():
            yield from _value_lines(f"{indent}  - {escape(key)}", value)
    for link in record.links:
        target = f" {escape(link.context.trace_id)} {escape(link.context.span_id)}" if ids else ""
        attributes = f"  {format_attributes(link.attributes)}" if link.attributes else ""
        yield f"{indent}> link{target}{attributes}"
    if dropped := _dropped(record):
        yield f"{indent}! dropped: {dropped}"


def _value_lines(start: str, value: AttributeValue) -> Iterator[str]:
    """One line, but a text of several lines (a stack trace) as a block of its own."""
    if isinstance(value, str) and "\n" in value.strip("\n"):
        yield f"{start} ="
        indent = " " * (len(start) - len(start.lstrip()) + 4)
        for line in value.strip("\n").split("\n"):
            yield indent + escape(line.rstrip("\r"))
    else:
        yield f"{start} = {format_value(value)}"


def _dropped(record: SpanRecord) -> str:
    counts = {
        "attributes": record.dropped_attributes,
        "events": record.dropped_events,
        "links": record.dropped_links,
        "attributes of events": sum(event.dropped_attributes for event in record.events),
        "attributes of links": sum(link.dropped_attributes for link in record.links),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
