"""The report on a terminal: the numbers of the page as tables, each curve as a strip of characters."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from clew.model import Status
from clew.pretty import format_duration
from clew.render import ASCII_GLYPHS, UNICODE_GLYPHS, Legend, Line, Role, Waterfall, assemble, to_segments
from clew.render.styles import cut
from clew.report.axis import axis_of
from clew.report.comparison import change_of, format_change
from clew.report.figures import FIGURES, label_of, series_shown
from clew.report.phases import PARTS
from clew.report.strips import ASCII_STRIP, UNICODE_STRIP, counts_strip, curve_strip, scale_strip
from clew.report.wording import describe_files, describe_level, describe_percentiles, describe_time, request_remarks
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from clew.render import Glyphs
    from clew.report.distribution import Summary
    from clew.report.figures import Figure
    from clew.report.findings import Findings, Onions, Report, SlowRequest

__all__ = ["TerminalReport"]

_LEAST_COLUMNS = 60
_NAME = 26  # columns of the first column
_NUMBER = 9  # of each column of numbers
_LEAST_STRIP = 12  # with less room than this there is none
_MOST_STRIP = 60
_REASONS_SHOWN = 15
_STATUS_WORDS = {Status.ERROR: "failed", Status.CANCELLED: "cancelled"}


class TerminalReport:
    """A report, as rich draws it."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width, _LEAST_COLUMNS)
        is_ascii = options.ascii_only
        drawing = _Drawing(self._report, width, ASCII_GLYPHS if is_ascii else UNICODE_GLYPHS)
        plain = _ascii if is_ascii else _strip_end
        yield from to_segments(map(plain, drawing.lines()))
        for number, request in enumerate(self._report.findings.slowest, start=1):
            yield from to_segments(map(plain, drawing.request(number, request)))
            (trace, *_) = assemble(request.spans)
            yield Waterfall(trace)
            yield ""
        if self._report.findings.slowest:
            yield Legend()


