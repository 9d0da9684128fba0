"""Reading and writing trace files of any size; `writing.FORMATS` is the table of them."""

from __future__ import annotations

from clew.formats.by_trace import ByTrace
from clew.formats.choose import Chooser, Gathered, Gatherer, Query
from clew.formats.detect import AnyReader, detect
from clew.formats.files import TraceFile, read_items
from clew.formats.follow import Arriving, Tail
from clew.formats.reading import Block, Damage, Glance, Item, Reader, glances_of, records_of
from clew.formats.writing import FORMATS, Format, Losses, Writer, encoded_of, format_of_name

__all__ = [
    "FORMATS",
    "AnyReader",
    "Arriving",
    "Block",
    "ByTrace",
    "Chooser",
    "Damage",
    "Format",
    "Gathered",
    "Gatherer",
    "Glance",
    "Item",
    "Losses",
    "Query",
    "Reader",
    "Tail",
    "TraceFile",
    "Writer",
    "detect",
    "encoded_of",
    "format_of_name",
    "glances_of",
    "read_items",
    "records_of",
]
