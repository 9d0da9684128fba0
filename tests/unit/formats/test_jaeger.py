"""clew.formats.jaeger and jaeger_writer: Jaeger's traces become records, and records Jaeger's traces."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DecodeError
from clew.formats import Damage, Glance, jaeger, read_items
from clew.formats.jaeger import JaegerReader, Processes, span_from_object
from clew.formats.jaeger_writer import JaegerWriter, object_from_span
from clew.formats.writing import Losses
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from tests.otlp_messages import exact, records_of, traces

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    from clew.formats import Item

DATA = Path(__file__).parents[2] / "data" / "traces"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER_ID = "0af7651916cd43dd8448eb211c80319c"
START_NS = 1_790_000_000_000_001_000
RECORD = SpanRecord(TRACE_ID, SPAN_ID, "", "GET /", start_time_ns=START_NS, end_time_ns=START_NS + 5000)


def written(records: list[SpanRecord]) -> tuple[bytes, Losses]:
    writer = JaegerWriter()
    data = b"".join(writer.encode([record]) for record in records) + writer.finish()
    return data, writer.losses


def items(data: bytes, piece: int = 1 << 20, wanted: frozenset[str] | None = None) -> list[Item]:
    reader = JaegerReader(wanted)
    found = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    return [*found, *reader.finish()]


def records(found: list[Item]) -> list[SpanRecord]:
    return [record for item in found if not isinstance(item, Damage) for record in item.records()]


def tell(found: list[Item]) -> list[object]:
    """The names and services of the spans, and the numbers of the damaged ones."""
    told: list[object] = []
    for item in found:
        if isinstance(item, Damage):
            told.append((item.first, "tail") if item.is_tail else (item.first, item.last))
        else:
            told += [f"{record.name} of {record.service_name}" for record in item.records()]
    return told


def test_a_file_by_the_specification() -> None:
    """What the query service answers: typed tags, logs, references, processes, warnings, ids without zeros in front."""
    server, client, old = records(list(read_items(iter([(DATA / "jaeger.json").read_bytes()]))))
    start_ns = 1_729_181_197_748_657_000
    assert server == SpanRecord(
        trace_id="9bfe8376688e9116d9cbae28c0aa2db6",
        span_id="9b321d76f92134d2",
        parent_id="",
        name="/dispatch",
        kind=SpanKind.SERVER,
        start_time_ns=start_ns,
        end_time_ns=start_ns + 1_503_000,
        attributes={
            "http.status_code": 200,
            "big": 9007199254740993,
            "ratio": 1.0,
            "raw": b"\0\1",
            "internal.span.format": "otlp",
        },
        events=(
            Event("cache miss", 1_729_181_197_749_000_000, {"size": 3}),
            Event("", 1_729_181_197_749_001_000, {"level": "info"}),
        ),
        resource=Resource({"service.name": "frontend", "hostname": "h1"}),
    )
    assert client == SpanRecord(
        trace_id=server.trace_id,
        span_id="1f".rjust(16, "0"),
        parent_id=server.span_id,
        name="SELECT",
        kind=SpanKind.CLIENT,
        start_time_ns=1_729_181_197_748_700_000,
        end_time_ns=1_729_181_197_749_600_000,
        status=Status.ERROR,
        status_description="deadlock",
        attributes={"@jaeger@warnings": ("clock skew adjustment disabled",)},
        links=(Link(SpanContext("c5".rjust(32, "0"), "aa".rjust(16, "0"))),),
        trace_state="a=1",
        flags=1,
        resource=Resource({"service.name": "mysql"}),
        scope=Scope("sql"),
    )
    assert (old.parent_id, old.service_name) == ("3".rjust(16, "0"), "elastic")


def test_what_a_span_looks_like() -> None:
    """Everything stands where the specification of the mapping, or Jaeger itself, puts it."""
    losses = Losses()
    record = RECORD._replace(
        parent_id="00f067aa0ba902b8",
        kind=SpanKind.CLIENT,
        status=Status.ERROR,
        status_description="refused",
        attributes={"n": 1 << 60, "f": float("nan"), "b": b"\0", "list": (1,), "@jaeger@warnings": ("late",)},
        events=(Event("retry", START_NS, {"n": 1}, 2),),
        links=(Link(SpanContext(OTHER_ID, SPAN_ID)),),
        trace_state="v=1",
        flags=0x101,
        dropped_links=7,
        scope=Scope("lib", "2"),
    )
    assert object_from_span(record, "p1", losses) == {
        "traceID": TRACE_ID,
        "spanID": SPAN_ID,
        "flags": 1,
        "operationName": "GET /",
        "references": [
            {"refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": "00f067aa0ba902b8"},
            {"refType": "FOLLOWS_FROM", "traceID": OTHER_ID, "spanID": SPAN_ID},
        ],
        "startTime": 1_790_000_000_000_001,
        "duration": 5,
        "tags": [
            {"key": "n", "type": "int64", "value": "1152921504606846976"},
            {"key": "f", "type": "float64", "value": "NaN"},
            {"key": "b", "type": "binary", "value": "AA=="},
            {"key": "list", "type": "string", "value": "[1]"},
            {"key": "otel.scope.name", "type": "string", "value": "lib"},
            {"key": "otel.scope.version", "type": "string", "value": "2"},
            {"key": "w3c.tracestate", "type": "string", "value": "v=1"},
            {"key": "otel.dropped_links_count", "type": "int64", "value": 7},
            {"key": "span.kind", "type": "string", "value": "client"},
            {"key": "otel.status_code", "type": "string", "value": "ERROR"},
            {"key": "error", "type": "bool", "value": True},
            {"key": "otel.status_description", "type": "string", "value": "refused"},
        ],
        "logs": [
            {
                "timestamp": 1_790_000_000_000_001,
                "fields": [
                    {"key": "event", "type": "string", "value": "retry"},
                    {"key": "n", "type": "int64", "value": 1},
                    {"key": "otel.event.dropped_attributes_count", "type": "int64", "value": 2},
                ],
            }
        ],
        "processID": "p1",
        "warnings": ["late"],
    }
    assert list(losses.sentences()) == [
        "1 span whose W3C flags were left out, except for the one that says that it is sampled",
        "1 attribute that became text (Jaeger has neither lists nor mappings)",
    ]


def test_each_trace_is_one_element() -> None:
    """However the spans of a trace are handed in, they are in one element: of two, Jaeger's UI would show the last."""
    first = RECORD._replace(resource=Resource({"service.name": "a", "host.name": "h"}))
    second = RECORD._replace(trace_id=OTHER_ID, resource=Resource({"service.name": "b"}))
    writer = JaegerWriter()
    data = writer.encode([first, first]) + writer.encode([]) + writer.encode([first._replace(resource=second.resource)])
    data += writer.encode([second]) + writer.finish()
    traces = json.loads(data)["data"]
    assert [trace["traceID"] for trace in traces] == [TRACE_ID, OTHER_ID]
    assert [[span["processID"] for span in trace["spans"]] for trace in traces] == [["p1", "p1", "p2"], ["p1"]]
    assert [list(trace["processes"]) for trace in traces] == [["p1", "p2"], ["p1"]]
    assert traces[0]["processes"]["p1"] == {
        "serviceName": "a",
        "tags": [{"key": "host.name", "type": "string", "value": "h"}],
    }


