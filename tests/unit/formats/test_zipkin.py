"""clew.formats.zipkin and zipkin_writer: Zipkin's spans become records, and records Zipkin's spans."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.zipkin.json.v2 import JsonV2Encoder
from opentelemetry.exporter.zipkin.node_endpoint import NodeEndpoint
from opentelemetry.sdk.resources import Resource as OtelResource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind as OtelKind
from opentelemetry.trace import StatusCode

from clew.errors import DecodeError
from clew.formats import Damage, Glance, read_items
from clew.formats.writing import Losses
from clew.formats.zipkin import ZipkinReader, span_from_object
from clew.formats.zipkin_writer import ZipkinWriter, object_from_span
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from tests.otlp_messages import exact, records_of, traces

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    from clew.formats import Item

DATA = Path(__file__).parents[2] / "data" / "traces"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RECORD = SpanRecord(TRACE_ID, SPAN_ID, "", "GET /", start_time_ns=1_790_000_000_000_001_000)
SPAN: dict[str, Any] = {"traceId": TRACE_ID, "id": SPAN_ID, "name": "x", "timestamp": 5, "duration": 2}


def written(records: list[SpanRecord]) -> tuple[bytes, Losses]:
    writer = ZipkinWriter()
    data = b"".join(writer.encode([record]) for record in records) + writer.finish()
    return data, writer.losses


def items(data: bytes, piece: int = 1 << 20, wanted: frozenset[str] | None = None) -> list[Item]:
    reader = ZipkinReader(wanted)
    found = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    return [*found, *reader.finish()]


def records(found: list[Item]) -> list[SpanRecord]:
    return [record for item in found if not isinstance(item, Damage) for record in item.records()]


def tell(found: list[Item]) -> list[object]:
    """The names of the spans, and the numbers of the damaged ones."""
    told: list[object] = []
    for item in found:
        if isinstance(item, Damage):
            told.append((item.first, "tail") if item.is_tail else item.first)
        else:
            told += [record.name for record in item.records()]
    return told


def test_a_file_by_the_specification() -> None:
    """Ids of 64 bits are filled up; endpoints, tags, annotations and flags find their places; a span without a
    duration is marked; an error without OpenTelemetry's tags is one."""
    server, client, producer = records(list(read_items(iter([(DATA / "zipkin.json").read_bytes()]))))
    start_ns = 1_556_604_172_355_737_000
    backend = Resource({"service.name": "backend"})
    assert server == SpanRecord(
        trace_id="00000000000000005af7183fb1d4cf5f",
        span_id="5af7183fb1d4cf5f",
        parent_id="",
        name="get /api",
        kind=SpanKind.SERVER,
        start_time_ns=start_ns,
        end_time_ns=start_ns + 1_431_000,
        attributes={
            "http.method": "GET",
            "http.path": "/api",
            "network.local.address": "192.168.99.1",
            "network.local.port": 3306,
            "network.peer.address": "172.19.0.2",
            "network.peer.port": 58648,
        },
        events=(Event("wr", 1_556_604_172_356_000_000),),
        resource=backend,
    )
    assert client == SpanRecord(
        trace_id=server.trace_id,
        span_id="6b221d5bc9e6496c",
        parent_id=server.span_id,
        name="query",
        kind=SpanKind.CLIENT,
        start_time_ns=1_556_604_172_355_900_250,
        end_time_ns=1_556_604_172_356_700_250,
        status=Status.ERROR,
        status_description="Connection refused",
        attributes={
            "zipkin.debug": True,
            "network.peer.address": "2001:db8::c001",
            "network.peer.port": 3306,
            "peer.service": "mysql",
        },
        resource=backend,
    )
    assert producer.attributes == {"zipkin.shared": True, "peer.service": "kafka", "clew.unfinished": True}
    assert producer.start_time_ns == producer.end_time_ns
    assert producer.resource == Resource()


