"""All of tor's events to spans: whole traces, drawn as an outline and compared as text."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import NeverSample, NoopExporter, SpanKind, SpanRecord, Status, Tracer, limits
from clew.errors import ControlProtocolError
from clew.testing import CapturedSpans, capture_spans
from clew.tor.events import parse_event
from clew.tor.mapper import TorMapper
from clew.tor.privacy import Privacy
from clew.tor.wire import Reply, ReplyLine
from clew.tree import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.tree import Node

MS = 1_000_000
T0 = 1_767_225_600_000_000_000
GUARD, MIDDLE, EXIT, FOURTH = (f"${letter * 40}~{name}" for letter, name in zip("ABCD", "gmxy", strict=True))
THREE = f"{GUARD},{MIDDLE},{EXIT}"
ONION = "q" * 56
DIRECTORY = "E" * 40


def feed(mapper: TorMapper, text: str) -> None:
    """Events, one a line: milliseconds, then what tor writes after "650 "."""
    for line in filter(None, map(str.strip, text.splitlines())):
        at_ms, _, words = line.partition(" ")
        event = parse_event(Reply(650, (ReplyLine(words),)), T0 + round(float(at_ms) * MS))
        mapper.handle(event)


@pytest.fixture
def captured() -> Iterator[CapturedSpans]:
    with capture_spans("tor") as spans:
        yield spans


@pytest.fixture
def mapper(captured: CapturedSpans) -> TorMapper:
    return TorMapper(captured.tracer, Privacy.LAB)


def outline(captured: CapturedSpans) -> str:
    """Each span on a line: its name, from and to in milliseconds, its status, its links; its events below it."""
    by_id = {record.span_id: record for record in captured.records}
    lines: list[str] = []

    def draw(node: Node, depth: int) -> None:
        record = node.record
        times = f"{(record.start_time_ns - T0) / MS:g}-{(record.end_time_ns - T0) / MS:g}"
        words = [record.name, times]
        if record.status is not Status.UNSET:
            words += [record.status.name, str(record.attributes.get("error.type"))]
        words += [f"-> {_name(by_id[str(link.context.span_id)])}" for link in record.links]
        lines.append("  " * depth + " ".join(words))
        lines.extend("  " * depth + f"  * {event.name} {(event.time_ns - T0) / MS:g}" for event in record.events)
        for child in node.children:
            draw(child, depth + 1)

    roots = [root for trace in assemble(captured.records) for root in trace.roots]
    for root in sorted(roots, key=lambda node: node.record.start_time_ns):
        draw(root, 0)
    return "\n".join(lines) + "\n"


def _name(record: SpanRecord) -> str:
    circuit = record.attributes.get("tor.circuit.id")
    return f"{record.name}[{circuit}]" if isinstance(circuit, str) else record.name


def tree(text: str) -> str:
    return dedent(text).lstrip("\n")


def one(captured: CapturedSpans, name: str) -> SpanRecord:
    (record,) = (record for record in captured.records if record.name == name)
    return record


READY = f"""
    0 CIRC 7 LAUNCHED PURPOSE=GENERAL
    10 CIRC 7 EXTENDED {GUARD} PURPOSE=GENERAL
    20 CIRC 7 EXTENDED {GUARD},{MIDDLE} PURPOSE=GENERAL
    30 CIRC 7 EXTENDED {THREE} PURPOSE=GENERAL
    30 CIRC 7 BUILT {THREE} PURPOSE=GENERAL
"""
BUILD = """
    tor.circuit.build 0-30
      tor.circuit.extend 0-10
      tor.circuit.extend 10-20
      tor.circuit.extend 20-30
"""


def test_a_stream_on_a_circuit_that_was_there(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Attach, connect and transfer follow each other without gaps; the circuit is linked, with age and reuse."""
    feed(mapper, READY)
    feed(
        mapper,
        """
        100 STREAM 1 NEW 0 example.com:443 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER CLIENT_PROTOCOL=SOCKS5 NYM_EPOCH=3
        101 STREAM 1 SENTCONNECT 7 example.com:443
        140 STREAM 1 REMAP 7 192.0.2.1:443 SOURCE=EXIT
        150 STREAM 1 SUCCEEDED 7 192.0.2.1:443
        160 STREAM_BW 1 100 900 2026-01-01T00:00:00.160000
        290 STREAM_BW 1 50 100 2026-01-01T00:00:00.290000
        300 STREAM 1 CLOSED 7 192.0.2.1:443 REASON=END REMOTE_REASON=DONE
        400 STREAM 2 NEW 0 example.com:443 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        400 STREAM 2 SENTCONNECT 7 example.com:443
        """,
    )
    mapper.close("DETACHED", T0 + 500 * MS)
    assert outline(captured) == tree(BUILD) + tree("""
        tor.stream 100-300 -> tor.circuit.build[7]
          * remap 140
          tor.stream.attach 100-101
          tor.stream.connect 101-150
          tor.stream.transfer 150-300
        tor.stream 400-500 CANCELLED detached -> tor.circuit.build[7]
          tor.stream.attach 400-400
          tor.stream.connect 400-500 CANCELLED detached
        """)
    first, second = (record for record in captured.records if record.name == "tor.stream")
    assert first.kind is SpanKind.CLIENT
    assert dict(first.attributes) == {
        "server.address": "example.com",
        "server.port": 443,
        "tor.stream.id": "1",
        "tor.stream.purpose": "USER",
        "tor.stream.client_protocol": "SOCKS5",
        "network.local.address": "127.0.0.1",
        "network.local.port": 5000,
        "clew.privacy.level": "lab",
        "tor.stream.nym_epoch": "3",
        "tor.circuit.id": "7",
        "tor.circuit.age_ms": 71,
        "tor.circuit.reused": False,
        "tor.stream.reason": "END",
        "tor.stream.remote_reason": "DONE",
        "tor.stream.bytes_read": 1000,
        "tor.stream.bytes_written": 150,
    }
    assert second.attributes["tor.circuit.reused"] is True
    assert second.attributes["tor.circuit.age_ms"] == 370
    assert second.attributes["clew.unfinished"] is True


def test_a_stream_that_waited_for_a_circuit(mapper: TorMapper, captured: CapturedSpans) -> None:
    """The circuit that it waited for is its child, wherever that began; one it did not take is a trace of its own."""
    feed(
        mapper,
        f"""
        0 CIRC 7 LAUNCHED PURPOSE=GENERAL
        5 STREAM 1 NEW 0 example.com:443 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER
        10 CIRC 8 LAUNCHED PURPOSE=GENERAL
        15 CIRC 8 EXTENDED {GUARD} PURPOSE=GENERAL
        20 CIRC 8 BUILT {GUARD} PURPOSE=GENERAL
        25 CIRC 7 EXTENDED {GUARD} PURPOSE=GENERAL
        30 CIRC 7 BUILT {GUARD} PURPOSE=GENERAL
        31 STREAM 1 SENTCONNECT 7 example.com:443
        40 STREAM 1 SUCCEEDED 7 example.com:443
        50 STREAM 1 CLOSED 7 example.com:443 REASON=DONE
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 5-50
          tor.stream.attach 5-31
            tor.circuit.build 0-30
              tor.circuit.extend 0-25
          tor.stream.connect 31-40
          tor.stream.transfer 40-50
        tor.circuit.build 10-20
          tor.circuit.extend 10-15
        """)
    assert "tor.circuit.age_ms" not in one(captured, "tor.stream").attributes
    assert mapper.counts.open == 0


