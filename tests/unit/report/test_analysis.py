"""clew.report.analysis: what is counted and measured of tor's spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.model import Resource, SpanKind, Status
from clew.report import Analysis, traces
from clew.report.phases import PARTS
from clew.testing import capture_spans
from clew.tor.privacy import Privacy
from tests.tor_samples import GUARDS, START_NS, TorSamples

if TYPE_CHECKING:
    from clew import Span
    from clew.model import Attributes, SpanRecord
    from clew.report import Findings

MS = 1_000_000


def analyse(records: list[SpanRecord], slowest: int = 3, max_spans: int = 100_000) -> Findings:
    analysis = Analysis(slowest)
    for spans in traces([records], max_spans):
        analysis.add(spans)
    return analysis.findings(["a.jsonl"])


def samples(requests: int = 100, privacy: Privacy = Privacy.LAB) -> list[SpanRecord]:
    with capture_spans() as captured:
        TorSamples(captured.tracer, privacy=privacy).run(requests)
        return captured.records


@pytest.fixture(scope="module")
def records() -> list[SpanRecord]:
    """A session of a hundred requests."""
    return samples()


@pytest.fixture(scope="module")
def findings(records: list[SpanRecord]) -> Findings:
    """What is found in it."""
    return analyse(records)


def counts(findings: Findings, figure: str) -> dict[str, int]:
    return {key: summary.number for key, summary in findings.figures[figure].items()}


def test_one_request() -> None:
    """Each duration is in the series that it belongs to, and nowhere else."""
    with capture_spans() as captured:
        ended: list[tuple[Span, int]] = []

        def put(name: str, parent: Span | None, begin_ms: int, end_ms: int, **attributes: object) -> Span:
            """A span between two times; "_" in the names of attributes stands for "."."""
            span = captured.tracer.start_span(
                name,
                SpanKind.CLIENT if name == "tor.stream" else SpanKind.INTERNAL,
                attributes={f"tor.{key.replace('_', '.')}": value for key, value in attributes.items()},
                parent=parent,
                start_time_ns=START_NS + begin_ms * MS,
            )
            ended.append((span, START_NS + end_ms * MS))
            return span

        request = put("GET", None, 0, 500)
        stream = put("tor.stream", request, 10, 490)
        stream.add_event("first_byte", None, START_NS + 400 * MS)
        attach = put("tor.stream.attach", stream, 10, 110)
        build = put("tor.circuit.build", attach, 11, 101, circuit_purpose="GENERAL")
        put("tor.circuit.extend", build, 11, 31, hop_index=1, hop_role="guard", relay_fingerprint="G")
        put("tor.circuit.extend", build, 31, 101, hop_index=2, hop_role="exit", relay_fingerprint="E")
        put("tor.stream.connect", stream, 110, 200)
        put("tor.stream.transfer", stream, 200, 490)
        for span, end_ns in reversed(ended):
            span.end(end_ns)
        found = analyse(captured.records)
    times = {
        (figure, key): summary.p50_ns // MS
        for figure, series in found.figures.items()
        for key, summary in series.items()
        if summary.number == 1
    }
    assert times == {
        ("time_to_first_byte", "all"): 400,
        ("time_to_first_byte", "exit"): 400,
        ("time_to_last_byte", "all"): 500,
        ("time_to_last_byte", "exit"): 500,
        ("stream_steps", "tor.stream.attach"): 100,
        ("stream_steps", "tor.stream.connect"): 90,
        ("stream_steps", "tor.stream.transfer"): 290,
        ("circuit_build", "all"): 90,
        ("circuit_build", "GENERAL"): 90,
        ("circuit_hop", "1"): 20,
        ("circuit_hop", "2"): 70,
    }
    (guard,) = found.guards
    assert (guard.name, guard.tries, guard.failed) == ("G", 1, 0)
    assert guard.build is not None
    assert guard.first_byte is not None
    assert (guard.build.p50_ns, guard.first_byte.p50_ns) == (90 * MS, 400 * MS)
    assert found.failures.rows == ()
    (slow,) = found.slowest
    assert (slow.name, slow.duration_ns, slow.first_byte_ns, slow.spans_total) == ("GET", 500 * MS, 400 * MS, 8)


def test_requests_are_counted(findings: Findings) -> None:
    """Each is a success or a failure, to an onion service or not, claimed or not."""
    requests = findings.requests
    assert requests.total == 100 == requests.succeeded + requests.failed
    assert 20 < requests.onion < 45
    assert 0 < requests.unclaimed < 12
    assert requests.first_byte == requests.succeeded
    assert (requests.cut, requests.strays, requests.cancelled) == (0, 0, 0)
    byte, last = counts(findings, "time_to_first_byte"), counts(findings, "time_to_last_byte")
    assert (
        byte == last == {"all": requests.succeeded, "onion": byte["onion"], "exit": requests.succeeded - byte["onion"]}
    )


def test_as_counted_by_hand(records: list[SpanRecord], findings: Findings) -> None:
    """The numbers are those that the spans have, counted in another way."""
    by_id = {record.span_id: record for record in records}
    built = [r for r in records if r.name == "tor.circuit.build" and r.status is Status.UNSET]
    assert counts(findings, "circuit_build")["all"] == len(built)
    assert findings.figures["circuit_build"]["all"].max_ns == max(record.duration_ns for record in built)
    attached = [
        record.duration_ns
        for record in records
        if record.name == "tor.stream.attach"
        and by_id[record.parent_id].attributes["tor.stream.purpose"] == "USER"
        and record.status is Status.UNSET
    ]
    assert counts(findings, "stream_steps")["tor.stream.attach"] == len(attached)
    hops = [r for r in records if r.name == "tor.circuit.extend" and r.status is Status.UNSET]
    assert sum(counts(findings, "circuit_hop").values()) == len(hops)
    # A hop's failure is its circuit's, that of a stream's step the stream's.
    parts = ("tor.circuit.extend", "tor.stream.attach", "tor.stream.connect")
    failed = [r for r in records if r.status is Status.ERROR and r.name not in parts]
    assert sum(row.total for row in findings.failures.rows) == len(failed)
    assert all(sum(row.by_step) == row.total for row in findings.failures.rows)
    assert sum(findings.failures.requests) == 100


def test_a_retry_is_told(records: list[SpanRecord], findings: Findings) -> None:
    """A step of a stream that failed is a failure of its own where the stream got there nevertheless."""
    stream = next(r for r in records if r.name == "tor.stream" and r.status is Status.UNSET and len(r.events) == 1)
    failed = next(r for r in records if r.name == "tor.stream.connect" and r.status is Status.ERROR)
    retried = failed._replace(trace_id=stream.trace_id, span_id="f" * 16, parent_id=stream.span_id)
    rows = {(row.what, row.reason): row.total for row in analyse([*records, retried]).failures.rows}
    expected = {(row.what, row.reason): row.total for row in findings.failures.rows}
    assert rows == expected | {("stream, before a retry", str(failed.attributes["error.type"])): 1}


def test_guards_are_told_apart(findings: Findings) -> None:
    """The slow one is seen to be slow, from its own hop up to the requests over it."""
    guards = {guard.nickname: guard for guard in findings.guards}
    assert set(guards) == set(GUARDS)
    snail, quick = guards["snail"], guards["guard1"]
    for mine, others in ((snail.hop, quick.hop), (snail.build, quick.build)):
        assert mine is not None
        assert others is not None
        assert mine.p50_ns > others.p50_ns
    assert snail.first_byte is not None
    assert sum(guard.tries for guard in findings.guards) == findings.roles[0].tries
    assert findings.roles[0].role == "guard"
    assert findings.relays[0].nickname == "turtle"


def test_onion_connections(findings: Findings) -> None:
    """The middle one's parts add up to its duration; so do those of each of the slowest."""
    onions = findings.onions
    assert 0 < onions.failed < onions.total
    assert onions.middle_ns == sum(onions.parts.values()) > 0
    assert len(onions.slowest) == 3
    for each in onions.slowest:
        assert each.duration_ns == sum(each.parts.values())
        assert set(each.parts) == set(PARTS)
    whole = findings.figures["onion_phases"]["tor.hs.connect"]
    assert whole.min_ns < onions.middle_ns < whole.max_ns


