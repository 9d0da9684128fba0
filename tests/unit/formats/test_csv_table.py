"""clew.formats.csv_table: a table that comes back as it was, and that no spreadsheet takes for a program."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.formats import Damage, read_items
from clew.formats.csv_table import COLUMNS, CsvReader, CsvWriter
from clew.formats.writing import FORMATS
from clew.limits import LINE_BYTES
from clew.model import Event, Resource, SpanRecord, Status
from tests.otlp_messages import exact, records_of, traces

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    from clew.formats import Item

DATA = Path(__file__).parents[2] / "data" / "traces"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RECORD = SpanRecord(TRACE_ID, SPAN_ID, "", "GET /")


def table(records: list[SpanRecord]) -> bytes:
    writer = CsvWriter()
    data = writer.encode(records) + writer.finish()
    assert not writer.losses.counts
    return data


def items(data: bytes, piece: int = 1 << 20, wanted: frozenset[str] | None = None) -> list[Item]:
    reader = CsvReader(wanted)
    found = [item for at in range(0, len(data), piece) for item in reader.feed(data[at : at + piece])]
    return [*found, *reader.finish()]


def records(found: list[Item]) -> list[SpanRecord]:
    return [record for item in found if not isinstance(item, Damage) for record in item.records()]


def damage(found: list[Item]) -> list[Damage]:
    return [item for item in found if isinstance(item, Damage)]


@given(traces, st.integers(1, 200))
def test_everything_comes_back(messages: TracesData, piece: int) -> None:
    """Whatever OTLP can hold is the same after it was a table, in whatever pieces that is read."""
    spans = records_of(messages)
    found = items(table(spans), piece)
    assert damage(found) == []
    assert exact(records(found)) == exact(spans)


@given(st.lists(st.text(alphabet="=+-@'\"\r\n,;\t\0\uff1dé x", max_size=6), min_size=1, max_size=4))
def test_texts_come_back_and_are_no_formulas(texts: list[str]) -> None:
    """No cell begins with what makes it a formula, Python's reader sees a table of one width, and ours the texts."""
    spans = [
        RECORD._replace(name=text, status_description=text, resource=Resource({"service.name": text})) for text in texts
    ]
    data = table(spans)
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert not [cell for row in rows for cell in row if cell[:1] in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")]
    assert records(items(data)) == spans


def test_columns_are_for_people() -> None:
    """Times, names of kinds and attributes stand there as one would look for them; lines end as RFC 4180 says."""
    span = RECORD._replace(
        start_time_ns=1_790_000_000_123_456_789,
        end_time_ns=1_790_000_001_123_456_789,
        status=Status.CANCELLED,
        attributes={"http.status": 200, "raw": b"\xff"},
        events=(Event("retry", 5),),
        resource=Resource({"service.name": "tor-client"}),
    )
    data = table([span])
    assert data.count(b"\r\n") == data.count(b"\n") == 2
    (row,) = csv.DictReader(io.StringIO(data.decode(), newline=""))
    assert {key: value for key, value in row.items() if value not in {"", "0"}} == {
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "service": "tor-client",
        "name": "GET /",
        "kind": "internal",
        "start_time": "2026-09-21T14:13:20.123456789Z",
        "end_time": "2026-09-21T14:13:21.123456789Z",
        "duration_ns": "1000000000",
        "status": "cancelled",
        "attributes": '{"http.status":200,"raw":{"bytesValue":"/w=="}}',
        "events": '[{"name":"retry","time_ns":5}]',
        "resource": '{"service.name":"tor-client"}',
    }


def test_a_table_of_another_tool() -> None:
    """Columns in another order, fewer and more of them, all quoted, with a byte order mark, and times in SQL's form."""
    data = (
        b'\xef\xbb\xbf"name","span_id","note","trace_id","start_time","service"\n'
        b'"a ""b""","00F067AA0BA902B7","mine","' + TRACE_ID.encode() + b'","2026-09-21 14:13:20.5","web"\n\n'
    )
    (record,) = records(list(read_items(iter([data]))))
    assert [record] == records(items(data, 7))
    assert record == RECORD._replace(
        name='a "b"', start_time_ns=1_790_000_000_500_000_000, resource=Resource({"service.name": "web"})
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,y", "it has not the columns that the first row names"),
        ('"a"b,,,', "it has not the columns that the first row names"),
        (f"{TRACE_ID},,n,", "a span has no id"),
        (f"{TRACE_ID},zz,n,", "an id is not of 16 hex digits"),
        (f"{TRACE_ID},{SPAN_ID},n,yesterday", "a time is not in the form of RFC 3339, in UTC"),
        (f"{TRACE_ID},{SPAN_ID},n,2026-02-30T00:00:00Z", "a time is on a day that does not exist"),
    ],
)
def test_a_damaged_row_is_told(row: str, reason: str) -> None:
    """What cannot be read is named by its row, and the rest is read."""
    good = f"{TRACE_ID},{SPAN_ID},n,\r\n"
    found = items(f"trace_id,span_id,name,start_time\r\n{good}{row}\r\n{good}".encode())
    assert damage(found) == [Damage(3, 3, reason, "row")]
    assert len(records(found)) == 2


@pytest.mark.parametrize("column", ["attributes", "events", "links", "scope", "resource", "kind", "flags"])
def test_a_damaged_cell_is_told(column: str) -> None:
    """The same for each column that has a form of its own."""
    found = items(f"trace_id,span_id,{column}\r\n{TRACE_ID},{SPAN_ID},[1\r\n{TRACE_ID},{SPAN_ID},\r\n".encode())
    assert [(item.first, item.unit) for item in damage(found)] == [(2, "row")]
    assert len(records(found)) == 1


def test_the_end_is_missing() -> None:
    """A row without its last newline is read; one that ends in the middle of a cell is unfinished."""
    data = table([RECORD, RECORD._replace(name='a"b')])
    assert len(records(items(data[:-2]))) == 2
    found = items(data[: data.index(b'"b') + 1], 50)
    assert damage(found) == [Damage(3, 3, "it has no end", "row", is_tail=True)]
    assert len(records(found)) == 1


def test_a_row_without_end_costs_no_more_than_a_long_line() -> None:
    """A quotation mark that is never closed does not gather the rest of the file."""
    reader = CsvReader()
    head = f'trace_id,span_id\n"{"x" * 1000}\n'.encode()
    found = list(reader.feed(head))
    piece = (b"x" * 999 + b"\n") * 4096
    for _ in range(LINE_BYTES // len(piece) + 1):
        found += reader.feed(piece)
    assert [item.reason for item in damage(found)][:1] == [f"it is longer than {LINE_BYTES} bytes"]


def test_only_wanted_traces() -> None:
    """Rows of other traces are left out."""
    other = RECORD._replace(trace_id="f" * 32)
    assert records(items(table([RECORD, other]), wanted=frozenset([TRACE_ID]))) == [RECORD]


def test_it_is_found_by_its_content() -> None:
    """A table is read without being named, plain or empty; the sample of the format gives its spans."""
    assert records(list(read_items(iter([table([RECORD])])))) == [RECORD]
    assert list(read_items(iter([table([])]))) == []
    assert [record.name for record in records(list(read_items(iter([(DATA / "table.csv").read_bytes()]))))] == [
        "build-circuit",
        "extend, and wait",
    ]
    assert FORMATS["csv"].make_writer().finish().startswith(b"trace_id,span_id,")
