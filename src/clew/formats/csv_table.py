"""Spans as a CSV table, one a row, for spreadsheets and for whatever has no better way in.

The columns are COLUMNS, in this order; a table that is read may have them in any order, more of them and fewer, but
not without the ids. Times are RFC 3339 in UTC with nine digits of a second; `duration_ns` is there for sums, and is not
read. Attributes, events and links are JSON (`clew.formats.json_values`).

A spreadsheet takes a cell for a formula that begins with one of a few characters, and a formula of a hostile name can
send away what else is in the table. Such cells get an apostrophe in front, which spreadsheets take for "this is text";
so do those that begin with an apostrophe, so that reading takes away exactly what was put there.

Source: RFC 4180; OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from clew.errors import DecodeError
from clew.formats.blocks import RecordsBlock
from clew.formats.json_values import (
    KIND_NAMES,
    KINDS,
    STATUS_NAMES,
    STATUSES,
    events_from_json,
    events_to_json,
    from_json,
    hex_id,
    links_from_json,
    links_to_json,
    natural,
    parse,
    scope_from_json,
    scope_to_json,
    text_of,
    to_json,
)
from clew.formats.reading import Damage, Reader
from clew.formats.writing import Writer
from clew.limits import BLOCK_SPANS, LINE_BYTES
from clew.model import Resource, Scope, SpanKind, SpanRecord, Status
from clew.otlp.protobuf import encode_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.formats.reading import Item

__all__ = ["COLUMNS", "CsvReader", "CsvWriter"]

COLUMNS: Final = (
    "trace_id",
    "span_id",
    "parent_id",  # empty for a root
    "service",
    "name",
    "kind",  # internal, server, client, producer, consumer
    "start_time",  # empty where it is not known
    "end_time",
    "duration_ns",
    "status",  # unset, ok, error, cancelled
    "status_description",
    "attributes",  # empty for none, as in all columns of JSON
    "events",
    "links",
    "resource",
    "scope",
    "trace_state",
    "flags",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
)

# OWASP's list, with the full-width forms that some spreadsheets take for the same; and what marks a cell as text.
_FORMULA: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20'")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00(?::?00)?)?", re.ASCII)
# A cell, quoted or not, and the comma behind it. Every cell of a row has one, if a comma is put behind the row.
_CELL: Final = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",]*)),')


class CsvWriter(Writer):
    """Writes the table. It holds everything."""

    def __init__(self) -> None:
        super().__init__()
        self._is_begun = False
        self._last: tuple[Resource, Scope, str, str] | None = None  # with their cells: mostly the next span's too

    def encode(self, records: list[SpanRecord]) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out)  # RFC 4180 is what it writes unless told otherwise
        if not self._is_begun:
            self._is_begun = True
            writer.writerow(COLUMNS)
        writer.writerows(map(self._row, records))
        return encode_text(out.getvalue())

    def finish(self) -> bytes:
        return self.encode([])

    def _row(self, record: SpanRecord) -> tuple[object, ...]:
        resource, _, resource_cell, scope_cell = self._origin(record.resource, record.scope)
        return (
            record.trace_id,
            record.span_id,
            record.parent_id,
            _guarded(resource.service_name),
            _guarded(record.name),
            KIND_NAMES[record.kind],
            _time_text(record.start_time_ns),
            _time_text(record.end_time_ns),
            record.end_time_ns - record.start_time_ns,
            STATUS_NAMES[record.status],
            _guarded(record.status_description),
            text_of(to_json(record.attributes)) if record.attributes else "",
            text_of(events_to_json(record.events)) if record.events else "",
            text_of(links_to_json(record.links)) if record.links else "",
            resource_cell,
            scope_cell,
            _guarded(record.trace_state),
            record.flags,
            record.dropped_attributes,
            record.dropped_events,
            record.dropped_links,
        )

    def _origin(self, resource: Resource, scope: Scope) -> tuple[Resource, Scope, str, str]:
        last = self._last
        if last is None or last[0] is not resource or last[1] is not scope:
            scope_cell = "" if scope == Scope() else text_of(scope_to_json(scope))
            last = self._last = (resource, scope, text_of(to_json(resource.attributes)), scope_cell)
        return last


def _guarded(text: str) -> str:
    return "'" + text if text and text[0] in _FORMULA else text


def _time_text(time_ns: int) -> str:
    if not time_ns:
        return ""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest:09}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class CsvReader(Reader):
    """Reads the table.

    Args:
        wanted: rows of other trace ids (lower-case hex) are left out; None reads everything.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._rest = b""  # the beginning of a row whose end has not come yet
        self._looked = 0  # how much of it was looked at, and
        self._is_quoted = False  # whether that ends within a quoted cell
        self._number = 0  # of the last row, the names being 1
        self._names: list[str] = []
        self._origins: dict[tuple[str, str], tuple[Resource, Scope]] = {}  # by their cells

    def feed(self, data: bytes) -> Iterator[Item]:
        data, at, start = self._rest + data, self._looked, 0
        rows: list[bytes] = []
        while (end := data.find(b"\n", at)) >= 0:
            # A quotation mark within a quoted cell is doubled: so an even number of them is no more than none.
            self._is_quoted ^= data.count(b'"', at, end) & 1 == 1
            at = end + 1
            if not self._is_quoted:
                rows.append(data[start:end])
                start = at
            elif at - start > LINE_BYTES:
                yield from self._read(rows)
                rows = []
                self._number += 1
                yield Damage(self._number, self._number, f"it is longer than {LINE_BYTES} bytes", "row")
                self._is_quoted, start = False, at
        self._rest, self._looked = data[start:], at - start
        yield from self._read(rows)

    def finish(self) -> Iterator[Item]:
        if self._rest and self._is_quoted ^ (self._rest.count(b'"', self._looked) & 1 == 1):
            number = self._number + 1
            yield Damage(number, number, "it has no end", "row", is_tail=True)
        elif self._rest:
            yield from self._read([self._rest])
        self._rest = b""

    def _read(self, rows: list[bytes]) -> Iterator[Item]:
        records: list[SpanRecord] = []
        for row in rows:
            self._number += 1
            cells = _cells(row.decode("utf-8-sig" if self._number == 1 else "utf-8", "replace").removesuffix("\r"))
            if not self._names and cells is not None:
                self._names = cells
                continue
            if not row.strip():
                continue
            try:
                if cells is None or len(cells) != len(self._names):
                    raise DecodeError("it has not the columns that the first row names")  # noqa: TRY301
                record = self._record(dict(zip(self._names, cells, strict=True)))
            except DecodeError as error:
                yield Damage(self._number, self._number, str(error), "row")
                continue
            if self._wanted is None or record.trace_id in self._wanted:
                records.append(record)
            if len(records) == BLOCK_SPANS:
                yield RecordsBlock(self._number, records)
                records = []
        if records:
            yield RecordsBlock(self._number, records)

    def _record(self, row: dict[str, str]) -> SpanRecord:
        """Raises: DecodeError."""
        get = row.get
        resource, scope = self._origin(get("resource", ""), get("scope", ""), get("service", ""))
        trace_id, span_id = hex_id(get("trace_id"), 32), hex_id(get("span_id"), 16)
        if not trace_id or not span_id:
            raise DecodeError("a span has no id")
        return SpanRecord(
            trace_id,
            span_id,
            hex_id(get("parent_id"), 16),
            _unguarded(get("name", "")),
            _one_of(KINDS, get("kind", ""), SpanKind.INTERNAL),
            _time_ns(get("start_time", "")),
            _time_ns(get("end_time", "")),
            _one_of(STATUSES, get("status", ""), Status.UNSET),
            _unguarded(get("status_description", "")),
            from_json(_json(get("attributes", ""))),
            events_from_json(_json(get("events", ""))),
            links_from_json(_json(get("links", ""))),
            _unguarded(get("trace_state", "")),
            _number(get("flags", "")),
            _number(get("dropped_attributes", "")),
            _number(get("dropped_events", "")),
            _number(get("dropped_links", "")),
            resource,
            scope,
        )

    def _origin(self, resource: str, scope: str, service: str) -> tuple[Resource, Scope]:
        """Equal cells give the same objects: most spans share them."""
        key = (resource or service, scope)
        if (known := self._origins.get(key)) is None:
            if resource:
                attributes = from_json(_json(resource))
            else:
                attributes = {"service.name": _unguarded(service)} if service else {}
            if len(self._origins) == BLOCK_SPANS:
                self._origins.clear()
            known = self._origins[key] = (Resource(attributes), scope_from_json(_json(scope)))
        return known


