"""Spans that ended, gone over: what each level leaves of an application's span, and that nothing else is touched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from clew import MemoryExporter, SpanRecord, Status, Tracer
from clew.model import Event, Link, Resource, Scope, SpanContext
from clew.otlp import Batch, encode_span
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.scrub import Scrubber

if TYPE_CHECKING:
    from clew.model import Attributes, AttributeValue

HASH = re.compile(r"hash:[0-9a-f]{16}")
TRACE, SPAN = "1" * 32, "2" * 16


def hide(value: AttributeValue) -> AttributeValue:
    """Hashes differ from run to run."""
    if isinstance(value, str):
        return HASH.sub("#", value)
    if isinstance(value, tuple):
        return tuple(map(hide, value))
    return {HASH.sub("#", key): hide(item) for key, item in value.items()} if isinstance(value, dict) else value


def told(attributes: Attributes, level: Privacy, *, is_ours: bool = False) -> dict[str, AttributeValue]:
    kept = Scrubber(PrivacyFilter(level)).attributes(attributes, is_ours=is_ours)
    hidden = hide(dict(kept))
    assert isinstance(hidden, dict)
    return hidden


SAMPLE: dict[str, AttributeValue] = {
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "http.response.body.size": 5000,
    "url.full": "https://me:pw@example.com/a?b",
    "server.address": "example.com",
    "server.port": 443,
    "client.address": "192.0.2.7",
    "user.id": "bob",
    "code.function.name": "shop.cart.buy",
    "service.version": "0.4.9.11",
    "exception.message": "no route to example.com",
    "order": 17,
    "ready": True,
    "note": "sent to example.com now",
    "list": ("a", 1, "example.com"),
    "map": {"example.com": {"x": "example.com"}, "api_key": "k", "n": None},
    "data": b"\x00\x01",
    "visits.example.com": 3,
    "password": "k",
    "thread.id": 7,
    "nothing": None,
}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (
            Privacy.ANONYMOUS,
            {
                "http.request.method": "GET",
                "http.response.status_code": 200,
                "http.response.body.size": 16384,
                "code.function.name": "shop.cart.buy",
                "service.version": "0.4.9.11",
            },
        ),
        (
            Privacy.PSEUDONYMOUS,
            {
                "http.request.method": "GET",
                "http.response.status_code": 200,
                "http.response.body.size": 5000,
                "url.full": "#",
                "server.address": "#",
                "server.port": "#",
                "client.address": "#",
                "user.id": "#",
                "code.function.name": "shop.cart.buy",
                "service.version": "0.4.9.11",
                "order": 17,
                "ready": True,
                "note": "sent to # now",
                "list": ("a", 1, "#"),
                "map": {"#": {"x": "#"}, "n": None},
                "data": "#",
                "#": 3,
                "thread.id": 7,
                "nothing": None,
            },
        ),
        (
            Privacy.OPERATOR,
            {
                **{key: SAMPLE[key] for key in SAMPLE if key not in ("exception.message", "password")},
                "url.full": "https://example.com/a?b",
                "client.address": "#",
                "user.id": "#",
                "map": {"example.com": {"x": "example.com"}, "n": None},
                "data": "#",
            },
        ),
        (
            Privacy.LAB,
            {
                **{key: SAMPLE[key] for key in SAMPLE if key != "password"},
                "url.full": "https://example.com/a?b",
                "map": {"example.com": {"x": "example.com"}, "n": None},
            },
        ),
    ],
)
def test_an_applications_attributes(level: Privacy, expected: dict[str, AttributeValue]) -> None:
    """Each level leaves what the tables say; of what is the program's own, all but what tells."""
    assert told(SAMPLE, level) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("http.response.status_code", "example.com", [{}, "#", "example.com", "example.com"]),
        ("error.type", "no route to example.com", [{}, "no route to #", "no route to example.com"]),
        ("error.type", "example.com", [{}, "#", "example.com", "example.com"]),
        ("tor.circuit.purpose", "example.com", [{}, "#", "#", "example.com"]),
        ("server.address", ("example.com", "a.onion"), [{}, ("#", "#"), ("example.com", "a.onion")]),
        ("server.address", b"example.com", [{}, "#", "#", b"example.com"]),
        ("service.name", "my shop (test)", ["my shop (test)"] * 4),
        ("service.name", "shop.example.com", [{}, "#", "shop.example.com"]),
        ("service.name", "shop/of?alice", [{}, "shop/of?alice"]),
        ("k8s.pod.name", "web-1", [{}, "web-1", "web-1", "web-1"]),
        ("http.response.body.size", "many", [{}, "many"]),
        ("http.response.body.size", 7.5, [{}, 7.5]),
        ("server.address", "hash:0123456789abcdef", [{}, "#", "#", "#"]),
        ("note", b"https://me:pw@h/", [{}, "#", "#", "https://h/"]),
    ],
)
def test_values_that_are_not_what_their_name_says(
    name: str, value: AttributeValue, expected: list[AttributeValue]
) -> None:
    """They are treated as the program's own words, or as what tor never said."""
    for level, left in zip(Privacy, expected, strict=False):
        assert told({name: value}, level) == (left if left == {} else {name: left})


