"""The exporters other than the file's."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clew import (
    Batch,
    ConfigurationError,
    ExportError,
    MemoryExporter,
    MultiExporter,
    NoopExporter,
    StdoutExporter,
    Tracer,
    WriterExporter,
)
from clew.otlp import decode_json

if TYPE_CHECKING:
    from clew import Exporter

SECONDS = 30.0


def make_batch(*names: str) -> Batch:
    exporter = MemoryExporter()
    with Tracer("test", exporter) as tracer:
        for name in names:
            tracer.start_span(name).end()
    return exporter._batches[0]


def names(text: str | bytes) -> list[str]:
    return [record.name for line in text.splitlines() for record in decode_json(line)]


# --- noop and memory -------------------------------------------------------------------------------------------------


def test_noop() -> None:
    """Spans that go nowhere are exported: nothing was lost that anybody wanted."""
    with Tracer("test", NoopExporter()) as tracer:
        tracer.start_span("a").end()
        assert tracer.flush(SECONDS)
        assert tracer.stats().exported == 1


def test_memory() -> None:
    """It keeps what it is given until it is cleared, after closing too, and hands out lists of the caller's own."""
    exporter = MemoryExporter()
    exporter.export(make_batch("a", "b"))
    exporter.export(make_batch("c"))
    exporter.close()
    assert [record.name for record in exporter.records] == ["a", "b", "c"]
    exporter.records.clear()
    assert len(exporter.records) == 3
    exporter.clear()
    assert exporter.records == []


# --- stdout ----------------------------------------------------------------------------------------------------------


def test_stdout_is_that_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever object stands in sys.stdout gets the lines."""
    exporter = StdoutExporter()
    exporter.export(make_batch("a"))
    with contextlib.redirect_stdout(io.StringIO()) as other:
        exporter.export(make_batch("é"))
    exporter.close()
    assert names(capsys.readouterr().out) == ["a"]
    assert names(other.getvalue()) == ["é"]


def test_stdout_pretty(capsys: pytest.CaptureFixture[str]) -> None:
    """pretty=True prints the picture."""
    StdoutExporter(pretty=True).export(make_batch("a"))
    assert capsys.readouterr().out.splitlines()[1].startswith("  a  ")


def test_stdout_comes_after_what_was_printed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real stream: what the program printed stands first, and nothing of ours stays in the stream's buffer."""
    path = tmp_path / "out"
    with path.open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        stream.write("before\n")
        StdoutExporter().export(make_batch("é"))
        before, line = path.read_text(encoding="utf-8").splitlines()
        stream.write("after\n")
    assert before == "before"
    assert names(line) == ["é"]
    assert path.read_text(encoding="utf-8").endswith("after\n")


def test_stdout_of_another_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is written in the stream's encoding, with escapes for what it lacks."""
    path = tmp_path / "out"
    with path.open("w", encoding="latin-1") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        StdoutExporter(pretty=True).export(make_batch("é €"))
    assert "  é \\u20ac  " in path.read_text(encoding="latin-1")


def test_a_stdout_that_nobody_reads_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe, a closed stream, none at all: counted as failed."""
    reading, writing = os.pipe()
    os.close(reading)
    closed = io.StringIO()
    closed.close()
    with os.fdopen(writing, "w") as broken:
        for stdout in (broken, closed, None):
            monkeypatch.setattr(sys, "stdout", stdout)
            with Tracer("test", StdoutExporter()) as tracer:
                tracer.start_span("a").end()
                assert not tracer.flush(SECONDS)
                assert tracer.stats().failed == 1


def test_a_stdout_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another program made the terminal non-blocking, the whole line is written all the same."""
    import threading

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 65_536):
            received.extend(data)

    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        reader = threading.Thread(target=read)
        batch = make_batch("x" * 1_000_000)
        reader.start()
        StdoutExporter().export(batch)
    reader.join()
    os.close(reading)
    assert names(bytes(received)) == ["x" * 1_000_000]


# --- writer ----------------------------------------------------------------------------------------------------------


class TextOnly:
    """A writer that is no file."""

    def __init__(self) -> None:
        self.data = ""

    def write(self, text: str) -> None:
        self.data += text


