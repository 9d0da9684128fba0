"""Spans as Parquet, for DuckDB, pandas and whatever else asks questions of columns.

Attributes are a map of strings, so that SQL says `attributes['http.route']` whatever types they had. What is no string
stands there as JSON, and a list beside the map names the keys for which that is so: read back, everything is what it
was. With one column of JSON each question would begin with parsing, and with the quoting of dots in names.

This is the only module that knows pyarrow. Times that are not known are null, and so is the parent of a root.
"""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from clew.errors import DecodeError, FormatError
from clew.formats.json_values import (
    KIND_NAMES,
    KINDS,
    STATUS_NAMES,
    STATUSES,
    hex_id,
    parse,
    text_of,
    value_from_json,
    value_to_json,
)
from clew.formats.reading import Block, Damage, Glance
from clew.formats.writing import Writer
from clew.limits import BLOCK_SPANS, PARQUET_GROUP_BYTES, PARQUET_GROUP_SPANS
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status

try:
    import pyarrow as pa
    from pyarrow import compute, parquet
except ModuleNotFoundError as missing:
    raise FormatError("Parquet needs the package pyarrow: pip install 'clew[parquet]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clew.formats.reading import Item
    from clew.model import Attributes, AttributeValue

__all__ = ["SCHEMA", "ParquetBlock", "ParquetWriter", "read_parquet"]

_TIME: Final = pa.timestamp("ns", tz="UTC")
_MAP: Final = pa.map_(pa.string(), pa.string())
_KEYS: Final = pa.list_(pa.string())
_EVENT: Final = pa.struct(
    [
        ("time", _TIME),
        ("name", pa.string()),
        ("attributes", _MAP),
        ("attributes_json", _KEYS),
        ("dropped_attributes", pa.uint32()),
    ]
)
_LINK: Final = pa.struct(
    [
        ("trace_id", pa.string()),
        ("span_id", pa.string()),
        ("trace_flags", pa.uint8()),
        ("trace_state", pa.string()),
        ("is_remote", pa.bool_()),
        ("attributes", _MAP),
        ("attributes_json", _KEYS),
        ("dropped_attributes", pa.uint32()),
    ]
)
SCHEMA: Final = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("span_id", pa.string(), nullable=False),
        ("parent_id", pa.string()),
        ("service", pa.string()),
        ("name", pa.string()),
        ("kind", pa.string()),  # internal, server, client, producer, consumer
        ("start_time", _TIME),
        ("end_time", _TIME),
        ("duration_ns", pa.int64()),
        ("status", pa.string()),  # unset, ok, error, cancelled
        ("status_description", pa.string()),
        ("attributes", _MAP),
        ("attributes_json", _KEYS),  # the keys whose value is JSON; all others are strings
        ("events", pa.list_(_EVENT)),
        ("links", pa.list_(_LINK)),
        ("resource", _MAP),
        ("resource_json", _KEYS),
        ("scope_name", pa.string()),
        ("scope_version", pa.string()),
        ("scope_attributes", _MAP),
        ("scope_attributes_json", _KEYS),
        ("scope_schema_url", pa.string()),
        ("trace_state", pa.string()),
        ("flags", pa.uint32()),
        ("dropped_attributes", pa.uint32()),
        ("dropped_events", pa.uint32()),
        ("dropped_links", pa.uint32()),
    ]
)

_LATEST_NS: Final = (1 << 63) - 1  # the year 2262
_UNNAMED_SERVICE: Final = Resource().service_name
_NO_ATTRIBUTES: Final[Attributes] = SpanRecord._field_defaults["attributes"]

# As pyarrow takes a map and the list beside it.
_Pairs = tuple[list[tuple[str, str]], list[str]]


