"""What `clew tor attach` and `clew tor replay` write of one run of tor, and how it is counted."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from clew.exporters.file import FileExporter
from clew.limits import BATCH_DELAY_SECONDS, QUEUE_BYTES
from clew.tor.mapper import TorMapper
from clew.tor.protection import protect
from clew.tracer import Tracer

if TYPE_CHECKING:
    from clew.tor.events import Event
    from clew.tor.privacy import PrivacyFilter

__all__ = ["Counts", "TracedRun"]

_PLENTY_BYTES = QUEUE_BYTES // 4  # of spans that wait, when events come faster than spans are written
_FLUSH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What was seen and written, over all runs."""

    circuits: int = 0  # builds that began
    circuits_building: int = 0
    circuits_open: int = 0  # built, and there now
    circuits_built: int = 0
    circuits_failed: int = 0
    circuits_lost: int = 0  # tor or we went away in the middle
    streams: int = 0  # that began
    streams_open: int = 0
    streams_done: int = 0
    streams_failed: int = 0
    streams_cancelled: int = 0
    streams_lost: int = 0
    onion_connections: int = 0  # that began
    spans: int = 0  # written
    spans_lost: int = 0  # not written, for whatever reason
    events_lost: int = 0  # of tor's, because we were too slow or did not understand them

    def __add__(self, other: Counts) -> Counts:
        sums = asdict(self)
        for key, value in asdict(other).items():
            sums[key] += value
        return Counts(**sums)

    def __str__(self) -> str:
        circuits = [
            f"{self.circuits_building:,} building",
            f"{self.circuits_open:,} open",
            f"{self.circuits_built:,} built",
            f"{self.circuits_failed:,} failed",
            *([f"{self.circuits_lost:,} lost"] if self.circuits_lost else []),
        ]
        streams = [
            f"{self.streams_open:,} open",
            f"{self.streams_done:,} done",
            f"{self.streams_failed:,} failed",
            *([f"{self.streams_cancelled:,} cancelled"] if self.streams_cancelled else []),
            *([f"{self.streams_lost:,} lost"] if self.streams_lost else []),
        ]
        spans = [
            f"{self.spans:,} spans written",
            *([f"{self.spans_lost:,} spans NOT written"] if self.spans_lost else []),
            *([f"{self.events_lost:,} events lost"] if self.events_lost else []),
        ]
        parts = [
            "circuits: " + ", ".join(circuits),
            "streams: " + ", ".join(streams),
            *([f"onion connections: {self.onion_connections:,}"] if self.onion_connections else []),
            ", ".join(spans),
        ]
        return "; ".join(parts)

    def brief(self) -> str:
        """What changes most."""
        return (
            f"circuits: {self.circuits_built:,} built, {self.circuits_failed:,} failed; "
            f"streams: {self.streams_done:,} done, {self.streams_failed:,} failed; {self.spans:,} spans"
        )


class TracedRun:
    """A tracer and a mapper for one run of tor: ids of circuits and streams are unique only within one.

    Args:
        file: where the spans are appended.
        privacy: shared by all runs, so that what is hashed stays the same.
        tor_version: None if nobody knows.
        batch_delay: seconds until a span is written at the latest.

    Raises: ConfigurationError: the file cannot be written.
    """

    def __init__(
        self, file: str, privacy: PrivacyFilter, tor_version: str | None, *, batch_delay: float = BATCH_DELAY_SECONDS
    ) -> None:
        self._tracer = Tracer(
            "tor",
            FileExporter(file),
            resource={
                **({} if tor_version is None else {"service.version": tor_version}),
                "tor.instance.id": secrets.token_hex(8),
                **privacy.resource(),
            },
            batch_delay=batch_delay,
        )
        protect(self._tracer, privacy)
        self._mapper = TorMapper(self._tracer, privacy)

    def handle(self, event: Event) -> None:
        """Take an event of tor's."""
        self._mapper.handle(event)

    def preload(self, circuit_status: str) -> None:
        """Learn of the circuits that there are (see `TorMapper.preload`)."""
        self._mapper.preload(circuit_status)

    def wait_for_disk(self) -> None:
        """Wait until spans are written, if too many are not: to be called now and then where events are not live."""
        if self._tracer.stats().queued_bytes > _PLENTY_BYTES:
            self._tracer.flush(_FLUSH_SECONDS)

    def lose(self, reason: str, time_ns: int | None = None) -> None:
        """End what is open (see `TorMapper.close`)."""
        self._mapper.close(reason, time_ns)

    def counts(self) -> Counts:
        """What there was so far."""
        seen = self._mapper.counts
        written = self._tracer.stats()
        return Counts(
            circuits=seen.circuits.launched,
            circuits_building=seen.circuits.building,
            circuits_open=max(seen.circuits.known - seen.circuits.building, 0),
            circuits_built=seen.circuits.built,
            circuits_failed=seen.circuits.failed,
            circuits_lost=seen.circuits.lost,
            streams=seen.streams.opened,
            streams_open=seen.streams.open,
            streams_done=seen.streams.done,
            streams_failed=seen.streams.failed,
            streams_cancelled=seen.streams.cancelled,
            streams_lost=seen.streams.lost,
            onion_connections=seen.onion_connections,
            spans=written.exported,
            spans_lost=written.failed + sum(written.dropped.values()),
        )

    def end(self) -> Counts:
        """Write what was not written yet. Returns the counts at the end."""
        self._tracer.flush(_FLUSH_SECONDS)
        self._tracer.close()
        counts = self.counts()
        return replace(counts, spans_lost=counts.spans_lost + self._tracer.stats().queued)