class BytesOnly:
    """A writer that takes bytes, and does not say so."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("writer", [TextOnly(), BytesOnly(), io.StringIO(), io.BytesIO()], ids=repr)
def test_writers_of_text_and_of_bytes(writer: Any) -> None:
    """Each gets what it takes, and stays open."""
    exporter = WriterExporter(writer)
    exporter.export(make_batch("é"))
    exporter.export(make_batch("b"))
    exporter.close()
    assert names(writer.data if hasattr(writer, "data") else writer.getvalue()) == ["é", "b"]


def test_files_are_flushed_after_each_batch(tmp_path: Path) -> None:
    """Text, buffered, raw, compressed and temporary files."""
    path = tmp_path / "x"
    for mode, buffering in (("w", -1), ("wb", -1), ("wb", 0)):
        with path.open(mode, buffering, encoding="utf-8" if mode == "w" else None) as file:
            WriterExporter(file).export(make_batch("é"))
            assert names(path.read_bytes()) == ["é"]
    with gzip.open(path, "wb") as compressed:
        WriterExporter(compressed).export(make_batch("a"))
    with gzip.open(path) as compressed:
        assert names(compressed.read()) == ["a"]
    with tempfile.NamedTemporaryFile() as temporary:
        WriterExporter(temporary).export(make_batch("a"))
        assert names(Path(temporary.name).read_bytes()) == ["a"]


def test_a_raw_file_that_takes_a_part_at_a_time() -> None:
    """The rest is written too; one that takes nothing fails the batch."""

    class Slow(io.RawIOBase):
        def __init__(self, limit: int) -> None:
            self.data = b""
            self.limit = limit

        def write(self, data: Any) -> int:
            part = bytes(data)[: min(7, self.limit - len(self.data))]
            self.data += part
            return len(part)

    slow = Slow(1_000_000)
    WriterExporter(slow).export(make_batch("a"))
    assert names(slow.data) == ["a"]
    with pytest.raises(ExportError):
        WriterExporter(Slow(10)).export(make_batch("a"))


def test_what_cannot_write_is_refused() -> None:
    """Said at construction."""
    with pytest.raises(ConfigurationError, match="an object with a write method"):
        WriterExporter(5)  # type: ignore[arg-type]


def test_a_closed_writer_is_a_failure() -> None:
    """Counted, not raised."""
    writer = io.StringIO()
    writer.close()
    with Tracer("test", WriterExporter(writer, pretty=True)) as tracer:
        tracer.start_span("a").end()
        assert not tracer.flush(SECONDS)
        assert tracer.stats().failed == 1


# --- multi -----------------------------------------------------------------------------------------------------------


class Failing(NoopExporter):
    """Raises what it is told to."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def export(self, batch: Batch) -> None:
        raise self.error

    def close(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("errors", "rejected"),
    [
        ([RuntimeError("a")], 3),
        ([ExportError("a", rejected=1)], 1),
        ([ExportError("a", rejected=1), ExportError("b", rejected=1)], 2),
        ([ExportError("a", rejected=2), ExportError("b", rejected=2)], 3),
        ([ExportError("a", rejected=1), ExportError("b")], 3),
    ],
)
def test_one_that_fails_does_not_stop_the_others(errors: list[Exception], rejected: int) -> None:
    """The others get the batch; what one did not deliver is failed."""
    first, last = MemoryExporter(), MemoryExporter()
    exporter = MultiExporter(first, *map(Failing, errors), last)
    with pytest.raises(ExportError) as caught:
        exporter.export(make_batch("a", "b", "c"))
    assert caught.value.rejected == rejected
    assert len(first.records) == len(last.records) == 3


def test_multi_closes_all() -> None:
    """Also behind one whose close fails."""
    closed: list[str] = []

    class Closing(NoopExporter):
        def close(self) -> None:
            closed.append("closed")

    with pytest.raises(ExportError, match=r"NoopExporter\(\): OSError: no"):
        MultiExporter(Closing(), Failing(OSError("no")), Closing()).close()
    assert closed == ["closed", "closed"]


@pytest.mark.parametrize("parts", [(), (MemoryExporter,), (None,)])
def test_multi_refuses_what_is_no_exporter(parts: tuple[Any, ...]) -> None:
    """Said at construction."""
    with pytest.raises(ConfigurationError):
        MultiExporter(*parts)


@pytest.mark.parametrize(
    "exporter",
    [
        NoopExporter(),
        MemoryExporter(),
        StdoutExporter(),
        WriterExporter(io.StringIO(), pretty=True),
        MultiExporter(NoopExporter(), MemoryExporter()),
    ],
)
def test_they_say_what_they_are(exporter: Exporter) -> None:
    """The repr names the class and its arguments."""
    assert repr(exporter).startswith(f"{type(exporter).__name__}(")
