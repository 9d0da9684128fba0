"""Before and after: by how much a distribution changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from clew.report.distribution import Summary

__all__ = ["Change", "change_of", "format_change"]


class Change(NamedTuple):
    """By which share each percentile changed: 0.5 for half as much again, None where there was nothing before."""

    p50: float | None
    p90: float | None
    p99: float | None


def change_of(after: Summary, before: Summary) -> Change:
    """Compare two distributions."""
    return Change(
        _share(after.p50_ns, before.p50_ns),
        _share(after.p90_ns, before.p90_ns),
        _share(after.p99_ns, before.p99_ns),
    )


def format_change(share: float | None) -> str:
    """For people: "+12 %", "-3 %", "4.2 times" from three times as much on, "same"."""
    if share is None:
        return ""
    if share >= 2:
        return f"{1 + share:.3g} times"
    percent = round(100 * share)
    return f"{percent:+} %" if percent else "same"


def _share(after: int, before: int) -> float | None:
    return after / before - 1 if before else None
