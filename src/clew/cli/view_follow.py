"""`clew view -f`: draws the newest traces that are there, then each trace as it is complete."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

from clew.cli.terminal import byte_progress
from clew.cli.view_files import gather, print_gathered
from clew.cli.view_output import DamageReport, count, say
from clew.formats import Arriving, Chooser, Gatherer, Glance, Tail, glances_of, records_of
from clew.render import Totals

if TYPE_CHECKING:
    from clew.cli.view_output import Output
    from clew.formats import Damage, Query
    from clew.model import SpanRecord

__all__ = ["follow"]

_POLL_SECONDS = 0.25


def follow(paths: list[str], query: Query, max_spans: int, output: Output) -> int:
    """Print traces until Ctrl-C, or until all files were pipes that were closed.

    Args:
        paths: of the files; "-" is standard input.
        max_spans: of each trace.

    Returns: the exit status.
    """
    with ExitStack() as stack:
        tails = [stack.enter_context(closing(Tail(path))) for path in paths]
        follower = _Follower(tails, query, max_spans, output)
        follower.print_present()
        try:
            while not all(tail.is_over for tail in tails):
                time.sleep(_POLL_SECONDS)
                follower.poll()
        except KeyboardInterrupt:
            follower.tell_rest()
            raise
        follower.print_rest()
    return 0


class _Follower:
    """Files that are followed, and what has arrived of their traces."""

    def __init__(self, tails: list[Tail], query: Query, max_spans: int, output: Output) -> None:
        self._tails = tails
        self._query = query
        self._matches = query.matcher()
        self._max_spans = max_spans
        self._output = output
        self._arriving = Arriving()

    def print_present(self) -> None:
        """Print the newest traces of what the files hold by now."""
        chooser = Chooser(self._query)
        reports = {tail.name: DamageReport(tail.name) for tail in self._tails}
        regular = [tail for tail in self._tails if tail.is_regular]
        with byte_progress("looking for traces", sum(tail.size_bytes for tail in regular)) as on_bytes:
            for tail in regular:
                for glances in glances_of(tail.read(on_bytes), reports[tail.name].add):
                    chooser.add(glances)
        gatherer = Gatherer(chooser.trace_ids, self._max_spans)
        with ExitStack() as stack:
            files = [stack.enter_context(tail.as_read()) for tail in regular]
            gather(files, gatherer, reports)
        print_gathered(gatherer, self._query, self._output)
        if gatherer.traces:
            self._output.print_legend()
        for trace_id in gatherer.traces:
            self._arriving.mark_given(trace_id)
        for report in reports.values():
            report.say()

    def poll(self) -> None:
        """Read what is new, and print the traces that are complete."""
        now_ns = time.monotonic_ns()
        for tail in self._tails:
            for records in records_of(tail.read(), partial(_tell, tail)):
                for record in records:
                    self._arriving.add(record, now_ns)
            if tail.take_restart():
                say(f"{tail.name} was replaced or truncated: going on with what it holds now")
        for records in self._arriving.complete(now_ns):
            self._print(records)

    def print_rest(self) -> None:
        """Print what has arrived of traces that are not complete."""
        for records in self._arriving.rest():
            self._print(records)

    def tell_rest(self) -> None:
        """Say what is left behind."""
        if number := self._arriving.span_count:
            say(f"not drawn: {count(number, 'span')} of traces that were not complete yet")

    def _print(self, records: list[SpanRecord]) -> None:
        if self._matches is not None and not any(map(self._matches, map(Glance.of, records))):
            return
        trace_id = records[0].trace_id
        gatherer = Gatherer([trace_id], self._max_spans)
        gatherer.add(records)
        trace = gatherer.traces[trace_id]
        self._output.print_trace(
            trace.records,
            Totals(trace.span_count, trace.error_count, trace.cancelled_count),
            is_continued=self._arriving.was_given(trace_id),
        )
        self._arriving.mark_given(trace_id)


def _tell(tail: Tail, damage: Damage) -> None:
    report = DamageReport(tail.name)
    report.add(damage)
    report.say()
