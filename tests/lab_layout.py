"""A lab's network for tests that need no tor."""

from __future__ import annotations

from dataclasses import replace

from clew.tor.lab_config import Layout, Role, plan


def layout() -> Layout:
    """The usual network, with ports and fingerprints that tell what they are of."""
    seats = []
    for number, seat in enumerate(plan(3, 5), start=1):
        seats.append(
            replace(
                seat,
                or_port=1000 + number if seat.is_relay else 0,
                dir_port=2000 + number if seat.role is Role.AUTHORITY else 0,
                socks_port=0 if seat.is_relay else 3000,
                fingerprint=f"{number:040X}" if seat.is_relay else "",
                v3_identity=f"{number + 160:040X}" if seat.role is Role.AUTHORITY else "",
            )
        )
    return Layout(tuple(seats), voting_offset=77, made_at=1_700_000_000)
