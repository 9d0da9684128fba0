"""Fuzzed: tor's events, the machines that they drive, and logs of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from clew import AlwaysSample, limits
from clew._hot import Queue, TracerCore, spans_to_records
from clew.errors import ControlProtocolError, FormatError
from clew.model import Resource, Scope
from clew.tor.circuits import STATUSES as CIRCUIT_STATUSES
from clew.tor.event_log import LATEST_NS, Began, Ended, LogNotes
from clew.tor.events import Event, UnknownEvent, parse_event
from clew.tor.mapper import TorMapper
from clew.tor.privacy import Privacy
from clew.tor.recording import event_line, read_recording
from clew.tor.replay import read_events, replay
from clew.tor.streams import STATUSES as STREAM_STATUSES
from clew.tor.wire import Reply, ReplyLine
from tests.fuzz.claims import check_records
from tests.fuzz.of_control import replies_of
from tests.fuzz.source import Source, cuts, hostile_text

if TYPE_CHECKING:
    from clew.tor.event_log import LogItem

__all__ = ["check_event", "check_log", "check_mapper", "check_recorded"]

_T0 = 1_767_225_600_000_000_000
_MARK = "hunter2hunter2"
_CREDENTIALS = (
    f"SOCKS_USERNAME={_MARK}",
    f'SOCKS_PASSWORD="{_MARK}"',
    f'SOCKS_PASSWORD="a\\"{_MARK}"',
    f'SOCKS_PASSWORD="{_MARK}',
)


def check_event(data: bytes) -> None:
    """One event, of one line or several: understood or refused; the credentials of a SOCKS client are in none."""
    source = Source(data)
    credentials = source.pick(_CREDENTIALS)
    lines = [hostile_text(line) for line in source.rest().split(b"\n")]
    for reply in (
        Reply(650, (ReplyLine(lines[0]),)),
        Reply(650, tuple(map(ReplyLine, lines))),
        Reply(650, (ReplyLine(lines[0], "\n".join(lines[1:])), ReplyLine("OK"))),
        Reply(650, (ReplyLine(f"{lines[0]} {credentials}"), *map(ReplyLine, lines[1:]))),
        Reply(650, (ReplyLine(f"{credentials} {lines[0]}"),)),
        Reply(650, (ReplyLine(lines[0]), ReplyLine(credentials))),
    ):
        try:
            event = parse_event(reply, _T0)
        except ControlProtocolError as error:
            told = str(error)  # nothing of what the event held
        else:
            told = repr(event)
            _check_event(event)
        if lines[0].count('"') % 2 == 0:
            # Within somebody's quotation marks it is not tor that wrote it.
            assert _MARK not in told or _MARK in "".join(lines) or "\\" in lines[0], (reply, told)


def _check_event(event: Event) -> None:
    assert event.time_ns == _T0
    hash(event)
    assert event == event  # noqa: PLR0124 - it can be compared
    assert isinstance(event.raw_type, str)
    for name in ("circuit_id", "stream_id"):
        value = getattr(event, name, "0")
        assert value.isascii()
        assert value.isalnum()
        assert len(value) <= 16
    for relay in getattr(event, "path", ()):
        assert relay.fingerprint == "" or len(bytes.fromhex(relay.fingerprint)) == 20


# --- the machines ----------------------------------------------------------------------------------------------------

_HOPS = tuple(f"${digit * 40}~relay{digit}" for digit in "ABCD")
_PATHS = (_HOPS[0], ",".join(_HOPS[:2]), ",".join(_HOPS[:3]), ",".join(_HOPS), "nobody", f"{_HOPS[1]},,{_HOPS[2]}")
_ONIONS = ("a" * 56, "b" * 56)
_PURPOSES = (
    "GENERAL",
    "HS_CLIENT_HSDIR",
    "HS_CLIENT_INTRO",
    "HS_CLIENT_REND",
    "HS_SERVICE_HSDIR",
    "HS_SERVICE_INTRO",
    "HS_SERVICE_REND",
    "HS_VANGUARDS",
    "CONFLUX_UNLINKED",
    "CONFLUX_LINKED",
    "MEASURE_TIMEOUT",
    "TESTING",
    "NEW_PURPOSE",
)
_STATES = (
    "HSCI_CONNECTING",
    "HSCI_INTRO_SENT",
    "HSCI_DONE",
    "HSCR_CONNECTING",
    "HSCR_ESTABLISHED_IDLE",
    "HSCR_ESTABLISHED_WAITING",
    "HSCR_JOINED",
    "HSSI_CONNECTING",
    "HSSI_ESTABLISHED",
    "HSSR_CONNECTING",
    "HSSR_JOINED",
)
_REASONS = ("TIMEOUT", "DESTROYED", "FINISHED", "END", "DONE", "RESOLVEFAILED", "MEASUREMENT_EXPIRED", '"odd one"')
_TARGETS = (
    "example.com:443",
    "192.0.2.1:80",
    "[2001:db8::1]:80",
    *(f"{onion}.onion:80" for onion in _ONIONS),
    f"127.0.0.1.{_HOPS[0]}.exit:9001",
    "x:y",
)
_TAGS = ("conn", "conn_done", "handshake", "onehop_create", "loading_descriptors", "circuit_create", "done", "new")


def _event_line(source: Source) -> str:
    """An event as tor could write it, or nearly; or anything at all."""
    number = "123456789"
    kind = source.number(16)
    which = source.pick(number)
    if kind < 4:
        status = source.pick([*CIRCUIT_STATUSES, "NEW_STATUS"])
        return f"CIRC {which} {status} {source.pick(_PATHS)}{_circuit_fields(source)}"
    if kind < 6:
        change = source.pick(("PURPOSE_CHANGED", "CANNIBALIZED", "NEW_CHANGE"))
        return (
            f"CIRC_MINOR {which} {change} {source.pick(_PATHS)}{_circuit_fields(source)} "
            f"OLD_PURPOSE={source.pick(_PURPOSES)} OLD_HS_STATE={source.pick(_STATES)}"
        )
    if kind < 10:
        status = source.pick([*STREAM_STATUSES, "NEW_STATUS"])
        line = f"STREAM {which} {status} {source.pick('0' + number)} {source.pick(_TARGETS)}"
        if source.number(2):
            line += f" SOURCE_ADDR=127.0.0.1:{4000 + source.number(3)} PURPOSE={source.pick(('USER', 'DIR_FETCH'))}"
        return line + (f" REASON={source.pick(_REASONS)}" if source.number(2) else "")
    if kind == 10:
        return f"STREAM_BW {which} {source.number(65536)} {source.number(65536)}"
    if kind == 11:
        action = source.pick(("REQUESTED", "RECEIVED", "FAILED", "CREATED", "UPLOAD", "UPLOADED", "IGNORE", "NEW"))
        return (
            f"HS_DESC {action} {source.pick((*_ONIONS, 'UNKNOWN'))} NO_AUTH {source.pick((*_HOPS, 'UNKNOWN'))} "
            f"{'d' * 43} REASON={source.pick(_REASONS)}"
        )
    if kind == 12:
        status = source.pick(("NEW", "LAUNCHED", "CONNECTED", "FAILED", "CLOSED", "NEW_STATUS"))
        return f"ORCONN {source.pick((*_HOPS, '192.0.2.1:9001'))} {status} ID={which} NCIRCS={source.number(3)}"
    if kind == 13:
        progress, tag = source.number(120), source.pick(_TAGS)
        return f"STATUS_CLIENT {source.pick(('NOTICE', 'WARN'))} BOOTSTRAP PROGRESS={progress} TAG={tag} SUMMARY=x"
    if kind == 14:
        change = source.pick(("COMPUTED", "RESET", "SUSPENDED", "DISCARD", "RESUME"))
        return f"BUILDTIMEOUT_SET {change} TIMEOUT_MS={source.number(65536)} CUTOFF_QUANTILE={source.text(6)}"
    return source.text(120)


def _circuit_fields(source: Source) -> str:
    fields = ""
    given = source.number(64)
    if given & 1:
        fields += f" PURPOSE={source.pick(_PURPOSES)}"
    if given & 2:
        fields += f" HS_STATE={source.pick(_STATES)}"
    if given & 4:
        fields += f" REND_QUERY={source.pick(_ONIONS)}"
    if given & 8:
        fields += f" REASON={source.pick(_REASONS)} REMOTE_REASON={source.pick(_REASONS)}"
    if given & 16:
        fields += f" CONFLUX_ID={source.number(3)} CONFLUX_RTT={source.number(65536)}"
    if given & 32:
        fields += f" BUILD_FLAGS=NEED_CAPACITY TIME_CREATED=2026-01-01T00:00:0{source.number(10)}.000001"
    return fields


_CAPS = {
    "CIRCUITS_OPEN": 4,
    "STREAMS_OPEN": 4,
    "ONION_PHASES_OPEN": 3,
    "ONION_CONNECTIONS_KEPT": 2,
    "OR_CONNECTIONS_OPEN": 2,
    "CIRCUITS_FAILED_TOLD": 2,
    "FIRST_BYTES_WAITING": 2,
    "PLACES_REMEMBERED": 3,
}
_RESOURCE, _SCOPE = Resource({"service.name": "tor"}), Scope()


class _Spans:
    """A tracer whose spans stay where they are."""

    def __init__(self) -> None:
        self._queue = Queue(1 << 24, 512, 1 << 17)
        self._queue.start_worker = lambda: None
        self.tracer = TracerCore(self._queue, AlwaysSample())

    def check(self, mapper: TorMapper) -> None:
        """All has ended, nothing was lost, and what there is can be read."""
        assert mapper.counts.open == 0
        stats = self._queue.stats()
        assert stats.open == 0, stats
        assert stats.started == stats.queued + sum(stats.dropped.values()), stats
        assert stats.errors == 0
        count = 0
        self._queue.wake()
        while count < stats.queued and (batch := self._queue.take(0)) is not None:
            check_records(spans_to_records(batch[0], _RESOURCE, _SCOPE))
            count += batch[1]
            self._queue.settle(batch[1], 0)
            self._queue.wake()
        assert count == stats.queued


def check_mapper(data: bytes) -> None:
    """Events in any order, at any times: nothing is raised, what is open is bounded, and all of it ends."""
    source = Source(data)
    spans = _Spans()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _CAPS.items():
            patch.setattr(limits, name, value)
        mapper = TorMapper(spans.tracer, Privacy(source.number(4)))
        time_ns = _T0
        while source:
            step = source.number(256)
            time_ns += (step & 0x1F) * 10_000_000
            if step & 0xE0 == 0xE0:  # one in eight
                _disturb(mapper, source, time_ns)
                continue
            try:
                event = parse_event(Reply(650, (ReplyLine(_event_line(source)),)), max(time_ns, 0))
            except ControlProtocolError:
                continue
            mapper.handle(event)
            assert mapper.counts.open <= 4 + 4 + 4 + 3 * 4 + 2 + 1, mapper.counts
        mapper.close("DETACHED", time_ns)
        spans.check(mapper)


def _disturb(mapper: TorMapper, source: Source, time_ns: int) -> None:
    act = source.number(4)
    if act == 0:
        mapper.preload(f"{source.text(3)} BUILT {source.pick(_PATHS)}{_circuit_fields(source)}\n{source.text(20)}")
    elif act == 1:
        mapper.first_byte(f"127.0.0.1:{4000 + source.number(3)}", time_ns)
    elif act == 2:
        mapper.close(source.pick(("CONNECTION_LOST", "TOR_EXITED")), time_ns)
        assert mapper.counts.open == 0
    else:
        mapper.handle(UnknownEvent(time_ns, "NEW", source.text()))


# --- logs ------------------------------------------------------------------------------------------------------------


def check_log(data: bytes) -> None:
    """A log in either form: read in pieces as at once; runs begin and end; what it tells can be replayed."""
    whole = _read([data])
    is_packed = data.startswith((b"\x1f\x8b", b"\xfd7zXZ"))
    for pieces in cuts(data):
        found = _read(pieces)
        assert found == whole or is_packed  # of damaged data more may be read where less came at once
    if whole is None:
        return
    items, notes = whole
    is_open = False
    for item in items:
        assert 0 <= item.time_ns < LATEST_NS
        if isinstance(item, Began):
            assert not is_open
            is_open = True
        else:
            assert is_open
            is_open = not isinstance(item, Ended)
    assert not is_open
    assert notes.events == sum(isinstance(item, Event) for item in items)
    assert len(notes.first_problems) == min(notes.problems, limits.LOG_PROBLEMS_KEPT)
    spans = _Spans()
    mapper = TorMapper(spans.tracer, Privacy.PSEUDONYMOUS)
    replay(items, lambda _: mapper)
    spans.check(mapper)


def _read(pieces: list[bytes]) -> tuple[list[LogItem], LogNotes] | None:
    notes = LogNotes()
    try:
        return list(read_events(iter(pieces), notes)), notes
    except FormatError:
        return None


def check_recorded(data: bytes) -> None:
    """Events of the wire, recorded: they are read as they would have been live."""
    source = Source(data)
    time_ns = struct.unpack(">Q", source.take(8).rjust(8, b"\0"))[0] >> 1
    replies, _ = replies_of([source.rest()])
    live: list[Event] = []
    lines: list[str] = []
    for reply in replies:
        if not reply.is_event:
            continue
        lines.append(event_line(reply, time_ns))
        assert lines[-1].endswith("\n")
        assert lines[-1].count("\n") == 1
        try:
            live.append(parse_event(reply, time_ns))
        except ControlProtocolError:
            continue
    notes = LogNotes()
    items = list(read_recording((line.removesuffix("\n") for line in lines), notes))
    if time_ns < LATEST_NS and len(str(time_ns)) <= 19:
        events = [item for item in items if isinstance(item, Event)]
        # Credentials that go on over several lines are cut out of each line before it is recorded.
        assert [type(event) for event in events] == [type(event) for event in live]
        assert [each for each in events if not isinstance(each, UnknownEvent)] == [
            each for each in live if not isinstance(each, UnknownEvent)
        ]