def test_a_circuit_for_another_than_the_oldest(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Whoever waited when the circuit came may take it; who came after it has a link."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        1 STREAM 2 NEW 0 b.example:1 SOURCE_ADDR=127.0.0.1:5002 PURPOSE=USER
        5 CIRC 7 LAUNCHED PURPOSE=GENERAL
        10 CIRC 7 BUILT {GUARD} PURPOSE=GENERAL
        11 STREAM 2 SENTCONNECT 7 b.example:1
        12 STREAM 3 NEW 0 c.example:1 SOURCE_ADDR=127.0.0.1:5003 PURPOSE=USER
        13 STREAM 3 SENTCONNECT 7 c.example:1
        14 STREAM 1 SENTCONNECT 7 a.example:1
        20 STREAM 1 CLOSED 7 a.example:1 REASON=DONE
        20 STREAM 2 CLOSED 7 b.example:1 REASON=DONE
        20 STREAM 3 CLOSED 7 c.example:1 REASON=DONE
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-20 CANCELLED done -> tor.circuit.build[7]
          tor.stream.attach 0-14
          tor.stream.connect 14-20 CANCELLED done
        tor.stream 1-20 CANCELLED done
          tor.stream.attach 1-11
            tor.circuit.build 5-10
          tor.stream.connect 11-20 CANCELLED done
        tor.stream 12-20 CANCELLED done -> tor.circuit.build[7]
          tor.stream.attach 12-13
          tor.stream.connect 13-20 CANCELLED done
        """)


def test_a_circuit_that_failed_while_a_stream_waited(mapper: TorMapper, captured: CapturedSpans) -> None:
    """tor does not say for whom it was: it is an event on the wait, with a link."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        5 CIRC 7 LAUNCHED PURPOSE=GENERAL
        10 CIRC 7 FAILED {GUARD} PURPOSE=GENERAL REASON=TIMEOUT
        20 STREAM 1 FAILED 0 a.example:1 REASON=TIMEOUT
        20 STREAM 1 CLOSED 0 a.example:1 REASON=TIMEOUT
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-20 ERROR timeout
          tor.stream.attach 0-20 ERROR timeout -> tor.circuit.build[7]
            * circuit_failed 10
        tor.circuit.build 5-10 ERROR timeout
          tor.circuit.extend 5-10 ERROR timeout
        """)
    (event,) = one(captured, "tor.stream.attach").events
    assert event.attributes["tor.circuit.reason"] == "TIMEOUT"


def test_only_circuits_that_a_stream_can_use_fail_for_it(
    mapper: TorMapper, captured: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's stream does not hear of tor's own circuits to directories, nor these of others; many are counted."""
    monkeypatch.setattr(limits, "CIRCUITS_FAILED_TOLD", 2)
    feed(mapper, "0 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER")
    feed(mapper, f"0 STREAM 2 NEW 0 {_DIR} PURPOSE=DIR_FETCH")
    for number in range(10, 16):
        flags = " BUILD_FLAGS=ONEHOP_TUNNEL" if number == 15 else ""
        feed(mapper, f"5 CIRC {number} LAUNCHED{flags} PURPOSE=GENERAL")
        feed(mapper, f"{number} CIRC {number} FAILED {GUARD}{flags} PURPOSE=GENERAL REASON=TIMEOUT")
    mapper.close("DETACHED", T0 + 20 * MS)
    told = {
        str(record.attributes.get("tor.stream.id")): record.attributes["tor.stream.circuits_failed"]
        for record in captured.records
        if record.name == "tor.stream"
    }
    assert told == {"1": 5, "2": 1}
    events = [
        [(event.name, event.attributes["tor.circuit.id"]) for event in record.events]
        for record in captured.records
        if record.name == "tor.stream.attach"
    ]
    assert events == [[("circuit_failed", "10"), ("circuit_failed", "11")], [("circuit_failed", "15")]]


def test_a_circuit_that_is_closed_under_its_stream(mapper: TorMapper, captured: CapturedSpans) -> None:
    """The stream's own end says DESTROY; why the circuit was closed is told on it."""
    feed(mapper, READY)
    feed(
        mapper,
        f"""
        100 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        101 STREAM 1 SENTCONNECT 7 a.example:1
        102 STREAM 1 SUCCEEDED 7 a.example:1
        102 STREAM 2 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5002 PURPOSE=USER
        110 CIRC 7 CLOSED {THREE} PURPOSE=GENERAL REASON=DESTROYED REMOTE_REASON=CHANNEL_CLOSED
        110 STREAM 1 CLOSED 7 a.example:1 REASON=DESTROY
        """,
    )
    (event,) = one(captured, "tor.stream").events
    assert (event.name, event.time_ns) == ("circuit_closed", T0 + 110 * MS)
    assert dict(event.attributes) == {
        "tor.circuit.reason": "DESTROYED",
        "tor.circuit.remote_reason": "CHANNEL_CLOSED",
        "tor.circuit.id": "7",
    }


def test_a_leg_that_is_closed_under_a_stream(mapper: TorMapper, captured: CapturedSpans) -> None:
    """A stream names one leg of a conflux set, and has both."""
    legs = "PURPOSE=CONFLUX_LINKED CONFLUX_ID=AA"
    feed(
        mapper,
        f"""
        0 CIRC 7 BUILT {THREE} {legs}
        0 CIRC 8 BUILT {THREE} {legs}
        0 CIRC 9 BUILT {THREE} PURPOSE=CONFLUX_LINKED CONFLUX_ID=BB
        1 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        1 STREAM 1 SENTCONNECT 7 a.example:1
        3 CIRC 9 CLOSED {THREE} PURPOSE=CONFLUX_LINKED CONFLUX_ID=BB REASON=FINISHED
        4 CIRC 8 CLOSED {THREE} {legs} REASON=DESTROYED REMOTE_REASON=CHANNEL_CLOSED
        5 CIRC 7 CLOSED {THREE} {legs} REASON=FINISHED
        5 STREAM 1 CLOSED 7 a.example:1 REASON=DESTROY
        """,
    )
    events = [(event.name, event.attributes["tor.circuit.id"]) for event in one(captured, "tor.stream").events]
    assert events == [("circuit_closed", "8"), ("circuit_closed", "7")]


def test_both_legs_of_a_conflux_set(mapper: TorMapper, captured: CapturedSpans) -> None:
    """A stream names one leg; what it waited for is the set."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        5 CIRC 7 LAUNCHED PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AA
        5 CIRC 8 LAUNCHED PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AA
        5 CIRC 9 LAUNCHED PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=BB
        10 CIRC 7 BUILT {THREE} PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AA
        11 CIRC 8 BUILT {THREE} PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=AA
        11 CIRC 9 BUILT {THREE} PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=BB
        12 CIRC_MINOR 7 PURPOSE_CHANGED {THREE} PURPOSE=CONFLUX_LINKED CONFLUX_ID=AA OLD_PURPOSE=CONFLUX_UNLINKED
        13 STREAM 1 SENTCONNECT 7 a.example:1
        14 STREAM 1 SUCCEEDED 7 a.example:1
        20 STREAM 1 CLOSED 7 a.example:1 REASON=DONE
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-20
          tor.stream.attach 0-13
            tor.circuit.build 5-10
            tor.circuit.build 5-11
          tor.stream.connect 13-14
          tor.stream.transfer 14-20
        tor.circuit.build 5-11
        """)
    assert one(captured, "tor.stream").attributes["tor.conflux.id"] == "AA"


def test_a_retry(mapper: TorMapper, captured: CapturedSpans) -> None:
    """DETACHED ends the attempt as an error and begins another wait; the stream as a whole ends as it ends."""
    feed(mapper, READY)
    feed(
        mapper,
        """
        100 STREAM 1 NEW 0 a.example:1 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
        101 STREAM 1 SENTCONNECT 7 a.example:1
        120 STREAM 1 DETACHED 7 a.example:1 REASON=END REMOTE_REASON=RESOLVEFAILED
        121 STREAM 1 SENTCONNECT 7 a.example:1
        150 STREAM 1 SUCCEEDED 7 a.example:1
        160 STREAM 1 CLOSED 7 a.example:1 REASON=DONE
        """,
    )
    assert outline(captured) == tree(BUILD) + tree("""
        tor.stream 100-160 -> tor.circuit.build[7] -> tor.circuit.build[7]
          * detached 120
          tor.stream.attach 100-101
          tor.stream.connect 101-120 ERROR resolvefailed
          tor.stream.attach 120-121
          tor.stream.connect 121-150
          tor.stream.transfer 150-160
        """)
    assert one(captured, "tor.stream").attributes["tor.stream.retries"] == 1


