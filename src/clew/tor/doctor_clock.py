"""Whether tor's clock is right, as far as that can be known without asking anybody."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clew.tor.finding import Finding, Verdict, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.tor.control import ControlClient
    from clew.tor.events import StatusEvent
    from clew.tor.finding import Fact

__all__ = ["check_clock"]

# tor uses a consensus for so long after its end (REASONABLY_LIVE_TIME).
_REASONABLY_LIVE_SECONDS = 24 * 3600
# Between the clocks of tor's machine and of this one: spans would be torn apart by less.
_CLOCKS_APART_MS = 1_000

_SET_CLOCK = "set this machine's clock: timedatectl set-ntp true"
# Of a CLOCK_SKEW event (control-spec 4.1.10).
_SOURCES = {"DIRSERV": "a directory", "NETWORKSTATUS": "the consensus", "OR": "a relay", "CBT": "its own timers"}


def check_clock(control: ControlClient, skews: Sequence[StatusEvent]) -> Finding:
    """Compare tor's clock with the network's consensus and with this machine's.

    Args:
        skews: the CLOCK_SKEW events that tor sent while it was examined.

    Raises: TorError: the connection is gone.
    """
    apart_ms = _clocks_apart_ms(control)
    if skews:
        return _describe_skew(skews[-1])
    facts: dict[str, Fact] = {"skew_ms": apart_ms}
    after, until = (ask(control, f"consensus/valid-{end}") for end in ("after", "until"))
    if not after or not until:
        return Finding("clock", Verdict.SKIPPED, "nothing to compare it with: tor has no consensus", facts=facts)
    facts["consensus_valid_until"] = until
    now, begin, end = time.time() + (apart_ms or 0) / 1000, _seconds(after), _seconds(until)
    if now < begin:
        text = f"slow by {_duration(begin - now)} at least: the network's consensus is of later"
        return Finding("clock", Verdict.FAILED, text, _SET_CLOCK, facts)
    if now > end:
        text = f"the network's consensus ended {_duration(now - end)} ago, by tor's clock"
        verdict = Verdict.FAILED if now > end + _REASONABLY_LIVE_SECONDS else Verdict.WARNING
        advice = f"if tor was started just now, wait for a new one; else {_SET_CLOCK}"
        return Finding("clock", verdict, text, advice, facts)
    if apart_ms is not None and abs(apart_ms) >= _CLOCKS_APART_MS:
        text = f"tor's machine and this one differ by {_duration(abs(apart_ms) / 1000)} at least"
        return Finding("clock", Verdict.WARNING, text, "set both: timedatectl set-ntp true", facts)
    text = f"agrees with the network's consensus, which ends in {_duration(end - now)}"
    return Finding("clock", Verdict.OK, text, facts=facts)


def _describe_skew(event: StatusEvent) -> Finding:
    """What tor said of its own accord: the skew is negative if its clock is behind (control-spec 4.1.10)."""
    source = _SOURCES.get(event.arguments.get("SOURCE", "").partition(":")[0], "what it saw")
    try:
        seconds = int(event.arguments.get("SKEW", event.arguments.get("MIN_SKEW", "")))
    except ValueError:
        return Finding("clock", Verdict.FAILED, f"wrong, tor says, by {source}", _SET_CLOCK, {"skew_ms": None})
    text = f"{'fast' if seconds > 0 else 'slow'} by {_duration(abs(seconds))}, tor says, by {source}"
    return Finding("clock", Verdict.FAILED, text, _SET_CLOCK, {"skew_ms": seconds * 1000})


def _clocks_apart_ms(control: ControlClient) -> int | None:
    """How far tor's clock is ahead of ours, in milliseconds, as far as can be said; None if tor does not tell.

    tor tells whole seconds: what lies within one is no difference.
    """
    before = time.time()
    text = ask(control, "current-time/utc")
    after = time.time()
    if not text:
        return None
    told = _seconds(text)
    if told > after:
        return round((told - after) * 1000)
    return min(0, round((told + 1 - before) * 1000))


def _seconds(text: str) -> float:
    """2026-11-22 17:51:55, or with a T, in UTC: wall-clock seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _duration(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86_400
    if minutes < 2:
        return f"{seconds:.0f} s"
    if hours < 2:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if days < 2 else f"{days:.0f} days"
