"""User code about tor that must type-check with `mypy --strict`; it is not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from clew.tor import (
    CircuitManager,
    ControlClient,
    Privacy,
    PrivacyFilter,
    RequestTracing,
    TorMapper,
    from_stem,
    trace_requests,
)

if TYPE_CHECKING:
    from clew import Tracer
    from clew.errors import TorError
    from clew.tor.events import Event
    from clew.tor.source import EventSource


class Mine:
    """A source of the user's, without a base class."""

    def add_listener(self, listener: object) -> None: ...
    def remove_listener(self, listener: object) -> None: ...
    def on_disconnect(self, listener: object) -> None: ...
    def get_info(self, *keys: str) -> dict[str, str]:
        return dict.fromkeys(keys, "")

    def set_events(self, names: object) -> None: ...


def requests(tracer: Tracer, client: ControlClient, controller: object) -> None:
    """Whatever gives events does; what comes back is typed."""
    with trace_requests(tracer, "9051", propagate_to=["a.onion"], socks=["9050"]) as tracing:
        assert_type(tracing, RequestTracing)
        assert_type(tracing.stats().joined, int)
        headers: dict[str, str] = {}
        assert_type(tracing.inject(headers, "http://a.onion/"), bool)
        CircuitManager(client, tracer, mapper=tracing.mapper.circuits)
    trace_requests(tracer, client, privacy=Privacy.OPERATOR).close()
    trace_requests(tracer, from_stem(controller), privacy=PrivacyFilter()).close()
    trace_requests(tracer, Mine(), password=lambda: "secret").close()
    trace_requests(tracer, 9051)  # type: ignore[arg-type]
    trace_requests(tracer, "9051", privacy="lab")  # type: ignore[arg-type]
    sources: list[EventSource] = [client, from_stem(controller), Mine()]
    print(sources)


def events(tracer: Tracer, client: ControlClient) -> None:
    """A mapper takes what a client gives."""
    mapper = TorMapper(tracer, Privacy.PSEUDONYMOUS, owner=lambda event: print(event.source_addr))
    client.add_listener(mapper.handle)

    def lost(error: TorError) -> None:
        print(error)

    def seen(event: Event) -> None:
        assert_type(event.time_ns, int)

    client.on_disconnect(lost)
    client.add_listener(seen)
    mapper.close("DETACHED")
