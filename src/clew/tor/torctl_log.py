"""The logs of OnionPerf's monitor (`onionperf.torctl.log`), and what is written in their way.

    2019-01-31 11:29:51 1548934191.14 650 CIRC 23 LAUNCHED BUILD_FLAGS=...
    2019-01-31 11:29:51 1548934191.23 [WARNING] event TB_EMPTY is recognized by stem but not by tor
    2019-01-31 11:29:52 1548934192.33 650+HS_DESC_CONTENT ...
    hs-descriptor 3
    .
    650 OK

Local time, which is not looked at and may be missing, then seconds since 1970; behind it an event as tor sent it, whose
further lines stand as they are, or something of the monitor's own. A log may begin anywhere in the life of a circuit.

Where another run of tor begins, a log need not say. It is told by: the monitor's line about its start; the start of a
circuit whose id is no higher than one seen before, as tor counts them up; a bootstrap that is less far than it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clew.errors import ControlProtocolError
from clew.tor.event_log import VERSION, Began, Ended, understand
from clew.tor.events import BootstrapEvent, CircuitEvent
from clew.tor.wire import ControlParser, Reply, ReplyLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.tor.event_log import LogItem, LogNotes
    from clew.tor.events import Event

__all__ = ["read_torctl_log"]

_HEAD = re.compile(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} )?([0-9]{9,10})(?:\.([0-9]{1,9}))? ")
_EVENT = re.compile(r"6[0-9]{2}[-+ ]")
_START = re.compile(r"Starting torctl program on host .* using Tor version ([^ ]+)")
_CUT_OFF = "is the beginning of an event that has no end"


def read_torctl_log(lines: Iterable[str | None], notes: LogNotes) -> Iterator[LogItem]:
    """What a log tells. Each run ends with its last event.

    Args:
        lines: of the log, from the first on.
        notes: what cannot be read is noted there.
    """
    run: _Run | None = None
    time_ns = 0
    for item in _read(lines, notes):
        if isinstance(item, Began):
            if run is not None:
                yield Ended(time_ns, "DETACHED")
            run = _Run()
            yield item
        else:
            if run is None or run.is_over(item):
                if run is not None:
                    yield Ended(time_ns, "TOR_RESTARTED")
                run = _Run()
                run.is_over(item)
                yield Began(item.time_ns, None, is_testing=False)
            yield item
        time_ns = item.time_ns
    if run is not None:
        yield Ended(time_ns, "DETACHED")


class _Run:
    """What a run of tor has shown of itself."""

    def __init__(self) -> None:
        self._circuit_id = -1  # the highest
        self._progress = -1

    def is_over(self, event: Event) -> bool:
        """Whether an event can only be of another run; it is noted otherwise."""
        if isinstance(event, CircuitEvent):
            # Digits in every tor so far; ids of letters tell nothing.
            number = int(event.circuit_id) if event.circuit_id.isdigit() else -1
            if number > self._circuit_id:
                self._circuit_id = number
            elif event.status == "LAUNCHED" and number >= 0:
                return True
        elif isinstance(event, BootstrapEvent):
            if event.progress < self._progress:
                return True
            self._progress = event.progress
        return False


def _read(lines: Iterable[str | None], notes: LogNotes) -> Iterator[Began | Event]:
    """The events, and where the monitor says that it starts."""
    pending: ControlParser | None = None  # of an event of several lines
    begun = pending_ns = 0  # where that began, and when
    for number, line in enumerate(lines, start=1):
        head = None if line is None else _HEAD.match(line)
        if line is None:
            notes.add_problem(number, "is too long")
        elif head is not None:
            if pending is not None:
                notes.add_problem(begun, _CUT_OFF)
                pending = None
            seconds, fraction = head.groups("")
            time_ns = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))
            text = line[head.end() :].removesuffix("\r")
            if text.startswith("650 "):  # all events of one line that tor sends today
                event = understand(Reply(650, (ReplyLine(text[4:]),)), time_ns, number, notes)
                if event is not None:
                    yield event
                continue
            if not _EVENT.match(text):
                notes.foreign += 1
                if (start := _START.match(text)) is not None:
                    yield Began(time_ns, start[1] if VERSION.fullmatch(start[1]) else None, is_testing=False)
                continue
            pending, begun, pending_ns, line = ControlParser(), number, time_ns, text  # noqa: PLW2901 - the event's
        elif pending is None:
            notes.add_problem(number, "has no time, and belongs to no event")
        if pending is None or line is None:
            continue
        pending.feed(line.removesuffix("\r").encode("utf-8", "surrogateescape") + b"\r\n")
        try:
            reply = pending.next_reply()
        except ControlProtocolError:
            notes.add_problem(number, "is not how an event goes on")
            pending = None
            continue
        if reply is not None:
            pending = None
            event = understand(reply, pending_ns, begun, notes)
            if event is not None:
                yield event
    if pending is not None:
        notes.add_problem(begun, _CUT_OFF)
