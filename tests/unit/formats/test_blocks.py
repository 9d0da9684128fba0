"""clew.formats.blocks: what is copied to OTLP JSON Lines without records says what the records would have said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clew.formats import Block, Damage, encoded_of, read_items, records_of
from clew.formats.writing import OtlpJsonWriter
from clew.otlp import encode_traces

if TYPE_CHECKING:
    from clew.model import SpanRecord

DATA = Path(__file__).parents[2] / "data" / "traces"
IDS = {"traceId": "1" * 32, "spanId": "2" * 16}


def converted(data: bytes) -> tuple[bytes, int, list[Damage]]:
    """A file as OTLP JSON Lines, the number of its spans, and its damage."""
    damage: list[Damage] = []
    parts = list(encoded_of(read_items(iter([data])), OtlpJsonWriter(), damage.append))
    return b"".join(part for part, _ in parts), sum(spans for _, spans in parts), damage


def records(data: bytes) -> list[SpanRecord]:
    damage: list[Damage] = []
    return [record for spans in records_of(read_items(iter([data])), damage.append) for record in spans]


def test_a_line_stays_as_it_is() -> None:
    """What is OTLP/JSON on one line is copied, with what clew does not know in it."""
    line = (DATA / "otlp.jsonl").read_bytes().splitlines()[0]
    value = json.loads(line)
    value["resourceSpans"][0]["futureField"] = [1]
    line = json.dumps(value).encode()
    assert converted(line + b"\n") == (line + b"\n", 2, [])


def test_what_is_no_line_becomes_one() -> None:
    """An object over many lines is one line afterwards, and the spans are the same."""
    data = (DATA / "otlp.jsonl").read_bytes()
    indented = b"\n".join(json.dumps(json.loads(line), indent=1).encode() for line in data.splitlines())
    lines, spans, damage = converted(indented)
    assert (lines.count(b"\n"), spans, damage) == (data.count(b"\n"), 5, [])
    assert records(lines) == records(data)


def test_protobuf_becomes_lines() -> None:
    """The same for messages, also for one whose spans have no ids, which is told."""
    spans = records((DATA / "otlp.jsonl").read_bytes())
    data = encode_traces(spans)
    lines, number, damage = converted(data)
    assert (records(lines), number, damage) == (spans, 5, [])
    broken = data.replace(bytes.fromhex(spans[0].span_id), bytes(8))
    assert [item.reason for item in converted(broken)[2]] == [
        "damaged OTLP protobuf: an id is missing, all zero or of the wrong length"
    ]


@pytest.mark.parametrize(
    "span", [{"traceId": "x"}, {**IDS, "startTimeUnixNano": "soon"}, {**IDS, "name": 5}, {"traceId": "1" * 32}]
)
def test_damage_is_not_copied(span: dict[str, object]) -> None:
    """A line that cannot be counted is left out, and told."""
    good = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [IDS]}]}]}).encode()
    bad = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    lines, spans, damage = converted(bad + b"\n" + good + b"\n")
    assert (lines, spans, [item.first for item in damage]) == (good + b"\n", 1, [1])


def test_other_blocks_have_no_lines() -> None:
    """Where nothing is quicker than records, a block says so."""
    blocks = [item for item in read_items(iter([(DATA / "gotor.json").read_bytes()])) if isinstance(item, Block)]
    assert [block.json_lines() for block in blocks] == [None] * len(blocks)
    assert converted((DATA / "gotor.json").read_bytes())[1] == len(blocks) == 2