def test_the_slowest(records: list[SpanRecord], findings: Findings) -> None:
    """They are the slowest, in order, with all of their spans and no others."""
    durations = sorted((record.duration_ns for record in records if record.name == "GET"), reverse=True)
    assert [request.duration_ns for request in findings.slowest] == durations[:3]
    for request in findings.slowest:
        assert len(request.spans) == request.spans_total
        assert {span.trace_id for span in request.spans} == {request.spans[0].trace_id}


def test_a_request_within_a_trace() -> None:
    """What is above it is not shown, and not missed either."""
    with capture_spans() as captured:
        start = captured.tracer.start_span
        with start("crawl"), start("GET"), start("tor.stream", SpanKind.CLIENT):
            pass
    (slow,) = analyse(captured.records).slowest
    assert [(span.name, bool(span.parent_id)) for span in slow.spans] == [("GET", False), ("tor.stream", True)]


def test_none_of_the_slowest(records: list[SpanRecord]) -> None:
    """Nobody has to have them."""
    found = analyse(records, slowest=0)
    assert (found.slowest, found.onions.slowest) == ((), ())


@pytest.mark.parametrize("privacy", list(Privacy))
def test_at_each_level(privacy: Privacy) -> None:
    """The durations are there at every level; what else is there is what was recorded."""
    found = analyse(samples(30, privacy))
    assert found.levels == (privacy,)
    assert found.requests.total == 30
    assert found.figures["circuit_build"]
    assert bool(found.guards) == bool(found.relays) == (privacy > Privacy.ANONYMOUS)


