"""Reading trace files of any size: OTLP JSON Lines, OTLP protobuf, go-tor's traces.json; plain or gzip."""

from __future__ import annotations

from clew.formats.choose import Chooser, Gathered, Gatherer, Query
from clew.formats.detect import AnyReader, detect
from clew.formats.files import TraceFile, read_items
from clew.formats.follow import Arriving, Tail
from clew.formats.reading import Block, Damage, Glance, Item, Reader, glances_of, records_of

__all__ = [
    "AnyReader",
    "Arriving",
    "Block",
    "Chooser",
    "Damage",
    "Gathered",
    "Gatherer",
    "Glance",
    "Item",
    "Query",
    "Reader",
    "Tail",
    "TraceFile",
    "detect",
    "glances_of",
    "read_items",
    "records_of",
]
