"""The picture of a trace: a headline, and a tree with a waterfall beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from clew.model import SpanKind, Status
from clew.pretty import escape, format_duration
from clew.render.bars import ASCII_GLYPHS, UNICODE_GLYPHS, Scale
from clew.render.rows import DURATION_COLUMNS, Columns, Rows, short_attributes
from clew.render.styles import Line, Role, cut, line_width, to_segments
from clew.render.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from rich.console import Console, ConsoleOptions, RenderResult

    from clew.render.bars import Glyphs
    from clew.tree import Node, Trace

__all__ = ["Legend", "Totals", "Waterfall", "format_time"]

_LEAST_COLUMNS = 60
_LEAST_NAME_COLUMNS = 20
_WIDE_COLUMNS = 120  # from here on there is room for own times
_LEAST_PERCENT = 5  # of the path of time: what took less is not named in the headline
_NAME_MEASURED = 200  # characters: longer names are cut in any case
_ATTRIBUTE_COLUMNS = 32  # for attributes beside a name


class Totals(NamedTuple):
    """How many spans a trace has, and how they ended."""

    spans: int
    errors: int
    cancelled: int

    @staticmethod
    def of(trace: Trace) -> Totals:
        statuses = [node.record.status for node in trace.walk()]
        return Totals(len(statuses), statuses.count(Status.ERROR), statuses.count(Status.CANCELLED))


class Waterfall:
    """A trace, as rich draws it or as lines.

    Args:
        trace: what is drawn.
        totals: of the whole trace, if `trace` is only a part of it.
        details: draw every attribute, event and link.
        is_continued: spans of this trace were drawn before.
        timezone: in which the start is written; None for the machine's own.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        totals: Totals | None = None,
        details: bool = False,
        is_continued: bool = False,
        timezone: tzinfo | None = None,
    ) -> None:
        self._trace = trace
        self._drawn = Totals.of(trace)
        self._totals = totals or self._drawn
        self._details = details
        self._is_continued = is_continued
        self._timezone = timezone
        self._timing = Timing(trace)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = ASCII_GLYPHS if options.ascii_only else UNICODE_GLYPHS
        yield from to_segments(self.lines(options.max_width, glyphs))

    def lines(self, width: int, glyphs: Glyphs = UNICODE_GLYPHS) -> Iterator[Line]:
        """Draw within `width` columns (60 at the least)."""
        for line in self._lines(width, glyphs):
            yield _strip(line if glyphs is UNICODE_GLYPHS else [(_ascii(text), role) for text, role in line])

    def _lines(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        width = max(width, _LEAST_COLUMNS)
        columns = self._columns(width)
        scale = Scale(self._timing.start_ns, self._timing.end_ns, columns.bar)
        yield from self._header(width, glyphs)
        yield _axis(columns, scale)
        records = {node.record.span_id: node.record for node in self._trace.walk()}
        rows = Rows(self._timing, columns, scale, glyphs, records, details=self._details)
        for node in self._trace.walk():
            yield from rows.span(node)
        if hidden := self._totals.spans - self._drawn.spans:
            yield [(f"{hidden:,} more spans of this trace are not drawn, the shorter ones without an error", Role.NOTE)]

    def _columns(self, width: int) -> Columns:
        """Give the names what they need, but leave more than half of the width to the bars."""
        is_wide = width >= _WIDE_COLUMNS
        needed = max(_name_columns(node, with_attributes=not self._details) for node in self._trace.walk())
        name = max(_LEAST_NAME_COLUMNS, min(needed, width // 2))
        times = (DURATION_COLUMNS + 2) * (2 if is_wide else 1)
        return Columns(width, name, is_wide, width - name - times - 2)

    def _header(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        root = self._trace.root.record
        duration = format_duration(self._timing.duration_ns)
        role = Role.ERROR if self._totals.errors else Role.CANCELLED if self._totals.cancelled else Role.STRONG
        title = cut(root.name, width - cell_len(duration) - 12, glyphs.ellipsis)
        rule = glyphs.rule * (width - cell_len(title) - cell_len(duration) - 8)
        yield [
            (f"{glyphs.rule * 2} ", Role.TREE),
            (title, role),
            (f" {rule} ", Role.TREE),
            (duration, Role.STRONG),
            (f" {glyphs.rule * 2}", Role.TREE),
        ]
        dot = f" {glyphs.dot} "
        line: Line = [
            (_count(self._totals.spans, "span"), Role.PLAIN),
            (dot + cut(root.service_name, width // 3, glyphs.ellipsis), Role.PLAIN),
        ]
        if self._totals.errors:
            line.append((f"{dot}{glyphs.error} " + _count(self._totals.errors, "error"), Role.ERROR))
        if self._totals.cancelled:
            line.append((f"{dot}{glyphs.cancelled} {self._totals.cancelled:,} cancelled", Role.CANCELLED))
        yield line
        start = format_time(self._timing.start_ns, self._timezone)
        trace_id = cut(self._trace.trace_id, width - cell_len(start) - 9, glyphs.ellipsis)
        yield [(f"{start}{dot}trace {trace_id}", Role.DIM)]
        if self._is_continued:
            yield [("continued: other spans of this trace were drawn before", Role.NOTE)]
        yield from self._path_of_time(width, glyphs)
        yield []

    def _path_of_time(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        """Name the spans in which the time went, the longest first; those of the same name together."""
        if self._drawn.spans < 2 or not self._timing.duration_ns:
            return
        times: dict[str, list[int]] = {}
        for node in self._trace.walk():
            if path_ns := self._timing.path_ns(node):
                times.setdefault(node.record.name, []).append(path_ns)
        line: Line = [("the time went to ", Role.DIM)]
        room = width - line_width(line)
        for name, shares in sorted(times.items(), key=lambda item: -sum(item[1])):
            percent = 100 * sum(shares) // self._timing.duration_ns
            title = f" {cut(name, width // 3, glyphs.ellipsis)}"
            number = f" {len(shares)}{glyphs.times}" if len(shares) > 1 else ""
            figures = f"{number} {format_duration(sum(shares))} ({percent}%)  "
            room -= cell_len(title) + len(figures)
            if percent < _LEAST_PERCENT or room < 0:
                break
            line += [(title, Role.STRONG), (figures, Role.DIM)]
        if len(line) > 1:
            yield line


class Legend:
    """What the bars mean, as rich draws it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = ASCII_GLYPHS if options.ascii_only else UNICODE_GLYPHS
        line: Line = [
            (glyphs.path[-1] * 2, Role.PATH),
            (" the trace waited for it   ", Role.DIM),
            (glyphs.own * 2, Role.OWN),
            (" it ran beside that   ", Role.DIM),
            (glyphs.waiting * 2, Role.WAITING),
            (" its children ran", Role.DIM),
        ]
        yield from to_segments([line])


def _axis(columns: Columns, scale: Scale) -> Line:
    head = "".ljust(columns.name + 2) + "time".rjust(DURATION_COLUMNS)
    if columns.own:
        head += "own".rjust(DURATION_COLUMNS + 2)
    return [(f"{head}  {scale.axis()}", Role.DIM)]


def _name_columns(node: Node, *, with_attributes: bool) -> int:
    record = node.record
    columns = 2 * node.depth + cell_len(escape(record.name[:_NAME_MEASURED]))
    if record.status in (Status.ERROR, Status.CANCELLED):
        columns += 2
    if record.kind is not SpanKind.INTERNAL:
        columns += len(record.kind.name) + 3
    if node.parent is not None and record.service_name != node.parent.record.service_name:
        columns += 4 + cell_len(escape(record.service_name[:_NAME_MEASURED]))
    if with_attributes:
        columns += cell_len(short_attributes(record.attributes, _ATTRIBUTE_COLUMNS))
    return columns


def format_time(time_ns: int, timezone: tzinfo | None) -> str:
    """Date and time to the millisecond, with the offset of the zone."""
    if not time_ns:
        return "at an unknown time"
    try:
        time = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone(timezone)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return f"{time_ns} ns after 1970"
    offset = time.strftime("%z")
    return f"{time:%Y-%m-%d %H:%M:%S}.{time_ns // 1_000_000 % 1000:03} {offset[:3]}:{offset[3:5]}"


def _strip(line: Line) -> Line:
    """Leave out blanks at the end."""
    while line and not line[-1][0].strip(" "):
        line.pop()
    return [*line[:-1], (line[-1][0].rstrip(" "), line[-1][1])] if line else line


def _ascii(text: str) -> str:
    return text.replace("µ", "u").encode("ascii", "backslashreplace").decode()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
