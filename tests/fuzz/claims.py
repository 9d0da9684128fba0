"""What holds of everything that a parser gives, whatever it was given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clew.limits import DECODED_VALUE_DEPTH
from clew.model import SpanKind, SpanRecord, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.model import Attributes, AttributeValue

__all__ = ["check_records", "check_shown", "check_text"]

_TRACE_ID = re.compile("(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile("(?!0{16})[0-9a-f]{16}")
_ANY_TRACE_ID = re.compile("[0-9a-f]{32}")
_ANY_SPAN_ID = re.compile("[0-9a-f]{16}")
# What a terminal acts upon: C0, DEL, C1, and what changes the order of writing or ends lines.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check_text(text: object) -> None:
    """It is text that can be written somewhere."""
    assert type(text) is str
    text.encode()


def check_shown(text: str) -> None:
    """It can be printed on a terminal, on one line."""
    assert _CONTROLS.search(text) is None, ascii(text)


def check_records(records: Iterable[SpanRecord]) -> None:
    """Records hold what their types promise: ids that are ids, times of 64 bits, texts that can be encoded."""
    for record in records:
        assert type(record) is SpanRecord
        assert _TRACE_ID.fullmatch(record.trace_id), record.trace_id
        assert _SPAN_ID.fullmatch(record.span_id), record.span_id
        assert record.parent_id == "" or _SPAN_ID.fullmatch(record.parent_id), record.parent_id
        assert isinstance(record.kind, SpanKind)
        assert isinstance(record.status, Status)
        for text in (record.name, record.status_description, record.trace_state, record.scope.name):
            check_text(text)
        _check_times(record.start_time_ns, record.end_time_ns)
        _check_counts(record.flags, record.dropped_attributes, record.dropped_events, record.dropped_links)
        for attributes in (record.attributes, record.resource.attributes, record.scope.attributes):
            _check_attributes(attributes)
        for event in record.events:
            check_text(event.name)
            _check_times(event.time_ns)
            _check_counts(event.dropped_attributes)
            _check_attributes(event.attributes)
        for link in record.links:
            assert _ANY_TRACE_ID.fullmatch(link.context.trace_id)
            assert _ANY_SPAN_ID.fullmatch(link.context.span_id)
            check_text(link.context.trace_state)
            _check_counts(link.dropped_attributes)
            _check_attributes(link.attributes)


def _check_times(*times: int) -> None:
    for time_ns in times:
        assert type(time_ns) is int
        assert 0 <= time_ns < 1 << 64


def _check_counts(*counts: int) -> None:
    for count in counts:
        assert 0 <= count < 1 << 32


def _check_attributes(attributes: Attributes, depth: int = 0) -> None:
    for key, value in attributes.items():
        check_text(key)
        _check_value(value, depth)


def _check_value(value: AttributeValue, depth: int) -> None:
    match value:
        case str():
            check_text(value)
        case tuple():
            assert depth <= DECODED_VALUE_DEPTH
            for item in value:
                _check_value(item, depth + 1)
        case Mapping():
            assert depth <= DECODED_VALUE_DEPTH
            _check_attributes(value, depth + 1)
        case _:
            assert value is None or type(value) in (bool, int, float, bytes)
