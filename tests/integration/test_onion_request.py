"""One trace from a request to the handler in an onion service, and nothing of it unexplained."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from examples import onion_request

from clew.model import SpanKind, Status
from clew.tree import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.model import SpanRecord
    from clew.tor.lab import Lab
    from clew.tree import Node

pytestmark = pytest.mark.tor

CONNECT = "tor.hs.connect"
# The last one is missing when the service has come to the rendezvous before the introduction point has confirmed.
PHASES = [f"{CONNECT}.{name}" for name in ("descriptor.fetch", "rendezvous.establish", "introduce", "rendezvous.join")]


@pytest.fixture(scope="module")
def records(lab: Lab) -> list[SpanRecord]:
    """Of one run of the example in the lab."""
    return onion_request.trace_request(lab)


@pytest.fixture(scope="module")
def request_node(records: list[SpanRecord]) -> Node:
    """The request, at the root of its trace."""
    (root,) = (root for trace in assemble(records) for root in trace.roots if root.record.name == "fetch-page")
    return root


def below(node: Node, name: str) -> Iterator[Node]:
    """All spans of a name, at any depth."""
    for child in node.children:
        if child.record.name == name:
            yield child
        yield from below(child, name)


def leaf_phases(node: Node) -> Iterator[SpanRecord]:
    """The parts of a stream that have no parts themselves.

    A part is a child of the stream whose name tells so, or of one of its parts. Circuits and hops, and the directory's
    stream, are what happens within a part: not everything that it waits for is one of them.
    """
    parts = [child for child in node.children if child.record.name.startswith(("tor.stream.", CONNECT))]
    for part in parts:
        leaves = list(leaf_phases(part))
        yield from leaves or [part.record]


def covered_ns(records: list[SpanRecord], start_ns: int, end_ns: int) -> int:
    """How much of an interval lies in at least one of the spans: the length of their union within it."""
    moments = sorted({start_ns, end_ns, *(at for each in records for at in (each.start_time_ns, each.end_time_ns))})
    return sum(
        after - before
        for before, after in pairwise(moments)
        if start_ns <= before
        and after <= end_ns
        and any(each.start_time_ns <= before and after <= each.end_time_ns for each in records)
    )


def test_one_trace(request_node: Node) -> None:
    """From the program over stream, descriptor, rendezvous and introduction, hop by hop, to the handler's span."""
    (stream,) = (child for child in request_node.children if child.record.name == "tor.stream")
    assert stream.record.kind is SpanKind.CLIENT
    (connect,) = below(stream, CONNECT)
    assert {child.record.name for child in connect.children} | {PHASES[-1]} == set(PHASES)
    (handler,) = below(request_node, "GET /")
    assert (handler.record.service_name, handler.record.kind) == ("web server", SpanKind.SERVER)
    # tor may have to ask a second directory, or to build a second circuit: a phase is then there twice.
    fetches = [child for child in connect.children if child.record.name == f"{CONNECT}.descriptor.fetch"]
    assert any(any(below(fetch, "tor.stream")) for fetch in fetches)
    hops = list(below(connect, "tor.circuit.extend"))
    assert hops
    assert {"tor.hop.index", "tor.relay.nickname"} <= set.intersection(*(set(hop.record.attributes) for hop in hops))
    introductions = [child for child in connect.children if child.record.name == f"{CONNECT}.introduce"]
    assert any(any(below(phase, "tor.circuit.extend")) for phase in introductions)
    assert all(node.record.status is not Status.ERROR for node in (request_node, stream, connect))


def test_the_phases_explain_the_request(request_node: Node) -> None:
    """At least 95 % of the request's time lie in one of its leaf phases."""
    (stream,) = (child for child in request_node.children if child.record.name == "tor.stream")
    phases = list(leaf_phases(stream))
    names = {phase.name for phase in phases}
    assert names | {PHASES[-1]} == {*PHASES, "tor.stream.connect", "tor.stream.transfer"}
    request = request_node.record
    covered = covered_ns(phases, request.start_time_ns, request.end_time_ns)
    assert covered >= 0.95 * request.duration_ns


def test_the_table_adds_up(records: list[SpanRecord], request_node: Node) -> None:
    """What it counts once is the request's time, no more and no less; it says the same of what is unexplained."""
    table = onion_request.table(records)
    shares = [float(share) for share in re.findall(r" ([0-9.]+)%$", table, re.MULTILINE)]
    assert len(shares) >= 7
    assert shares[-1] == 100
    assert sum(shares[:-1]) == pytest.approx(100, abs=0.05 * len(shares))
    (stream,) = (child for child in request_node.children if child.record.name == "tor.stream")
    request = request_node.record
    covered = covered_ns(list(leaf_phases(stream)), request.start_time_ns, request.end_time_ns)
    assert shares[-2] == pytest.approx(100 * (1 - covered / request.duration_ns), abs=0.1)


def test_the_services_side(records: list[SpanRecord], request_node: Node) -> None:
    """Its tor's half is a trace of its own, at the same time: nobody told it whose request it was."""
    halves = [record for record in records if record.name == "tor.hs.rendezvous"]
    assert halves
    request = request_node.record
    for half in halves:
        assert half.trace_id != request.trace_id
        assert half.service_name == "the service's tor"
        assert request.start_time_ns < half.start_time_ns < half.end_time_ns < request.end_time_ns
