"""Fuzzed: files of traces, in every format and compression; files of ours that are mended and put aside."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew._hot import traces_to_records
from clew.errors import DecodeError, EncodeError, FormatError
from clew.exporters._torn import mend
from clew.exporters.rotation import Rotation
from clew.formats import FORMATS, AnyReader, Damage, Glance, read_items
from clew.formats.compression import CHUNK_BYTES, decompress
from clew.formats.json_reader import JsonReader
from tests.fuzz.claims import check_records, check_text
from tests.fuzz.source import Source, cuts
from tests.otlp_messages import exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.formats import Item
    from clew.model import SpanRecord

__all__ = [
    "check_any_file",
    "check_compressed",
    "check_file",
    "check_parquet",
    "check_rotation",
    "check_torn",
    "check_written",
]


def check_any_file(data: bytes) -> None:
    """A file whose format is to be found out: by what there is of it, so that pieces may be taken for another one."""
    with suppress(FormatError):
        _tell(read_items(iter([data])))
    whole = _recognised([data])
    for pieces in cuts(data):
        found = _recognised(pieces)
        assert found is None or whole is None or found[0] != whole[0] or found == whole


def _recognised(pieces: list[bytes]) -> tuple[object, object] | None:
    """The reader, and what it gave; None if it is in no format that is known."""
    reader = AnyReader()
    items: list[Item] = []
    try:
        for piece in pieces:
            items += reader.feed(piece)
        items += reader.finish()
    except FormatError:
        return None
    return (type(reader._reader), getattr(reader._reader, "_framing", None)), _tell(items)


def check_file(name: str, data: bytes) -> None:
    """A file that is said to be in a format: in pieces the same as at once."""
    make = FORMATS[name].reader_maker()
    whole = None
    for pieces in ([data], *cuts(data)):
        reader = make(None)

        def items(pieces: list[bytes] = pieces, reader: Any = reader) -> Iterator[Item]:
            for piece in pieces:
                yield from reader.feed(piece)
            yield from reader.finish()

        told = _tell(items())
        whole = told if whole is None else whole
        # An object on lines that are indented against the rules is found only where it is there as a whole.
        assert told == whole or (make is JsonReader and told[1])


def _tell(items: Iterable[Item]) -> tuple[list[object], list[object]]:
    """Everything about what a reader gave, in a form in which equal means the same: the spans, and the damage. How the
    spans are put together to blocks depends on the pieces that they came in."""
    spans: list[object] = []
    damage: list[object] = []
    for item in items:
        if isinstance(item, Damage):
            assert 0 <= item.first <= item.last
            check_text(item.reason)
            damage.append(tuple(item))
            continue
        assert item.number >= 1
        try:
            records = item.records()
        except DecodeError as error:
            damage.append((item.number, str(error)))
            with suppress(DecodeError):
                item.glances()  # they may tell more, as they look at less
            continue
        check_records(records)
        assert item.glances() == list(map(Glance.of, records))
        spans += exact(records)
    return spans, damage


# --- writing ---------------------------------------------------------------------------------------------------------


def check_written(data: bytes) -> None:
    """Records in any format that is written: no loss of spans, and no damage when they are read."""
    source = Source(data)
    name = source.pick(sorted(FORMATS))
    try:
        records = traces_to_records(source.rest())
    except DecodeError:
        return
    check_round_trip(name, records)


def check_round_trip(name: str, records: list[SpanRecord]) -> None:
    """Records become a file, and the file the same spans."""
    writer = FORMATS[name].make_writer()
    try:
        file = b"".join(writer.encode([record]) for record in records) + writer.finish()
    except EncodeError:
        return
    list(writer.losses.sentences())
    found = _read(name, file)
    damage = [item for item in found if isinstance(item, Damage)]
    assert damage == []
    back = [record for item in found if not isinstance(item, Damage) for record in item.records()]
    check_records(back)
    assert sorted((record.trace_id, record.span_id) for record in back) == sorted(
        (record.trace_id, record.span_id) for record in records
    )


def _read(name: str, file: bytes) -> list[Item]:
    if name == "parquet":
        return list(_read_parquet(file))
    if not FORMATS[name].reader:
        return list(read_items(iter([file]))) if file else []
    reader = FORMATS[name].reader_maker()(None)
    return [*reader.feed(file), *reader.finish()]


def _read_parquet(file: bytes) -> Iterator[Item]:
    from clew.formats.parquet import read_parquet

    with (_folder() / "spans.parquet").open("w+b", buffering=0) as sink:
        sink.write(file)
        sink.seek(0)
        yield from read_parquet(sink, None, lambda _: None)


def check_parquet(data: bytes) -> None:
    """A file that is said to be Parquet."""
    with suppress(FormatError):
        _tell(_read_parquet(data))


# --- compression -----------------------------------------------------------------------------------------------------


def check_compressed(data: bytes) -> None:
    """gzip, xz or neither: what Python's own modules make of it, no more than a chunk at once."""
    whole = _unpacked([data])
    for pieces in cuts(data):
        found = _unpacked(pieces)
        # Of damaged data more may be read where less came at once.
        assert found == whole or (found[1] and whole[1])
    plain, is_damaged = whole
    if not data.startswith((b"\x1f\x8b", b"\xfd7zXZ\0")):
        assert whole == (data, False)
    elif not is_damaged:
        unpack = gzip.decompress if data.startswith(b"\x1f\x8b") else lzma.decompress
        assert plain == unpack(data)


