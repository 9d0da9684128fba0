"""The stage before the exporters: who gets which level, for how long, and what it does to the ledger."""

from __future__ import annotations

import logging
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from clew import FileExporter, MemoryExporter, MultiExporter, NoopExporter, StdoutExporter, Tracer, WriterExporter
from clew._hot import Queue, TracerCore
from clew.errors import ConfigurationError, ExportError
from clew.samplers import AlwaysSample
from clew.tor.events import Relay
from clew.tor.mapper import TorMapper
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.protection import ScrubbingExporter, allow_level, protect
from clew.tor.scrub import Scrubber
from clew.tor.simulation import simulate_circuit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clew.model import SpanRecord
    from clew.otlp import Batch


class Away(MemoryExporter):
    """One that sends."""

    leaves_machine = True


class Unsaid:
    """One of a user's own, which says nothing of where it brings them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def export(self, batch: Batch) -> None:
        self.batches.append(batch)

    def close(self) -> None:
        pass

    @property
    def records(self) -> list[SpanRecord]:
        return [record for batch in self.batches for record in batch.records]


def level_of(record: SpanRecord) -> object:
    return record.resource.attributes["clew.privacy.level"]


def test_each_exporter_gets_the_level_of_where_it_brings_them() -> None:
    """What stays is at level 1, what leaves or does not say at level 0, also within exporters of several."""
    stays, leaves, unsaid = MemoryExporter(), Away(), Unsaid()
    with Tracer("shop", exporter=MultiExporter(stays, MultiExporter(leaves, unsaid))) as tracer:
        privacy = protect(tracer)
        tracer.start_span("GET https://example.com/", attributes={"server.address": "example.com"}).end()
    hidden = privacy.hash("server.address", "example.com")
    (record,) = stays.records
    assert (record.name, record.attributes, level_of(record)) == (
        f"GET https://{hidden}",
        {"server.address": hidden},
        "pseudonymous",
    )
    for exporter in (leaves, unsaid):
        (record,) = exporter.records
        assert (record.name, record.attributes, level_of(record)) == ("GET", {}, "anonymous")


def test_clews_own_exporters_say_where_they_bring_them(tmp_path: Path) -> None:
    """Files, streams and memory stay on the machine."""
    exporters = (
        FileExporter(tmp_path / "x"),
        MemoryExporter(),
        NoopExporter(),
        StdoutExporter(),
        WriterExporter(StringIO()),
    )
    for exporter in exporters:
        assert exporter.leaves_machine is False


@pytest.mark.parametrize("level", Privacy)
def test_the_level_can_be_chosen(level: Privacy) -> None:
    """A level is for what stays; what leaves gets no more than level 0 unless that is asked for too."""
    stays, leaves = MemoryExporter(), Away()
    with Tracer("shop", exporter=MultiExporter(stays, leaves)) as tracer:
        assert protect(tracer, level).level is level
        tracer.start_span("x").end()
        tracer.flush()
        protect(tracer, level, leaving=Privacy.OPERATOR)
        tracer.start_span("y").end()
    assert {level_of(record) for record in stays.records} == {level.name.lower()}
    assert [level_of(record) for record in leaves.records] == [
        "anonymous",
        min(level, Privacy.OPERATOR).name.lower(),
    ]


def test_to_protect_again_changes_the_level_and_keeps_the_key() -> None:
    """Exporters are wrapped once, hashes stay comparable; a filter that is given is used."""
    memory = MemoryExporter()
    with Tracer("shop", exporter=memory) as tracer:
        first = protect(tracer)
        second = protect(tracer, Privacy.ANONYMOUS)
        assert second.hash("server.address", "a.b") == first.hash("server.address", "a.b")
        assert isinstance(tracer.exporter, ScrubbingExporter)
        assert tracer.exporter.wrapped is memory
        own = PrivacyFilter(Privacy.OPERATOR)
        assert protect(tracer, own) is own
        assert tracer.exporter.privacy is own
    many = MultiExporter(memory, Away())
    with Tracer("shop", exporter=many) as tracer:
        first = protect(tracer)
        assert protect(tracer).hash("x", "y") == first.hash("x", "y")
        assert repr(tracer.exporter) == repr(many)


def test_a_bare_core_has_no_exporters() -> None:
    """There is a filter for it all the same."""
    core = TracerCore(Queue(1 << 16, 100, 1 << 16), AlwaysSample())
    assert protect(core, Privacy.OPERATOR).level is Privacy.OPERATOR


def test_what_waits_is_protected_too() -> None:
    """Spans that ended before, and have not been delivered, pass the level as well."""
    memory = MemoryExporter()
    with Tracer("shop", exporter=memory) as tracer:
        tracer.start_span("to example.com").end()
        protect(tracer)
    (record,) = memory.records
    assert record.name.startswith("to hash:")


def test_tors_spans_pass_unchanged() -> None:
    """What a mapper made with the same filter is the same after the export, and of lower level where it leaves."""
    plain, stays, leaves = MemoryExporter(), MemoryExporter(), Away()
    privacy = PrivacyFilter()
    with Tracer("tor", exporter=MultiExporter(plain, stays, leaves)) as tracer:
        protect(tracer, privacy)
        # As if it were not wrapped: what the mapper gave it.
        multi = tracer.exporter
        assert isinstance(multi, MultiExporter)
        tracer.exporter = MultiExporter(plain, *multi.exporters[1:])
        mapper = TorMapper(tracer, privacy)
        path = [Relay(letter * 40, letter) for letter in "ABC"]
        for event in simulate_circuit(path, [10**6] * 3, 3, start_time_ns=10**18):
            mapper.handle(event)
        mapper.close("DETACHED", 2 * 10**18)
    assert [r._replace(resource=plain.records[0].resource) for r in stays.records] == plain.records
    assert stays.records
    build = next(record for record in leaves.records if record.name == "tor.circuit.build")
    assert build.attributes["clew.privacy.level"] == "anonymous"
    assert "tor.circuit.id" not in build.attributes


def test_what_cannot_be_looked_through_is_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not go out, the others do, and the ledger and the log say so without telling anything of it."""
    real = Scrubber.record

    def fail(self: Scrubber, record: SpanRecord) -> SpanRecord:
        if "bad" in record.name:
            raise ValueError("example.com")
        return real(self, record)

    monkeypatch.setattr(Scrubber, "record", fail)
    memory = MemoryExporter()
    with caplog.at_level(logging.WARNING, "clew"):
        tracer = Tracer("shop", exporter=memory)
        protect(tracer)
        for name in ("good", "bad", "fine"):
            tracer.start_span(name).end()
        assert not tracer.flush()
        tracer.start_span("bad").end()
        tracer.close()
    assert [record.name for record in memory.records] == ["good", "fine"]
    stats = tracer.stats()
    assert (stats.exported, stats.failed) == (2, 2)
    assert "MemoryExporter could not deliver 1 spans" in caplog.text
    assert "example.com" not in caplog.text