def test_a_stream_that_has_failed_when_tor_goes(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Only CLOSED was still to come: it failed for tor's reason, not because the connection to tor was lost."""
    feed(mapper, "0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER\n1 STREAM 1 SENTCONNECT 7 a:1")
    feed(mapper, "9 STREAM 1 FAILED 7 a:1 REASON=END REMOTE_REASON=MISC")
    mapper.close("CONNECTION_LOST", T0 + 12 * MS)
    assert outline(captured) == tree("""
        tor.stream 0-12 ERROR misc
          tor.stream.attach 0-1
          tor.stream.connect 1-9 ERROR misc
        """)
    assert one(captured, "tor.stream").attributes["clew.unfinished"] is True
    counts = mapper.counts.streams
    assert (counts.opened, counts.failed, counts.lost, counts.open) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("lines", "status", "error_type"),
    [
        ("FAILED 7 a:1 REASON=END REMOTE_REASON=CONNECTREFUSED", Status.ERROR, "connectrefused"),
        ("FAILED 7 a:1 REASON=EXITPOLICY", Status.ERROR, "exitpolicy"),
        ("CLOSED 7 a:1 REASON=DESTROY", Status.ERROR, "destroy"),
        ("CLOSED 7 a:1 REASON=DONE", Status.CANCELLED, "done"),
        ("CLOSED 7 a:1", Status.ERROR, "failed"),
        ("FAILED 7 a:1 REASON=A_NEW_ONE", Status.ERROR, "a_new_one"),
    ],
)
def test_a_stream_that_is_not_connected(
    mapper: TorMapper, captured: CapturedSpans, lines: str, status: Status, error_type: str
) -> None:
    """The stream and what was in progress have tor's reason; a program that went away gave it up."""
    feed(mapper, "0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER\n1 STREAM 1 SENTCONNECT 7 a:1")
    feed(mapper, f"9 STREAM 1 {lines}")
    if "FAILED" in lines:
        feed(mapper, f"9 STREAM 1 {lines.replace('FAILED', 'CLOSED')}")
    for name in ("tor.stream", "tor.stream.connect"):
        record = one(captured, name)
        assert (record.status, record.attributes["error.type"]) == (status, error_type)
    counts = mapper.counts.streams
    assert (counts.opened, counts.failed, counts.cancelled, counts.open) == (
        1,
        status is Status.ERROR,
        status is Status.CANCELLED,
        0,
    )


def test_a_connection_that_breaks(mapper: TorMapper, captured: CapturedSpans) -> None:
    """An open stream that the destination resets is an error of the transfer."""
    feed(
        mapper,
        """
        0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER
        1 STREAM 1 SENTCONNECT 7 a:1
        2 STREAM 1 SUCCEEDED 7 a:1
        9 STREAM 1 CLOSED 7 a:1 REASON=END REMOTE_REASON=CONNRESET
        """,
    )
    assert one(captured, "tor.stream.transfer").attributes["error.type"] == "connreset"
    assert one(captured, "tor.stream").status is Status.ERROR
    assert one(captured, "tor.stream.connect").status is Status.UNSET


def test_a_name_that_is_looked_up(mapper: TorMapper, captured: CapturedSpans) -> None:
    """RESOLVE has a resolve span and no transfer; an answer from tor's own cache has neither."""
    feed(
        mapper,
        """
        0 STREAM 1 NEWRESOLVE 0 a.example:0 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER
        1 STREAM 1 SENTRESOLVE 7 a.example:0
        9 STREAM 1 SUCCEEDED 7 192.0.2.1:0
        10 STREAM 1 CLOSED 7 192.0.2.1:0 REASON=DONE
        20 STREAM 2 NEWRESOLVE 0 a.example:0 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER
        20 STREAM 2 SUCCEEDED 0 192.0.2.1:0
        21 STREAM 2 CLOSED 0 192.0.2.1:0 REASON=DONE
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-10
          tor.stream.attach 0-1
          tor.stream.resolve 1-9
        tor.stream 20-21
          tor.stream.attach 20-20
        """)


def test_a_directory_stream(mapper: TorMapper, captured: CapturedSpans) -> None:
    """tor's own fetches are apart from users' streams: INTERNAL, with their purpose, counted; the circuit below."""
    target = f"127.0.0.1.${DIRECTORY}.exit:9001"
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 {target} PURPOSE=DIR_FETCH CLIENT_PROTOCOL=UNKNOWN
        1 CIRC 7 LAUNCHED BUILD_FLAGS=ONEHOP_TUNNEL PURPOSE=GENERAL
        5 CIRC 7 EXTENDED {GUARD} BUILD_FLAGS=ONEHOP_TUNNEL PURPOSE=GENERAL
        5 CIRC 7 BUILT {GUARD} BUILD_FLAGS=ONEHOP_TUNNEL PURPOSE=GENERAL
        6 STREAM 1 SENTCONNECT 7 {target}
        8 STREAM 1 SUCCEEDED 7 {target}
        9 STREAM 1 CLOSED 7 {target} REASON=END REMOTE_REASON=DONE
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-9
          tor.stream.attach 0-6
            tor.circuit.build 1-5
              tor.circuit.extend 1-5
          tor.stream.connect 6-8
          tor.stream.transfer 8-9
        """)
    record = one(captured, "tor.stream")
    assert record.kind is SpanKind.INTERNAL
    assert record.attributes["tor.stream.purpose"] == "DIR_FETCH"
    assert record.attributes["tor.relay.fingerprint"] == DIRECTORY
    assert "server.address" not in record.attributes
    assert mapper.counts.streams.directory == 1


def test_the_application_owns_its_streams(captured: CapturedSpans) -> None:
    """The owner is asked once, at the beginning; its span is the parent, and what is not sampled records nothing."""
    asked = []
    silent = Tracer("silent", NoopExporter(), NeverSample()).start_span("request")
    request = captured.tracer.start_span("request", start_time_ns=T0)

    def owner(event: object) -> object:
        asked.append(event)
        return (request, silent, None)[len(asked) - 1]

    mapper = TorMapper(captured.tracer, Privacy.LAB, owner=owner)  # type: ignore[arg-type]
    for stream in "123":
        feed(
            mapper,
            f"""
            {stream} STREAM {stream} NEW 0 a:1 SOURCE_ADDR=127.0.0.1:500{stream} PURPOSE=USER
            5 STREAM {stream} SENTCONNECT 7 a:1
            6 STREAM {stream} SUCCEEDED 7 a:1
            9 STREAM {stream} CLOSED 7 a:1 REASON=DONE
            """,
        )
    request.end(T0 + 10 * MS)
    assert len(asked) == 3
    assert outline(captured) == tree("""
        request 0-10
          tor.stream 1-9
            tor.stream.attach 1-5
            tor.stream.connect 5-6
            tor.stream.transfer 6-9
        tor.stream 3-9
          tor.stream.attach 3-5
          tor.stream.connect 5-6
          tor.stream.transfer 6-9
        """)
    assert mapper.counts.streams.opened == 3


def test_the_first_byte(mapper: TorMapper, captured: CapturedSpans) -> None:
    """It is an event of the stream from that address, whether it is told before tor's event or after it."""
    mapper.first_byte("127.0.0.1:1", T0 + 5 * MS)
    mapper.first_byte("127.0.0.1:2", T0 - 5 * MS)  # of an earlier connection from the same port
    feed(
        mapper,
        """
        0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER
        0 STREAM 2 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:2 PURPOSE=USER
        0 STREAM 3 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:3 PURPOSE=USER
        1 STREAM 3 SENTCONNECT 7 a:1
        """,
    )
    mapper.first_byte("127.0.0.1:3", T0 + 7 * MS)
    mapper.close("DETACHED", T0 + 9 * MS)
    events = {r.attributes["tor.stream.id"]: r.events for r in captured.records if r.name == "tor.stream"}
    assert [[(e.name, e.time_ns - T0) for e in events[i]] for i in "123"] == [
        [("first_byte", 5 * MS)],
        [],
        [("first_byte", 7 * MS)],
    ]