def test_whatever_the_order(records: list[SpanRecord], findings: Findings) -> None:
    """With room for all spans, the order in which they stand in the files does not matter to the numbers."""
    found = analyse(records[::-1])
    assert found.requests == findings.requests
    assert {key: series for key, series in found.figures.items() if key != "circuit_build"} == {
        key: series for key, series in findings.figures.items() if key != "circuit_build"
    }
    assert found.failures == findings.failures


def test_with_little_room(records: list[SpanRecord], findings: Findings) -> None:
    """A trace is near itself: far less room than there are spans suffices."""
    assert len(records) > 1000
    assert analyse(records, max_spans=200).requests == findings.requests


def test_a_stream_without_its_request(records: list[SpanRecord]) -> None:
    """Where the program's spans are in another file, its streams are requests, and the report can say so."""
    found = analyse([record for record in records if record.name != "GET"])
    assert found.requests.total == found.requests.unclaimed == 100
    assert 0 < found.requests.strays < 100


def test_nothing() -> None:
    """No spans, no numbers."""
    found = analyse([])
    assert (found.span_count, found.start_ns, found.requests.total) == (0, 0, 0)
    assert not any(found.figures.values())


def test_other_peoples_spans(records: list[SpanRecord]) -> None:
    """Spans that mean nothing here are counted, and change nothing; attributes of the wrong type do no harm."""
    spans: list[tuple[str, Attributes]] = [
        ("", {}),
        ("tor.unknown", {"error.type": 7}),
        ("tor.circuit.extend", {"tor.hop.index": "one", "tor.relay.fingerprint": 5}),
        ("tor.circuit.extend", {"tor.hop.index": -1, "tor.hop.role": ("guard",)}),
        ("tor.circuit.build", {"tor.circuit.purpose": "not a keyword"}),
        ("tor.hs.connect", {"clew.privacy.level": "shout"}),
    ]
    strange = [
        records[0]._replace(
            trace_id=f"{number:032x}", parent_id="", name=name, attributes=attributes, resource=Resource()
        )
        for number, (name, attributes) in enumerate(spans)
    ]
    found = analyse(strange)
    assert found.span_count == len(strange)
    assert found.levels == ()
    assert counts(found, "circuit_build") == {"all": 1, "other": 1}
    assert counts(found, "circuit_hop") == {}
