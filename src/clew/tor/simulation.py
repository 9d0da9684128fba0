"""Circuit events that no tor sent, for demonstrations on a machine without tor.

They go through the very same state machine as tor's own. Whoever shows them says that they are simulated, and gives the
tracer `RESOURCE`, so that a file says so too.
"""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from clew.errors import ConfigurationError
from clew.tor.events import CircuitEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clew.tor.events import Event, Relay

__all__ = ["RESOURCE", "simulate_circuit"]

# For the resource of a tracer whose circuits are simulated.
RESOURCE: Mapping[str, bool] = MappingProxyType({"clew.simulated": True})


def simulate_circuit(
    path: Sequence[Relay],
    delays_ns: Sequence[int],
    fail_at: int | None = None,
    *,
    circuit_id: str = "1",
    start_time_ns: int | None = None,
    reason: str = "DESTROYED",
    remote_reason: str | None = "CONNECTFAILED",
) -> list[Event]:
    """The events of one circuit, as tor sends them.

    Args:
        path: the relays, the guard first.
        delays_ns: how long each hop takes, until it is there or has failed (nanoseconds).
        fail_at: the index of the hop that fails, 1 for the first; None for none.
        circuit_id: must differ between circuits that go to the same mapper.
        start_time_ns: when the circuit is launched (since 1970); None for now.
        reason: of the failure, by the client's tor.
        remote_reason: of the failure, by the relay that ended it; None for none.

    Raises:
        ConfigurationError: a delay is missing, or the hop that shall fail is not in the path.
    """
    if len(delays_ns) < len(path):
        raise ConfigurationError(f"{len(path)} hops need as many delays, not {len(delays_ns)}")
    if fail_at is not None and not 1 <= fail_at <= len(path):
        raise ConfigurationError(f"hop {fail_at} cannot fail: the path has {len(path)} hops")
    created_ns = time_ns = time.time_ns() if start_time_ns is None else start_time_ns
    hops: tuple[Relay, ...] = ()

    def event(status: str, **fields: str | None) -> CircuitEvent:
        return CircuitEvent(
            time_ns,
            circuit_id,
            status,
            hops,
            build_flags=("NEED_CAPACITY",),
            purpose="GENERAL",
            time_created_ns=created_ns,
            **fields,  # type: ignore[arg-type]  # REASON and REMOTE_REASON only
        )

    events: list[Event] = [event("LAUNCHED")]
    for index, relay in enumerate(path, 1):
        time_ns += delays_ns[index - 1]
        if index == fail_at:
            events.append(event("FAILED", reason=reason, remote_reason=remote_reason))
            return events
        hops = (*hops, relay)
        events.append(event("EXTENDED"))
    events.append(event("BUILT"))
    return events
