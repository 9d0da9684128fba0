"""Spans of several scopes in one queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import DecodeError, ExportError, Resource, Scope
from clew._hot import split_by_scope
from clew.limits import SCOPES
from clew.model import SpanRecord
from clew.otlp import Batch, decode_json, decode_traces, encode_span, encode_traces
from clew.tracer import Tracer


def span_of(number: int, scope: int, name: str = "operation") -> tuple[bytes, bytes]:
    """A span as the core encodes it, with a padded length, and what is to come of it."""
    field = encode_span(SpanRecord(f"{number + 1:032x}", f"{number + 1:016x}", "", name, flags=0x101))
    length = 2 if len(field) < 130 else 3
    body = field[length:]
    mark = bytes((0xC0, 0x3E, scope & 0x7F | 0x80, scope >> 7)) if scope else b""
    return _field(body + mark), _field(body)


def _field(body: bytes) -> bytes:
    size = len(body)
    return bytes((0x12, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + body


@given(st.lists(st.sampled_from([0, 1, 2, 127, 128, SCOPES, 0x3FFF]), max_size=30), st.text(max_size=300))
def test_sorted_by_scope(scopes: list[int], name: str) -> None:
    """Each span is found with its scope, in its order, byte for byte as it was without the mark."""
    spans = [span_of(number, scope, name) for number, scope in enumerate(scopes)]
    found = split_by_scope(b"".join(marked for marked, _ in spans))
    assert [number for _, _, number in found] == list(dict.fromkeys(scopes))
    for data, count, number in found:
        mine = [plain for (_, plain), scope in zip(spans, scopes, strict=True) if scope == number]
        assert (data, count) == (b"".join(mine), len(mine))


def test_damage() -> None:
    """What is no span is told, not guessed."""
    with pytest.raises(DecodeError):
        split_by_scope(b"\x12\xff\xff\xff")


def test_the_pipeline_has_as_many_scopes_as_it_should() -> None:
    """A scope has one number; beyond the limit a library counts as the tracer's own."""
    with Tracer("shop") as tracer:
        numbers = [tracer.scope_number(Scope(f"library {number}")) for number in range(SCOPES + 5)]
        assert numbers[: SCOPES - 1] == list(range(1, SCOPES))
        assert set(numbers[SCOPES - 1 :]) == {0}
        assert tracer.scope_number(Scope("library 7")) == 8


def test_schema_url() -> None:
    """It is written and read in both forms of OTLP, beside the spans of other schemas."""
    scopes = [Scope("a", "1", {"key": 1}, "https://example.com/schema/1"), Scope("a", "1", {"key": 1}), Scope("b")]
    records = [SpanRecord("1" * 32, f"{n + 1:016x}", "", "x", scope=scope) for n, scope in enumerate(scopes)]
    assert decode_traces(encode_traces(records)) == records
    for record in records:
        batch = Batch(encode_span(record), 1, Resource({"service.name": "shop"}), record.scope)
        for back in (decode_traces(batch.to_protobuf()), decode_json(batch.to_json())):
            assert [each.scope for each in back] == [record.scope]


def test_a_part_that_fails() -> None:
    """Each scope is a batch of its own: what fails of one does not fail the others."""

    class Half:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def export(self, batch: Batch) -> None:
            self.seen.append(batch.scope.name)
            if batch.scope.name == "bad":
                raise ExportError("no")

        def close(self) -> None:
            pass

    exporter = Half()
    with Tracer("shop", exporter) as tracer:
        pipeline = tracer._pipeline
        bad = tracer.scope_number(Scope("bad"))
        data = b"".join(span_of(number, bad * (number % 2))[0] for number in range(5))
        assert pipeline._export(pipeline._here(), data, 5) == 2
        assert exporter.seen == ["clew", "bad"]
