"""What can be told of tor's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from clew.errors import ControlReplyError
from clew.tor import doctor_clock
from clew.tor.doctor_clock import check_clock
from clew.tor.events import StatusEvent
from clew.tor.finding import Verdict

if TYPE_CHECKING:
    from clew.tor.control import ControlClient
    from clew.tor.finding import Finding

NOW = datetime(2026, 1, 31, 3, 0, 0, 400_000, tzinfo=UTC)


class Time:
    """Stands in for the module."""

    @staticmethod
    def time() -> float:
        return NOW.timestamp()


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock stands still."""
    monkeypatch.setattr(doctor_clock, "time", Time)


def check(
    *skews: StatusEvent,
    after: timedelta | None = timedelta(hours=-1),
    until: timedelta = timedelta(hours=2),
    tor: timedelta | None = timedelta(0),
) -> Finding:
    """Check a tor whose consensus begins and ends then, counted from now, and whose clock is that much ahead."""
    info = {}
    if after is not None:
        info = {
            "consensus/valid-after": f"{NOW + after:%Y-%m-%d %H:%M:%S}",
            "consensus/valid-until": f"{NOW + until:%Y-%m-%d %H:%M:%S}",
        }
    if tor is not None:
        info["current-time/utc"] = f"{NOW + tor:%Y-%m-%dT%H:%M:%S}"

    class Control:
        def get_info(self, key: str) -> dict[str, str]:
            if key not in info:
                raise ControlReplyError(551, "no")
            return {key: info[key]}

    return check_clock(cast("ControlClient", Control()), skews)


def skew(**arguments: str) -> StatusEvent:
    return StatusEvent(0, "STATUS_GENERAL", "WARN", "CLOCK_SKEW", arguments)


def test_a_clock_that_is_right() -> None:
    """It lies within the consensus; tor tells whole seconds, so nothing within one is a difference."""
    finding = check()
    assert (finding.verdict, finding.text) == (
        Verdict.OK,
        "agrees with the network's consensus, which ends in 120 min",
    )
    assert finding.facts["skew_ms"] == 0
    assert check(tor=None).verdict is Verdict.OK  # a tor that knows no current-time


@pytest.mark.parametrize(
    ("after", "until", "verdict", "words"),
    [
        (3, 6, Verdict.FAILED, "slow by 3 h at least"),
        (-5, -1, Verdict.WARNING, "the network's consensus ended 60 min ago"),
        (-100, -97, Verdict.FAILED, "the network's consensus ended 4 days ago"),
    ],
)
def test_a_clock_that_is_not(after: int, until: int, verdict: Verdict, words: str) -> None:
    """A consensus of the future says that the clock is slow; one of the past, that it may be fast."""
    finding = check(after=timedelta(hours=after), until=timedelta(hours=until))
    assert finding.verdict is verdict
    assert finding.text.startswith(words)
    assert "timedatectl" in finding.advice


@pytest.mark.parametrize(("seconds", "skew_ms"), [(90, 89_600), (-90, -89_400), (0.3, 0), (-0.3, 0)])
def test_clocks_of_two_machines(seconds: float, skew_ms: int) -> None:
    """tor on another machine: what its clock is ahead, at least."""
    finding = check(tor=timedelta(seconds=seconds))
    assert finding.facts["skew_ms"] == pytest.approx(skew_ms, abs=1)
    assert finding.verdict is (Verdict.WARNING if skew_ms else Verdict.OK)


def test_no_consensus() -> None:
    """Then there is nothing to say."""
    assert check(after=None).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("arguments", "words", "skew_ms"),
    [
        ({"SKEW": "-7200", "SOURCE": "DIRSERV:192.0.2.1:80"}, "slow by 2 h, tor says, by a directory", -7_200_000),
        ({"SKEW": "90", "SOURCE": "NETWORKSTATUS"}, "fast by 90 s, tor says, by the consensus", 90_000),
        ({"MIN_SKEW": "-300", "SOURCE": "MOON"}, "slow by 5 min, tor says, by what it saw", -300_000),
        ({}, "wrong, tor says, by what it saw", None),
        ({"SKEW": "x"}, "wrong, tor says, by what it saw", None),
    ],
)
def test_what_tor_says(arguments: dict[str, str], words: str, skew_ms: int | None) -> None:
    """The latest event counts more than anything that can be reckoned."""
    finding = check(skew(SKEW="1"), skew(**arguments))
    assert (finding.verdict, finding.text, finding.facts["skew_ms"]) == (Verdict.FAILED, words, skew_ms)