def _unpacked(pieces: list[bytes]) -> tuple[bytes, bool]:
    plain: list[bytes] = []
    try:
        for piece in decompress(iter(pieces)):
            assert len(piece) <= CHUNK_BYTES
            plain.append(piece)
    except DecodeError:
        return b"".join(plain), True
    return b"".join(plain), False


# --- files of ours ---------------------------------------------------------------------------------------------------


@cache
def _folder() -> Path:
    """One for all that this process tries; of memory, where there is such a place."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="clew", dir=memory if os.access(memory, os.W_OK) else None)
    _kept.append(folder)
    return Path(folder.name)


_kept: list[object] = []


def check_torn(data: bytes) -> None:
    """A file that somebody was killed over: lines that end stay as they are, a whole last one too."""
    path = _folder() / "torn.jsonl"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDWR)
    try:
        missing = mend(descriptor, may_cut=True)
    finally:
        os.close(descriptor)
    mended = path.read_bytes() + missing
    lines = data[: data.rfind(b"\n") + 1]
    last = data[len(lines) :]
    assert missing in (b"", b"\n")
    assert mended.startswith(lines)
    assert mended == b"" or mended.endswith(b"\n")
    assert mended in (lines, data + b"\n")
    if last and (not last.startswith(b"{") or _is_json(last)):
        assert mended == data + b"\n"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_NAME = re.compile(r"t\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z\.jsonl(?:\.gz(?:\.tmp)?)?")


def check_rotation(data: bytes) -> None:
    """Files beside a trace file, a name on each line: only what was put aside is ever deleted or compressed."""
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    try:
        names = {
            line for line in data.split(b"\n")[:12] if 0 < len(line) < 200 and b"/" not in line and b"\0" not in line
        }
        names -= {b".", b".."}
        for name in names:
            Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(b"{}\n")  # noqa: PTH118
        Rotation(None, None, 1, compress=True)._clean(str(folder / "t.jsonl"))
        left = set(os.listdir(os.fsencode(folder)))  # noqa: PTH208
        others = {name for name in names if not _NAME.fullmatch(os.fsdecode(name))}
        assert others <= left
        assert len({name.removesuffix(b".tmp").removesuffix(b".gz") for name in left - others}) <= 1
    finally:
        for name in os.listdir(os.fsencode(folder)):  # noqa: PTH208
            os.unlink(os.path.join(os.fsencode(folder), name))  # noqa: PTH108, PTH118
        folder.rmdir()
