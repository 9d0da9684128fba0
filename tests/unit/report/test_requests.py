"""clew.report.requests: which spans are requests, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.model import Event, SpanKind, SpanRecord, Status
from clew.report.requests import Request, find_requests
from clew.tree import assemble

if TYPE_CHECKING:
    from clew.model import Attributes


def span(
    span_id: str,
    parent_id: str,
    name: str,
    start_ns: int = 0,
    end_ns: int = 100,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    status: Status = Status.UNSET,
    attributes: Attributes | None = None,
    events: tuple[Event, ...] = (),
) -> SpanRecord:
    return SpanRecord(
        "t",
        span_id,
        parent_id,
        name,
        kind,
        start_ns,
        end_ns,
        status,
        attributes=attributes or {},
        events=events,
    )


def stream(
    span_id: str, parent_id: str, start_ns: int = 0, end_ns: int = 100, *, byte_ns: int = 0, reason: str = ""
) -> SpanRecord:
    """A stream of a program's; with a reason it failed."""
    return span(
        span_id,
        parent_id,
        "tor.stream",
        start_ns,
        end_ns,
        kind=SpanKind.CLIENT,
        status=Status.ERROR if reason else Status.UNSET,
        attributes={"error.type": reason} if reason else {},
        events=(Event("first_byte", byte_ns),) if byte_ns else (),
    )


def find(*records: SpanRecord) -> list[Request]:
    return [request for trace in assemble(records) for request in find_requests(trace.walk())]


def test_the_span_above_a_stream() -> None:
    """It is the request: times are counted from its start to its end, not the stream's."""
    (request,) = find(span("a", "", "GET", 10, 90), stream("s", "a", 20, 80, byte_ns=50))
    assert request.node.record.name == "GET"
    assert (request.start_ns, request.duration_ns, request.first_byte_ns) == (10, 80, 40)
    assert (request.status, request.is_claimed, request.is_onion) == (Status.UNSET, True, False)


def test_a_stream_that_nobody_claimed() -> None:
    """It is its own request; so is one whose parent is not there."""
    (first, second) = find(stream("s", "", 20, 80, byte_ns=50), stream("t", "gone", 30, 70))
    assert (first.start_ns, first.duration_ns, first.first_byte_ns, first.is_claimed) == (20, 60, 30, False)
    assert (second.duration_ns, second.first_byte_ns, second.is_claimed) == (40, None, False)


def test_several_streams() -> None:
    """After a redirect the request has two; the first byte is that of whichever answered first."""
    (request,) = find(
        span("a", "", "GET", 0, 90), stream("s", "a", 10, 40, byte_ns=30), stream("t", "a", 40, 80, byte_ns=60)
    )
    assert len(request.streams) == 2
    assert request.first_byte_ns == 30


def test_a_byte_before_the_request() -> None:
    """It is none: clocks were not alike."""
    assert find(span("a", "", "GET", 50, 90), stream("s", "a", 55, 80, byte_ns=40))[0].first_byte_ns is None


def test_the_program_tells_the_first_byte() -> None:
    """Where nobody saw it at the stream, the program may have put the event on its own span."""
    told = span("a", "", "GET", 10, 90, events=(Event("first_byte", 70),))
    assert find(told, stream("s", "a"))[0].first_byte_ns == 60
    assert find(told, stream("s", "a", byte_ns=65))[0].first_byte_ns == 55


def test_several_requests_of_a_trace() -> None:
    """What stands above them all is none."""
    requests = find(
        span("r", "", "crawl"), span("a", "r", "GET"), span("b", "r", "GET"), stream("s", "a"), stream("t", "b")
    )
    assert [request.node.record.span_id for request in requests] == ["a", "b"]


def test_tors_own_streams_are_none() -> None:
    """A directory is asked for nobody's sake."""
    assert find(span("s", "", "tor.stream")) == []


def test_how_it_ended() -> None:
    """As the program says; and where it says nothing, it failed when all its streams did."""
    calm = span("a", "", "GET")
    outcomes = [
        find(calm, stream("s", "a", reason="timeout")),
        find(calm, stream("s", "a", reason="timeout"), stream("t", "a")),
        find(span("a", "", "GET", status=Status.OK), stream("s", "a")),
        find(span("a", "", "GET", status=Status.CANCELLED), stream("s", "a")),
    ]
    assert [request.status for (request,) in outcomes] == [Status.ERROR, Status.UNSET, Status.UNSET, Status.CANCELLED]


def test_why_it_failed() -> None:
    """error.type of the request, or the exception's type, or the last stream's reason."""
    error = Event("exception", 5, {"exception.type": "ProxyError", "exception.message": "secret"})
    failed = span("a", "", "GET", status=Status.ERROR)
    cases = [
        (failed._replace(attributes={"error.type": "timeout"}, events=(error,)), "timeout"),
        (failed._replace(events=(error,)), "ProxyError"),
        (failed._replace(status_description="secret"), "resolvefailed"),
    ]
    for request_span, reason in cases:
        (request,) = find(request_span, stream("s", "a", reason="resolvefailed"))
        assert request.reason == reason


def test_onion_services() -> None:
    """By what tor did for it, or by the address where that is told."""
    attach = span("x", "s", "tor.stream.attach")
    (by_phase,) = find(stream("s", ""), attach, span("y", "x", "tor.hs.connect"))
    (by_name,) = find(stream("s", "")._replace(attributes={"server.address": "EXAMPLE.onion."}))
    assert (by_phase.is_onion, by_name.is_onion) == (True, True)


def test_what_was_seen_in_part() -> None:
    """It has no time to its first byte: its start was not seen."""
    (request,) = find(stream("s", "", byte_ns=50)._replace(attributes={"tor.stream.partial": True}))
    assert (request.is_whole, request.first_byte_ns) == (False, None)
