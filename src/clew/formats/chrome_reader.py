"""Chrome's trace event format, read: files that clew wrote as they were, those of others as slices that nest.

Both forms are read, the object with `traceEvents` and the array of events, which need not have an end.

Source: Trace Event Format (the Chromium project's document).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from clew.errors import DecodeError
from clew.formats.blocks import RecordsBlock
from clew.formats.chrome import PLAIN_FIELDS
from clew.formats.chrome_slices import Slices
from clew.formats.json_stream import Broken, Found, JsonStream
from clew.formats.json_values import (
    KINDS,
    STATUSES,
    events_from_json,
    from_json,
    hex_id,
    links_from_json,
    natural,
    scope_from_json,
)
from clew.formats.reading import Damage, Reader
from clew.limits import BLOCK_SPANS, CHROME_ORIGINS, CHROME_SPANS_HELD
from clew.model import Resource, Scope, SpanRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.formats.reading import Item

__all__ = ["ChromeReader"]

_EVENTS: Final = ".traceEvents"
# Where an event begins, as far as text can tell.
_RESTART: Final = re.compile(r'[\[,\n]\s*(\{\s*"(?:ph|name|cat|pid|tid|ts|args)"\s*:)')
# As many as a writer may have in use: see clew.formats.chrome.
_ORIGINS_KEPT: Final = CHROME_ORIGINS + CHROME_SPANS_HELD


class ChromeReader(Reader):
    """Reads events.

    Args:
        wanted: spans of other trace ids (lower-case hex) are left out; None reads everything.
    """

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._head = b""
        self._stream: JsonStream | None = None
        self._is_array = False
        self._slices = Slices()
        self._own: _Own | None = None  # made when the file says that clew wrote it
        self._number = 0  # of the last event
        self._records: list[SpanRecord] = []

    def feed(self, data: bytes) -> Iterator[Item]:
        if self._stream is None:
            self._head += data
            first = self._head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            if not first:
                return
            self._is_array = first == b"["
            home = (("", "["),) if self._is_array else (("", "{"), (_EVENTS, "["))
            self._stream = JsonStream(dict(home), home, _RESTART)
            data, self._head = self._head, b""
        yield from self._take(self._stream.feed(data))

    def finish(self) -> Iterator[Item]:
        if self._stream is None:
            return
        yield from self._take(self._stream.finish())
        self._keep(self._slices.finish())
        yield from self._block()

    def _take(self, pieces: Iterable[object]) -> Iterator[Item]:
        for piece in pieces:
            if isinstance(piece, Found):
                if piece.path in {"[]", ".traceEvents[]"}:
                    yield from self._event(piece.value)
                elif piece.path == ".otherData":
                    self._own = _Own.of(piece.value)
            elif isinstance(piece, Broken):
                yield from self._block()
                if not (piece.is_tail and self._is_array):  # the array may be left without its end
                    yield Damage(self._number + 1, self._number + 1, piece.reason, "event", piece.is_tail)
        yield from self._block()

    def _event(self, event: Any) -> Iterator[Item]:
        self._number += 1
        try:
            if not isinstance(event, dict):
                raise DecodeError("an event is no object")  # noqa: TRY301
            self._keep(self._own.add(event) if self._own else self._slices.add(event))
        except DecodeError as error:
            yield from self._block()
            yield Damage(self._number, self._number, str(error), "event")
        if len(self._records) >= BLOCK_SPANS:
            yield from self._block()

    def _keep(self, records: Iterable[SpanRecord]) -> None:
        wanted = self._wanted
        self._records += records if wanted is None else [record for record in records if record.trace_id in wanted]

    def _block(self) -> Iterator[Item]:
        if self._records:
            records, self._records = self._records, []
            yield RecordsBlock(self._number, records)


class _Own:
    """Events that clew wrote: each that stands for a span says all of it."""

    def __init__(self, epoch_ns: int) -> None:
        self._epoch_ns = epoch_ns
        self._origins: dict[int, tuple[Resource, Scope]] = {}

    @classmethod
    def of(cls, other_data: Any) -> _Own | None:
        """None, for the data of others, and where the clock cannot be read."""
        clew = other_data.get("clew") if isinstance(other_data, dict) else None
        try:
            return cls(_big(clew.get("epoch_ns"))) if isinstance(clew, dict) else None
        except DecodeError:
            return None

    def add(self, event: dict[str, Any]) -> tuple[SpanRecord, ...]:
        """Raises: DecodeError."""
        phase, args = event.get("ph"), event.get("args")
        if not isinstance(args, dict):
            return ()
        if phase == "M" and "origin" in args:
            resource = Resource(from_json(args.get("resource")))
            self._origins[natural(args["origin"], 63)] = (resource, scope_from_json(args.get("scope")))
            if len(self._origins) > _ORIGINS_KEPT:
                del self._origins[next(iter(self._origins))]
        if phase not in {"X", "b"}:
            return ()
        return (self._record(event, args),)

    def _record(self, event: dict[str, Any], args: dict[str, Any]) -> SpanRecord:
        get = args.get
        trace_id, span_id = hex_id(get("trace_id"), 32), hex_id(get("span_id"), 16)
        name = event.get("name")
        if not trace_id or not span_id or not isinstance(name, str):
            raise DecodeError("a span has no id or no name")
        start_ns = _big(args["start_ns"]) if "start_ns" in args else self._epoch_ns + _exact(event.get("ts"))
        end_ns = _big(args["end_ns"]) if "end_ns" in args else start_ns + _exact(event.get("dur", 0))
        resource, scope = self._origins.get(natural(get("origin", 0), 63), _NOWHERE)
        record = SpanRecord(
            trace_id,
            span_id,
            hex_id(get("parent_id"), 16),
            name,
            _one_of(KINDS, get("kind", "internal")),
            start_ns,
            end_ns,
            _one_of(STATUSES, get("status", "unset")),
            attributes=from_json(get("attributes")),
            events=events_from_json(get("events")),
            links=links_from_json(get("links")),
            resource=resource,
            scope=scope,
        )
        return record._replace(**{field: _plain(field, args[field]) for field in PLAIN_FIELDS if field in args})


_NOWHERE: Final = (Resource(), Scope())


def _one_of(known: dict[str, Any], word: Any) -> Any:
    if not isinstance(word, str) or word not in known:
        raise DecodeError("a span's kind or status does not exist")
    return known[word]


def _plain(field: str, value: Any) -> Any:
    if isinstance(SpanRecord._field_defaults[field], int):
        return natural(value, 32)
    if not isinstance(value, str):
        raise DecodeError(f"a span's {field} is no text")
    return value


def _big(value: Any) -> int:
    """An integer that may be too large for a double, as its digits."""
    if not isinstance(value, str) or not value.isdecimal() or not value.isascii() or len(value) > 20:
        raise DecodeError("a time is no number of nanoseconds")
    return natural(int(value), 64)


def _exact(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 53:
        raise DecodeError("a time is no number of microseconds")
    return round(value * 1000)