def test_spans_of_tors_pass_by_tors_table() -> None:
    """On a span that clew made of tor's events, what tor's table lacks is hashed, texts and all."""
    said = {"error.type": "two words", "order": "x", "tor.circuit.id": "7", "tor.relay.fingerprint": "A" * 40}
    assert told(said, Privacy.PSEUDONYMOUS, is_ours=True) == {
        "error.type": "#",
        "order": "#",
        "tor.circuit.id": "7",
        "tor.relay.fingerprint": "#",
    }
    at_guard = told({**said, "tor.hop.index": 1}, Privacy.OPERATOR, is_ours=True)
    assert at_guard["tor.relay.fingerprint"] == "#"
    later = told({**said, "tor.hop.index": 2}, Privacy.OPERATOR, is_ours=True)
    assert later["tor.relay.fingerprint"] == "A" * 40


def test_hashes_agree_whatever_the_name() -> None:
    """One host has one hash: on tor's spans, under OpenTelemetry's old and new names, in a text."""
    privacy = PrivacyFilter()
    of_tor = privacy.attributes({"server.address": "example.com", "server.port": 443})
    kept = Scrubber(privacy).attributes(
        {"server.address": "Example.com", "net.peer.name": "example.com.", "net.peer.port": 443, "x": "at example.com"}
    )
    assert kept["server.address"] == kept["net.peer.name"] == of_tor["server.address"]
    assert kept["net.peer.port"] == of_tor["server.port"]
    assert kept["x"] == "at " + str(of_tor["server.address"])


@pytest.mark.parametrize(
    ("name", "at_0", "at_1"),
    [
        ("fetch-page", "fetch-page", "fetch-page"),
        ("tor.circuit.build", "tor.circuit.build", "tor.circuit.build"),
        ("GET /users/7", "GET", "GET /users/7"),
        ("GET https://example.com/x", "GET", "GET https://#"),
        ("step 2 of buying", "step", "step 2 of buying"),
        ("example.com", "hidden", "#"),
        ("4711", "hidden", "4711"),
        ("one two three four five six seven", "one two three four five six", "one two three four five six seven"),
        ("", "", ""),
    ],
)
def test_names_of_spans_and_events(name: str, at_0: str, at_1: str) -> None:
    """At level 0 a name keeps the words that it begins with; at level 1 all but what tells."""
    record = SpanRecord(TRACE, SPAN, "", name, events=(Event(name, 1),))
    for level, expected in ((Privacy.ANONYMOUS, at_0), (Privacy.PSEUDONYMOUS, at_1)):
        scrubbed = Scrubber(PrivacyFilter(level)).record(record)
        assert hide(scrubbed.name) == hide(scrubbed.events[0].name) == expected


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("buy", "ValueError: no route to example.com", "ValueError"),
        ("buy", "ValueError", "ValueError"),
        ("buy", "ValueErrors: no", ""),
        ("buy", "card declined", ""),
        ("tor.circuit.build", "hop 2: destroyed, and the relay said connectfailed", None),
        ("create-circuit", "the circuit was not built: timeout", None),
        ("tor.circuit.build", "no route to example.com", ""),
    ],
)
def test_why_it_failed(name: str, description: str, expected: str | None) -> None:
    """Below level 3 a description is an exception's type, or clew's own words about tor."""
    events = (Event("exception", 1, {"exception.type": "ValueError", "exception.message": "m"}),)
    record = SpanRecord(TRACE, SPAN, "", name, status=Status.ERROR, status_description=description, events=events)
    for level in (Privacy.ANONYMOUS, Privacy.PSEUDONYMOUS):
        scrubbed = Scrubber(PrivacyFilter(level)).record(record)
        assert scrubbed.status is Status.ERROR
        assert scrubbed.status_description == (description if expected is None else expected)
        assert "exception.message" not in scrubbed.events[0].attributes
    assert Scrubber(PrivacyFilter(Privacy.LAB)).record(record).status_description == description


def test_links_and_states() -> None:
    """What others wrote into tracestate goes below level 2; a link's attributes are treated like any."""
    context = SpanContext(TRACE, SPAN, 1, "vendor=example.com")
    record = SpanRecord(TRACE, SPAN, "", "x", links=(Link(context, {"to": "example.com"}),), trace_state="a=b")
    scrubbed = Scrubber(PrivacyFilter()).record(record)
    assert scrubbed.trace_state == scrubbed.links[0].context.trace_state == ""
    assert hide(dict(scrubbed.links[0].attributes)) == {"to": "#"}
    assert scrubbed.links[0].context.span_id == SPAN
    assert Scrubber(PrivacyFilter(Privacy.OPERATOR)).record(record) is record


