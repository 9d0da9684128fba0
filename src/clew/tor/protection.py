"""The last check before spans leave a tracer: each exporter gets them at the level of where it brings them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.errors import ConfigurationError, ExportError
from clew.exporters.multi import MultiExporter
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.scrub import Scrubber
from clew.tracer import Tracer

if TYPE_CHECKING:
    from clew._hot import TracerCore
    from clew.otlp import Batch
    from clew.protocols import Exporter
    from clew.tor.source import EventSource

__all__ = ["ScrubbingExporter", "allow_level", "protect"]


class ScrubbingExporter:
    """Gives another exporter its spans as one level of privacy allows.

    Args:
        exporter: where they go then.
        privacy: the level, and the key of the hashes.
    """

    def __init__(self, exporter: Exporter, privacy: PrivacyFilter) -> None:
        self.wrapped = exporter
        self.privacy = privacy
        self._scrubber = Scrubber(privacy)

    def export(self, batch: Batch) -> None:
        """Deliver the batch.

        Raises: what the exporter raises; ExportError, when spans could not be looked through and were left out.
        """
        scrubbed, lost = self._scrubber.scrub(batch)
        try:
            if scrubbed.count:
                self.wrapped.export(scrubbed)
        except ExportError as error:
            if error.rejected is not None:
                error.rejected += lost
            raise
        if lost:
            raise ExportError(f"{lost} spans could not be looked through for what privacy forbids", rejected=lost)

    def close(self) -> None:
        """Close the exporter."""
        self.wrapped.close()

    def __repr__(self) -> str:
        return repr(self.wrapped)


def protect(
    tracer: TracerCore,
    privacy: Privacy | PrivacyFilter = Privacy.PSEUDONYMOUS,
    *,
    leaving: Privacy = Privacy.ANONYMOUS,
) -> PrivacyFilter:
    """Have all spans of a tracer pass a level of privacy before they are exported, the application's own included.

    It holds from now on until the tracer is closed: spans that began while something was traced that privacy is for may
    end long after it. Calling it again changes the levels, and keeps the key of the hashes unless a filter is given.

    Args:
        tracer: a `Tracer`; a bare core has no exporters to protect.
        privacy: for exporters whose spans stay on this machine: the level, or a filter that is shared with others whose
            hashes shall agree.
        leaving: for exporters whose spans leave it, if that is lower. An exporter of clew's says which it is by its
            attribute `leaves_machine`; one that does not say counts as leaving.

    Returns: the filter, for a mapper or a CircuitManager whose hashes shall be the same.
    Thread: any. Does not block: the work is done by the tracer's worker.
    """
    known = _filter_of(tracer.exporter) if isinstance(tracer, Tracer) else None
    if isinstance(privacy, PrivacyFilter):
        local = privacy
    else:
        local = PrivacyFilter(privacy) if known is None else known.at(privacy)
    if isinstance(tracer, Tracer):
        tracer.exporter = _wrap(tracer.exporter, local, local.at(min(local.level, leaving)))
    return local


def _wrap(exporter: Exporter, local: PrivacyFilter, leaving: PrivacyFilter) -> Exporter:
    if isinstance(exporter, ScrubbingExporter):
        return _wrap(exporter.wrapped, local, leaving)
    if isinstance(exporter, MultiExporter):
        return MultiExporter(*(_wrap(each, local, leaving) for each in exporter.exporters))
    return ScrubbingExporter(exporter, leaving if getattr(exporter, "leaves_machine", True) else local)


def _filter_of(exporter: Exporter) -> PrivacyFilter | None:
    if isinstance(exporter, ScrubbingExporter):
        return exporter.privacy
    if isinstance(exporter, MultiExporter):
        return next(filter(None, map(_filter_of, exporter.exporters)), None)
    return None


def allow_level(control: EventSource, level: Privacy, *, public_network: bool = False) -> None:
    """Check that a level may be used with the tor that a connection leads to.

    Args:
        public_network: everything is to be kept of a tor on the public network too.

    Raises:
        ConfigurationError: everything would be kept (Privacy.LAB), and this tor is on the public network.
        ControlConnectionError: the connection to tor is gone.

    Thread: any; blocks until tor answered.
    """
    if level is not Privacy.LAB or public_network:
        return
    # A source that cannot be asked is taken to be of the public network.
    ask = getattr(control, "get_conf", None)
    if ask is None or ask("TestingTorNetwork").get("TestingTorNetwork") != ("1",):
        raise ConfigurationError(
            "this tor is on the public network, and privacy level lab keeps everything that would tell who its users "
            "are and where they go: use level operator, or insist with --public-network (public_network=True)"
        )
