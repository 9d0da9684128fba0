"""Writing trace files: the formats there are, what writes each of them, and what each could not hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clew.formats.reading import decoded
from clew.limits import BLOCK_SPANS
from clew.otlp import Batch, encode_span, encode_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from clew.formats.reading import Block, Damage, Item, Reader
    from clew.model import Resource, Scope, SpanRecord

__all__ = [
    "FORMATS",
    "Format",
    "Losses",
    "OtlpJsonWriter",
    "OtlpProtobufWriter",
    "Writer",
    "encoded_of",
    "format_of_name",
    "json_lines",
]


class Losses:
    """What a format could not hold, counted."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each loss happened, in the order in which they were first met."""
        return MappingProxyType(self._counts)

    def add(self, what: str, count: int = 1) -> None:
        """Count a loss.

        Args:
            what: begins with a noun in the singular: "link (Zipkin has none)". One of a few sentences of the writer's
                own: it holds nothing out of the spans.
            count: how often; 0 is no loss.
        """
        if count:
            self._counts[what] = self._counts.get(what, 0) + count

    def sentences(self) -> Iterator[str]:
        """What was lost, such as "3 links (Zipkin has none)"."""
        for what, count in self._counts.items():
            noun, space, rest = what.partition(" ")
            yield f"{count:,} {noun}{'' if count == 1 else 's'}{space}{rest}"


class Writer(ABC):
    """Writes one file: records in, bytes out, with bounded memory.

    Thread: one.
    """

    def __init__(self) -> None:
        self.losses = Losses()

    @abstractmethod
    def encode(self, records: list[SpanRecord]) -> bytes:
        """Take records and give the bytes that are due, at the first call with what a file begins with.

        Raises:
            EncodeError: a record that no format has a place for.
        """

    def take(self, block: Block) -> tuple[bytes, int]:
        """Take a block of a file: the bytes that are due, as `encode` gives them, and how many spans it has.

        Raises:
            DecodeError: the block is damaged.
            EncodeError: as `encode`.
        """
        records = block.records()
        return self.encode(records), len(records)

    @abstractmethod
    def finish(self) -> bytes:
        """Nothing follows: give what is left, and what a file ends with. Without records it is a valid empty file."""


class OtlpJsonWriter(Writer):
    """Writes OTLP JSON Lines. They hold everything."""

    def take(self, block: Block) -> tuple[bytes, int]:
        return block.json_lines() or super().take(block)

    def encode(self, records: list[SpanRecord]) -> bytes:
        return b"".join(line + b"\n" for line in json_lines(records))

    def finish(self) -> bytes:
        return b""


class OtlpProtobufWriter(Writer):
    """Writes TracesData messages, glued together, which makes one message. It holds everything."""

    def encode(self, records: list[SpanRecord]) -> bytes:
        return encode_traces(records)

    def finish(self) -> bytes:
        return b""


def encoded_of(
    items: Iterable[Item], writer: Writer, on_damage: Callable[[Damage], object]
) -> Iterator[tuple[bytes, int]]:
    """Write what a reader gives: bytes, and how many spans were taken for them. Args: see `clew.formats.records_of`."""
    single: list[SpanRecord] = []  # spans that came one by one

    def write_single() -> tuple[bytes, int]:
        records = single.copy()
        single.clear()
        return writer.encode(records), len(records)

    def take(block: Block) -> tuple[bytes, int]:
        if block.is_single:
            single.extend(block.records())
            return write_single() if len(single) >= BLOCK_SPANS else (b"", 0)
        if not single:
            return writer.take(block)
        data, count = write_single()  # what came before is written before
        more, count_of_more = writer.take(block)
        return data + more, count + count_of_more

    yield from decoded(items, take, on_damage)
    if single:
        yield write_single()


def json_lines(records: Iterable[SpanRecord]) -> Iterator[bytes]:
    """Records as OTLP JSON Lines, one for each resource and scope, without newlines.

    Raises:
        EncodeError: see `clew.otlp.encode_span`.
    """
    groups: list[tuple[Resource, Scope, list[SpanRecord]]] = []
    for record in records:
        for resource, scope, spans in groups:
            if resource == record.resource and scope == record.scope:
                spans.append(record)
                break
        else:
            groups.append((record.resource, record.scope, [record]))
    for resource, scope, spans in groups:
        yield Batch(b"".join(map(encode_span, spans)), len(spans), resource, scope).to_json()


class Format(NamedTuple):
    """A format, and what writes and reads it. They are loaded when they are needed: "module:name"."""

    suffixes: tuple[str, ...]  # of files' names, of which the longest counts
    description: str  # half a sentence
    writer: str  # a Writer, made without arguments
    reader: str = ""  # a Reader, made with the trace ids that are wanted, or None; "" where the content tells all
    is_by_trace: bool = False  # its writer must get each trace's spans one after the other

    def make_writer(self) -> Writer:
        """A writer for one file.

        Raises:
            ModuleNotFoundError: it needs a package that is not installed.
        """
        writer: Writer = _load(self.writer)()
        return writer

    def reader_maker(self) -> Callable[[frozenset[str] | None], Reader]:
        """What makes a reader, given the trace ids that are wanted.

        Raises:
            ModuleNotFoundError: as above.
        """
        maker: Callable[[frozenset[str] | None], Reader] = _load(self.reader)
        return maker


FORMATS: Final[dict[str, Format]] = {
    "jsonl": Format(
        (".jsonl",), "OTLP JSON Lines", "clew.formats.writing:OtlpJsonWriter", "clew.formats.json_reader:JsonReader"
    ),
    "pb": Format((".pb", ".binpb"), "OTLP protobuf", "clew.formats.writing:OtlpProtobufWriter"),
    "zipkin": Format(
        (".zipkin.json",),
        "Zipkin's JSON v2",
        "clew.formats.zipkin_writer:ZipkinWriter",
        "clew.formats.zipkin:ZipkinReader",
    ),
    "jaeger": Format(
        (".jaeger.json",),
        "Jaeger's JSON",
        "clew.formats.jaeger_writer:JaegerWriter",
        "clew.formats.jaeger:JaegerReader",
        is_by_trace=True,
    ),
    "gotor": Format(
        (".gotor.json",),
        "go-tor's traces.json",
        "clew.formats.gotor_writer:GoTorWriter",
        "clew.formats.json_reader:JsonReader",
    ),
    "chrome": Format(
        (".trace.json",),
        "Chrome's trace events (Perfetto)",
        "clew.formats.chrome:ChromeWriter",
        "clew.formats.chrome_reader:ChromeReader",
    ),
    "csv": Format(
        (".csv",), "CSV tables of spans", "clew.formats.csv_table:CsvWriter", "clew.formats.csv_table:CsvReader"
    ),
    "parquet": Format((".parquet",), "Parquet (with clew[parquet])", "clew.formats.parquet:ParquetWriter"),
}


def format_of_name(name: str) -> str | None:
    """The format that a file's name asks for, a key of FORMATS; None if it tells none.

    Args:
        name: with or without .gz behind it.
    """
    name = name.lower().removesuffix(".gz")
    fitting = [(len(end), key) for key, form in FORMATS.items() for end in form.suffixes if name.endswith(end)]
    return max(fitting)[1] if fitting else None


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
