"""clew.formats.by_trace: spans in any order come out trace by trace, with bounded memory."""

from __future__ import annotations

import random
import tempfile
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.formats import by_trace
from clew.formats.by_trace import ByTrace
from clew.model import Event, SpanRecord


def span(trace: int, number: int, size: int = 0) -> SpanRecord:
    return SpanRecord(f"{trace:032x}", f"{number:016x}", "", "x" * size, events=(Event("e", number),))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """Parts of 2000 bytes, windows of 100; gives the temporary files that are made."""
    monkeypatch.setattr(by_trace, "SORTED_BYTES", 2000)
    monkeypatch.setattr(by_trace, "SORTED_WINDOW_BYTES", 100)
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def remember() -> IO[bytes]:
        files.append(make())
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    return files


def test_more_than_fits(small: list[IO[bytes]]) -> None:
    """Parts of a file are merged: traces in the order of their ids, the spans of each as they came, none missing."""
    order = random.Random(7)
    spans = [span(order.randrange(1, 20), number, order.choice([0, 0, 300])) for number in range(1, 400)]
    with ByTrace() as sorter:
        for at in range(0, len(spans), 7):
            sorter.add(spans[at : at + 7])
            assert sorter._waiting_bytes <= 2000
        assert len(sorter._parts) > 10
        given_bytes: list[int] = []
        found = [record for records in sorter.records(given_bytes.append) for record in records]
        assert sum(given_bytes) == sorter.size_bytes
    assert found == sorted(spans, key=lambda record: (record.trace_id, record.span_id))
    assert [file.closed for file in small] == [True]


def test_what_fits_stays_in_memory(small: list[IO[bytes]]) -> None:
    """A few spans need no file."""
    with ByTrace() as sorter:
        sorter.add([span(2, 1), span(1, 2), span(2, 3)])
        found = [record for records in sorter.records(lambda _: None) for record in records]
    assert [(record.trace_id[-1], record.span_id[-1]) for record in found] == [("1", "2"), ("2", "1"), ("2", "3")]
    assert small == []


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50)), max_size=30))
def test_any_order(spans: list[tuple[int, int]]) -> None:
    """Whatever comes in whatever order: each trace is in one piece."""
    with ByTrace() as sorter:
        for number, (trace, size) in enumerate(spans, 1):
            sorter.add([span(trace, number, size)])
        found = [record for records in sorter.records(lambda _: None) for record in records]
    assert found == sorted(found, key=lambda record: (record.trace_id, record.span_id))
    assert len(found) == len(spans)