class ParquetWriter(Writer):
    """Writes a file. It holds everything but times beyond the year 2262."""

    def __init__(self) -> None:
        super().__init__()
        self._out = _Bytes()
        self._file = parquet.ParquetWriter(self._out, SCHEMA, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []  # of the row group that is begun
        self._spans = self._bytes = 0
        self._origins: dict[tuple[int, int], tuple[object, tuple[Any, ...]]] = {}

    def encode(self, records: list[SpanRecord]) -> bytes:
        if records:
            batch = self._batch(records)
            self._waiting.append(batch)
            self._spans += len(records)
            self._bytes += batch.nbytes
        if self._spans >= PARQUET_GROUP_SPANS or self._bytes >= PARQUET_GROUP_BYTES:
            self._write_group()
        return self._out.take()

    def finish(self) -> bytes:
        self._write_group()
        self._file.close()
        return self._out.take()

    def _write_group(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_batches(self._waiting), row_group_size=self._spans)
        self._waiting = []
        self._spans = self._bytes = 0

    def _batch(self, records: list[SpanRecord]) -> pa.RecordBatch:
        self._origins.clear()  # it is by the addresses of objects that live as long as the records
        columns = list(zip(*map(self._row, records), strict=True))
        return pa.record_batch(
            [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )

    def _row(self, record: SpanRecord) -> tuple[object, ...]:
        key = (id(record.resource), id(record.scope))
        if key not in self._origins:
            resource, scope = record.resource, record.scope
            origin = (
                *_pairs(resource.attributes),
                scope.name,
                scope.version,
                *_pairs(scope.attributes),
                scope.schema_url,
            )
            self._origins[key] = (resource.service_name, origin)
        service, origin = self._origins[key]
        start_ns, end_ns = self._time(record.start_time_ns), self._time(record.end_time_ns)
        return (
            record.trace_id,
            record.span_id,
            record.parent_id or None,
            service,
            record.name,
            KIND_NAMES[record.kind],
            start_ns,
            end_ns,
            end_ns - start_ns if start_ns and end_ns else None,
            STATUS_NAMES[record.status],
            record.status_description,
            *_pairs(record.attributes),
            [
                (self._time(event.time_ns), event.name, *_pairs(event.attributes), event.dropped_attributes)
                for event in record.events
            ],
            [(*link.context[:5], *_pairs(link.attributes), link.dropped_attributes) for link in record.links],
            *origin,
            record.trace_state,
            record.flags,
            record.dropped_attributes,
            record.dropped_events,
            record.dropped_links,
        )

    def _time(self, time_ns: int) -> int | None:
        if time_ns > _LATEST_NS:
            self.losses.add("time beyond the year 2262 (Parquet's nanoseconds end there)")
            return None
        return time_ns or None


class _Bytes(io.RawIOBase):
    """Takes what is written until somebody takes it away."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _pairs(attributes: Attributes) -> _Pairs:
    json_keys = [key for key, value in attributes.items() if type(value) is not str]
    if not json_keys:
        return list(attributes.items()), []  # type: ignore[arg-type]  # strings all of them
    pairs = [
        (key, value if isinstance(value, str) else text_of(value_to_json(value))) for key, value in attributes.items()
    ]
    return pairs, json_keys


# --- reading --------------------------------------------------------------------------------------------------------


def read_parquet(
    source: io.RawIOBase, wanted: frozenset[str] | None, on_part: Callable[[float], object]
) -> Iterator[Item]:
    """Read a file, a few spans at a time.

    Args:
        source: seekable.
        wanted: spans of other trace ids are left out; None reads everything.
        on_part: called with how much of the file, of 1, was read since the last call.

    Raises:
        FormatError: it is damaged, or no table of spans.
    """
    number = 1
    try:
        file = parquet.ParquetFile(pa.PythonFile(source, "r"), pre_buffer=False, buffer_size=1 << 16)
        names = file.schema_arrow.names
        if not {"trace_id", "span_id"} <= set(names):
            raise FormatError("it is a Parquet file without the columns trace_id and span_id")
        columns = [name for name in SCHEMA.names if name in names]
        rows = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"it is a damaged Parquet file ({_first_line(error)})") from error
    ids = None if wanted is None else pa.array(sorted(wanted), pa.string())
    try:
        for batch in file.iter_batches(BLOCK_SPANS, columns=columns, use_threads=False):
            chosen = batch
            if ids is not None:
                chosen = batch.filter(compute.is_in(batch.column("trace_id"), value_set=ids))
            if chosen.num_rows:
                yield ParquetBlock(number, chosen)
            number += batch.num_rows
            on_part(batch.num_rows / rows)
    except (pa.ArrowException, OSError) as error:
        reason = f"the file is damaged ({_first_line(error)}), and what follows cannot be read"
        yield Damage(number, number, reason, "row")


class ParquetBlock(Block):
    """Some rows."""

    __slots__ = ("_batch",)
    unit = "row"

    def __init__(self, number: int, batch: pa.RecordBatch) -> None:
        super().__init__(number)
        self._batch = batch

    def glances(self) -> list[Glance]:
        """See Block. It makes Python objects of what it needs only."""
        rows = _Rows(self._batch)
        statuses = rows.names("status", STATUSES, Status.UNSET)
        return [
            Glance(*row)
            for row in zip(
                rows.ids("trace_id", 32, is_needed=True),
                rows.texts("name"),
                rows.times("start_time"),
                rows.times("end_time"),
                [status is Status.ERROR for status in statuses],
                [status is Status.CANCELLED for status in statuses],
                [service or _UNNAMED_SERVICE for service in rows.texts("service")],
                strict=True,
            )
        ]

    def records(self) -> list[SpanRecord]:
        rows = _Rows(self._batch)
        return [
            SpanRecord(*row)
            for row in zip(
                rows.ids("trace_id", 32, is_needed=True),
                rows.ids("span_id", 16, is_needed=True),
                rows.ids("parent_id", 16),
                rows.texts("name"),
                rows.names("kind", KINDS, SpanKind.INTERNAL),
                rows.times("start_time"),
                rows.times("end_time"),
                rows.names("status", STATUSES, Status.UNSET),
                rows.texts("status_description"),
                rows.attributes("attributes"),
                rows.lists("events", _events),
                rows.lists("links", _links),
                rows.texts("trace_state"),
                rows.numbers("flags"),
                rows.numbers("dropped_attributes"),
                rows.numbers("dropped_events"),
                rows.numbers("dropped_links"),
                rows.resources(),
                rows.scopes(),
                strict=True,
            )
        ]


class _Rows:
    """The columns of a batch, or of a list's structs, as lists of what records are made of.

    A column that is not there gives what a record has by default. Raises DecodeError for what a column cannot hold.
    """

    def __init__(self, columns: pa.RecordBatch | pa.StructArray) -> None:
        self._columns = columns
        names = columns.schema.names if isinstance(columns, pa.RecordBatch) else [field.name for field in columns.type]
        self._names = frozenset(names)

    def _column(self, name: str) -> pa.Array | None:
        if name not in self._names:
            return None
        columns = self._columns
        return columns.column(name) if isinstance(columns, pa.RecordBatch) else columns.field(name)

    def _values(self, name: str, default: Any, kind: pa.DataType | None = None) -> list[Any]:
        """A column's values; the default for those that are null.

        Args:
            kind: what they must be, or can be cast to.
        """
        column = self._column(name)
        if column is None:
            return [default] * len(self._columns)
        try:
            values: list[Any] = (column if kind is None else column.cast(kind)).to_pylist()
        except pa.ArrowException as error:
            raise _mistyped(name) from error
        return values if not column.null_count else [default if value is None else value for value in values]

    def texts(self, name: str) -> list[str]:
        return self._values(name, "", pa.string())

    def ids(self, name: str, digits: int, *, is_needed: bool = False) -> list[str]:
        ids = [hex_id(value, digits) for value in self.texts(name)]
        if is_needed and not all(ids):
            raise DecodeError("a span has no id")
        return ids

    def names(self, name: str, known: dict[str, Any], default: Any) -> list[Any]:
        texts = self.texts(name)
        if not known.keys() >= set(texts) - {""}:
            raise DecodeError(f"the column {name} has a value that does not exist")
        return [known.get(text, default) for text in texts]

    def times(self, name: str) -> list[int]:
        column = self._column(name)
        if column is None:
            return [0] * len(self._columns)
        if not pa.types.is_timestamp(column.type):
            raise _mistyped(name)
        try:
            # By way of nanoseconds: other tools may have written other units.
            values = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()).to_pylist()
        except pa.ArrowException as error:
            raise _mistyped(name) from error
        return [max(value or 0, 0) for value in values]

    def numbers(self, name: str) -> list[int]:
        return self._values(name, 0, pa.uint32())

    def flags(self, name: str) -> list[bool]:
        return self._values(name, default=False, kind=pa.bool_())

    def attributes(self, name: str) -> list[Attributes]:
        column = self._column(name)
        if column is not None and not pa.types.is_map(column.type):
            raise _mistyped(name)
        pairs, keys = self._values(name, ()), self._values(f"{name}_json", ())
        return [_attributes(*row) if row[0] else _NO_ATTRIBUTES for row in zip(pairs, keys, strict=True)]

    def lists(self, name: str, read: Callable[[_Rows], Iterable[Any]]) -> list[tuple[Any, ...]]:
        """Lists of structs, each read by a function that gets all of them together."""
        column = self._column(name)
        if column is None:
            return [()] * len(self._columns)
        if not pa.types.is_list(column.type) or not pa.types.is_struct(column.type.value_type):
            raise _mistyped(name)
        if not len(structs := column.flatten()):
            return [()] * len(column)
        found = iter(list(read(_Rows(structs))))
        return [tuple(islice(found, length or 0)) for length in compute.list_value_length(column).to_pylist()]

    def resources(self) -> list[Resource]:
        """The resources: one object for the rows that have it one after the other, as most have."""
        if "resource" not in self._names:
            return [Resource({"service.name": service} if service else {}) for service in self.texts("service")]
        return _shared(map(Resource, self.attributes("resource")))

    def scopes(self) -> list[Scope]:
        names, versions = self.texts("scope_name"), self.texts("scope_version")
        schema_urls = self.texts("scope_schema_url")
        return _shared(map(Scope, names, versions, self.attributes("scope_attributes"), schema_urls))


_Same = TypeVar("_Same", Resource, Scope)


def _shared(values: Iterable[_Same]) -> list[_Same]:
    out: list[_Same] = []
    for value in values:
        out.append(out[-1] if out and out[-1] == value else value)
    return out


def _events(rows: _Rows) -> Iterable[Event]:
    return map(
        Event, rows.texts("name"), rows.times("time"), rows.attributes("attributes"), rows.numbers("dropped_attributes")
    )


def _links(rows: _Rows) -> Iterable[Link]:
    contexts = map(
        SpanContext,
        [trace_id or "0" * 32 for trace_id in rows.ids("trace_id", 32)],
        [span_id or "0" * 16 for span_id in rows.ids("span_id", 16)],
        rows.numbers("trace_flags"),
        rows.texts("trace_state"),
        rows.flags("is_remote"),
    )
    return map(Link, contexts, rows.attributes("attributes"), rows.numbers("dropped_attributes"))


def _attributes(pairs: Iterable[tuple[str, str | None]], json_keys: Iterable[str]) -> Attributes:
    attributes: dict[str, AttributeValue] = dict(pairs)
    for key in json_keys:
        if isinstance(text := attributes.get(key), str):
            attributes[key] = value_from_json(parse(text))
    if not all(isinstance(key, str) for key in attributes):
        raise DecodeError("an attribute's name is no text")
    return attributes


def _mistyped(name: str) -> DecodeError:
    return DecodeError(f"the column {name} is of another type than clew writes")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