class _Drawing:
    """The lines of a report."""

    def __init__(self, report: Report, width: int, glyphs: Glyphs) -> None:
        self._report = report
        self._found = report.findings
        self._before = report.before
        self._width = width
        self._glyphs = glyphs
        self._levels = ASCII_STRIP if glyphs is ASCII_GLYPHS else UNICODE_STRIP
        room = width - _NAME - 5 * _NUMBER - 2
        self._strip = min(room, _MOST_STRIP) if room >= _LEAST_STRIP else 0

    def lines(self) -> Iterator[Line]:
        """All but the slowest requests."""
        yield from self._head()
        if not self._found.span_count and not (self._before and self._before.span_count):
            yield [("There is nothing to report: the files hold no span.", Role.NOTE)]
            return
        for figure in FIGURES:
            yield from self._figure(figure)
        for found, suffix in self._groups():
            yield from self._onions(found.onions, suffix)
            yield from self._failures(found, suffix)
            yield from self._relays(found, suffix)

    def _groups(self) -> list[tuple[Findings, str]]:
        return [(self._found, ""), *([(self._before, ", before")] if self._before else [])]

    def _head(self) -> Iterator[Line]:
        rule = self._glyphs.rule
        title = "Tor report"
        yield [
            (f"{rule * 2} ", Role.TREE),
            (title, Role.STRONG),
            (f" {rule * (self._width - len(title) - 4)}", Role.TREE),
        ]
        counts = self._found.requests
        line: Line = [(describe_time(self._found), Role.PLAIN)]
        yield line
        if counts.total:
            dot = f" {self._glyphs.dot} "
            line = [(f"{counts.succeeded:,} succeeded", Role.PLAIN)]
            if counts.failed:
                line.append((f"{dot}{self._glyphs.error} {counts.failed:,} failed", Role.ERROR))
            if counts.cancelled:
                line.append((f"{dot}{self._glyphs.cancelled} {counts.cancelled:,} cancelled", Role.CANCELLED))
            yield line
        for sentence in request_remarks(self._found):
            yield [(sentence, Role.DIM)]
        if self._before is not None:
            yield [(cut("".join(describe_files(self._report)), self._width, self._glyphs.ellipsis), Role.DIM)]
        yield [(cut(describe_level(self._report), self._width, self._glyphs.ellipsis), Role.DIM)]
        if self._found.span_count:
            yield from ([(row, Role.DIM)] for row in wrap(describe_percentiles(self._report), self._width))
        if self._strip and self._found.span_count:
            yield [("The strips are cumulative: from left to right, how many were done within that time.", Role.DIM)]
        yield []

    # --- distributions ----------------------------------------------------------------------------------------------

    def _figure(self, figure: Figure) -> Iterator[Line]:
        after = series_shown(figure.key, self._found.figures[figure.key])
        before = series_shown(figure.key, self._before.figures[figure.key]) if self._before else {}
        if not after and not before:
            return
        axis = axis_of([*after.values(), *before.values()])
        head = _columns(("count", "median", "p90", "p99", "longest"))
        scale = scale_strip(axis, self._strip)
        yield [(_pad(figure.title, _NAME), Role.STRONG), (f"{head}  {scale}".rstrip(), Role.DIM)]
        for key in dict.fromkeys((*after, *before)):
            old, new = before.get(key), after.get(key)
            if new is not None:
                strip = curve_strip(new, axis, self._strip, self._levels)
                yield [*self._numbers(f"  {label_of(figure.key, key)}", new, Role.PLAIN), (f"  {strip}", Role.PATH)]
            if old is not None:
                strip = curve_strip(old, axis, self._strip, self._levels)
                name = "    before" if new is not None else f"  {label_of(figure.key, key)}, before"
                yield [*self._numbers(name, old, Role.DIM), (f"  {strip}", Role.WAITING)]
            if old is not None and new is not None:
                yield _change_line(new, old)
        yield []

    def _numbers(self, name: str, summary: Summary, role: Role) -> Line:
        durations = (summary.p50_ns, summary.p90_ns, summary.p99_ns, summary.max_ns)
        return [
            (_pad(cut(name, _NAME, self._glyphs.ellipsis), _NAME), role),
            (_columns((f"{summary.number:,}", *map(format_duration, durations))), role),
        ]

    # --- onion services, failures, relays -----------------------------------------------------------------------------

    def _onions(self, onions: Onions, suffix: str) -> Iterator[Line]:
        if not onions.parts:
            return
        middle = format_duration(onions.middle_ns)
        title = f"Where an onion connection's time goes{suffix}"
        yield [(title, Role.STRONG), (f"  the middle one of {onions.total - onions.failed:,}: {middle}", Role.DIM)]
        room = self._width - _NAME - 2 * _NUMBER - 2
        for part, name in PARTS.items():
            share = onions.parts[part] / (onions.middle_ns or 1)
            bar = self._levels[-1] * round(share * min(room, _MOST_STRIP))
            numbers = _columns((format_duration(onions.parts[part]), f"{share:.0%}"))
            yield [(_pad(f"  {name}", _NAME) + numbers, Role.PLAIN), (f"  {bar}", Role.PATH)]
        yield []

    def _failures(self, found: Findings, suffix: str) -> Iterator[Line]:
        rows = found.failures.rows
        if not rows:
            return
        yield [(f"Failures{suffix}", Role.STRONG)]
        reason_columns = 4 * _NUMBER
        for row in rows[:_REASONS_SHOWN]:
            what = _pad(cut(f"  {row.what}", _NAME, self._glyphs.ellipsis), _NAME)
            reason = _pad(cut(row.reason, reason_columns, self._glyphs.ellipsis), reason_columns)
            strip = counts_strip(row.by_step, self._strip, self._levels)
            yield [(what + reason, Role.PLAIN), (_columns((f"{row.total:,}",)), Role.ERROR), (f"  {strip}", Role.DIM)]
        if len(rows) > _REASONS_SHOWN:
            yield [(f"  and {len(rows) - _REASONS_SHOWN} more reasons", Role.DIM)]
        yield []

    def _relays(self, found: Findings, suffix: str) -> Iterator[Line]:
        head = _columns(("hops", "failed", "median", "p90"))
        roles = [(row.role, row.tries, row.failed, row.hop) for row in found.roles]
        yield from self._table(f"Hops by role{suffix}", head, roles)
        guards = [(row.nickname or row.name, row.tries, row.failed, row.hop) for row in found.guards]
        yield from self._table(f"Guards{suffix}", head, guards)
        others = [(f"{row.nickname or row.name} ({row.role})", row.tries, row.failed, row.hop) for row in found.relays]
        yield from self._table(f"Slowest relays{suffix}", head, others)
        if self._report.level is Privacy.ANONYMOUS and found.roles:
            yield [("Guards and relays are not shown at this level.", Role.NOTE)]
            yield []

    def _table(self, title: str, head: str, rows: Sequence[tuple[str, int, int, Summary | None]]) -> Iterator[Line]:
        if not rows:
            return
        axis = axis_of(hop for _, _, _, hop in rows if hop)
        room = self._strip and self._strip + _NUMBER
        yield [(_pad(title, _NAME), Role.STRONG), (f"{head}  {scale_strip(axis, room)}".rstrip(), Role.DIM)]
        for name, tries, failed, hop in rows:
            durations = ("", "") if hop is None else (format_duration(hop.p50_ns), format_duration(hop.p90_ns))
            strip = "" if hop is None else curve_strip(hop, axis, room, self._levels)
            yield [
                (_pad(cut(f"  {name}", _NAME, self._glyphs.ellipsis), _NAME) + _columns((f"{tries:,}",)), Role.PLAIN),
                (_columns((f"{failed:,}",)), Role.ERROR if failed else Role.DIM),
                (_columns(durations), Role.PLAIN),
                (f"  {strip}", Role.PATH),
            ]
        yield []

    # --- slow requests ----------------------------------------------------------------------------------------------

    def request(self, number: int, request: SlowRequest) -> Iterator[Line]:
        """What stands above the waterfall of a slow request."""
        if number == 1:
            yield [("Slowest requests", Role.STRONG)]
            yield []
        dot = f" {self._glyphs.dot} "
        words = [f"no. {number}"]
        if request.target:
            words.append(cut(request.target, self._width // 2, self._glyphs.ellipsis))
        if request.is_onion:
            words.append("onion service")
        if request.first_byte_ns is not None:
            words.append(f"first byte after {format_duration(request.first_byte_ns)}")
        line: Line = [(dot.join(words), Role.DIM)]
        if status := _STATUS_WORDS.get(request.status):
            reason = f": {request.reason}" if request.reason else ""
            line.append((dot + cut(status + reason, self._width // 3, self._glyphs.ellipsis), Role.ERROR))
        yield line


def _change_line(new: Summary, old: Summary) -> Line:
    line: Line = [(_pad("    change", _NAME) + _columns(("",)), Role.DIM)]
    for share in change_of(new, old):
        role = Role.DIM if not share else Role.ERROR if share > 0 else Role.STRONG
        line.append((_columns((format_change(share).replace(" %", "%"),)), role))
    return line


def _columns(words: Iterable[str]) -> str:
    return "".join(word.rjust(_NUMBER) for word in words)


def _pad(text: str, columns: int) -> str:
    return text.ljust(columns)


def _strip_end(line: Line) -> Line:
    """Leave out blanks at the end."""
    return [*line[:-1], (line[-1][0].rstrip(" "), line[-1][1])] if line else line


def _ascii(line: Line) -> Line:
    """The same, for a terminal that knows no letters but ASCII's."""
    return [
        (text.replace("µ", "u").encode("ascii", "backslashreplace").decode(), role) for text, role in _strip_end(line)
    ]