def test_what_a_span_looks_like() -> None:
    """Everything stands where the specification of the mapping, or the collector, puts it."""
    losses = Losses()
    record = RECORD._replace(
        parent_id="00f067aa0ba902b8",
        kind=SpanKind.CLIENT,
        end_time_ns=RECORD.start_time_ns + 1_500_000,
        status=Status.ERROR,
        status_description="refused",
        attributes={"server.address": "example.org", "tries": 3, "ok": True, "list": ("a", 1)},
        events=(Event("retry", RECORD.start_time_ns, {"n": 1}, 2), Event("done", RECORD.start_time_ns)),
        links=(Link(SpanContext(TRACE_ID, SPAN_ID, 0, "a=b"), {"k": 1}, 4),),
        trace_state="v=1",
        dropped_events=7,
        resource=Resource({"service.name": "web", "host.name": "h"}),
        scope=Scope("lib", "2", {"x": 1}),
    )
    assert object_from_span(record, losses) == {
        "traceId": TRACE_ID,
        "parentId": "00f067aa0ba902b8",
        "id": SPAN_ID,
        "kind": "CLIENT",
        "name": "GET /",
        "timestamp": 1_790_000_000_000_001,
        "duration": 1500,
        "localEndpoint": {"serviceName": "web"},
        "remoteEndpoint": {"serviceName": "example.org"},
        "annotations": [
            {"timestamp": 1_790_000_000_000_001, "value": '"retry": {"n":1,"otel.dropped_attributes_count":2}'},
            {"timestamp": 1_790_000_000_000_001, "value": "done"},
        ],
        "tags": {
            "host.name": "h",
            "server.address": "example.org",
            "tries": "3",
            "ok": "true",
            "list": '["a",1]',
            "otel.scope.name": "lib",
            "otel.scope.version": "2",
            "w3c.tracestate": "v=1",
            "otel.dropped_events_count": "7",
            "otel.status_code": "ERROR",
            "error": "refused",
            "otlp.link.0": f'{TRACE_ID}|{SPAN_ID}|a=b|{{"k":1}}|4',
        },
    }
    assert list(losses.sentences()) == [
        "1 span with its resource's attributes among its own (the format has no place for resources)",
        "1 attribute of a scope (the format has no place for it)",
        "3 attributes that became text (tags of Zipkin are nothing else)",
    ]


@given(traces, st.integers(1, 300))
def test_nothing_else_changes(messages: TracesData, piece: int) -> None:
    """Whatever OTLP can hold is read again without damage; it differs from what it was only in what was counted as
    lost, and does not change any more the second time."""
    spans = records_of(messages)
    data, losses = written(spans)
    assert isinstance(json.loads(data), list)
    found = items(data, piece)
    assert not any(isinstance(item, Damage) for item in found)
    once = records(found)
    for span, back in zip(spans, once, strict=True):
        assert (span.trace_id, span.span_id, span.name, span.kind) == (back[0], back[1], back.name, back.kind)
        assert back.parent_id == ("" if span.parent_id == span.span_id else span.parent_id)
        assert span.status is back.status
        assert span.trace_state == back.trace_state
        assert [event.name for event in span.events] == [event.name for event in back.events]
        assert exact([event.attributes for event in span.events]) == exact([event.attributes for event in back.events])
        assert [link.context[:2] for link in span.links] == [link.context[:2] for link in back.links]
        assert abs(span.start_time_ns - back.start_time_ns) < 1000
    looked = [glance for item in found if not isinstance(item, Damage) for glance in item.glances()]
    assert looked == list(map(Glance.of, once))
    if not losses.counts:
        assert exact(once) == exact(spans)
    assert exact(records(items(written(once)[0]))) == exact(once)


TEXTS = st.text(max_size=8)
TAGS = st.dictionaries(TEXTS, TEXTS, max_size=3)
MICROS = st.integers(0, 2**53).map(lambda micros: micros * 1000)


