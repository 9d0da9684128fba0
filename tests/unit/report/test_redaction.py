"""clew.report.redaction: what a report shows at each level, and that nothing else gets into it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status
from clew.report import Analysis, Remark, Report, level_shown, redact
from clew.report.as_json import to_json
from clew.report.page import render_page
from clew.report.redaction import HIDDEN
from clew.tor.privacy import LEVEL_ATTRIBUTE, Privacy

if TYPE_CHECKING:
    from clew.report import Findings

SECRET = "s3cret.example"
ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"
FINGERPRINT = "00112233445566778899AABBCCDDEEFF00112233"


def telling_spans(secret: str, level: str = "lab") -> list[SpanRecord]:
    """A request, its stream and its circuit, with something to hide wherever there is room for it."""
    link = Link(SpanContext("f" * 32, "e" * 16), {"my.link": secret})
    trace = "d" * 32
    resource = Resource({"service.name": secret, LEVEL_ATTRIBUTE: level, "host.name": secret})
    error = Event("exception", 50, {"exception.type": "ProxyError", "exception.message": f"no {secret}"})
    request = SpanRecord(
        trace,
        "1" * 16,
        "",
        f"GET {secret}",
        SpanKind.CLIENT,
        1,
        100,
        Status.ERROR,
        f"cannot reach {secret}",
        {"url.full": f"https://{secret}/", "my.user": secret, "error.type": f"lib.{secret}"},
        (error, Event(secret, 60, {"what": secret})),
        (link,),
        trace_state=secret,
        resource=resource,
        scope=Scope(secret, secret),
    )
    stream = SpanRecord(
        trace,
        "2" * 16,
        "1" * 16,
        "tor.stream",
        SpanKind.CLIENT,
        2,
        90,
        Status.ERROR,
        secret,
        {"server.address": secret, "server.port": 443, "error.type": "exitpolicy", "tor.stream.id": "17"},
        resource=resource,
    )
    build = stream._replace(
        span_id="3" * 16, parent_id="2" * 16, name="tor.circuit.build", kind=SpanKind.INTERNAL, status=Status.UNSET
    )
    hops = [
        build._replace(
            span_id=str(4 + index) * 16,
            parent_id="3" * 16,
            name="tor.circuit.extend",
            attributes={
                "tor.hop.index": index,
                "tor.hop.role": "guard" if index == 1 else "middle",
                "tor.relay.fingerprint": f"{secret}{min(index, 2)}",
                "tor.relay.nickname": f"nick{secret}",
            },
        )
        for index in (1, 2, 2, 2)
    ]
    return [request, stream, build, *hops]


def found_in(spans: list[SpanRecord], files: tuple[str, ...] = ("a.jsonl",)) -> Findings:
    analysis = Analysis(5)
    analysis.add(spans)
    return analysis.findings(files, [Remark(0, "1 damaged line left out")])


def at_level(findings: Findings, level: Privacy | None) -> Findings:
    (redacted,) = redact([findings], level)
    return redacted


def shown(findings: Findings, level: Privacy | None) -> str:
    """All that JSON and the page show."""
    report = Report(level, at_level(findings, level), None)
    return json.dumps(to_json(report), ensure_ascii=False) + render_page(report)


@given(st.text("abcdefghij", min_size=8, max_size=20))
def test_nothing_telling_is_shown_to_others(word: str) -> None:
    """At level 0 nothing of what somebody else chose is in the report, wherever it stood; at level 3 it is."""
    secret = f"zq{word}.example"
    findings = found_in(telling_spans(secret), (f"/home/{secret}.jsonl",))
    assert secret not in shown(findings, Privacy.ANONYMOUS)
    assert secret in shown(findings, Privacy.LAB)
    assert secret in shown(findings, None)


def test_pseudonymous() -> None:
    """At level 1 hashes stand for destinations and relays, in texts too, the same one for the same place."""
    findings = found_in(telling_spans(SECRET))
    assert SECRET not in shown(findings, Privacy.PSEUDONYMOUS)
    redacted = at_level(findings, Privacy.PSEUDONYMOUS)
    (request,) = redacted.slowest
    assert request.target.startswith("hash:")
    assert request.name == f"GET {request.target}"
    assert [guard.name[:5] for guard in redacted.guards] == ["hash:"]
    assert [(relay.name[:5], relay.nickname) for relay in redacted.relays] == [("hash:", "")]


def test_operator() -> None:
    """At level 2 destinations and relays can be read, but neither the guard nor what errors say."""
    redacted = at_level(found_in(telling_spans(SECRET)), Privacy.OPERATOR)
    (request,) = redacted.slowest
    assert request.name == f"GET {SECRET}"
    assert request.target == f"{SECRET}:443"
    assert [guard.name[:5] for guard in redacted.guards] == ["hash:"]
    assert [relay.nickname for relay in redacted.relays] == [f"nick{SECRET}"]
    assert request.spans[0].status_description == ""
    assert "exception.message" not in request.spans[0].events[0].attributes


def test_anonymous() -> None:
    """At level 0: durations, roles, tor's reasons; and new ids, under which the spans are still a tree."""
    redacted = at_level(found_in(telling_spans(SECRET)), Privacy.ANONYMOUS)
    (request,) = redacted.slowest
    assert (request.name, request.target) == ("GET", "")
    assert (redacted.guards, redacted.relays) == ((), ())
    assert [row.role for row in redacted.roles] == ["middle", "guard"]
    assert {(row.what, row.reason) for row in redacted.failures.rows} == {("request", HIDDEN), ("stream", "exitpolicy")}
    assert redacted.files == ("file 1",)
    assert request.spans[0].trace_id == f"{1:032x}"
    assert [span.parent_id for span in request.spans[:3]] == ["", f"{1:016x}", f"{2:016x}"]
    assert all(not span.links for span in request.spans)
    assert [event.name for event in request.spans[0].events] == ["exception", HIDDEN]
    assert request.spans[2].attributes == {"error.type": "exitpolicy"}


