"""Fuzzed: OTLP as protobuf and as JSON, native and in Python; compared with the official messages."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError as OfficialError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from clew._hot import (
    ProbabilitySample,
    attributes_to_json,
    spans_to_json,
    spans_to_records,
    split_by_scope,
    traces_to_records,
)
from clew._hot.keep import TraceKeeper, shows_trouble
from clew.errors import DecodeError
from clew.model import Resource, Scope, SpanRecord
from clew.otlp import Batch, decode_json, encode_span, encode_traces
from clew.otlp.copying import json_lines_of
from tests.fuzz.claims import check_records
from tests.otlp_messages import exact, records_of

__all__ = ["check_json", "check_spans", "check_traces"]


def check_traces(data: bytes) -> None:
    """A TracesData message: read or refused, written again, and read again the same; as the official decoder has it."""
    records = _decoded(data)
    lines = json_lines_of(data)
    if lines is not None and records is not None:  # an id that is taken back later is found out by who reads the lines
        copied = [record for line in lines.lines.splitlines() for record in decode_json(line)]
        assert lines.spans == len(copied)
        assert exact(copied) == exact(records)
    if records is None:
        return
    check_records(records)
    _check_encoded(records)
    message = TracesData()
    try:
        message.ParseFromString(data)
    except OfficialError:
        return  # it refuses texts that are no UTF-8, which are read here with U+FFFD in them
    if b"\x40" not in data and b"\x18" not in data:  # values and keys by number, of profiles: no span has them
        assert exact(records_of(message)) == exact(records)


def _decoded(data: bytes) -> list[SpanRecord] | None:
    try:
        return traces_to_records(data)
    except DecodeError:
        return None


def _check_encoded(records: list[SpanRecord]) -> None:
    data = encode_traces(records)
    again = traces_to_records(data)
    # Those of one resource and scope come to stand together.
    assert sorted(map(repr, map(exact, again))) == sorted(map(repr, map(exact, records)))
    assert encode_traces(again) == data


def check_spans(data: bytes) -> None:
    """Spans as they stand in a queue: whether as records or as JSON, they are the same, or refused both."""
    resource, scope = Resource({"service.name": "fuzzed"}), Scope("s")
    records: list[SpanRecord] | None
    try:
        records = spans_to_records(data, resource, scope)
    except DecodeError:
        records = None
    _check_inner(data, records)
    try:
        text = spans_to_json(data)
    except DecodeError:
        assert records is None
        return
    assert b"\n" not in text
    line = Batch(data, 0, resource, scope).to_json()
    if records is None:  # a span without an id, which no span of ours is; who reads the line says so
        with pytest.raises(DecodeError, match="id"):
            decode_json(line)
        return
    check_records(records)
    assert len(json.loads(b"[" + text + b"]")) == len(records)
    assert exact(decode_json(line)) == exact(records)
    encoded = b"".join(map(encode_span, records))
    assert exact(spans_to_records(encoded, resource, scope)) == exact(records)


def _check_inner(data: bytes, records: list[SpanRecord] | None) -> None:
    """What else reads spans of a queue: it refuses nothing that is read above."""
    with suppress(DecodeError):
        json.loads(b"[" + attributes_to_json(data) + b"]")
    try:
        parts = split_by_scope(data)
    except DecodeError:
        assert records is None
    else:
        assert all(count >= 0 for _, count, _ in parts)
    try:
        shows_trouble(data, True, 1)
        keeper = TraceKeeper(True, 1, ProbabilitySample(0.5), max_bytes=256, max_decisions=2, wait_seconds=600)
        given = [keeper.take(data), keeper.decide_all()]
    except DecodeError:
        assert records is None
        return
    assert keeper.held == keeper.held_bytes == 0
    if records is not None:
        assert sum(count + let_go for _, count, let_go in given) == len(records)
        for spans, count, _ in given:
            assert len(spans_to_records(spans, Resource(), Scope())) == count


def check_json(data: bytes) -> None:
    """An object of OTLP/JSON: read or refused, and what was read can be written as either form, and is the same."""
    try:
        records = decode_json(data)
    except DecodeError:
        return
    assert exact(decode_json(data.decode())) == exact(records)
    check_records(records)
    _check_encoded(records)
    for record in records:
        line = Batch(encode_span(record), 1, record.resource, record.scope).to_json()
        assert exact(decode_json(line)) == exact([record])