@given(
    st.builds(
        RECORD._replace,
        parent_id=st.sampled_from(["", "00f067aa0ba902b8"]),
        name=TEXTS,
        kind=st.sampled_from(SpanKind),
        start_time_ns=MICROS,
        end_time_ns=MICROS.map(lambda time_ns: time_ns + 9_100_000_000_000_000_000),
        status=st.sampled_from([Status.UNSET, Status.OK]),
        attributes=TAGS | st.fixed_dictionaries({"peer.service": TEXTS, "network.peer.address": st.just("127.0.0.1")}),
        events=st.lists(st.builds(Event, TEXTS, MICROS, TAGS, st.integers(0, 2**32 - 1)), max_size=2).map(tuple),
        trace_state=st.sampled_from(["", "a=1", "a={|{}|"]),
        dropped_attributes=st.integers(0, 2**32 - 1),
        resource=st.sampled_from([Resource(), Resource({"service.name": "web"})]),
        scope=st.builds(Scope, TEXTS, TEXTS, st.just({}), st.just("")),
    )
    | st.builds(
        RECORD._replace,
        end_time_ns=st.just(RECORD.start_time_ns + 1000),
        status=st.sampled_from([Status.ERROR, Status.CANCELLED]),
        status_description=TEXTS | st.sampled_from(["true", "false"]),
        links=st.lists(
            st.builds(
                Link,
                st.sampled_from([SpanContext(TRACE_ID, SPAN_ID), SpanContext(TRACE_ID, SPAN_ID, 0, "a=|{}")]),
                TAGS,
                st.integers(0, 2**32 - 1),
            ),
            max_size=2,
        ).map(tuple),
    )
)
def test_what_is_held_comes_back(span: SpanRecord) -> None:
    """What Zipkin can hold is not counted as lost, and comes back equal."""
    data, losses = written([span])
    assert losses.counts == {}
    (item,) = items(data)
    assert records([item]) == [span]
    assert not isinstance(item, Damage)
    assert item.glances() == [Glance.of(span)]


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        ({"start_time_ns": 1001}, "1 time of which what is below a microsecond was cut off"),
        ({"end_time_ns": RECORD.start_time_ns + 1}, "1 time of which what is below a microsecond was cut off"),
        ({"end_time_ns": 5}, "1 end of a span, which was before its start"),
        ({"events": (Event("x", 1), Event("x", 2))}, "2 times of which what is below a microsecond was cut off"),
        ({"flags": 1}, "1 span whose W3C flags were left out (Zipkin has none)"),
        (
            {"attributes": {"a": 1, "b": b"x", "c": "x"}},
            "2 attributes that became text (tags of Zipkin are nothing else)",
        ),
        ({"attributes": {"error": "false"}}, "1 attribute with a name that means something else in the format"),
        ({"attributes": {"otlp.link.0": "x"}}, "1 attribute with a name that means something else in the format"),
        ({"attributes": {"otel.scope.name": "x"}}, "1 attribute with a name that means something else in the format"),
        ({"scope": Scope("", "", {}, "http://s")}, "1 schema URL"),
        ({"scope": Scope("", "", {"a": 1})}, "1 attribute of a scope (the format has no place for it)"),
        ({"status": Status.OK, "status_description": "x"}, "1 description of a status that is not an error"),
        ({"links": (Link(SpanContext(TRACE_ID, SPAN_ID, 1)),)}, "1 link whose W3C flags were left out"),
        (
            {"attributes": {"host.name": "a"}, "resource": Resource({"host.name": "b"})},
            "1 attribute of a resource, whose name is taken in the span",
        ),
    ],
)
def test_each_loss_is_counted(change: dict[str, Any], loss: str) -> None:
    """What Zipkin cannot hold is told in a sentence with a number."""
    span = RECORD._replace(end_time_ns=RECORD.start_time_ns)._replace(**change)
    if "start_time_ns" in change:
        span = span._replace(end_time_ns=span.start_time_ns)
    assert list(written([span])[1].sentences()) == [loss]


def test_a_short_span_is_not_one_without_an_end() -> None:
    """Less than a microsecond is written as one: none would say that nobody saw the end. No duration at all stays."""
    short, none = (RECORD._replace(end_time_ns=RECORD.start_time_ns + length) for length in (999, 0))
    assert [span["duration"] for span in json.loads(written([short, none])[0])] == [1, 0]


