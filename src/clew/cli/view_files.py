"""`clew view` on files as they are: chooses the traces in one pass, gathers their spans in another, and prints them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from clew.cli.no_collector import no_collector
from clew.cli.terminal import byte_progress
from clew.cli.view_output import DamageReport, count, say
from clew.errors import DecodeError, FormatError
from clew.formats import Block, Chooser, Gatherer, TraceFile, glances_of, records_of
from clew.limits import TRACES_COUNTED
from clew.render import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.cli.view_output import Output
    from clew.formats import Glance, Query

__all__ = ["gather", "look_through", "open_all", "print_gathered", "show"]


def show(paths: list[str], query: Query, max_spans: int, output: Output) -> int:
    """Print the traces that match.

    Args:
        paths: of the files; "-" is standard input.
        max_spans: of each trace.

    Returns: the exit status.
    """
    chooser = Chooser(query)
    with ExitStack() as stack:
        stack.enter_context(no_collector())
        files = open_all(paths, stack)
        reports = {file.name: DamageReport(file.name) for file in files}
        readable = look_through(files, chooser.add, reports)
        gatherer = Gatherer(chooser.trace_ids, max_spans)
        gather(readable, gatherer, reports)
    print_gathered(gatherer, query, output)
    if gatherer.traces:
        output.print_legend()
        _tell_limits(chooser, query, gatherer)
    elif readable:
        names = readable[0].name if len(readable) == 1 else count(len(readable), "file")
        what = f"none of the {count(chooser.span_count, 'span')}" if chooser.span_count else "no span"
        say(f"{names}: {what} {'matches' if chooser.span_count else 'is there'}")
    for report in reports.values():
        report.say()
    return 0 if gatherer.traces and len(readable) == len(paths) else 1


def gather(files: list[TraceFile], gatherer: Gatherer, reports: dict[str, DamageReport]) -> None:
    """Make the second pass."""
    if not gatherer.traces:
        return
    wanted = frozenset(gatherer.traces)
    with byte_progress("gathering their spans", sum(file.size_bytes for file in files)) as on_bytes:
        for file in files:
            # Damage was told by the first pass, except for what it did not look at.
            blocks = (item for item in file.items(wanted, on_bytes) if isinstance(item, Block) and _is_sound(item))
            for records in records_of(blocks, reports[file.name].add):
                gatherer.add(records)


def print_gathered(gatherer: Gatherer, query: Query, output: Output) -> None:
    """Print what the second pass gathered: the slowest first, or the newest last."""
    traces = list(gatherer.traces.values())
    if not query.slowest:
        traces.sort(key=lambda trace: trace.start_time_ns)
    for trace in traces:
        output.print_trace(trace.records, Totals(trace.span_count, trace.error_count, trace.cancelled_count))


def open_all(paths: list[str], stack: ExitStack) -> list[TraceFile]:
    """Open what can be opened, and tell of the rest."""
    files = []
    for path in paths:
        try:
            with byte_progress("reading standard input", None if path == "-" else 0) as on_bytes:
                files.append(stack.enter_context(TraceFile(path, on_bytes)))
        except OSError as error:
            say(f"{path}: {error.strerror}")
    return files


def look_through(
    files: list[TraceFile], look: Callable[[list[Glance]], object], reports: dict[str, DamageReport]
) -> list[TraceFile]:
    """Make the first pass. Returns: the files whose format is known."""
    readable = []
    with byte_progress("looking for traces", sum(file.size_bytes for file in files)) as on_bytes:
        for file in files:
            try:
                for glances in glances_of(file.items(on_bytes=on_bytes), reports[file.name].add):
                    look(glances)
            except FormatError as error:
                say(str(error))
            except OSError as error:
                say(f"{file.name}: {error.strerror}")
            else:
                readable.append(file)
    return readable


def _is_sound(block: Block) -> bool:
    """Whether the first pass could read a block."""
    try:
        block.glances()
    except DecodeError:
        return False
    return True


def _tell_limits(chooser: Chooser, query: Query, gatherer: Gatherer) -> None:
    shown = len(gatherer.traces)
    if chooser.matching > shown:
        number = f"{chooser.matching:,}" if chooser.matching < TRACES_COUNTED else f"more than {TRACES_COUNTED:,}"
        order = "slowest" if query.slowest else "newest"
        option = "--slowest" if query.slowest else "--limit"
        say(f"these are the {order} {shown:,} of {number} traces; {option} N shows more")