def test_no_trace() -> None:
    """A file without traces is one that Jaeger opens, and that is recognised."""
    data = JaegerWriter().finish()
    assert json.loads(data) == {"data": []}
    assert list(read_items(iter([data]))) == []


@given(traces, st.integers(1, 300))
def test_nothing_else_changes(messages: TracesData, piece: int) -> None:
    """Whatever OTLP can hold is read again without damage; it differs from what it was only in what was counted as
    lost, and does not change any more the second time."""
    spans = sorted(records_of(messages), key=lambda span: span.trace_id)
    data, losses = written(spans)
    json.loads(data)
    found = items(data, piece)
    assert not any(isinstance(item, Damage) for item in found)
    once = records(found)
    for span, back in zip(spans, once, strict=True):
        assert (span.trace_id, span.span_id, span.name, span.kind) == (back[0], back[1], back.name, back.kind)
        assert back.parent_id == ("" if span.parent_id == span.span_id else span.parent_id)
        assert span.status is back.status
        assert span.trace_state == back.trace_state
        assert [link.context[:2] for link in span.links] == [link.context[:2] for link in back.links]
        assert abs(span.start_time_ns - back.start_time_ns) < 1000
    looked = [glance for item in found if not isinstance(item, Damage) for glance in item.glances()]
    assert looked == list(map(Glance.of, once))
    if not losses.counts:
        assert exact(once) == exact(spans)
    assert exact(records(items(written(once)[0]))) == exact(once)


TEXTS = st.text(max_size=8)
VALUES = TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary(max_size=5)
TAGS = st.dictionaries(TEXTS, VALUES, max_size=3)
MICROS = st.integers(0, 2**53).map(lambda micros: micros * 1000)