@pytest.mark.parametrize(
    ("name", "at_0", "at_1"),
    [
        ("GET", "GET", "GET"),
        ("tor.stream", "tor.stream", "tor.stream"),
        ("fetch page", "fetch page", "fetch page"),
        ("GET /index", "GET", "GET /index"),
        ("GET https://example.com/x", "GET", "GET https://hash:#"),
        (ONION, HIDDEN, "hash:#"),
        (FINGERPRINT, HIDDEN, "hash:#"),
    ],
)
def test_names(name: str, at_0: str, at_1: str) -> None:
    """Names of the program's spans are treated as on their way to an exporter: places in them go."""
    request, *others = telling_spans(SECRET)
    findings = found_in([request._replace(name=name), *others])
    names = [at_level(findings, level).slowest[0].name for level in Privacy]
    assert [re.sub("(?<=hash:)[0-9a-f]{16}", "#", each) for each in names[:2]] == [at_0, at_1]
    assert names[3] == name


def test_what_is_said_of_a_failure() -> None:
    """The words that clew makes of tor's reasons are shown; what a program says is not, below level 3."""
    request, stream, build, *hops = telling_spans(SECRET)
    said = "hop 2: destroyed, and the relay said connectfailed"
    failed = build._replace(status=Status.ERROR, status_description=said)
    findings = found_in([request, stream, failed, *hops])
    for level in (Privacy.ANONYMOUS, Privacy.PSEUDONYMOUS, Privacy.OPERATOR):
        (slow,) = at_level(findings, level).slowest
        assert (slow.spans[0].status_description, slow.spans[2].status_description) == ("", said)


def test_never_more_than_was_recorded() -> None:
    """The level is the lowest that a span names, or lower; where none does, the one that was asked for."""
    recorded = found_in(telling_spans(SECRET, "pseudonymous"))
    lab = found_in(telling_spans(SECRET))
    unknown = found_in([record._replace(resource=Resource()) for record in telling_spans(SECRET)])
    assert level_shown(Privacy.LAB, [recorded]) is Privacy.PSEUDONYMOUS
    assert level_shown(Privacy.LAB, [lab, recorded]) is Privacy.PSEUDONYMOUS
    assert level_shown(Privacy.ANONYMOUS, [lab]) is Privacy.ANONYMOUS
    assert level_shown(Privacy.OPERATOR, [unknown]) is Privacy.OPERATOR
    assert level_shown(None, [recorded]) is None


def test_hashes_stay() -> None:
    """What was recorded as a hash is the same hash in the report, so that files and report can be compared."""
    request, stream, *others = telling_spans(SECRET, "pseudonymous")
    hashed = "hash:0123456789abcdef"
    findings = found_in([request, stream._replace(attributes={"server.address": hashed}), *others])
    assert at_level(findings, Privacy.PSEUDONYMOUS).slowest[0].target == hashed


def test_the_same_place_has_the_same_hash() -> None:
    """Wherever it stands in one report."""
    findings = found_in(telling_spans(SECRET))
    redacted = at_level(findings, Privacy.PSEUDONYMOUS)
    hops = [span for span in redacted.slowest[0].spans if span.name == "tor.circuit.extend"]
    assert {hop.attributes["tor.relay.fingerprint"] for hop in hops[1:]} == {redacted.relays[0].name}


def test_as_recorded() -> None:
    """Without a level nothing is changed; at level 3 nothing but what opens something."""
    request, *others = telling_spans(SECRET)
    request = request._replace(name="GET http://alice:opensesame@s3cret.example/", links=())
    findings = found_in([request, *others])
    assert redact([findings], None) == [findings]
    assert at_level(findings, Privacy.LAB).slowest[0].name == "GET http://s3cret.example/"


def test_before_and_after_have_the_same_hashes() -> None:
    """Or else nothing could be compared."""
    groups = redact([found_in(telling_spans(SECRET)), found_in(telling_spans(SECRET))], Privacy.PSEUDONYMOUS)
    assert groups[0].guards[0].name == groups[1].guards[0].name
    assert groups[0].slowest[0].target == groups[1].slowest[0].target
