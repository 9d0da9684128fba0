"""Which reader a file needs, told by its content, whatever its name is."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING

from clew.errors import FormatError
from clew.formats.json_reader import JsonReader
from clew.formats.protobuf_reader import ProtobufReader, find_framing
from clew.formats.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.formats.reading import Item

__all__ = ["HEAD_BYTES", "PARQUET_MAGIC", "AnyReader", "detect"]

# As much of a file as is looked at: enough for a long first line, and for a torn one with whole ones after it.
HEAD_BYTES = 1 << 20

PARQUET_MAGIC = b"PAR1"

# The keys that make a JSON object one of OTLP's, or one that is passed over.
_OTLP_JSON = re.compile(rb'[{,]\s*"(?:resourceSpans|resourceLogs|resourceMetrics|resourceProfiles)"\s*:')
# The key that tells another format: the first of these that is there. Jaeger's file may have no trace in it.
_KEY = re.compile(rb'[{,]\s*"(?:(TraceID)|(traceID)|(traceId))"\s*:|\A\s*\{\s*("data")\s*:\s*(?:\[\s*\]|null)')
_CHROME = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:(\{)|\[\s*(?=\{))")
_CHROME_EVENTS = re.compile(rb'[{,]\s*"traceEvents"\s*:\s*\[')
_BLANK = b" \t\r\n,[]\xef\xbb\xbf"
_FIRST_KEYS = (b'{"resourceSpans":', b'{"TraceID":')

# With less than this, text might still look like protobuf.
_PROTOBUF_BYTES = 64


def detect(head: bytes, *, is_whole: bool) -> Callable[[frozenset[str] | None], Reader] | None:
    """Find the reader for a file.

    Args:
        head: the first bytes of the file, decompressed, `HEAD_BYTES` of them if there are as many.
        is_whole: whether nothing follows the head.

    Returns: what makes a reader, given the trace ids that are wanted (see the readers); None when the head is too
        short to know.
    Raises:
        FormatError: no format that is read.
    """
    if head.startswith(PARQUET_MAGIC):
        raise FormatError("it is Parquet, which is read from its end: neither compressed nor while it grows")
    framing = find_framing(head)
    if framing is not None and (is_whole or len(head) >= _PROTOBUF_BYTES):
        return partial(ProtobufReader, framing)
    if _is_csv(head):
        from clew.formats.csv_table import CsvReader

        return CsvReader
    if _is_chrome(head):
        from clew.formats.chrome_reader import ChromeReader

        return ChromeReader
    if _OTLP_JSON.search(head):
        return JsonReader
    if key := _KEY.search(head):
        return _reader_of_key(key)
    start = b"".join(head.lstrip(_BLANK).split())
    if is_whole and any(first.startswith(start) for first in _FIRST_KEYS):  # nothing yet, or a torn first line
        return JsonReader
    if is_whole or len(head) >= HEAD_BYTES:
        from clew.formats.writing import FORMATS

        names = ", ".join(form.description for form in FORMATS.values())
        raise FormatError(f"it is in no format that clew reads: {names}")
    return None


def _reader_of_key(key: re.Match[bytes]) -> Callable[[frozenset[str] | None], Reader]:
    gotor, _, zipkin, _ = key.groups()
    if gotor:
        return JsonReader
    if zipkin:
        from clew.formats.zipkin import ZipkinReader

        return ZipkinReader
    from clew.formats.jaeger import JaegerReader

    return JaegerReader


def _is_csv(head: bytes) -> bool:
    """Whether the first line names the columns of both ids."""
    names = {name.strip(b'"') for name in head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip().split(b",")}
    return {b"trace_id", b"span_id"} <= names


def _is_chrome(head: bytes) -> bool:
    """Whether it is Chrome's object, in which no other format's key comes before the events, or array of events."""
    match = _CHROME.match(head)
    if match is None:
        return False
    if match[1] == b"{":
        events = _CHROME_EVENTS.search(head)
        return events is not None and not _OTLP_JSON.search(head, 0, events.start())
    try:
        event, _ = json.JSONDecoder().raw_decode(head.decode("utf-8", "replace"), len(head[: match.end()].decode()))
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and isinstance(event.get("ph"), str) and "traceId" not in event


class AnyReader(Reader):
    """Reads whichever format comes. `feed` and `finish` raise FormatError for a format that is not known.

    Args:
        wanted: trace ids (lower-case hex): what holds none of them may be left out; None reads everything.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._head = b""
        self._reader: Reader | None = None

    def feed(self, data: bytes) -> Iterator[Item]:
        if self._reader is None:
            self._head += data
            make = detect(self._head, is_whole=False)
            if make is None:
                return
            self._reader, data, self._head = make(self._wanted), self._head, b""
        yield from self._reader.feed(data)

    def finish(self) -> Iterator[Item]:
        if self._reader is None:
            make = detect(self._head, is_whole=True)
            assert make is not None  # a whole file is known or refused
            self._reader = make(self._wanted)
            yield from self._reader.feed(self._head)
        yield from self._reader.finish()