@pytest.mark.parametrize(
    ("attributes", "kind", "remote"),
    [
        ({"peer.service": "db", "server.address": "x"}, SpanKind.CLIENT, {"serviceName": "db"}),
        ({"server.address": "x", "db.name": "y"}, SpanKind.PRODUCER, {"serviceName": "x"}),
        ({"network.peer.address": "::1", "network.peer.port": 80}, SpanKind.CLIENT, {"ipv6": "::1", "port": 80}),
        ({"network.peer.address": "/run/x.sock"}, SpanKind.CLIENT, {"serviceName": "/run/x.sock"}),
        ({"server.address": "me"}, SpanKind.SERVER, None),
        (
            {"peer.service": "a", "network.peer.address": "127.0.0.1", "network.peer.port": "8080"},
            SpanKind.SERVER,
            {"serviceName": "a", "ipv4": "127.0.0.1", "port": 8080},
        ),
        ({"db.name": 5}, SpanKind.CLIENT, None),
    ],
)
def test_who_is_at_the_other_end(attributes: dict[str, Any], kind: SpanKind, remote: dict[str, Any] | None) -> None:
    """The best name of the other end is chosen; a server's own address is not its peer's."""
    span = RECORD._replace(kind=kind, attributes=attributes)
    assert object_from_span(span, Losses()).get("remoteEndpoint") == remote


@pytest.mark.parametrize(
    ("value", "event"),
    [
        ("cs", Event("cs", 0)),
        ('"a": {"k": [1, null]}', Event("a", 0, {"k": (1, None)})),
        ('{"a": {"k": 1}}', Event("a", 0, {"k": 1})),
        ('a|{"k":"|"}|3', Event("a", 0, {"k": "|"}, 3)),
        ('"a": {"otel.dropped_attributes_count": 2}', Event("a", 0, {}, 2)),
        ('"a": {', Event('"a": {', 0)),
        ('"a"', Event('"a"', 0)),
        ('"a', Event('"a', 0)),
        ("{}", Event("{}", 0)),
        ('{"a":1}', Event('{"a":1}', 0)),
        ("a|{}|4294967296", Event("a|{}|4294967296", 0)),
        ("a|{b}|3", Event("a|{b}|3", 0)),
        ('"\\ud800": {}', Event("\ufffd", 0)),
    ],
)
def test_annotations(value: str, event: Event) -> None:
    """Events are found in annotations however they were written; any other text is the event's name."""
    (found,) = span_from_object({**SPAN, "annotations": [{"timestamp": 0, "value": value}]}).events
    assert found == event


@pytest.mark.parametrize(
    ("tags", "status", "description", "rest"),
    [
        ({"otel.status_code": "ERROR", "error": "x"}, Status.ERROR, "x", {}),
        ({"otel.status_code": "ERROR", "error": "true"}, Status.ERROR, "true", {}),
        ({"otel.status_code": "Error", "error": "true"}, Status.ERROR, "", {}),
        (
            {"otel.status_code": "STATUS_CODE_ERROR", "error": "true", "otel.status_description": "x"},
            Status.ERROR,
            "x",
            {},
        ),
        ({"otel.status_code": "OK"}, Status.OK, "", {}),
        ({"otel.status_code": "fine"}, Status.UNSET, "", {"otel.status_code": "fine"}),
        ({"error": "true"}, Status.ERROR, "", {}),
        ({"error": "false"}, Status.UNSET, "", {"error": "false"}),
        ({"error": "x", "clew.status": "cancelled"}, Status.CANCELLED, "x", {}),
        ({"clew.status": "cancelled"}, Status.UNSET, "", {"clew.status": "cancelled"}),
    ],
)
def test_statuses(tags: dict[str, Any], status: Status, description: str, rest: dict[str, Any]) -> None:
    """The status is read as OpenTelemetry's exporters, the collector and Zipkin's own libraries write it."""
    record = span_from_object({**SPAN, "tags": tags})
    assert (record.status, record.status_description, record.attributes) == (status, description, rest)


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": None},
        {"id": ""},
        {"id": "0000000000000000"},
        {"id": "xyz"},
        {"id": 5},
        {"traceId": "1" * 33},
        {"parentId": []},
        {"timestamp": -1},
        {"timestamp": 1 << 62},
        {"timestamp": "5"},
        {"timestamp": True},
        {"timestamp": float("nan")},
        {"duration": 1 << 54},
        {"name": 5},
        {"kind": []},
        {"tags": []},
        {"tags": {"a": {}}},
        {"annotations": {}},
        {"annotations": [5]},
        {"annotations": [{"value": 5}]},
        {"localEndpoint": "x"},
        {"localEndpoint": {"serviceName": 5}},
        {"remoteEndpoint": {"ipv4": 5}},
        {"binaryAnnotations": []},
    ],
)
def test_wrong_fields(fields: dict[str, Any]) -> None:
    """A field of the wrong type or a value that cannot be is damage."""
    with pytest.raises(DecodeError):
        span_from_object({**SPAN, "timestamp": 1 << 53, **fields})


