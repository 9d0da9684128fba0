"""What a check of a tor found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from clew.errors import ControlReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clew.errors import TorError
    from clew.tor.control import ControlClient

    Fact: TypeAlias = str | int | float | list[str] | list[float] | None

__all__ = ["Finding", "Verdict", "ask", "explain"]


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Args:
        check: its name, the same each time: "control port", "authentication", "tor", "events", "bootstrap",
            "SOCKS port", "circuit", "clock".
        verdict: what it came to.
        text: what was found, for people.
        advice: what to do; empty if nothing is.
        facts: the same for programs; durations in milliseconds.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


def ask(control: ControlClient, key: str) -> str | None:
    """What tor knows; None if this tor knows no such key, or has no value for it."""
    try:
        return control.get_info(key)[key]
    except ControlReplyError:
        return None


def explain(error: TorError) -> tuple[str, str]:
    """An error's sentence, which says what to do after a colon."""
    text, _, advice = str(error).partition(": ")
    return text, advice
