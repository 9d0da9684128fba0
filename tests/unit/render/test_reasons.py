"""clew.render.reasons: why a span failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.model import Event, SpanRecord, Status
from clew.render.reasons import find_reason

if TYPE_CHECKING:
    from clew.model import Attributes


def record(
    status: Status = Status.ERROR,
    description: str = "",
    attributes: Attributes | None = None,
    events: tuple[Event, ...] = (),
) -> SpanRecord:
    return SpanRecord(
        "t", "s", "", "x", status=status, status_description=description, attributes=attributes or {}, events=events
    )


def exception(kind: str, message: str) -> Event:
    return Event("exception", 0, {"exception.type": kind, "exception.message": message})


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (record(Status.OK, "fine"), ""),
        (record(Status.UNSET, attributes={"error.type": "timeout"}), ""),
        (record(), ""),
        (record(description="relay is down"), "relay is down"),
        (record(attributes={"error.type": "timeout"}), "timeout"),
        (record(description="relay is down", attributes={"error.type": "timeout"}), "timeout: relay is down"),
        (record(description="timeout: it took 3 s", attributes={"error.type": "timeout"}), "timeout: it took 3 s"),
        (record(events=(exception("OSError", "no"),)), "OSError: no"),
        (record(events=(exception("A", "1"), exception("B", "2"))), "B: 2"),
        (record(description="own words", events=(exception("OSError", "no"),)), "OSError: own words"),
        (
            record(events=(Event("error", 0, {"error.type": "*net.OpError", "error.message": "EOF"}),)),
            "*net.OpError: EOF",
        ),
        (record(Status.CANCELLED, events=(exception("CancelledError", ""),)), "CancelledError"),
    ],
)
def test_reason(span: SpanRecord, reason: str) -> None:
    """The kind of error and the message come from the span itself, then from the last error that it recorded."""
    assert find_reason(span) == reason
