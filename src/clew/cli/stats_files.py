"""`clew stats` on files: counts in one pass, looks at the slowest traces in another, and prints."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from clew.cli.no_collector import no_collector
from clew.cli.terminal import make_console
from clew.cli.view_files import gather, look_through, open_all
from clew.cli.view_output import DamageReport, count, say
from clew.formats import Gatherer, Query
from clew.limits import STATS_TRACE_SPANS
from clew.stats import Statistics, Tally, slow_trace

if TYPE_CHECKING:
    from clew.stats import NameFigures, SlowTrace

__all__ = ["Options", "show"]


class Options(NamedTuple):
    """What was asked for."""

    files: list[str]
    name: str  # a part of the names, or a pattern
    since_ns: int
    sort: str
    limit: int  # names
    slowest: int  # traces
    json: bool
    color: str
    width: int | None


def show(options: Options) -> int:
    """Print the numbers. Returns: the exit status, 1 if no span was counted, or a file could not be read."""
    tally = Tally(Query(name=options.name, since_ns=options.since_ns), options.slowest)
    with ExitStack() as stack:
        stack.enter_context(no_collector())
        files = open_all(options.files, stack)
        reports = {file.name: DamageReport(file.name) for file in files}
        readable = look_through(files, tally.add, reports)
        gatherer = Gatherer(tally.slowest_trace_ids, STATS_TRACE_SPANS)
        gather(readable, gatherer, reports)
    slowest = [slow_trace(trace_id, trace) for trace_id, trace in gatherer.traces.items() if trace.span_count]
    slowest.sort(key=lambda trace: -trace.duration_ns)
    found = tally.statistics()
    if options.json:
        _print_json(found, slowest, reports, options)
    elif found.spans:
        _print(found, slowest, options)
    if readable and not found.spans:
        names = readable[0].name if len(readable) == 1 else count(len(readable), "file")
        what = f"none of the {count(found.spans_read, 'span')} matches" if found.spans_read else "no span is there"
        say(f"{names}: {what}")
    for report in reports.values():
        report.say()
    return 0 if found.spans and len(readable) == len(options.files) else 1


def _names(found: Statistics, options: Options) -> list[NameFigures]:
    return found.sorted_names(options.sort)[: options.limit]


def _print(found: Statistics, slowest: list[SlowTrace], options: Options) -> None:
    from clew.stats.terminal import TerminalStatistics

    names = _names(found, options)
    picture = TerminalStatistics(found, names, slowest, order=options.sort, pattern=options.name)
    make_console(options.color, options.width).print(picture)
    if len(names) < len(found.names):
        say(f"these are {len(names):,} of {count(len(found.names), 'name')}; --limit N shows more")
    if found.other_names is not None:
        say(f"the first {count(len(found.names), 'name')} were counted by themselves, what came later as other names")


def _print_json(
    found: Statistics, slowest: list[SlowTrace], reports: dict[str, DamageReport], options: Options
) -> None:
    from json import dumps

    from clew.stats.as_json import to_json

    remarks = [f"{name}: {sentence}" for name, report in reports.items() for sentence in report.sentences()]
    print(dumps(to_json(found, _names(found, options), slowest, remarks), indent=1, allow_nan=False))