@given(
    st.builds(
        RECORD._replace,
        parent_id=st.sampled_from(["", "00f067aa0ba902b8"]),
        name=TEXTS,
        kind=st.sampled_from(SpanKind),
        start_time_ns=MICROS,
        end_time_ns=MICROS.map(lambda time_ns: time_ns + 9_100_000_000_000_000_000),
        status=st.sampled_from([Status.OK, Status.ERROR, Status.CANCELLED]),
        status_description=TEXTS,
        attributes=TAGS | st.just({"error": False, "@jaeger@warnings": ("a", "b")}) | st.just({"@jaeger@warnings": 5}),
        events=st.lists(st.builds(Event, TEXTS, MICROS, TAGS, st.integers(0, 2**32 - 1)), max_size=2).map(tuple),
        links=st.sampled_from([(), (Link(SpanContext(OTHER_ID, SPAN_ID)), Link(SpanContext("0" * 32, "0" * 16)))]),
        trace_state=st.sampled_from(["", "a=1"]),
        flags=st.integers(0, 1),
        dropped_attributes=st.integers(0, 2**32 - 1),
        resource=st.sampled_from([Resource(), Resource({"service.name": "web", "host.id": 5}), Resource({"n": True})]),
        scope=st.builds(Scope, TEXTS, TEXTS, st.just({}), st.just("")),
    ).filter(lambda span: span.status is not Status.OK or "error" not in span.attributes)
    | st.just(RECORD)
)
def test_what_is_held_comes_back(span: SpanRecord) -> None:
    """What Jaeger can hold is not counted as lost, and comes back equal, types included."""
    if span.status is not Status.OK and "error" in span.attributes:
        span = span._replace(attributes={})
    data, losses = written([span])
    assert losses.counts == {}
    (item,) = items(data)
    assert exact(records([item])) == exact([span])
    assert not isinstance(item, Damage)
    assert item.glances() == [Glance.of(span)]


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        ({"start_time_ns": START_NS + 1000 + 1, "end_time_ns": START_NS + 1000 + 1}, "1 time of which what is below"),
        ({"end_time_ns": 5}, "1 end of a span, which was before its start"),
        ({"attributes": {"a": (1,), "b": {"c": 1}}}, "2 attributes that became text"),
        ({"attributes": {"error": True}}, "1 attribute with a name that means something else"),
        ({"attributes": {"span.kind": "x"}}, "1 attribute with a name that means something else"),
        ({"resource": Resource({"list": (1,)})}, "1 attribute that became text"),
        ({"status_description": "x"}, "1 description of a status that is not set"),
        ({"links": (Link(SpanContext(TRACE_ID, SPAN_ID), {"a": 1}),)}, "1 link whose attributes, trace state or flags"),
        ({"links": (Link(SpanContext(TRACE_ID, SPAN_ID, 1)),)}, "1 link whose attributes, trace state or flags"),
        ({"events": (Event("a", 0, {"event": "b"}),)}, "1 name of an event that has an attribute called event"),
        ({"events": (Event("a", 0, {"otel.event.dropped_attributes_count": 1}),)}, "1 attribute with a name"),
    ],
)
def test_each_loss_is_counted(change: dict[str, Any], loss: str) -> None:
    """What Jaeger cannot hold is told in a sentence with a number, once for a resource of many spans."""
    (sentence,) = written([RECORD._replace(**change)])[1].sentences()
    assert sentence.startswith(loss)
    many = RECORD._replace(resource=Resource({"list": (1,)}))
    assert sum(written([many] * 3)[1].counts.values()) == 1


SPAN: dict[str, Any] = {"traceID": TRACE_ID, "spanID": SPAN_ID, "operationName": "x", "processID": "p1"}


@pytest.mark.parametrize(
    "fields",
    [
        {"traceID": None},
        {"spanID": "0"},
        {"spanID": "g"},
        {"operationName": 5},
        {"startTime": "x"},
        {"duration": -1},
        {"duration": 1 << 61},
        {"flags": "x"},
        {"tags": {}},
        {"tags": [5]},
        {"tags": [{"key": 5, "value": 5}]},
        {"tags": [{"key": "a", "type": "int64", "value": "x"}]},
        {"tags": [{"key": "a", "type": "float64", "value": "x"}]},
        {"tags": [{"key": "a", "type": "bool", "value": "x"}]},
        {"tags": [{"key": "a", "type": "binary", "value": "x"}]},
        {"tags": [{"key": "a", "type": "string", "value": []}]},
        {"logs": 5},
        {"logs": [{"timestamp": -1}]},
        {"logs": [{"fields": 5}]},
        {"references": [5]},
        {"references": [{"traceID": "x"}]},
        {"warnings": [5]},
        {"processID": 5},
        {"process": 5},
    ],
)
def test_wrong_fields(fields: dict[str, Any]) -> None:
    """A field of the wrong type or a value that cannot be is damage."""
    with pytest.raises(DecodeError):
        span_from_object({**SPAN, **fields}, Processes({}))