def test_what_is_left_out_adds_to_what_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that rejects a part of the rest: both are failed."""

    class Rejecting(MemoryExporter):
        def export(self, batch: Batch) -> None:
            raise ExportError("one too many", rejected=1)

    def fail(_: Scrubber, record: SpanRecord) -> SpanRecord:
        if record.name == "bad":
            raise ValueError
        return record

    monkeypatch.setattr(Scrubber, "record", fail)
    with Tracer("shop", exporter=Rejecting()) as tracer:
        protect(tracer)
        for name in ("good", "bad", "fine"):
            tracer.start_span(name).end()
    stats = tracer.stats()
    assert (stats.exported, stats.failed) == (1, 2)


class Source:
    """What is asked whether a tor is on the public network."""

    def __init__(self, answer: tuple[str, ...]) -> None:
        self.answer = answer

    def get_conf(self, key: str) -> Mapping[str, tuple[str, ...]]:
        return {key: self.answer}


def test_level_3_is_for_testing_networks() -> None:
    """It is refused for a tor on the public network, or one that cannot be asked, unless somebody insists."""
    allow_level(Source(("1",)), Privacy.LAB)  # type: ignore[arg-type]
    for source in (Source(("0",)), Source(()), object()):
        allow_level(source, Privacy.OPERATOR)  # type: ignore[arg-type]
        allow_level(source, Privacy.LAB, public_network=True)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"on the public network.*use level operator"):
            allow_level(source, Privacy.LAB)  # type: ignore[arg-type]