def batch(*records: SpanRecord) -> Batch:
    resource = Resource({"service.name": "shop", "host.name": "laptop", "process.command_line": "x --token y"})
    return Batch(b"".join(map(encode_span, records)), len(records), resource, Scope("clew", "1"))


def test_a_span_that_needs_nothing_keeps_its_bytes() -> None:
    """What is passed on unchanged is not encoded anew."""
    plain = SpanRecord(TRACE, SPAN, "", "buy", attributes={"order": 17, "x": "y " * 150})
    other = SpanRecord(TRACE, "3" * 16, SPAN, "to example.com")
    scrubbed, lost = Scrubber(PrivacyFilter()).scrub(batch(plain, other, plain))
    assert lost == 0
    assert scrubbed.count == 3
    assert scrubbed.spans.startswith(encode_span(plain))
    assert scrubbed.spans.endswith(encode_span(plain))
    assert [hide(record.name) for record in scrubbed.records] == ["buy", "to #", "buy"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Privacy.ANONYMOUS, {"service.name": "shop"}),
        (Privacy.PSEUDONYMOUS, {"service.name": "shop", "host.name": "#"}),
        (
            Privacy.LAB,
            {"service.name": "shop", "host.name": "laptop", "process.command_line": "x --token y"},
        ),
    ],
)
def test_the_resource_says_the_level(level: Privacy, expected: dict[str, str]) -> None:
    """It is scrubbed too, once for all batches."""
    scrubber = Scrubber(PrivacyFilter(level))
    given = batch(SpanRecord(TRACE, SPAN, "", "x"))
    resource = scrubber.scrub(given)[0].resource
    assert hide(dict(resource.attributes)) == expected | {"clew.privacy.level": level.name.lower()}
    assert scrubber.scrub(given)[0].resource is resource


def test_a_place_of_one_span_is_found_in_another() -> None:
    """A host that a later span of the batch names is known in the earlier one, and in the names of attributes."""
    child = SpanRecord(TRACE, "3" * 16, SPAN, "to shop.rareending", attributes={"n.shop.rareending": 1})
    parent = SpanRecord(TRACE, SPAN, "", "x", attributes={"url.full": "https://me@shop.rareending:1/x"})
    records = Scrubber(PrivacyFilter()).scrub(batch(child, parent))[0].records
    assert hide(records[0].name) == "to #"
    assert [HASH.sub("#", name) for name in records[0].attributes] == ["#"]


def test_the_level_of_a_span_is_the_lowest_it_passed() -> None:
    """A mapper's span that was made at a lower level says so still; one of a higher level says the new one."""
    for made, left, said in (
        (Privacy.ANONYMOUS, Privacy.PSEUDONYMOUS, "anonymous"),
        (Privacy.LAB, Privacy.PSEUDONYMOUS, "pseudonymous"),
    ):
        span = {"clew.privacy.level": made.name.lower()}
        assert told(span, left, is_ours=True) == {"clew.privacy.level": said}


def test_what_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that cannot be looked through does not go out; the others do, and it is counted."""
    scrubber = Scrubber(PrivacyFilter())
    real = scrubber.record

    def fail(record: SpanRecord) -> SpanRecord:
        if record.name == "bad":
            raise ValueError("example.com")
        return real(record)

    monkeypatch.setattr(scrubber, "record", fail)
    names = ("good", "bad", "fine")
    scrubbed, lost = scrubber.scrub(batch(*(SpanRecord(TRACE, SPAN, "", name) for name in names)))
    assert (lost, scrubbed.count) == (1, 2)
    assert [record.name for record in scrubbed.records] == ["good", "fine"]


def test_in_the_lab_only_what_may_hold_a_secret_is_looked_at() -> None:
    """At level 3 a batch without anything like a secret keeps its bytes, the same object."""
    scrubber = Scrubber(PrivacyFilter(Privacy.LAB))
    plain = batch(SpanRecord(TRACE, SPAN, "", "to example.com"))
    assert scrubber.scrub(plain)[0].spans is plain.spans
    secret = batch(SpanRecord(TRACE, SPAN, "", "x", attributes={"cookie": "s", "u": "https://a:b@c/"}))
    (record,) = scrubber.scrub(secret)[0].records
    assert record.attributes == {"u": "https://c/"}


def test_values_of_all_kinds_come_through() -> None:
    """What spans of this process may hold is encoded anew without a loss."""
    memory = MemoryExporter()
    with Tracer("shop", exporter=memory) as tracer:
        value = {"a": [1, 2.5, True, None, "x", {"b": [[]]}], "big": 2**70, "nan": float("inf")}
        with tracer.start_span("x", attributes={"v": value, "place": "example.com"}):
            pass
    (before,) = memory.records
    (after,) = Scrubber(PrivacyFilter()).scrub(batch(before))[0].records
    assert after.attributes["v"] == before.attributes["v"]