def trace(name: str, trace_id: str = TRACE_ID, service: str = "s", count: int = 1) -> dict[str, Any]:
    spans = [{**SPAN, "traceID": trace_id, "operationName": name} for _ in range(count)]
    return {"traceID": trace_id, "spans": spans, "processes": {"p1": {"serviceName": service}}, "warnings": None}


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


A, B = trace("a"), trace("b", OTHER_ID, "t")
LAYOUTS = {
    "the query service's": compact({"data": [A, B], "total": 0, "errors": None}),
    "indented": json.dumps({"data": [A, B]}, indent=2).encode(),
    "processes first": compact({"data": [dict(reversed(A.items())), dict(reversed(B.items()))]}),
    "an array of traces": compact([A, B]),
    "a trace a line": compact(A) + b"\n" + compact(B) + b"\n",
    "an answer a line": compact({"data": [A]}) + b"\n" + compact({"data": [B]}) + b"\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [1, 17, 1 << 20])
def test_layouts(layout: str, piece: int) -> None:
    """Answers of the query service, saved traces, arrays and lines of them: each span is read with its service."""
    assert tell(items(LAYOUTS[layout], piece)) == ["a of s", "b of t"]


WHOLE = compact({"data": [A, B]})
DAMAGES = {
    "torn within a span": (WHOLE[:150] + compact({"data": [B]}), [(1, 1), "b of t"]),
    "torn between a trace's spans and its processes": (
        WHOLE[: WHOLE.index(b'"processes"')] + b"x" + WHOLE[WHOLE.index(b'{"traceID":"0af') :],
        [(2, 2), "a of unknown_service", (1, 1), "b of t"],
    ),
    "no end": (WHOLE[:-2], ["a of s", "b of t", (3, "tail")]),
    "torn before the processes": (
        WHOLE[: WHOLE.rindex(b'"processes"')],
        ["a of s", (3, "tail"), "b of unknown_service", (2, 2)],
    ),
    "a span that is no object": (compact({"data": [{**A, "spans": [5, *A["spans"]]}]}), [(1, 1), "a of s"]),
    "processes that are no object": (compact({"data": [{**A, "processes": 5}]}), ["a of unknown_service"]),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_numbered_and_the_rest_is_read(case: str) -> None:
    """Damage costs what it hit. Spans never get the processes of another trace: they are read without, and it is
    told."""
    data, told = DAMAGES[case]
    assert tell(items(data)) == told


def test_long_traces_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a trace that is too long to wait for its processes, the spans are given without, which is told."""
    monkeypatch.setattr(jaeger, "JAEGER_HELD_CHARACTERS", 5000)
    found = items(compact({"data": [trace("a", count=200), B]}), 1000)
    told = tell(found)
    assert told.count("a of unknown_service") + told.count("a of s") == 200
    assert told.count("a of unknown_service") > 100
    assert told[-1] == "b of t"
    assert next(item.reason for item in found if isinstance(item, Damage)).startswith("its trace's processes")


def test_long_traces_wait_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a trace of many spans, the later ones are kept as text until the processes come; nobody sees a difference."""
    data = compact({"data": [trace("a", count=50), B]})
    told = tell(items(data))
    monkeypatch.setattr(jaeger, "JAEGER_PARSED_CHARACTERS", 500)
    assert tell(items(data)) == told == ["a of s"] * 50 + ["b of t"]


def test_wanted_traces_only() -> None:
    """Spans of other traces are passed over."""
    assert tell(items(WHOLE, wanted=frozenset([OTHER_ID]))) == ["b of t"]


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([compact(A), WHOLE, b"\n", b"{", b"}", b"[", b"]"]))))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever the bytes are, the reader raises nothing, and its blocks nothing but DecodeError."""
    for item in items(b"".join(pieces), 101):
        if not isinstance(item, Damage):
            with contextlib.suppress(DecodeError):
                item.glances()


KEYS = ["traceID", "spanID", "parentSpanID", "flags", "operationName", "references", "refType", "startTime", "duration"]
KEYS += [
    "tags",
    "key",
    "type",
    "value",
    "logs",
    "timestamp",
    "fields",
    "processID",
    "process",
    "warnings",
    "serviceName",
]
WORDS = st.sampled_from(
    ["int64", "float64", "bool", "binary", "string", "error", "span.kind", "event", "1f", "CHILD_OF"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8), JSON)
def test_any_object(fields: dict[str, Any], process: Any) -> None:
    """Objects with the right keys and anything in them give a record that can be written, or DecodeError."""
    try:
        record = span_from_object({"traceID": "1", "spanID": "2", **fields}, Processes({"": process}))
    except DecodeError:
        return
    assert len(records(items(written([record])[0]))) == 1
