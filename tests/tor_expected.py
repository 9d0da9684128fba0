"""Which spans must come of what tor said: told anew from raw events, by the simplest means, for tests of mappers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clew import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Expected", "RawEvent", "expected_builds", "expected_streams", "read_event"]

# What is nobody's fault (control-spec 4.1.1 and 4.1.2; DETACHED is ours).
_GIVEN_UP = {"DONE", "REQUESTED", "FINISHED", "IP_NOW_REDUNDANT", "DETACHED"}

_STREAM_STEPS = ("NEW", "SENTCONNECT", "SUCCEEDED", "DETACHED", "FAILED")


@dataclass
class RawEvent:
    """A line of tor's, taken apart."""

    time_ns: int
    words: list[str]
    options: dict[str, str]


@dataclass
class Expected:
    """A span that there must be."""

    id: str  # of the stream or the circuit
    start_ns: int
    end_ns: int = 0
    status: Status = Status.UNSET
    error_type: str | None = None
    is_partial: bool = False  # its beginning was not seen
    is_unfinished: bool = False  # its end was not seen
    steps_ns: list[int] = field(default_factory=list)  # of a stream: where its steps meet; of a circuit: its hops' ends

    def end(self, time_ns: int, status: Status = Status.UNSET, cause: str | None = None) -> None:
        """The last that was heard of it."""
        self.end_ns, self.status = time_ns, status
        self.error_type = None if status is Status.UNSET else (cause or "failed").lower()

    def lose(self, time_ns: int, reason: str) -> None:
        """tor is gone."""
        self.is_unfinished = True
        self.end(time_ns, _status(reason), reason)


def read_event(text: str, time_ns: int) -> RawEvent:
    """Take a line without "650 " apart."""
    words = text.split(" ")
    options = dict(word.split("=", 1) for word in words if re.match("[A-Z_]+=", word))
    return RawEvent(time_ns, words, options)


def expected_streams(events: Sequence[RawEvent], end_ns: int, reason: str) -> Iterator[Expected]:
    """The streams of one connection to tor, which ended at that time for that reason."""
    streams: dict[str, Expected] = {}
    states: dict[str, str] = {}  # the last word on its way
    for event in events:
        if event.words[0] != "STREAM":
            continue
        _, stream_id, status, *_ = event.words
        stream = streams.get(stream_id)
        if stream is None:
            if status not in _STREAM_STEPS:
                continue  # it tells of nothing that begins: the end, a new address
            streams[stream_id] = stream = Expected(stream_id, event.time_ns, is_partial=status != "NEW")
        if status in _STREAM_STEPS:
            if not stream.steps_ns or states[stream_id] != status:
                stream.steps_ns.append(event.time_ns)
            states[stream_id] = status
        if status == "FAILED":
            stream.end(event.time_ns, _stream_status(event, was_open=False), _cause(event))
        elif status == "CLOSED":
            if states[stream_id] == "FAILED":
                stream.end_ns = event.time_ns
            else:
                was_open = states[stream_id] == "SUCCEEDED"
                stream.end(event.time_ns, _stream_status(event, was_open=was_open), _cause(event))
                stream.steps_ns.append(event.time_ns)
            yield streams.pop(stream_id)
    for stream in streams.values():
        if states[stream.id] == "FAILED":
            stream.end_ns, stream.is_unfinished = end_ns, True
        else:
            stream.lose(end_ns, reason)
            stream.steps_ns.append(end_ns)
        yield stream


def expected_builds(events: Sequence[RawEvent], end_ns: int, reason: str) -> Iterator[Expected]:
    """The builds of circuits in one connection to tor."""
    builds: dict[str, Expected] = {}
    last: dict[str, str] = {}  # the last word of CIRC of each circuit
    for event in events:
        if event.words[0] not in ("CIRC", "CIRC_MINOR"):
            continue
        _, circuit_id, status, *_ = event.words
        build = builds.get(circuit_id)
        is_at_a_hop = build is not None and last.get(circuit_id) != "GUARD_WAIT"
        if build is None:
            begins = status in ("LAUNCHED", "EXTENDED", "GUARD_WAIT", "CANNIBALIZED")
            if begins or (status in ("BUILT", "FAILED") and circuit_id not in last):
                is_partial = status not in ("LAUNCHED", "CANNIBALIZED")
                builds[circuit_id] = build = Expected(circuit_id, event.time_ns, is_partial=is_partial)
        elif status == "EXTENDED":
            build.steps_ns.append(event.time_ns)
        if event.words[0] == "CIRC":
            last[circuit_id] = status
        if build is not None and status in ("BUILT", "FAILED", "CLOSED"):
            cause = event.options.get("REASON")
            build.end(event.time_ns, Status.UNSET if status == "BUILT" else _status(cause), cause)
            if status == "FAILED" and is_at_a_hop:
                build.steps_ns.append(event.time_ns)
            yield builds.pop(circuit_id)
        if status in ("FAILED", "CLOSED"):
            last.pop(circuit_id, None)
    for build in builds.values():
        build.lose(end_ns, reason)
        if last.get(build.id) != "GUARD_WAIT":
            build.steps_ns.append(end_ns)
        yield build


def _cause(event: RawEvent) -> str | None:
    reason = event.options.get("REASON")
    return event.options.get("REMOTE_REASON", reason) if reason == "END" else reason


def _stream_status(event: RawEvent, *, was_open: bool) -> Status:
    cause = _cause(event)
    return Status.UNSET if was_open and cause in ("DONE", None) else _status(cause)


def _status(reason: str | None) -> Status:
    return Status.CANCELLED if reason in _GIVEN_UP else Status.ERROR