# --- onion services --------------------------------------------------------------------------------------------------

_DIR = f"127.0.0.1.${DIRECTORY}.exit:9001"
FETCH = f"""
    0 STREAM 1 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER
    0 STREAM 2 NEW 0 {_DIR} PURPOSE=DIR_FETCH CLIENT_PROTOCOL=UNKNOWN
    0 HS_DESC REQUESTED {ONION} NO_AUTH ${DIRECTORY}~dir abc HSDIR_INDEX=FF
    1 CIRC_MINOR 7 PURPOSE_CHANGED {THREE} PURPOSE=HS_CLIENT_HSDIR HS_STATE=HSCI_CONNECTING OLD_PURPOSE=HS_VANGUARDS
    1 CIRC_MINOR 7 CANNIBALIZED {THREE} PURPOSE=HS_CLIENT_HSDIR HS_STATE=HSCI_CONNECTING OLD_PURPOSE=HS_VANGUARDS
    6 CIRC 7 EXTENDED {THREE},{FOURTH} PURPOSE=HS_CLIENT_HSDIR HS_STATE=HSCI_CONNECTING
    6 CIRC 7 BUILT {THREE},{FOURTH} PURPOSE=HS_CLIENT_HSDIR HS_STATE=HSCI_CONNECTING
    7 STREAM 2 SENTCONNECT 7 {_DIR}
    8 STREAM 2 SUCCEEDED 7 {_DIR}
    19 STREAM 2 CLOSED 7 {_DIR} REASON=END REMOTE_REASON=DONE
    20 HS_DESC RECEIVED {ONION} NO_AUTH ${DIRECTORY}~dir abc
"""
_QUERY = f"REND_QUERY={ONION}"
_REND = f"PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_CONNECTING {_QUERY}"
_INTRO = f"PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING {_QUERY}"
MEET = f"""
    20 CIRC 8 LAUNCHED PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_CONNECTING
    20 CIRC 9 LAUNCHED PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING
    25 CIRC 8 EXTENDED {GUARD} {_REND}
    26 CIRC 9 EXTENDED {GUARD} {_INTRO}
    30 CIRC 8 BUILT {GUARD} {_REND}
    31 CIRC 9 BUILT {GUARD} {_INTRO}
    35 CIRC_MINOR 8 PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_IDLE {_QUERY}
    36 CIRC_MINOR 9 PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_INTRO_SENT {_QUERY}
    40 CIRC_MINOR 8 PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_WAITING {_QUERY}
    40 CIRC_MINOR 9 PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_DONE {_QUERY}
    40 CIRC_MINOR 9 PURPOSE_CHANGED {GUARD} PURPOSE=CIRCUIT_PADDING {_QUERY}
    50 CIRC_MINOR 8 PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED {_QUERY}
"""
USE = f"""
    50 STREAM 1 SENTCONNECT 8 {ONION}.onion:80
    60 STREAM 1 SUCCEEDED 8 {ONION}.onion:80
    90 STREAM 1 CLOSED 8 {ONION}.onion:80 REASON=END REMOTE_REASON=DONE
"""


def test_a_connection_to_an_onion_service(mapper: TorMapper, captured: CapturedSpans) -> None:
    """One trace: stream, wait, connection, its phases, their circuits hop by hop, the directory's stream."""
    feed(mapper, FETCH + MEET + USE)
    assert outline(captured) == tree("""
        tor.stream 0-90 -> tor.circuit.build[8]
          tor.stream.attach 0-50
            tor.hs.connect 0-50
              tor.hs.connect.descriptor.fetch 0-20
                tor.stream 0-19
                  tor.stream.attach 0-7
                    tor.circuit.build 1-6
                      tor.circuit.extend 1-6
                  tor.stream.connect 7-8
                  tor.stream.transfer 8-19
              tor.hs.connect.rendezvous.establish 20-35
                tor.circuit.build 20-30
                  tor.circuit.extend 20-25
              tor.hs.connect.introduce 20-40
                * introduce_sent 36
                tor.circuit.build 20-31
                  tor.circuit.extend 20-26
              tor.hs.connect.rendezvous.join 40-50
          tor.stream.connect 50-60
          tor.stream.transfer 60-90
        """)
    assert mapper.counts.onion_connections == 1
    assert mapper.counts.open == 0
    assert one(captured, "tor.hs.connect").attributes["tor.hs.address"] == ONION


