"""The lines of one span: its name, times and bar; under it what went wrong, events, links, notes."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from clew.model import SpanKind, Status
from clew.pretty import escape, format_duration, format_value
from clew.render.reasons import find_reason, is_reason
from clew.render.styles import Line, Role, cut, line_width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.model import Attributes, AttributeValue, Event, Link, SpanRecord
    from clew.render.bars import Glyphs, Scale
    from clew.render.timing import Timing
    from clew.tree import Node

__all__ = ["DURATION_COLUMNS", "Columns", "Rows", "short_attributes"]

DURATION_COLUMNS = 7  # "12.3 ms", "59m 59s"
_EVENTS_SHOWN = 8  # of a span, unless all details are asked for
_VALUE_COLUMNS = 40  # a longer value is not shown beside a name
_LINES_SHOWN = 6  # of a reason, a link or a note, unless all details are asked for
# From this share of the trace's time on, a span's time is set in bold.
_LONG_SHARE = 0.25

_BAR_ROLES = {
    Status.ERROR: (Role.PLAIN, Role.ERROR_OWN, Role.ERROR_WAITING, Role.ERROR_PATH),
    Status.CANCELLED: (Role.PLAIN, Role.CANCELLED_OWN, Role.CANCELLED_WAITING, Role.CANCELLED_PATH),
}
_CALM_BAR_ROLES = (Role.PLAIN, Role.OWN, Role.WAITING, Role.PATH)


class Columns(NamedTuple):
    """How wide each column is; two blanks stand between them."""

    width: int  # all of it
    name: int
    own: bool  # whether there is a column for own time
    bar: int


class Rows:
    """Draws spans.

    Args:
        records: of the trace, by span id: a link to one of them is drawn by its name.
        details: draw every attribute, event and link.
    """

    def __init__(
        self,
        timing: Timing,
        columns: Columns,
        scale: Scale,
        glyphs: Glyphs,
        records: Mapping[str, SpanRecord],
        *,
        details: bool,
    ) -> None:
        self._records = records
        self._timing = timing
        self._columns = columns
        self._scale = scale
        self._glyphs = glyphs
        self._details = details
        # Deeper spans are numbered: at least half of the column stays for the names.
        self._levels = columns.name // 4
        # For each depth down to the span that is drawn: whether a line goes on to a later sibling.
        self._open: list[bool] = []

    def span(self, node: Node) -> Iterator[Line]:
        """Draw a span. To be called for all spans of a trace, in the order of `Trace.walk`."""
        del self._open[node.depth :]
        self._open.append(node.parent is not None and node.parent.children[-1] is not node)
        record, timing = node.record, self._timing
        path_ns = timing.path_ns(node)
        is_long = path_ns > 0 and path_ns >= timing.duration_ns * _LONG_SHARE
        line = self._name(node, is_long=is_long)
        duration = format_duration(record.duration_ns) if record.duration_ns >= 0 else "< 0"
        line.append((duration.rjust(DURATION_COLUMNS), _strong(is_long)))
        if self._columns.own:
            own = format_duration(timing.own_ns(node)) if node.children else ""
            line.append((own.rjust(DURATION_COLUMNS + 2), Role.DIM))
        line.append(("  ", Role.PLAIN))
        roles = _BAR_ROLES.get(record.status, _CALM_BAR_ROLES)
        span = (record.start_time_ns, record.end_time_ns)
        for text, state in self._scale.bar(span, timing.waiting[node], timing.path[node], self._glyphs):
            line.append((text, roles[state]))
        yield line
        yield from self._below(node)

    def _name(self, node: Node, *, is_long: bool) -> Line:
        record, glyphs = node.record, self._glyphs
        line: Line = [(self._tree(node), Role.TREE)]
        role = _strong(is_long)
        if record.status is Status.ERROR:
            line.append((glyphs.error + " ", role := Role.ERROR))
        elif record.status is Status.CANCELLED:
            line.append((glyphs.cancelled + " ", role := Role.CANCELLED))
        notes = ""
        if record.kind is not SpanKind.INTERNAL:
            notes += f" ({record.kind.name.lower()})"
        if node.parent is not None and record.service_name != node.parent.record.service_name:
            notes += f" in {record.service_name}"
        room = self._columns.name - line_width(line)
        name_columns = cell_len(cut(record.name, room, glyphs.ellipsis))
        notes = cut(notes, max(room // 2, room - name_columns), glyphs.ellipsis)
        line.append((cut(record.name, room - cell_len(notes), glyphs.ellipsis), role))
        line.append((notes, Role.DIM))
        if not self._details:
            line.append((short_attributes(record.attributes, self._columns.name - line_width(line)), Role.DIM))
        return _pad(line, self._columns.name + 2)

    def _tree(self, node: Node) -> str:
        if node.depth > self._levels:
            return f"{self._glyphs.ellipsis}{node.depth} "
        if node.depth == 0:
            return ""
        return self._lines_down(node.depth) + (
            self._glyphs.tree_fork if self._open[node.depth] else self._glyphs.tree_last
        )

    def _lines_down(self, depth: int) -> str:
        """The lines that go on past a row, of the levels above `depth`."""
        return "".join(self._glyphs.tree_line if is_open else "  " for is_open in self._open[1:depth])

    # --- below a span -------------------------------------------------------------------------------------------

    def _below(self, node: Node) -> Iterator[Line]:
        record, glyphs = node.record, self._glyphs
        start = self._lines_down(min(node.depth + 1, self._levels)) + (glyphs.tree_line if node.children else "  ")
        reason = find_reason(record)
        if reason and not any(find_reason(child.record) == reason for child in node.children):
            role = Role.ERROR if record.status is Status.ERROR else Role.CANCELLED
            yield from self._wrapped(start, reason.splitlines(), role)
        for note in self._notes(node):
            yield from self._wrapped(start, [f"{glyphs.note} {note}"], Role.NOTE)
        if self._details:
            for key, value in record.attributes.items():
                yield from self._attribute(start, key, value)
        events = [event for event in record.events if self._details or not (reason and is_reason(event))]
        shown = events if self._details else events[:_EVENTS_SHOWN]
        for event in shown:
            yield self._event(start, record, event)
            if self._details:
                for key, value in event.attributes.items():
                    yield from self._attribute(start + "  ", key, value)
        if len(events) > len(shown):
            yield from self._wrapped(start, [f"{glyphs.event} and {len(events) - len(shown)} more events"], Role.DIM)
        for link in record.links:
            yield from self._link(start, record, link)

    def _notes(self, node: Node) -> Iterator[str]:
        record = node.record
        yield from node.notes
        if record.attributes.get("clew.unfinished"):
            # Of what tor does, its error says why no more was seen; the program that watched it may well go on.
            is_tors = record.name.startswith("tor.") and "error.type" in record.attributes
            yield "its end was not seen" if is_tors else "it was not ended: it was open when the program was"
        if record.duration_ns < 0:
            yield f"it ends {format_duration(-record.duration_ns)} before it starts"
        dropped = {
            "attributes": record.dropped_attributes,
            "events": record.dropped_events,
            "links": record.dropped_links,
        }
        if any(dropped.values()):
            yield "dropped: " + ", ".join(f"{count} {what}" for what, count in dropped.items() if count)

    def _event(self, start: str, record: SpanRecord, event: Event) -> Line:
        glyphs = self._glyphs
        room = self._columns.name - len(start) - 2
        name = cut(event.name, room, glyphs.ellipsis)
        attributes = "" if self._details else short_attributes(event.attributes, room - cell_len(name))
        line: Line = [(start, Role.TREE), (f"{glyphs.event} ", Role.EVENT), (name + attributes, Role.DIM)]
        line = _pad(line, self._columns.name + 2)
        offset_ns = event.time_ns - record.start_time_ns
        offset = ("+" if offset_ns >= 0 else "") + format_duration(offset_ns) if event.time_ns else ""
        # Wide enough for the sign as well: an event stands a column to the left of the durations.
        line[-1] = (line[-1][0][:-1], line[-1][1])
        line.append((offset.rjust(DURATION_COLUMNS + 1), Role.DIM))
        column = self._scale.column(event.time_ns)
        own = DURATION_COLUMNS + 2 if self._columns.own else 0
        line.append((" " * (own + 2 + column), Role.PLAIN))
        line.append((glyphs.event, Role.EVENT))
        return line

    def _link(self, start: str, record: SpanRecord, link: Link) -> Iterator[Line]:
        text = f"{self._glyphs.link} trace {link.context.trace_id} span {link.context.span_id}"
        target = self._records.get(link.context.span_id)
        if target is not None and link.context.trace_id == record.trace_id and not self._details:
            text = f"{self._glyphs.link} {target.name}{short_attributes(target.attributes, self._columns.width // 2)}"
        attributes = "" if self._details else short_attributes(link.attributes, self._columns.width // 2)
        yield from self._wrapped(start, [text + attributes], Role.LINK)
        if self._details:
            for key, value in link.attributes.items():
                yield from self._attribute(start + "  ", key, value)

    def _attribute(self, start: str, key: str, value: AttributeValue) -> Iterator[Line]:
        if isinstance(value, str) and "\n" in value.strip("\n"):
            yield from self._wrapped(start, [f"{key} ="], Role.DIM)
            yield from self._wrapped(start + "    ", value.strip("\n").split("\n"), Role.PLAIN)
        else:
            yield from self._wrapped(start, [f"{key} = {format_value(value)}"], Role.DIM)

    def _wrapped(self, start: str, texts: list[str], role: Role) -> Iterator[Line]:
        """Text under a name, over as many lines as it takes; of long text only the beginning, without details."""
        room = self._columns.width - len(start)
        if self._details:
            rows = [row for text in texts for row in _wrap(escape(text), room)]
        else:
            beginnings = (escape(text[: room * _LINES_SHOWN + 1]) for text in texts[: _LINES_SHOWN + 1])
            rows = [row for text in beginnings for row in _wrap(text, room)]
            if len(rows) > _LINES_SHOWN:
                rows[_LINES_SHOWN - 1 :] = [cut(rows[_LINES_SHOWN - 1], room - 2, "") + self._glyphs.ellipsis]
        for row in rows:
            yield [(start, Role.TREE), (row, role)]


def short_attributes(attributes: Attributes, room: int) -> str:
    """As many attributes as fit whole into a number of columns, with a blank more in front of the first.

    Of a key its last part: what stands before it says what kind of thing this is, and so does the span's name. Where
    that is "id", the part before it: a span may have several.
    """
    text = ""
    for key, value in attributes.items():
        is_long = isinstance(value, (str, bytes, tuple, Mapping)) and len(value) > _VALUE_COLUMNS
        # error.type is told as the reason, and what clew says of its own records is for those who want details.
        if key == "error.type" or key.startswith("clew.") or is_long:
            continue
        word = f"{'' if text else ' '} {escape(_short_key(key))}={_short(value)}"
        if len(word) <= room and cell_len(word) <= room:
            text += word
            room -= cell_len(word)
    return text


def _short_key(key: str) -> str:
    rest, _, last = key.rpartition(".")
    return rest.rpartition(".")[2] if last == "id" and rest else last


def _wrap(text: str, width: int) -> list[str]:
    """Break escaped text into lines; wide characters count as two."""
    if len(text) == cell_len(text):
        return wrap(text, width, drop_whitespace=False, break_on_hyphens=False) or [""]
    rows, row, columns = [], "", 0
    for char in text:
        columns += cell_len(char)
        if columns > width:
            rows.append(row)
            row, columns = "", cell_len(char)
        row += char
    return [*rows, row]


def _short(value: AttributeValue) -> str:
    """A value beside its key, without the quotes that nobody misses there."""
    return escape(value) if isinstance(value, str) and value and " " not in value else format_value(value)


def _strong(is_strong: bool) -> Role:
    return Role.STRONG if is_strong else Role.PLAIN


def _pad(line: Line, width: int) -> Line:
    return [*line, (" " * (width - line_width(line)), Role.PLAIN)]
