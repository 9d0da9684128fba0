"""clew.formats.parquet: columns that can be asked questions, and that come back as they were."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from pyarrow import compute, parquet

from clew.errors import FormatError
from clew.formats import Damage, Tail, TraceFile, glances_of, records_of
from clew.formats.parquet import SCHEMA, ParquetWriter
from clew.limits import PARQUET_GROUP_SPANS
from clew.model import Event, Resource, SpanRecord, Status
from tests.otlp_messages import exact, traces
from tests.otlp_messages import records_of as records_of_message

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    from clew.formats import Item

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
START_NS = 1_790_000_000_123_456_789
RECORD = SpanRecord(TRACE_ID, SPAN_ID, "", "GET /")
LATEST_NS = (1 << 63) - 1


def written(spans: list[SpanRecord]) -> tuple[bytes, dict[str, int]]:
    writer = ParquetWriter()
    half = len(spans) // 2
    data = writer.encode(spans[:half]) + writer.encode(spans[half:]) + writer.finish()
    return data, dict(writer.losses.counts)


def items(data: bytes, wanted: frozenset[str] | None = None) -> list[Item]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with TraceFile(file.name) as opened:
            return list(opened.items(wanted))


def refuse(damage: Damage) -> None:
    pytest.fail(str(damage))


def records(found: list[Item]) -> list[SpanRecord]:
    return [record for spans in records_of(found, refuse) for record in spans]


def table(**columns: Any) -> bytes:
    """A file of another tool."""
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def held(spans: list[SpanRecord]) -> list[SpanRecord]:
    """Spans without the times that Parquet cannot hold."""

    def time(time_ns: int) -> int:
        return 0 if time_ns > LATEST_NS else time_ns

    return [
        span._replace(
            start_time_ns=time(span.start_time_ns),
            end_time_ns=time(span.end_time_ns),
            events=tuple(event._replace(time_ns=time(event.time_ns)) for event in span.events),
        )
        for span in spans
    ]


@given(traces)
def test_everything_comes_back(messages: TracesData) -> None:
    """Whatever OTLP can hold is the same afterwards, but for times beyond 2262, and these are counted."""
    spans = records_of_message(messages)
    data, losses = written(spans)
    assert exact(records(items(data))) == exact(held(spans))
    lost = [
        time_ns
        for span in spans
        for time_ns in (span.start_time_ns, span.end_time_ns, *(event.time_ns for event in span.events))
        if time_ns > LATEST_NS
    ]
    assert sum(losses.values()) == len(lost)


@given(traces)
def test_glances_are_those_of_the_records(messages: TracesData) -> None:
    """What is read without making records is what the records say."""
    found = items(written(records_of_message(messages))[0])
    assert [glance for glances in glances_of(found, refuse) for glance in glances] == [
        glance
        for block in found
        if not isinstance(block, Damage)
        for glance in map(type(block.glances()[0]).of, block.records())
    ]


def test_columns_can_be_asked() -> None:
    """Times are times, a status code of a map compares as text, and the root is who has no parent."""
    span = RECORD._replace(
        start_time_ns=START_NS,
        end_time_ns=START_NS + 5,
        status=Status.CANCELLED,
        attributes={"http.route": "/a", "http.response.status_code": 200, "tags": ("x", 1)},
        events=(Event("retry", START_NS + 1),),
        resource=Resource({"service.name": "web"}),
    )
    found = parquet.read_table(io.BytesIO(written([span])[0]))
    assert found.schema.equals(SCHEMA)
    row = found.select(["service", "kind", "status", "duration_ns", "parent_id", "attributes"]).to_pylist()[0]
    assert row == {
        "service": "web",
        "kind": "internal",
        "status": "cancelled",
        "duration_ns": 5,
        "parent_id": None,
        "attributes": [("http.route", "/a"), ("http.response.status_code", "200"), ("tags", '["x",1]')],
    }
    assert found["start_time"].cast(pa.int64()).to_pylist() == [START_NS]
    code = compute.map_lookup(found["attributes"], pa.scalar("http.response.status_code"), "first")
    assert code.to_pylist() == ["200"]


def test_row_groups_are_bounded() -> None:
    """A long file has groups of a bounded number of spans, written as soon as each is full."""
    writer = ParquetWriter()
    block = [RECORD] * 4096
    parts = [writer.encode(block) for _ in range(PARQUET_GROUP_SPANS // 4096 + 1)]
    data = b"".join([*parts, writer.finish()])
    assert len(b"".join(parts)) > len(b"PAR1")
    metadata = parquet.ParquetFile(io.BytesIO(data)).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [
        PARQUET_GROUP_SPANS,
        4096,
    ]


def test_only_wanted_traces() -> None:
    """Rows of other traces are left out, and blocks without any."""
    data, _ = written([RECORD, *[RECORD._replace(trace_id="f" * 32)] * 2000])
    (block,) = items(data, frozenset([TRACE_ID]))
    assert records([block]) == [RECORD]


def test_a_table_of_another_tool() -> None:
    """Microseconds without a zone, columns that are missing and columns nobody knows: what is known is read."""
    data = table(
        note=["x"],
        span_id=[SPAN_ID.upper()],
        trace_id=[TRACE_ID],
        name=["GET /"],
        service=["web"],
        start_time=pa.array([START_NS // 1000], pa.timestamp("us")),
    )
    expected = RECORD._replace(start_time_ns=START_NS // 1000 * 1000, resource=Resource({"service.name": "web"}))
    assert records(items(data)) == [expected]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ({"start_time": [1.5]}, "the column start_time is of another type than clew writes"),
        ({"attributes": ["{}"]}, "the column attributes is of another type than clew writes"),
        ({"events": ["[]"]}, "the column events is of another type than clew writes"),
        ({"kind": ["odd"]}, "the column kind has a value that does not exist"),
        ({"flags": ["x"]}, "the column flags is of another type than clew writes"),
        ({"parent_id": ["x"]}, "an id is not of 16 hex digits"),
        ({"trace_id": [""]}, "a span has no id"),
    ],
)
def test_a_column_of_another_kind_is_told(column: dict[str, list[object]], reason: str) -> None:
    """A column that cannot be what it is called is damage, not a fault."""
    found = items(table(**{"trace_id": [TRACE_ID], "span_id": [SPAN_ID], **column}))
    damage: list[Damage] = []
    assert list(records_of(found, damage.append)) == []
    assert damage == [Damage(1, 1, reason, "row")]


def test_no_table_of_spans() -> None:
    """Another table, and one that was cut off, are refused in a sentence."""
    with pytest.raises(FormatError, match="without the columns trace_id and span_id"):
        items(table(a=[1]))
    with pytest.raises(FormatError, match="it is a damaged Parquet file"):
        items(written([RECORD] * 10)[0][:-20])


def test_damage_in_the_middle_is_told() -> None:
    """Rows whose bytes were overwritten are damage; the program goes on."""
    spans = [RECORD._replace(name=os.urandom(16).hex()) for _ in range(20_000)]
    data = bytearray(written(spans)[0])
    data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
    found: list[Damage] = []
    list(records_of(items(bytes(data)), found.append))
    assert "what follows cannot be read" in found[0].reason


def test_a_pipe_is_read_and_a_growing_file_is_not(tmp_path: Path) -> None:
    """Standard input is copied before it is read, so a pipe will do; -f cannot, and says why."""
    data, _ = written([RECORD])
    run = subprocess.run(
        [sys.executable, "-m", "clew.cli.main", "view", "-", "--json"], input=data, capture_output=True, check=True
    )
    assert records(items(run.stdout)) == [RECORD]
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    tail = Tail(str(path))
    with pytest.raises(FormatError, match="neither compressed nor while it grows"):
        list(tail.read())
    tail.close()


def test_without_pyarrow(tmp_path: Path) -> None:
    """Where the package is missing, one sentence says what to install."""
    path = tmp_path / "x.parquet"
    path.write_bytes(written([RECORD])[0])
    code = "import sys; sys.modules['pyarrow'] = None; from clew.cli.main import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run([sys.executable, "-c", code, "view", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == f"clew: {path}: Parquet needs the package pyarrow: pip install 'clew[parquet]'\n"
