"""clew.formats.gotor: go-tor's objects become records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DecodeError
from clew.formats.gotor import hex_id, span_from_object
from clew.model import Event, Resource, SpanKind, SpanRecord, Status

DATA = Path(__file__).parents[2] / "data" / "traces"
START_NS = 1_763_820_000_123_456_789  # 2025-11-22T14:00:00.123456789Z

SPAN: dict[str, Any] = {"TraceID": "7", "SpanID": "8", "Name": "x", "Kind": "internal", "Status": "ok"}


def test_real_shape() -> None:
    """Every field finds its place: times to the nanosecond, the service, the description, events; a span that never
    ended is marked."""
    first, second = (span_from_object(json.loads(line)) for line in (DATA / "gotor.json").read_text().splitlines())
    assert first == SpanRecord(
        trace_id="0000000000000000187a58f1eb168cbc",
        span_id="187a58f1eb168d15",
        parent_id="",
        name="build-circuit",
        kind=SpanKind.CLIENT,
        start_time_ns=START_NS,
        end_time_ns=START_NS + 1_500_000_000,
        status=Status.ERROR,
        status_description="relay is down",
        attributes={"circuit.id": 7},
        events=(
            Event(
                "error",
                START_NS - 123_456_789 + 1_600_000_000,
                {"error.message": "relay is down", "error.type": "*errors.errorString"},
            ),
        ),
        resource=Resource({"service.name": "go-tor"}),
    )
    assert int(first.trace_id, 16) == 1_763_820_000_123_456_700
    assert (second.trace_id, second.parent_id) == (first.trace_id, first.span_id)
    assert second.start_time_ns == second.end_time_ns == START_NS - 123_456_789 + 200_000_000
    assert second.attributes == {"clew.unfinished": True}
    assert second.status is Status.OK


@pytest.mark.parametrize(
    ("value", "hex_digits"),
    [
        ("00F067AA0BA902B7", "00f067aa0ba902b7"),
        ("1763820000123456789", "187a58f1eb168d15"),
        ("18446744073709551615", "ffffffffffffffff"),
        ("18446744073709551616", "hash"),
        ("0", "hash"),
        ("span-1", "hash"),
        ("\ud800", "hash"),
    ],
)
def test_ids(value: str, hex_digits: str) -> None:
    """Ids of any form become hex of the right length; the same text always becomes the same id."""
    made = hex_id(value, 16)
    assert len(made) == 16
    assert made == hex_id(value, 16)
    assert int(made, 16)
    if hex_digits != "hash":
        assert made == hex_digits


@pytest.mark.parametrize("value", ["", None, 7, []])
def test_no_id(value: object) -> None:
    """A span without an id is damaged."""
    with pytest.raises(DecodeError, match="no id"):
        span_from_object({**SPAN, "SpanID": value})


@pytest.mark.parametrize(
    ("start", "end", "duration", "times"),
    [
        ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02.5Z", 0, (1_000_000_000, 2_500_000_000)),
        ("1970-01-01T02:00:01.000000001+02:00", "1969-12-31T23:00:02-01:00", 0, (1_000_000_001, 2_000_000_000)),
        ("1970-01-01T00:00:01.1234567899Z", "1970-01-01T00:00:02Z", 0, (1_123_456_789, 2_000_000_000)),
        ("1970-01-01T00:00:01Z", "0001-01-01T00:00:00Z", 5, (1_000_000_000, 1_000_000_005)),
        ("0001-01-01T00:00:00Z", "1970-01-01T00:00:01Z", 5, (999_999_995, 1_000_000_000)),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 0, (0, 0)),
        (None, "", 0, (0, 0)),
        ("1969-12-31T23:59:59Z", "1970-01-01T00:00:01Z", 0, (1_000_000_000, 1_000_000_000)),
    ],
)
def test_times(start: object, end: object, duration: int, times: tuple[int, int]) -> None:
    """Zones are undone; a time that is not known follows from the duration, or is 0."""
    record = span_from_object({**SPAN, "StartTime": start, "EndTime": end, "Duration": duration})
    assert (record.start_time_ns, record.end_time_ns) == times


@pytest.mark.parametrize(
    "fields",
    [
        {"StartTime": "yesterday"},
        {"StartTime": "2025-02-30T00:00:00Z"},
        {"StartTime": "9999-01-01T00:00:00Z"},
        {"StartTime": 5},
        {"Duration": "5"},
        {"Duration": True},
        {"Name": 5},
        {"Attributes": []},
        {"Events": {}},
        {"Events": [5]},
        {"Attributes": {"deep": json.loads("[" * 200 + "]" * 200)}},
    ],
)
def test_wrong_fields(fields: dict[str, Any]) -> None:
    """A field of the wrong type, or a time that does not exist, is damage."""
    with pytest.raises(DecodeError):
        span_from_object({**SPAN, **fields})


def test_unknown_words_are_kept() -> None:
    """A kind or status that is not known does not get lost."""
    record = span_from_object({**SPAN, "Kind": "relay", "Status": "fine"})
    assert (record.kind, record.status) == (SpanKind.INTERNAL, Status.UNSET)
    assert record.attributes == {"clew.unfinished": True, "go-tor.kind": "relay", "go-tor.status": "fine"}


@pytest.mark.parametrize(
    ("word", "status"), [("ok", Status.OK), ("Error", Status.ERROR), ("cancelled", Status.CANCELLED)]
)
def test_statuses(word: str, status: Status) -> None:
    """go-tor's statuses are clew's."""
    assert span_from_object({**SPAN, "Status": word}).status is status


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "TraceID",
                "SpanID",
                "ParentID",
                "Name",
                "Kind",
                "StartTime",
                "EndTime",
                "Duration",
                "Status",
                "Attributes",
                "Events",
            ]
        ),
        ANYTHING | st.just("2025-11-22T14:00:00Z") | st.just([{"Name": "e"}]),
    )
)
def test_anything(value: dict[str, Any]) -> None:
    """Any object gives a record or DecodeError."""
    try:
        record = span_from_object(value)
    except DecodeError:
        return
    assert len(record.trace_id) == 32
    assert len(record.span_id) == 16
