"""Which guard and which relay is slow, from the spans of hops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.limits import REPORT_KEYS, REPORT_RELAY_VALUES, REPORT_RELAYS, REPORT_ROWS
from clew.model import Status
from clew.report.distribution import Distribution
from clew.report.findings import GuardRow, RelayRow

if TYPE_CHECKING:
    from clew.tree import Node

__all__ = ["GUARD_ROLE", "Relays"]

GUARD_ROLE = "guard"
_OTHER = "other"
_LEAST_MEASURED = 3  # a relay with fewer hops than that may have had bad luck


class _Relay:
    """What is known of a relay in one kind of place."""

    __slots__ = ("build", "failed", "first_byte", "hop", "nickname", "roles", "tries")

    def __init__(self) -> None:
        self.nickname = ""
        self.roles: dict[str, None] = {}
        self.tries = 0
        self.failed = 0
        self.hop = Distribution(REPORT_RELAY_VALUES)
        self.build = Distribution(REPORT_RELAY_VALUES)
        self.first_byte = Distribution(REPORT_RELAY_VALUES)

    def add(self, node: Node, role: str) -> None:
        record = node.record
        self.tries += 1
        self.roles[role] = None
        if record.status is Status.UNSET or record.status is Status.OK:
            self.hop.add(record.duration_ns)
        elif record.status is Status.ERROR:
            self.failed += 1
        nickname = record.attributes.get("tor.relay.nickname")
        if isinstance(nickname, str):
            self.nickname = nickname


class Relays:
    """Counts hops by guard, by role, and by relay elsewhere than at the first hop.

    Relays beyond `limits.REPORT_RELAYS` are counted with their role only.
    """

    def __init__(self) -> None:
        self._guards: dict[str, _Relay] = {}
        self._roles: dict[str, _Relay] = {}
        self._others: dict[str, _Relay] = {}

    def add(self, hop: Node, role: str) -> None:
        """Count a `tor.circuit.extend`.

        Args:
            role: "" if it is not known.
        """
        known = self._roles.get(role)
        if known is None:
            if len(self._roles) >= REPORT_KEYS:
                role = _OTHER
            known = self._roles.setdefault(role, _Relay())
        known.add(hop, role)
        if name := name_of(hop):
            is_first = hop.record.attributes.get("tor.hop.index") == 1
            if is_first and role != GUARD_ROLE:  # one hop only: a directory that is asked directly
                return
            relays = self._guards if is_first else self._others
            relay = relays.get(name)
            if relay is None:
                if len(relays) >= REPORT_RELAYS:
                    return
                relay = relays[name] = _Relay()
            relay.add(hop, role)

    def add_build(self, guard: str, duration_ns: int) -> None:
        """Count a circuit that was built over a guard."""
        if guard in self._guards:
            self._guards[guard].build.add(duration_ns)

    def add_first_byte(self, guard: str, duration_ns: int) -> None:
        """Count a request that got its answer over a guard."""
        if guard in self._guards:
            self._guards[guard].first_byte.add(duration_ns)

    def guards(self) -> tuple[GuardRow, ...]:
        """The guards that were tried most."""
        guards = sorted(self._guards.items(), key=lambda item: -item[1].tries)[:REPORT_ROWS]
        return tuple(
            GuardRow(
                name,
                guard.nickname,
                guard.tries,
                guard.failed,
                guard.hop.summary(),
                guard.build.summary(),
                guard.first_byte.summary(),
            )
            for name, guard in guards
        )

    def roles(self) -> tuple[RelayRow, ...]:
        """The roles, the most frequent first."""
        rows = [
            RelayRow("", "", role or "unknown", relay.tries, relay.failed, relay.hop.summary())
            for role, relay in self._roles.items()
        ]
        return tuple(sorted(rows, key=lambda row: -row.tries))

    def slowest(self) -> tuple[RelayRow, ...]:
        """The relays, other than guards, whose hops took longest in the median."""
        rows = []
        for name, relay in self._others.items():
            hop = relay.hop.summary()
            if hop is not None and hop.number >= _LEAST_MEASURED:
                rows.append(RelayRow(name, relay.nickname, ", ".join(relay.roles), relay.tries, relay.failed, hop))
        rows.sort(key=lambda row: -row.hop.p50_ns if row.hop else 0)
        return tuple(rows[:REPORT_ROWS])


def name_of(hop: Node) -> str:
    """What identifies the relay of a hop: its fingerprint, or else its nickname; "" if the hop does not say."""
    attributes = hop.record.attributes
    name = attributes.get("tor.relay.fingerprint") or attributes.get("tor.relay.nickname")
    return name if isinstance(name, str) else ""
