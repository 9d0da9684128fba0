"""clew.formats.gotor_writer: records become go-tor's objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from clew.formats import Damage, read_items
from clew.formats.gotor_writer import GoTorWriter
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from tests.otlp_messages import exact, records_of, traces

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    from clew.formats.writing import Losses

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "0000000000000016"
START_NS = 1_763_820_000_123_456_789  # 2025-11-22T14:00:00.123456789Z
RECORD = SpanRecord(TRACE_ID, SPAN_ID, "", "GET /", start_time_ns=START_NS, end_time_ns=START_NS + 1_500_000_000)


def written(records: list[SpanRecord]) -> tuple[bytes, Losses]:
    writer = GoTorWriter()
    return b"".join(writer.encode([record]) for record in records) + writer.finish(), writer.losses


def read(data: bytes) -> list[SpanRecord]:
    records = []
    for item in read_items(iter([data])):
        assert not isinstance(item, Damage)
        records += item.records()
    return records


def test_what_a_span_looks_like() -> None:
    """The keys are go-tor's, times have all their digits, and what it has no key for is an attribute."""
    record = RECORD._replace(
        parent_id="0000000000000015",
        kind=SpanKind.CLIENT,
        status=Status.ERROR,
        status_description="relay is down",
        attributes={"circuit.id": 7, "raw": b"\0"},
        events=(Event("error", START_NS, {"n": 1.5}),),
        resource=Resource({"service.name": "go-tor", "host.name": "h"}),
        scope=Scope("lib"),
    )
    data, losses = written([record])
    assert json.loads(data) == {
        "TraceID": TRACE_ID,
        "SpanID": SPAN_ID,
        "ParentID": "0000000000000015",
        "Name": "GET /",
        "Kind": "client",
        "StartTime": "2025-11-22T14:00:00.123456789Z",
        "EndTime": "2025-11-22T14:00:01.623456789Z",
        "Duration": 1_500_000_000,
        "Status": "error",
        "Attributes": {
            "host.name": "h",
            "circuit.id": 7,
            "raw": {"bytesValue": "AA=="},
            "otel.scope.name": "lib",
            "service.name": "go-tor",
            "status.description": "relay is down",
        },
        "Events": [{"Timestamp": "2025-11-22T14:00:00.123456789Z", "Name": "error", "Attributes": {"n": 1.5}}],
    }
    assert len(losses.counts) == 1  # the resource


@given(traces)
def test_nothing_else_changes(messages: TracesData) -> None:
    """Whatever OTLP can hold is read again; if nothing was counted as lost it is equal; the second time it stays."""
    spans = records_of(messages)
    data, losses = written(spans)
    once = read(data)
    for span, back in zip(spans, once, strict=True):
        assert (span[:4], span.kind, span.status) == (back[:4], back.kind, back.status)
        assert span.start_time_ns == back.start_time_ns
        assert span.status_description == back.status_description
        assert [event[:2] for event in span.events] == [event[:2] for event in back.events]
        assert exact([event.attributes for event in span.events]) == exact([event.attributes for event in back.events])
    if not losses.counts:
        assert exact(once) == exact(spans)
    assert exact(read(written(once)[0])) == exact(once)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"end_time_ns": START_NS},
        {"end_time_ns": START_NS, "attributes": {"clew.unfinished": True}},
        {"attributes": {"clew.unfinished": True, "list": (1, None), "map": {"a": b"x"}}},
        {"start_time_ns": 0},
        {"end_time_ns": 5},
        {"trace_state": "a=1", "dropped_events": 3, "scope": Scope("a", "b")},
        {"status": Status.CANCELLED},
        {"resource": Resource({"service.name": "x"})},
    ],
)
def test_what_is_held_comes_back(change: dict[str, Any]) -> None:
    """What go-tor's objects can hold is not counted as lost, and comes back equal; so does a span without an end."""
    record = RECORD._replace(**change)
    data, losses = written([record])
    assert losses.counts == {}
    assert read(data) == [record]


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        ({"links": (Link(SpanContext(TRACE_ID, SPAN_ID)),) * 2}, "2 links (go-tor has none)"),
        ({"flags": 1}, "1 span whose W3C flags were left out (go-tor has none)"),
        ({"events": (Event("a", 1, {}, 4),)}, "1 event whose count of dropped attributes was left out"),
        ({"end_time_ns": 0}, "1 end of a span, which was at no time"),
        ({"attributes": {"service.name": "x"}}, "1 attribute with a name that means something else in the format"),
    ],
)
def test_each_loss_is_counted(change: dict[str, Any], loss: str) -> None:
    """What go-tor's objects cannot hold is told in a sentence with a number."""
    assert list(written([RECORD._replace(**change)])[1].sentences()) == [loss]