def test_lenient_fields() -> None:
    """Short ids, a parent that is the span itself, numbers for tags, null for what is absent: tools write them."""
    span = {
        **SPAN,
        "id": "b7",
        "parentId": "b7",
        "traceId": "1",
        "kind": "WORKER",
        "tags": {"n": 5},
        "annotations": None,
    }
    record = span_from_object(span)
    assert (record.trace_id, record.span_id, record.parent_id) == ("1".rjust(32, "0"), "b7".rjust(16, "0"), "")
    assert (record.kind, record.attributes) == (SpanKind.INTERNAL, {"n": 5, "zipkin.kind": "WORKER"})


A, B, C = ({**SPAN, "name": name} for name in "abc")


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


LAYOUTS = {
    "one line": compact([A, B, C]),
    "indented": json.dumps([A, B, C], indent=2).encode(),
    "byte order mark": b"\xef\xbb\xbf" + compact([A, B, C]),
    "an array a line": compact([A, B]) + b"\n" + compact([]) + b"\n" + compact([C]) + b"\n",
    "a span a line": b"\n".join(map(compact, [A, B, C])),
    "spans glued": b"".join(map(compact, [A, B, C])),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_layouts(layout: str, piece: int) -> None:
    """An array, arrays one after the other, spans one after the other: each span is read, whatever the pieces are."""
    assert tell(items(LAYOUTS[layout], piece)) == ["a", "b", "c"]


DAMAGES = {
    "garbage in front": (b"x" + compact([A, B]), [1, "a", "b"]),
    "a torn span": (b"[" + compact(A)[:-9] + b",\n" + compact(B) + b"]", [1, "b"]),
    "a torn span with a whole one glued to it": (b"[" + compact(A)[:60] + compact(B) + b"]", [1, "b"]),
    "torn in a string": (b"[" + compact(A)[:20] + b"\n" + compact(B) + b"]", [1, "b"]),
    "a value that is no object": (b"[5," + compact(A) + b',"x"]', [1, "a", 3]),
    "no end": (compact([A, B])[:-1], ["a", "b", (3, "tail")]),
    "torn at the end": (compact([A, B])[:-9], ["a", (2, "tail")]),
    "brackets that do not match": (b"[" + compact(A) + b"}," + compact(B) + b"]", ["a", 2, "b"]),
    "bytes that are not UTF-8": (b"[" + compact(A).replace(b'"a"', b'"\xff"') + b"," + compact(B) + b"]", [1, "b"]),
    "nested too deep": (b'[{"traceId":' + b"[" * 9999 + b"]" * 9999 + b"}," + compact(B) + b"]", [1, "b"]),
    "a number of too many digits": (b'[{"traceId":' + b"9" * 9999 + b"}," + compact(B) + b"]", [1, "b"]),
}


@pytest.mark.parametrize("piece", [1 << 20, 50])
@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_numbered_and_the_rest_is_read(case: str, piece: int) -> None:
    """Damage costs what it hit: it is told by the span's number, and what follows is read."""
    data, told = DAMAGES[case]
    assert tell(items(data, piece)) == told


def test_one_wrong_span_costs_itself() -> None:
    """A span with a wrong field is damage by itself."""
    first, second = items(compact([{**A, "timestamp": "x"}, B]))
    assert not isinstance(first, Damage)
    assert (first.number, first.unit) == (1, "span")
    with pytest.raises(DecodeError):
        first.records()
    assert tell([second]) == ["b"]


@pytest.mark.parametrize("tags", [{"TraceID": "x"}, {"traceID": "x"}, {"traceEvents": "x"}, {"data": "[]"}])
def test_tags_do_not_tell_the_format(tags: dict[str, str]) -> None:
    """A file is Zipkin's by the first key of a trace's id, whatever other formats' keys there are among the tags."""
    assert tell(list(read_items(iter([compact([{**A, "tags": tags}, B])])))) == ["a", "b"]


def test_surrogates() -> None:
    """Surrogates that stand alone become U+FFFD; pairs in escapes are characters."""
    data = compact([A]).replace(b'"a"', b'"\\ud800\\ud83d\\ude00"')
    assert tell(items(data)) == tell(items(data, 1)) == ["\ufffd\U0001f600"]


def test_wanted_traces_only() -> None:
    """Spans of other traces are passed over, however the wanted one's id is written; damage is told nevertheless."""
    spans = [{**A, "traceId": "C5"}, B, {**C, "traceId": "00C5"}]
    assert tell(items(compact(spans), wanted=frozenset(["c5".rjust(32, "0")]))) == ["a", "c"]


@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([compact(A), b"\n", b"{", b"}", b"[", b"]", b'"', b"\\"]))
    )
)
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever the bytes are, the reader raises nothing, and its blocks nothing but DecodeError."""
    for item in items(b"".join(pieces), 13):
        if not isinstance(item, Damage):
            with contextlib.suppress(DecodeError):
                item.glances()


KEYS = ["traceId", "parentId", "id", "kind", "name", "timestamp", "duration", "debug", "shared", "localEndpoint"]
KEYS += [
    "remoteEndpoint",
    "annotations",
    "tags",
    "serviceName",
    "ipv4",
    "ipv6",
    "port",
    "value",
    "error",
    "otlp.link.0",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("1f"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8))
def test_any_object(fields: dict[str, Any]) -> None:
    """Objects with the right keys and anything in them give a record that can be written, or DecodeError."""
    try:
        record = span_from_object({"traceId": "1", "id": "2", **fields})
    except DecodeError:
        return
    assert len(records(items(written([record])[0]))) == 1


def test_as_opentelemetry_writes_it() -> None:
    """What OpenTelemetry's own exporter writes for a span is read as that span, and what is written here for it says
    the same, field by field; different are only the places where that exporter has its own mind."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=OtelResource({"service.name": "web", "host.name": "h"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("lib", "2")
    with (
        contextlib.suppress(ZeroDivisionError),
        tracer.start_as_current_span("parent", kind=OtelKind.SERVER),
        tracer.start_as_current_span("child", kind=OtelKind.CLIENT, attributes={"tries": 3, "ok": True}) as span,
    ):
        span.add_event("retry", {"n": 1, "s": "x"})
        span.set_status(StatusCode.ERROR, "refused")
        span.set_attribute("names", ["a", "b"])
    provider.shutdown()
    spans = exporter.get_finished_spans()
    text = JsonV2Encoder().serialize(spans, NodeEndpoint())  # type: ignore[arg-type]
    theirs = json.loads(text)
    for their, span_of_sdk in zip(theirs, spans, strict=True):
        record = span_from_object({**their, "kind": their["kind"] or None})
        assert span_of_sdk.start_time is not None
        assert record.name == span_of_sdk.name
        assert record.kind.name == span_of_sdk.kind.name
        assert abs(record.start_time_ns - span_of_sdk.start_time) <= 500
        assert record.scope == Scope("lib", "2")
        assert record.status.name == span_of_sdk.status.status_code.name
        assert record.status_description == (span_of_sdk.status.description or "")
        assert [event.name for event in record.events] == [event.name for event in span_of_sdk.events]
        assert [dict(event.attributes) for event in record.events] == [
            dict(event.attributes or {}) for event in span_of_sdk.events
        ]
        ours = object_from_span(record, Losses())
        assert {**ours["tags"], "otel.library.name": "lib", "otel.library.version": "2"} == {
            **their["tags"],
            **({"zipkin.debug": "true"} if "zipkin.debug" in ours["tags"] else {}),
        }
        for key in ("traceId", "id", "parentId", "name", "timestamp", "duration", "debug"):
            assert ours.get(key) == their.get(key), key
        assert ours.get("kind") == their["kind"]