def test_an_onion_service_by_circuits_from_before(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Circuits that were built before anybody listened join the connection by the first event that has its address."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER
        20 CIRC_MINOR 8 PURPOSE_CHANGED {THREE} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_CONNECTING OLD_PURPOSE=HS_VANGUARDS
        20 CIRC_MINOR 8 CANNIBALIZED {THREE} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_CONNECTING OLD_PURPOSE=HS_VANGUARDS
        20 CIRC 8 BUILT {THREE} {_REND}
        20 CIRC_MINOR 9 PURPOSE_CHANGED {THREE} PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING
        20 CIRC_MINOR 9 CANNIBALIZED {THREE} PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING OLD_PURPOSE=HS_VANGUARDS
        30 CIRC 9 EXTENDED {THREE},{FOURTH} {_INTRO}
        30 CIRC 9 BUILT {THREE},{FOURTH} {_INTRO}
        """,
    )
    feed(mapper, "\n".join(MEET.splitlines()[-7:]) + USE)
    assert outline(captured) == tree("""
        tor.stream 0-90 -> tor.circuit.build[8]
          tor.stream.attach 0-50
            tor.hs.connect 0-50
              tor.hs.connect.rendezvous.establish 20-35
                tor.circuit.build 20-20
              tor.hs.connect.introduce 20-40
                * introduce_sent 36
                tor.circuit.build 20-30
                  tor.circuit.extend 20-30
              tor.hs.connect.rendezvous.join 40-50
          tor.stream.connect 50-60
          tor.stream.transfer 60-90
        """)


def test_streams_that_wait_together(mapper: TorMapper, captured: CapturedSpans) -> None:
    """The connection is that of the one that waits longest; another that waits along has a link to it, a later none."""
    feed(mapper, FETCH)
    feed(mapper, f"21 STREAM 3 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5003 PURPOSE=USER")
    feed(mapper, MEET + USE)
    feed(mapper, f"50 STREAM 3 SENTCONNECT 8 {ONION}.onion:80")
    feed(mapper, f"95 STREAM 4 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5004 PURPOSE=USER")
    feed(mapper, f"95 STREAM 4 SENTCONNECT 8 {ONION}.onion:80")
    mapper.close("DETACHED", T0 + 99 * MS)
    links = {
        str(record.parent_id): [link.context.span_id for link in record.links]
        for record in captured.records
        if record.name == "tor.stream.attach"
    }
    ids = {r.attributes["tor.stream.id"]: r.span_id for r in captured.records if r.name == "tor.stream"}
    connection = one(captured, "tor.hs.connect").span_id
    assert [links[ids[i]] for i in "134"] == [[], [connection], []]


def isolated(rend: str, intro: str, at_ms: int) -> str:
    """A rendezvous of a stream's own: tor tells that both circuits are for the service, and which belong together."""
    rest = f"PURPOSE=HS_CLIENT_INTRO {_QUERY}"
    return f"""
        {at_ms} CIRC {rend} LAUNCHED PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_CONNECTING
        {at_ms} CIRC {intro} LAUNCHED PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING
        {at_ms + 1} CIRC {rend} EXTENDED {GUARD} {_REND}
        {at_ms + 1} CIRC {intro} EXTENDED {GUARD} {_INTRO}
        {at_ms + 2} CIRC {rend} BUILT {GUARD} {_REND}
        {at_ms + 2} CIRC {intro} BUILT {GUARD} {_INTRO}
        {at_ms + 3} CIRC_MINOR {rend} PURPOSE_CHANGED {GUARD} {_REND.replace("CONNECTING", "ESTABLISHED_IDLE")}
        {at_ms + 3} CIRC_MINOR {intro} PURPOSE_CHANGED {GUARD} HS_STATE=HSCI_INTRO_SENT {rest}
        {at_ms + 5} CIRC_MINOR {rend} PURPOSE_CHANGED {GUARD} {_REND.replace("CONNECTING", "ESTABLISHED_WAITING")}
        {at_ms + 5} CIRC_MINOR {intro} PURPOSE_CHANGED {GUARD} HS_STATE=HSCI_DONE {rest}
    """


def joined(rend: str, stream: str, at_ms: int) -> str:
    return f"""
        {at_ms} CIRC_MINOR {rend} PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED {_QUERY}
        {at_ms} STREAM {stream} SENTCONNECT {rend} {ONION}.onion:80
        {at_ms + 1} STREAM {stream} SUCCEEDED {rend} {ONION}.onion:80
        {at_ms + 9} STREAM {stream} CLOSED {rend} {ONION}.onion:80 REASON=DONE
    """


WAIT_TOGETHER = f"""
    0 STREAM 1 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5001 PURPOSE=USER
    1 STREAM 3 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5003 PURPOSE=USER
    2 HS_DESC REQUESTED {ONION} NO_AUTH ${DIRECTORY}~dir abc
    9 HS_DESC RECEIVED {ONION} NO_AUTH ${DIRECTORY}~dir abc
"""


def test_streams_with_a_rendezvous_each(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Streams that must not share circuits have a connection each, with the phases that led to their own circuit."""
    feed(mapper, WAIT_TOGETHER + isolated("8", "9", 10) + isolated("10", "11", 20))
    assert mapper.counts.open == 2 + 1 + 6, "two streams, a connection, phases of which two have not ended"
    feed(mapper, joined("10", "3", 40) + joined("8", "1", 50))
    assert outline(captured) == tree("""
        tor.stream 0-59 -> tor.circuit.build[8]
          tor.stream.attach 0-50 -> tor.hs.connect
            tor.hs.connect 0-50
              tor.hs.connect.descriptor.fetch 2-9
              tor.hs.connect.rendezvous.establish 10-13
                tor.circuit.build 10-12
                  tor.circuit.extend 10-11
              tor.hs.connect.introduce 10-15
                * introduce_sent 13
                tor.circuit.build 10-12
                  tor.circuit.extend 10-11
              tor.hs.connect.rendezvous.join 15-50
          tor.stream.connect 50-51
          tor.stream.transfer 51-59
        tor.stream 1-49 -> tor.circuit.build[10]
          tor.stream.attach 1-40
            tor.hs.connect 1-40
              tor.hs.connect.rendezvous.establish 20-23
                tor.circuit.build 20-22
                  tor.circuit.extend 20-21
              tor.hs.connect.introduce 20-25
                * introduce_sent 23
                tor.circuit.build 20-22
                  tor.circuit.extend 20-21
              tor.hs.connect.rendezvous.join 25-40
          tor.stream.connect 40-41
          tor.stream.transfer 41-49
        """)
    assert {r.attributes["tor.circuit.id"] for r in captured.records if r.name == "tor.hs.connect.introduce"} == {
        "9",
        "11",
    }
    assert mapper.counts.onion_connections == 2
    assert mapper.counts.open == 0


def test_streams_that_share_a_rendezvous(mapper: TorMapper, captured: CapturedSpans) -> None:
    """It is that of the stream that takes it first; the others have a link to that connection."""
    feed(mapper, WAIT_TOGETHER + isolated("8", "9", 10) + joined("8", "1", 40))
    feed(mapper, f"41 STREAM 3 SENTCONNECT 8 {ONION}.onion:80")
    mapper.close("DETACHED", T0 + 60 * MS)
    text = outline(captured)
    assert text.count("tor.hs.connect.introduce") == 1
    assert text.endswith(
        tree("""
        tor.stream 1-60 CANCELLED detached -> tor.circuit.build[8]
          tor.stream.attach 1-41 -> tor.hs.connect
          tor.stream.connect 41-60 CANCELLED detached
        """)
    )


def test_streams_that_all_fail(mapper: TorMapper, captured: CapturedSpans) -> None:
    """What tor tried for a service that does not answer is told once, with the stream that waited longest."""
    feed(
        mapper,
        WAIT_TOGETHER
        + isolated("8", "9", 10)
        + f"""
        30 STREAM 1 FAILED 0 {ONION}.onion:80 REASON=TIMEOUT
        30 STREAM 1 CLOSED 0 {ONION}.onion:80 REASON=TIMEOUT
        30 STREAM 3 FAILED 0 {ONION}.onion:80 REASON=TIMEOUT
        30 STREAM 3 CLOSED 0 {ONION}.onion:80 REASON=TIMEOUT
        31 CIRC 8 CLOSED {GUARD} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_WAITING {_QUERY} REASON=TIMEOUT
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-30 ERROR timeout
          tor.stream.attach 0-30 ERROR timeout
            tor.hs.connect 0-30 ERROR timeout
              tor.hs.connect.descriptor.fetch 2-9
              tor.hs.connect.rendezvous.establish 10-13
                tor.circuit.build 10-12
                  tor.circuit.extend 10-11
              tor.hs.connect.introduce 10-15
                * introduce_sent 13
                tor.circuit.build 10-12
                  tor.circuit.extend 10-11
              tor.hs.connect.rendezvous.join 15-31 ERROR timeout
        tor.stream 1-30 ERROR timeout
          tor.stream.attach 1-30 ERROR timeout
        """)
    assert mapper.counts.open == 0


def test_streams_with_a_rendezvous_each_that_fail(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Whose each was is not told then; tor makes one for the longest wait first."""
    feed(mapper, WAIT_TOGETHER + isolated("8", "9", 10) + isolated("10", "11", 20))
    for stream in "13":
        feed(mapper, f"30 STREAM {stream} FAILED 0 {ONION}.onion:80 REASON=TIMEOUT")
        feed(mapper, f"30 STREAM {stream} CLOSED 0 {ONION}.onion:80 REASON=TIMEOUT")
    mapper.close("DETACHED", T0 + 40 * MS)
    connections = [record for record in captured.records if record.name == "tor.hs.connect"]
    assert [
        {r.attributes.get("tor.circuit.id") for r in captured.records if r.parent_id == connection.span_id}
        for connection in connections
    ] == [{None, "8", "9"}, {"10", "11"}]
    assert mapper.counts.open == 0


def test_streams_that_give_up_together(mapper: TorMapper, captured: CapturedSpans) -> None:
    """What was done for streams that were given up is with the last of them, or with nobody if it came too late."""
    feed(mapper, WAIT_TOGETHER + isolated("8", "9", 10))
    feed(mapper, f"20 STREAM 1 CLOSED 0 {ONION}.onion:80 REASON=DONE")
    feed(mapper, f"21 STREAM 4 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5004 PURPOSE=USER")
    feed(mapper, f"22 STREAM 3 CLOSED 0 {ONION}.onion:80 REASON=DONE")
    feed(mapper, joined("8", "4", 30))
    assert mapper.counts.open == 0
    roots = [line for line in outline(captured).splitlines() if not line.startswith(" ")]
    assert roots == [
        "tor.stream 0-20 CANCELLED done",
        "tor.stream 1-22 CANCELLED done",
        "tor.hs.connect.rendezvous.establish 10-13",
        "tor.hs.connect.introduce 10-15",
        "tor.stream 21-39 -> tor.circuit.build[8]",
    ]
    assert one(captured, "tor.hs.connect.rendezvous.join").parent_id != ""


def test_a_circuit_that_is_built_again_while_it_is_not_known_for_whom(
    mapper: TorMapper, captured: CapturedSpans
) -> None:
    """Its first build must have its spans then: they go to the stream that waits longest."""
    feed(
        mapper,
        WAIT_TOGETHER
        + f"""
        10 CIRC 9 LAUNCHED PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING
        12 CIRC 9 BUILT {GUARD} {_INTRO}
        20 CIRC 9 EXTENDED {GUARD},{MIDDLE} {_INTRO}
        21 CIRC 9 BUILT {GUARD},{MIDDLE} {_INTRO}
        """,
    )
    mapper.close("DETACHED", T0 + 30 * MS)
    assert outline(captured).startswith(
        tree("""
        tor.stream 0-30 CANCELLED detached
          tor.stream.attach 0-30 CANCELLED detached
            tor.hs.connect 0-30 CANCELLED detached
              tor.hs.connect.descriptor.fetch 2-9
              tor.hs.connect.introduce 10-30 CANCELLED detached
                tor.circuit.build 10-12
                tor.circuit.build 20-21
        """)
    )
    assert mapper.counts.open == 0


def test_a_directory_stream_that_is_told_of_first(mapper: TorMapper, captured: CapturedSpans) -> None:
    """The phase begins with it, where tor's next event, which says what the stream is for, comes a little later."""
    feed(
        mapper,
        f"10 STREAM 2 NEW 0 {_DIR} PURPOSE=DIR_FETCH\n10.02 HS_DESC REQUESTED {ONION} NO_AUTH ${DIRECTORY}~dir abc",
    )
    feed(mapper, f"15 STREAM 2 CLOSED 0 {_DIR} REASON=DONE\n20 HS_DESC RECEIVED {ONION} NO_AUTH ${DIRECTORY}~dir abc")
    assert outline(captured).startswith("tor.hs.connect.descriptor.fetch 10-20\n  tor.stream 10-15 ")


def test_an_onion_service_that_is_not_published(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Each directory that was asked is a phase of its own, with its reason; the connection fails as the stream does."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER
        0 HS_DESC REQUESTED {ONION} NO_AUTH ${DIRECTORY}~dir abc HSDIR_INDEX=FF
        9 HS_DESC FAILED {ONION} NO_AUTH ${DIRECTORY}~dir abc REASON=NOT_FOUND
        9 HS_DESC REQUESTED {ONION} NO_AUTH {FOURTH} abc HSDIR_INDEX=FF
        19 HS_DESC FAILED {ONION} NO_AUTH {FOURTH} abc REASON=QUERY_NO_HSDIR
        20 STREAM 1 FAILED 0 {ONION}.onion:80 REASON=RESOLVEFAILED
        20 STREAM 1 CLOSED 0 {ONION}.onion:80 REASON=RESOLVEFAILED
        """,
    )
    assert outline(captured) == tree("""
        tor.stream 0-20 ERROR resolvefailed
          tor.stream.attach 0-20 ERROR resolvefailed
            tor.hs.connect 0-20 ERROR resolvefailed
              tor.hs.connect.descriptor.fetch 0-9 ERROR not_found
              tor.hs.connect.descriptor.fetch 9-19 ERROR query_no_hsdir
        """)


def test_another_introduction_point(mapper: TorMapper, captured: CapturedSpans) -> None:
    """An introduction that fails with its circuit is an error; the next one has a span of its own."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER
        1 CIRC 9 LAUNCHED PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING
        5 CIRC 9 FAILED {GUARD} {_INTRO} REASON=DESTROYED REMOTE_REASON=CONNECTFAILED
        6 CIRC 10 LAUNCHED PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_CONNECTING
        8 CIRC 10 BUILT {GUARD} {_INTRO}
        9 CIRC_MINOR 10 PURPOSE_CHANGED {GUARD} PURPOSE=HS_CLIENT_INTRO HS_STATE=HSCI_DONE {_QUERY}
        """,
    )
    mapper.close("CONNECTION_LOST", T0 + 12 * MS)
    assert outline(captured) == tree("""
        tor.stream 0-12 ERROR connection_lost
          tor.stream.attach 0-12 ERROR connection_lost
            tor.hs.connect 0-12 ERROR connection_lost
              tor.hs.connect.introduce 1-5 ERROR destroyed
                tor.circuit.build 1-5 ERROR destroyed
                  tor.circuit.extend 1-5 ERROR destroyed
              tor.hs.connect.introduce 6-9
                tor.circuit.build 6-8
        """)


def test_a_program_that_gives_an_onion_service_up(mapper: TorMapper, captured: CapturedSpans) -> None:
    """What tor goes on with for nobody has no connection: its phases are traces of their own."""
    feed(mapper, f"0 STREAM 1 NEW 0 {ONION}.onion:80 SOURCE_ADDR=127.0.0.1:5000 PURPOSE=USER")
    feed(mapper, f"1 HS_DESC REQUESTED {ONION} NO_AUTH ${DIRECTORY}~dir abc")
    feed(mapper, f"5 STREAM 1 CLOSED 0 {ONION}.onion:80 REASON=DONE")
    feed(mapper, f"20 HS_DESC RECEIVED {ONION} NO_AUTH ${DIRECTORY}~dir abc")
    feed(mapper, MEET)
    assert outline(captured) == tree("""
        tor.stream 0-5 CANCELLED done
          tor.stream.attach 0-5 CANCELLED done
            tor.hs.connect 0-5 CANCELLED done
              tor.hs.connect.descriptor.fetch 1-20
        tor.hs.connect.rendezvous.establish 20-35
          tor.circuit.build 20-30
            tor.circuit.extend 20-25
        tor.hs.connect.introduce 20-40
          * introduce_sent 36
          tor.circuit.build 20-31
            tor.circuit.extend 20-26
        tor.hs.connect.rendezvous.join 40-50
        """)
    assert mapper.counts.open == 0


def test_the_services_side(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Introduction points are established, surplus ones given up; a descriptor is published to all its directories."""
    service = f"PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_CONNECTING {_QUERY}"
    feed(
        mapper,
        f"""
        0 CIRC 1 LAUNCHED PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_CONNECTING
        0 CIRC 2 LAUNCHED PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_CONNECTING
        5 CIRC 1 BUILT {GUARD} {service}
        6 CIRC 2 BUILT {GUARD} {service}
        6 CIRC_MINOR 2 PURPOSE_CHANGED {GUARD} PURPOSE=HS_VANGUARDS OLD_PURPOSE=HS_SERVICE_INTRO
        8 CIRC_MINOR 1 PURPOSE_CHANGED {GUARD} PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED {_QUERY}
        10 STREAM 5 NEW 0 {_DIR} PURPOSE=DIR_UPLOAD CLIENT_PROTOCOL=UNKNOWN
        10 HS_DESC UPLOAD {ONION} UNKNOWN ${DIRECTORY}~dir abc HSDIR_INDEX=FF
        10 HS_DESC UPLOAD {ONION} UNKNOWN {FOURTH} abc HSDIR_INDEX=FF
        11 STREAM 5 SENTCONNECT 1 {_DIR}
        12 STREAM 5 SUCCEEDED 1 {_DIR}
        13 STREAM 5 CLOSED 1 {_DIR} REASON=END REMOTE_REASON=DONE
        13 HS_DESC UPLOADED {ONION} UNKNOWN ${DIRECTORY}~dir
        15 HS_DESC FAILED {ONION} UNKNOWN {FOURTH} abc REASON=UPLOAD_REJECTED
        20 CIRC 3 LAUNCHED PURPOSE=HS_SERVICE_REND HS_STATE=HSSR_CONNECTING
        25 CIRC 3 BUILT {GUARD} PURPOSE=HS_SERVICE_REND HS_STATE=HSSR_CONNECTING {_QUERY}
        26 CIRC_MINOR 3 PURPOSE_CHANGED {GUARD} PURPOSE=HS_SERVICE_REND HS_STATE=HSSR_JOINED {_QUERY}
        90 CIRC 3 CLOSED {GUARD} PURPOSE=HS_SERVICE_REND HS_STATE=HSSR_JOINED REASON=FINISHED
        """,
    )
    assert outline(captured) == tree("""
        tor.hs.intro.establish 0-8
          tor.circuit.build 0-5
        tor.hs.intro.establish 0-6 CANCELLED not_needed
          tor.circuit.build 0-6
        tor.hs.publish 10-15
          * uploaded 13
          * upload_failed 15
          tor.stream 10-13 -> tor.circuit.build[1]
            tor.stream.attach 10-11
            tor.stream.connect 11-12
            tor.stream.transfer 12-13
        tor.hs.rendezvous 20-26
          tor.circuit.build 20-25
        """)
    record = one(captured, "tor.hs.publish")
    assert (record.attributes["tor.hs.uploads"], record.attributes["tor.hs.uploads_failed"]) == (2, 1)
    assert mapper.counts.open == 0


def test_a_descriptor_that_nobody_takes(mapper: TorMapper, captured: CapturedSpans) -> None:
    """A publication is an error if every directory refused."""
    feed(mapper, f"0 HS_DESC UPLOAD {ONION} UNKNOWN ${DIRECTORY}~dir abc HSDIR_INDEX=FF")
    feed(mapper, f"9 HS_DESC FAILED {ONION} UNKNOWN ${DIRECTORY}~dir abc REASON=UPLOAD_REJECTED")
    record = one(captured, "tor.hs.publish")
    assert (record.status, record.attributes["error.type"]) == (Status.ERROR, "upload_rejected")


# --- ends, restarts, limits ------------------------------------------------------------------------------------------


def test_everything_ends_with_the_reason_of_the_loss(mapper: TorMapper, captured: CapturedSpans) -> None:
    """When tor goes away nothing stays open, whatever it was in the middle of; the mapper begins afresh."""
    feed(mapper, FETCH + MEET.partition("35 CIRC_MINOR")[0])
    feed(mapper, '30 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=10 TAG=conn SUMMARY="x"')
    feed(mapper, f"30 ORCONN {GUARD} LAUNCHED ID=3")
    assert mapper.counts.open > 0
    mapper.close("TOR_EXITED", T0 + 99 * MS)
    assert mapper.counts.open == 0
    lost = {record.name for record in captured.records if record.attributes.get("clew.unfinished")}
    assert lost == {
        "tor.bootstrap",
        "tor.orconn",
        "tor.stream",
        "tor.hs.connect.introduce",
        "tor.hs.connect.rendezvous.establish",
    }
    assert {r.attributes["error.type"] for r in captured.records if r.status is not Status.UNSET} == {"tor_exited"}
    before = len(captured.records)
    feed(mapper, FETCH + MEET + USE)
    assert len(captured.records) > before
    assert mapper.counts.open == 0


def test_another_run_of_tor(mapper: TorMapper, captured: CapturedSpans) -> None:
    """An id that begins again is another stream: the one before is lost."""
    feed(mapper, "0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER")
    feed(mapper, "9 STREAM 1 NEW 0 b:1 SOURCE_ADDR=127.0.0.1:2 PURPOSE=USER\n10 STREAM 1 CLOSED 0 b:1 REASON=DONE")
    assert outline(captured) == tree("""
        tor.stream 0-9 ERROR tor_restarted
          tor.stream.attach 0-9 ERROR tor_restarted
        tor.stream 9-10 CANCELLED done
          tor.stream.attach 9-10 CANCELLED done
        """)


def test_seen_from_the_middle(mapper: TorMapper, captured: CapturedSpans) -> None:
    """A stream whose beginning was not seen says so; one of which only the end was seen has no span."""
    feed(mapper, "5 STREAM 1 SUCCEEDED 7 a:1\n9 STREAM 1 CLOSED 7 a:1 REASON=DONE\n9 STREAM 2 CLOSED 7 a:1 REASON=DONE")
    assert outline(captured) == "tor.stream 5-9\n  tor.stream.transfer 5-9\n"
    assert one(captured, "tor.stream").attributes["tor.stream.partial"] is True
    assert mapper.counts.streams.partial == 1


def test_a_wait_that_was_not_seen(mapper: TorMapper, captured: CapturedSpans) -> None:
    """It has no span, which would look as if it had taken no time."""
    feed(mapper, "5 STREAM 1 SENTCONNECT 7 a:1\n9 STREAM 1 CLOSED 7 a:1 REASON=TIMEOUT")
    assert outline(captured) == tree("""
        tor.stream 5-9 ERROR timeout
          tor.stream.connect 5-9 ERROR timeout
        """)


def test_onion_circuits_from_before(mapper: TorMapper, captured: CapturedSpans) -> None:
    """What was established before anybody listened has no phase, but what it comes to afterwards has."""
    feed(
        mapper,
        f"""
        5 CIRC 5 CLOSED {THREE} PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED {_QUERY} REASON=FINISHED
        6 CIRC_MINOR 6 PURPOSE_CHANGED {THREE} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_IDLE {_QUERY}
        7 CIRC_MINOR 6 PURPOSE_CHANGED {THREE} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_WAITING {_QUERY}
        9 CIRC_MINOR 6 PURPOSE_CHANGED {THREE} PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED {_QUERY}
        """,
    )
    mapper.close("DETACHED", T0 + 10 * MS)
    assert outline(captured) == "tor.hs.connect.rendezvous.join 7-9\n"


def test_circuits_from_before(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Who asks tor which there are knows their age, and has no span of what was not seen."""
    feed(mapper, f"0 CIRC 5 CLOSED {THREE} PURPOSE=GENERAL REASON=FINISHED\n0 CIRC 6 LAUNCHED PURPOSE=GENERAL")
    made = "TIME_CREATED=2025-12-31T23:59:58.000000"
    status = [
        f"5 BUILT {THREE} PURPOSE=GENERAL {made}",  # tor answered before it closed that
        f"6 BUILT {THREE} PURPOSE=GENERAL {made}",  # its events are told
        f"7 BUILT {THREE} PURPOSE=CONFLUX_LINKED {made} CONFLUX_ID=AA",
        f"8 EXTENDED {GUARD} PURPOSE=GENERAL {made}",
        f"9 BUILT {THREE} PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED {_QUERY} {made}",
        "",
        "nonsense",
    ]
    assert mapper.preload("\n".join(status)) == 2
    feed(
        mapper,
        f"""
        100 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER
        100 STREAM 1 SENTCONNECT 7 a:1
        109 STREAM 1 CLOSED 7 a:1 REASON=DONE
        110 STREAM 2 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER
        110 STREAM 2 SENTCONNECT 7 a:1
        119 STREAM 2 CLOSED 7 a:1 REASON=DONE
        120 CIRC_MINOR 7 CANNIBALIZED {THREE} PURPOSE=GENERAL
        125 CIRC 7 EXTENDED {THREE},{FOURTH} PURPOSE=GENERAL
        125 CIRC 7 BUILT {THREE},{FOURTH} PURPOSE=GENERAL
        130 CIRC 9 CLOSED {THREE} PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED {_QUERY} REASON=FINISHED
        """,
    )
    mapper.close("DETACHED", T0 + 140 * MS)
    first, second = (dict(record.attributes) for record in captured.records if record.name == "tor.stream")
    assert (first["tor.circuit.age_ms"], second["tor.circuit.age_ms"]) == (2100, 2110)
    assert "tor.circuit.reused" not in first, "who else used it was not seen"
    assert second["tor.circuit.reused"] is True
    assert first["tor.conflux.id"] == "AA"
    builds = [
        (str(r.attributes["tor.circuit.id"]), r.attributes.get("tor.circuit.age_ms"))
        for r in captured.records
        if r.name == "tor.circuit.build"
    ]
    assert sorted(builds) == [("6", None), ("7", 2120)]
    assert not [record for record in captured.records if record.name.startswith("tor.hs.")]
    assert mapper.counts.circuits.known == 0


def test_the_connection_that_was_lost_is_named(mapper: TorMapper, captured: CapturedSpans) -> None:
    """A stream is a connection too: which one was lost must be clear."""
    feed(mapper, "0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=USER")
    mapper.close("CONNECTION_LOST", T0 + 9 * MS)
    assert {"control port" in str(record.status_description) for record in captured.records} == {True}


def test_words_of_other_versions(mapper: TorMapper, captured: CapturedSpans) -> None:
    """Unknown statuses, keywords, purposes and actions are kept or counted, and nothing raises."""
    feed(
        mapper,
        f"""
        0 STREAM 1 NEW 0 a:1 SOURCE_ADDR=127.0.0.1:1 PURPOSE=A_NEW_PURPOSE NEW_KEYWORD=x flag
        1 STREAM 1 A_NEW_STATUS 0 a:1
        2 STREAM 1 CLOSED 0 a:1 REASON=DONE
        3 HS_DESC A_NEW_ACTION {ONION} NO_AUTH UNKNOWN
        4 CIRC 1 LAUNCHED PURPOSE=A_NEW_PURPOSE HS_STATE=A_NEW_STATE
        5 CIRC 1 BUILT {GUARD} PURPOSE=A_NEW_PURPOSE HS_STATE=A_NEW_STATE
        6 A_NEW_EVENT x
        """,
    )
    record = one(captured, "tor.stream")
    assert record.attributes["tor.stream.purpose"] == "A_NEW_PURPOSE"
    assert record.attributes["tor.stream.extra.new_keyword"] == "x"
    assert record.attributes["tor.stream.extra.words"] == "flag"
    assert [(e.name, e.attributes["tor.stream.status"]) for e in record.events] == [("unknown_status", "A_NEW_STATUS")]
    assert record.kind is SpanKind.CLIENT
    assert one(captured, "tor.circuit.build").attributes["tor.circuit.hs_state"] == "A_NEW_STATE"
    assert mapper.counts.streams.unknown == 1
    assert mapper.counts.ignored == 1


def test_only_so_many_streams(mapper: TorMapper, captured: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is ended and counted when there are too many; nothing is kept for ever."""
    monkeypatch.setattr(limits, "STREAMS_OPEN", 3)
    for number in range(5):
        feed(mapper, f"{number} STREAM {number} NEW 0 a:1 SOURCE_ADDR=127.0.0.1:{number} PURPOSE=USER")
    assert mapper.counts.evicted == mapper.counts.streams.evicted == 2
    evicted = [record for record in captured.records if record.name == "tor.stream"]
    assert [record.attributes["error.type"] for record in evicted] == ["evicted"] * 2
    assert mapper.counts.streams.open == 3


def test_only_so_many_phases(mapper: TorMapper, captured: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for phases of onion services."""
    monkeypatch.setattr(limits, "ONION_PHASES_OPEN", 3)
    for number in range(5):
        feed(mapper, f"{number} CIRC {number} LAUNCHED PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_CONNECTING")
    assert mapper.counts.evicted == 2
    mapper.close("DETACHED")
    assert mapper.counts.open == 0


# --- anything --------------------------------------------------------------------------------------------------------

_IDS = st.sampled_from(["1", "2", "3"])
_PURPOSES = st.sampled_from(
    [
        "GENERAL",
        "HS_CLIENT_REND",
        "HS_CLIENT_INTRO",
        "HS_CLIENT_HSDIR",
        "HS_SERVICE_REND",
        "HS_SERVICE_INTRO",
        "X",
    ]
)
_STATES = st.sampled_from(
    [
        "",
        *(
            f" HS_STATE={state}"
            for state in (
                "HSCR_ESTABLISHED_IDLE",
                "HSCR_ESTABLISHED_WAITING",
                "HSCR_JOINED",
                "HSCI_DONE",
                "HSSI_ESTABLISHED",
                "X",
            )
        ),
    ]
)
_TARGETS = st.sampled_from([f"{ONION}.onion:80", "a.example:1", _DIR, "[::1]:80", ":", ""])
_LINES = st.one_of(
    st.builds(
        "CIRC {} {} {} PURPOSE={}{} {}".format,
        _IDS,
        st.sampled_from(["LAUNCHED", "EXTENDED", "BUILT", "FAILED", "CLOSED", "GUARD_WAIT", "NEW_ONE"]),
        st.sampled_from([GUARD, THREE]),
        _PURPOSES,
        _STATES,
        st.sampled_from(["", _QUERY]),
    ),
    st.builds(
        "CIRC_MINOR {} {} {} PURPOSE={}{} {}".format,
        _IDS,
        st.sampled_from(["PURPOSE_CHANGED", "CANNIBALIZED", "NEW_ONE"]),
        st.just(THREE),
        _PURPOSES,
        _STATES,
        st.sampled_from(["", _QUERY]),
    ),
    st.builds(
        "STREAM {} {} {} {} {}".format,
        _IDS,
        st.sampled_from(
            [
                "NEW",
                "NEWRESOLVE",
                "SENTCONNECT",
                "SENTRESOLVE",
                "SUCCEEDED",
                "FAILED",
                "CLOSED",
                "DETACHED",
                "REMAP",
                "X",
            ]
        ),
        _IDS,
        _TARGETS,
        st.sampled_from(["", "REASON=DONE", "REASON=END REMOTE_REASON=MISC", "SOURCE_ADDR=127.0.0.1:9 PURPOSE=USER"]),
    ),
    st.builds(
        "HS_DESC {} {} NO_AUTH {} {}".format,
        st.sampled_from(["REQUESTED", "RECEIVED", "FAILED", "UPLOAD", "UPLOADED", "CREATED", "IGNORE", "X"]),
        st.sampled_from([ONION, "UNKNOWN"]),
        st.sampled_from([f"${DIRECTORY}~dir", FOURTH, "UNKNOWN"]),
        st.sampled_from(["", "abc", "abd REASON=NOT_FOUND"]),
    ),
    st.builds("STREAM_BW {} 5 7 2026-01-01T00:00:00.1".format, _IDS),
    st.sampled_from(
        [
            "STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=10 TAG=conn",
            f"ORCONN {GUARD} LAUNCHED ID=1",
            f"ORCONN {GUARD} CONNECTED ID=1",
            "BUILDTIMEOUT_SET COMPUTED TIMEOUT_MS=1500 CUTOFF_QUANTILE=0.8 TIMEOUT_RATE=0.1",
        ]
    ),
)


@given(st.lists(st.tuples(st.integers(-5, 50), _LINES), max_size=60))
def test_any_events_in_any_order(steps: list[tuple[int, str]]) -> None:
    """Nothing raises, counts balance at every step, and in the end nothing is open and every span was exported."""
    with capture_spans("tor") as captured:
        mapper = TorMapper(captured.tracer, Privacy.PSEUDONYMOUS)
        at_ms = 0
        for delay, line in steps:
            at_ms += delay  # clocks go back, too
            try:
                feed(mapper, f"{at_ms} {line}")
            except ControlProtocolError:  # the parser's word on a target that is missing
                continue
            assert mapper.counts.open >= 0
        mapper.close("DETACHED", T0 + at_ms * MS)
        counts = mapper.counts
        assert counts.open == 0
        streams = counts.streams
        assert streams.opened == streams.done + streams.failed + streams.cancelled + streams.lost
        stats = captured.tracer.stats()
        assert stats.started == stats.ended
        ids = {record.span_id for record in captured.records}
        assert len(ids) == stats.ended
        assert all(record.parent_id in ids or not record.parent_id for record in captured.records)
        assert all(record.end_time_ns >= record.start_time_ns for record in captured.records)
        for part in (mapper._circuits, mapper._streams, mapper._onions):
            kept = {name for name, value in vars(part).items() if isinstance(value, dict) and value}
            assert kept <= {"_actions", "_waiting"}
        assert not any(mapper._streams._waiting.values())


def test_another_tor_learns_its_build_timeout_anew(mapper: TorMapper, captured: CapturedSpans) -> None:
    """What tor waited for circuits is on each build that began while it held, and goes with that run of tor."""
    feed(mapper, "0 BUILDTIMEOUT_SET COMPUTED TIMEOUT_MS=1500 CUTOFF_QUANTILE=0.8 TIMEOUT_RATE=0.1")
    feed(mapper, READY)
    mapper.close("TOR_EXITED", T0 + 40 * MS)
    feed(mapper, READY)
    mapper.close("DETACHED", T0 + 80 * MS)
    builds = [record for record in captured.records if record.name == "tor.circuit.build"]
    assert [record.attributes.get("tor.cbt.timeout_ms") for record in builds] == [1500, None]
