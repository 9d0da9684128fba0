"""clew.formats.follow: files that grow, are replaced or truncated; traces whose spans arrive one by one."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from clew.formats import follow
from clew.formats.follow import Arriving, Tail
from clew.formats.reading import Damage, records_of
from clew.model import SpanRecord

if TYPE_CHECKING:
    from pathlib import Path


def line(name: str) -> bytes:
    value = {"TraceID": "7", "SpanID": "8", "Name": name, "EndTime": "2025-11-22T14:00:00Z"}
    return json.dumps(value).encode() + b"\n"


def tell(tail: Tail) -> list[object]:
    return [
        told
        for item in tail.read()
        for told in (["damage"] if isinstance(item, Damage) else [record.name for record in item.records()])
    ]


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "traces.json"
    path.write_bytes(line("a") + line("b"))
    return path


def test_a_growing_file(path: Path) -> None:
    """Each reading gives what is new; half a line waits for its other half."""
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == ["a", "b"]
        assert tell(tail) == []
        append(path, line("c") + line("d")[:20])
        assert tell(tail) == ["c"]
        append(path, line("d")[20:])
        assert tell(tail) == ["d"]
        assert not tail.take_restart()


def test_a_replaced_file(path: Path) -> None:
    """After a rotation the rest of the old file is read, then the new one; a file that is away is waited for."""
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == ["a", "b"]
        append(path, line("c") + line("torn")[:9])
        path.rename(path.with_suffix(".1"))
        assert tell(tail) == ["c"]
        append(path.with_suffix(".1"), line("torn")[9:])
        path.write_bytes(line("d"))
        assert tell(tail) == ["torn", "d"]
        assert tail.take_restart()
        assert not tail.take_restart()


def test_a_truncated_file(path: Path) -> None:
    """A file that was truncated is read from its beginning."""
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == ["a", "b"]
        path.write_bytes(line("c"))
        assert tell(tail) == ["c"]
        assert tail.take_restart()


def test_a_truncated_file_that_has_grown_again(path: Path) -> None:
    """Also one that is as long as before, or longer, when it is looked at again (logrotate's copytruncate)."""
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == ["a", "b"]
        os.truncate(path, 0)
        append(path, line("c") + line("d") + line("e"))
        assert tell(tail) == ["c", "d", "e"]
        assert tail.take_restart()


@pytest.mark.parametrize("size", [1, 30, 60])
def test_a_torn_line_that_is_cut_off(path: Path, size: int) -> None:
    """A writer mends what another left when it was killed: nothing is read twice, and the next line is whole."""
    with closing(Tail(str(path))) as tail:
        append(path, line("torn")[:size])
        assert tell(tail) == ["a", "b"]
        os.truncate(path, len(line("a") + line("b")))
        assert tell(tail) == []
        append(path, line("torn")[:size])
        assert tell(tail) == []
        os.truncate(path, len(line("a") + line("b")))
        append(path, line("longer than it was") + line("d"))
        assert tell(tail) == ["longer than it was", "d"]
        assert not tail.take_restart()


def test_a_line_without_an_end_when_the_file_is_replaced(path: Path) -> None:
    """It gets no end any more: whole, it is read; a piece is told."""
    with closing(Tail(str(path))) as tail:
        append(path, line("c")[:-1])
        assert tell(tail) == ["a", "b"]
        path.rename(path.with_suffix(".1"))
        path.write_bytes(line("d")[:-9])
        assert tell(tail) == ["c"]
        path.rename(path.with_suffix(".2"))
        path.write_bytes(line("e"))
        assert tell(tail) == ["damage", "e"]


def test_a_line_that_is_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and what follows is read; memory for it is bounded."""
    monkeypatch.setattr(follow, "LINE_BYTES", 1000)
    monkeypatch.setattr(follow, "CHUNK_BYTES", 100)
    monkeypatch.setattr("clew.formats.json_reader.LINE_BYTES", 1000)
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == ["a", "b"]
        append(path, b'{"TraceID":"' + b"x" * 3000)
        assert tell(tail) == []
        append(path, b'"}\n' + line("c"))
        assert tell(tail) == ["damage", "c"]


def test_what_was_read_can_be_read_again(path: Path) -> None:
    """Up to where it was read, and also when the file was replaced meanwhile."""
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == ["a", "b"]
        append(path, line("c"))
        path.rename(path.with_suffix(".1"))
        path.write_bytes(line("d") * 9)
        with tail.as_read() as file:
            damage: list[Damage] = []
            assert file.name == str(path)
            names = [record.name for records in records_of(file.items(), damage.append) for record in records]
        assert (names, damage) == (["a", "b"], [])
        assert tell(tail) == ["c"] + ["d"] * 9


def test_a_long_line_is_not_read_again_before_it_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no end yet costs nothing while nobody writes."""
    with closing(Tail(str(path))) as tail:
        append(path, line("c")[:-1])
        assert tell(tail) == ["a", "b"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", None)
            assert tell(tail) == []
        append(path, b"\n")
        assert tell(tail) == ["c"]


def test_an_empty_file_that_begins_later(path: Path) -> None:
    """The format of an empty file is found when there is something in it."""
    path.write_bytes(b"")
    with closing(Tail(str(path))) as tail:
        assert tell(tail) == []
        append(path, line("a")[:5])
        assert tell(tail) == []
        append(path, line("a")[5:])
        assert tell(tail) == ["a"]


def test_a_pipe() -> None:
    """A pipe is read as far as it is filled, without waiting, until its other end is closed."""
    reading, writing = os.pipe()
    with closing(Tail(f"/dev/fd/{reading}")) as tail:
        assert tell(tail) == []
        os.write(writing, line("a") + line("b")[:-1])
        assert tell(tail) == ["a"]
        assert not tail.is_over
        os.close(writing)
        assert tell(tail) == ["b"]
        assert tail.is_over
        assert tell(tail) == []
    os.close(reading)


def span(trace_id: str, span_id: str, parent_id: str = "") -> SpanRecord:
    return SpanRecord(trace_id, span_id, parent_id, "x")


def names(traces: list[list[SpanRecord]]) -> list[str]:
    return ["".join(record.span_id for record in trace) for trace in traces]


def test_a_trace_is_complete_a_moment_after_its_root() -> None:
    """The root comes last; a moment later nothing else is expected."""
    arriving = Arriving()
    arriving.add(span("t", "c", "r"), 0)
    arriving.add(span("t", "r"), 1)
    assert arriving.complete(2) == []
    assert names(arriving.complete(1 + Arriving.SETTLE_NS)) == ["cr"]
    assert arriving.span_count == 0


def test_a_trace_without_root_is_complete_after_a_silence() -> None:
    """Its root may be in a file of another service."""
    arriving = Arriving()
    arriving.add(span("t", "c", "r"), 0)
    assert arriving.complete(Arriving.SILENCE_NS - 1) == []
    assert names(arriving.complete(Arriving.SILENCE_NS)) == ["c"]


def test_too_many_spans_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many spans wait, the traces that were silent longest are given as they are."""
    monkeypatch.setattr(follow, "FOLLOWED_SPANS", 2)
    arriving = Arriving()
    for trace_id, span_id in (("t", "1"), ("u", "2"), ("t", "3")):
        arriving.add(span(trace_id, span_id, "r"), 0)
    assert names(arriving.complete(0)) == ["2"]
    assert names(arriving.rest()) == ["13"]


def test_traces_that_were_given_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that later spans of theirs can be told to be a continuation; the memory of it is bounded."""
    monkeypatch.setattr(follow, "FOLLOWED_TRACES", 2)
    arriving = Arriving()
    for trace_id in "abc":
        arriving.mark_given(trace_id)
    assert [arriving.was_given(trace_id) for trace_id in "abc"] == [False, True, True]