def _cells(row: str) -> list[str] | None:
    """The cells of a row; None, if it is damaged."""
    at, cells = 0, []
    row += ","
    while at < len(row):
        match = _CELL.match(row, at)
        if match is None:
            return None
        quoted, plain = match.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        at = match.end()
    return cells


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:2] and text[1] in _FORMULA else text


def _json(cell: str) -> Any:
    return parse(cell) if cell else None


def _number(cell: str) -> int:
    if not cell:
        return 0
    if not cell.isdecimal() or not cell.isascii() or len(cell) > 10:
        raise DecodeError("a number is no number")
    return natural(int(cell), 32)


def _time_ns(cell: str) -> int:
    if not cell:
        return 0
    match = _TIME.fullmatch(cell)
    if match is None:
        raise DecodeError("a time is not in the form of RFC 3339, in UTC")
    day, time, fraction = match.groups()
    return natural(_seconds(f"{day}T{time}+00:00") * 1_000_000_000 + int((fraction or "").ljust(9, "0")), 64)


@lru_cache(maxsize=64)
def _seconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise DecodeError("a time is on a day that does not exist") from error


def _one_of(names: dict[str, Any], cell: str, default: Any) -> Any:
    if not cell:
        return default
    if cell not in names:
        raise DecodeError("a kind or a status does not exist")
    return names[cell]
