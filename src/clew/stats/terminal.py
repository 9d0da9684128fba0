"""The numbers of files of traces on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from clew.limits import STATS_VALUES
from clew.pretty import format_duration
from clew.render import ASCII_GLYPHS, UNICODE_GLYPHS, Line, Role, to_segments
from clew.render.styles import cut
from clew.render.waterfall import format_time
from clew.report.axis import label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from clew.render import Glyphs
    from clew.stats.figures import NameFigures, SlowTrace, Statistics

__all__ = ["TerminalStatistics"]

_LEAST_COLUMNS = 80
_NUMBER = 9  # columns of each number
_SERVICES_NAMED = 5
_MOST_BAR = 50
_ID = 32  # columns of a trace's id
_HEADS = ("errors", "total", "p50", "p90", "p99", "max")


class TerminalStatistics:
    """The numbers, as rich draws them.

    Args:
        found: of which at least one span was counted.
        names: those of `found.names` that are shown, in their order.
        order: how they are sorted, in a word.
        pattern: the names that were asked for; "" for all.
    """

    def __init__(
        self,
        found: Statistics,
        names: Sequence[NameFigures],
        slowest: Sequence[SlowTrace],
        *,
        order: str,
        pattern: str = "",
    ) -> None:
        self._found = found
        self._names = names
        self._slowest = slowest
        self._order = order
        self._pattern = pattern

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_ascii = options.ascii_only
        lines = self._lines(max(options.max_width, _LEAST_COLUMNS), ASCII_GLYPHS if is_ascii else UNICODE_GLYPHS)
        yield from to_segments(map(_ascii, lines) if is_ascii else lines)

    def _lines(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        yield from self._head(width, glyphs)
        yield from self._table(width, glyphs)
        if self._found.histogram:
            yield from self._histogram(width, glyphs)
        if self._slowest:
            yield from self._traces(width, glyphs)

    def _head(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        found, dot = self._found, f" {glyphs.dot} "
        about = "" if found.is_traces_exact else "about "
        title = f"{_count(found.spans, 'span')} of {about}{_count(found.traces, 'trace')}"
        rule = glyphs.rule * (width - len(title) - 4)
        yield [(f"{glyphs.rule * 2} ", Role.TREE), (title, Role.STRONG), (f" {rule}", Role.TREE)]
        line: Line = []
        for number, word, sign, role in (
            (found.errors, f"error{'s' * (found.errors != 1)}", glyphs.error, Role.ERROR),
            (found.cancelled, "cancelled", glyphs.cancelled, Role.CANCELLED),
        ):
            line.append((dot if line else "", Role.PLAIN))
            text = f"{number:,} {word} ({_percent(number, found.spans)})"
            line.append((f"{sign} {text}", role) if number else (f"no {word}", Role.DIM))
        yield line
        if found.start_ns:
            text = f"from {format_time(found.start_ns, None)}, over {format_duration(found.end_ns - found.start_ns)}"
            rate = found.spans_per_second
            yield [(text, Role.PLAIN), ("" if rate is None else f"{dot}{_number(rate)} spans/s", Role.PLAIN)]
        yield [(cut(self._services(), width, glyphs.ellipsis), Role.PLAIN)]
        yield []

    def _services(self) -> str:
        services = self._found.services
        named = [f"{name} {_percent(spans, self._found.spans)}" for name, spans in services.items()]
        more = ", ..." if len(named) > _SERVICES_NAMED else ""
        number = (
            f"{'more than ' * bool(self._found.other_services_spans)}{len(named):,} service{'s' * (len(named) != 1)}"
        )
        return f"{number}: {', '.join(named[:_SERVICES_NAMED])}{more}"

    def _table(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        others = self._found.other_names
        rows = [(figures, Role.PLAIN) for figures in self._names] + ([(others, Role.DIM)] if others else [])
        counts = max(_NUMBER, 2 + max(len(f"{figures.spans:,}") for figures, _ in rows))
        room = width - counts - _NUMBER * len(_HEADS)
        title = f"By name, the {'first' if self._order == 'name' else 'largest'} {self._order} first"
        if self._order == "name":
            title = "By name"
        names = [f"  {cut(figures.name, room - 2, glyphs.ellipsis)}" for figures, _ in rows]
        room = min(room, max(map(cell_len, [*names, title])))
        head = "count".rjust(counts) + _columns(_HEADS)
        yield [(set_cell_size(title, room), Role.STRONG), (head, Role.DIM)]
        for name, (figures, role) in zip(names, rows, strict=True):
            durations = figures.durations
            times: tuple[int, ...] = ()
            if durations is not None:
                times = (figures.total_ns, durations.p50_ns, durations.p90_ns, durations.p99_ns, durations.max_ns)
            yield [
                (set_cell_size(name, room) + f"{figures.spans:,}".rjust(counts), role),
                (_columns((f"{figures.errors:,}",)), Role.ERROR if figures.errors else Role.DIM),
                (_columns(map(format_duration, times)), role),
            ]
        if any(figures.durations and figures.durations.drawn < figures.durations.number for figures, _ in rows):
            yield [(f"  Percentiles are those of a sample where there are more than {STATS_VALUES:,}.", Role.DIM)]
        yield []

    def _histogram(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        buckets = self._found.histogram
        of = f" of {cut(self._pattern, width // 2, glyphs.ellipsis)}" if self._pattern else ""
        yield [(f"Durations{of}", Role.STRONG)]
        total, most = sum(bucket.spans for bucket in buckets), max(bucket.spans for bucket in buckets)
        froms = [label(bucket.from_ns) for bucket in buckets]
        tos = ["" if bucket.to_ns is None else label(bucket.to_ns) for bucket in buckets]
        from_columns, to_columns = max(map(len, froms)), max(map(len, tos))
        counts = len(f"{most:,}")
        room = min(width - from_columns - to_columns - counts - 17, _MOST_BAR)
        for bucket, start, end in zip(buckets, froms, tos, strict=True):
            # However small a number is, something is seen of it.
            eighths = max(round(bucket.spans / most * room * 8), 1) if bucket.spans else 0
            bar = glyphs.path[7] * (eighths // 8) + (glyphs.path[eighths % 8 - 1] if eighths % 8 else "")
            share = _percent(bucket.spans, total) if bucket.spans else ""
            yield [
                (f"  {start.rjust(from_columns)} to {end.rjust(to_columns)} ", Role.PLAIN),
                (bar.ljust(room), Role.PATH),
                (f" {bucket.spans:>{counts},} {share:>6}".rstrip(), Role.DIM),
            ]
        yield []

    def _traces(self, width: int, glyphs: Glyphs) -> Iterator[Line]:
        spans = max(_NUMBER, 2 + max(len(f"{trace.spans:,}") for trace in self._slowest))
        head = "spans".rjust(spans) + _columns(("errors", "duration"))
        yield [("Slowest traces".ljust(_ID + 2), Role.STRONG), (head, Role.DIM)]
        room = width - _ID - 4 - len(head)
        for trace in self._slowest:
            yield [
                (f"  {trace.trace_id}{trace.spans:>{spans},}", Role.PLAIN),
                (_columns((f"{trace.errors:,}",)), Role.ERROR if trace.errors else Role.DIM),
                (_columns((format_duration(trace.duration_ns),)), Role.STRONG),
                (f"  {cut(trace.name, room, glyphs.ellipsis)}", Role.PLAIN),
            ]
        yield [("clew view FILE --trace ID draws one of them.", Role.DIM)]


def _columns(words: Iterable[str]) -> str:
    return "".join(word.rjust(_NUMBER) for word in words)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(number: int, total: int) -> str:
    share = number / total
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _ascii(line: Line) -> Line:
    """The same, for a terminal that knows no letters but ASCII's."""
    return [(text.replace("µ", "u").encode("ascii", "backslashreplace").decode(), role) for text, role in line]
