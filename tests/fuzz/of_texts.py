"""Fuzzed: what finds secrets in texts and spans, and what makes texts fit for a terminal and for HTML."""

from __future__ import annotations

from datetime import UTC
from functools import cache
from html import unescape

from clew._hot import spans_to_records
from clew.errors import DecodeError
from clew.model import Event, Resource, Scope, SpanRecord
from clew.otlp import Batch, decode_json, encode_span
from clew.pretty import escape, format_duration, format_tree
from clew.render import ASCII_GLYPHS, render_text
from clew.report.page.markup import tag, text
from clew.tor.places import Places, relay_of_exit_name, spelling
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.scrub import Scrubber
from clew.tor.telling import Search
from tests.fuzz.claims import check_records, check_shown
from tests.fuzz.source import Source, hostile_text

__all__ = ["check_escapes", "check_pictures", "check_places", "check_scrubbed", "check_search"]

_ONION = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd"
_FINGERPRINT = "AABBCCDDEEFF00112233445566778899AABBCCDD"
# What stands in a text by itself is found there, whatever stands around it.
_SECRETS = (
    f"{_ONION}.onion",
    _ONION,
    f"${_FINGERPRINT}~snail",
    _FINGERPRINT,
    "203.0.113.77",
    "2001:db8::cafe:77",
    "https://marked.example.com/path?q=1",
    "marked.example.com",
    "someone@marked.example.com",
)
_MARKS = (_ONION, _FINGERPRINT, "203.0.113.77", "2001:db8::cafe:77", "marked.example.com")
_AROUND = ((" ", " "), ('"', '"'), ("(", ")"), ("\n", "\n"), ("=", " "), ("<", ">"), ("'", "'"))


@cache
def _search(level: Privacy) -> Search:
    return Search(PrivacyFilter(level))


def check_search(data: bytes) -> None:
    """A text with a secret in it, at every level: below the one from which it may be seen, it cannot be."""
    source = Source(data)
    secret = source.pick(_SECRETS)
    before, after = source.pick(_AROUND)
    start = source.text(200)
    if before != " ":
        start += " "  # what the mark stands beside is a word's beginning
    said = f"{start}{before}{secret}{after}{hostile_text(source.rest())}"
    for level in (Privacy.ANONYMOUS, Privacy.PSEUDONYMOUS):
        clean = _search(level).clean(said)
        for mark in _MARKS:
            assert mark.lower() not in clean.lower(), (said, clean)
        assert len(clean) <= 8 * len(said) + 64
        if "." not in secret:
            _search(level).clean(said, code=True)
    for level in (Privacy.OPERATOR, Privacy.LAB):
        clean = _search(level).clean(said)
        assert isinstance(clean, str)
        _search(level).url(said)


def check_scrubbed(data: bytes) -> None:
    """Spans of any kind with secrets in them: all come through, none with the secret, at no level with a password."""
    source = Source(data)
    secret = source.pick(_SECRETS)
    name = source.text(40).encode("utf-8", "replace").decode()
    raw = source.rest()
    try:
        records = spans_to_records(raw, Resource(), Scope())
    except DecodeError:
        records = []
    record = SpanRecord(
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        "",
        f"GET {secret} {name}",
        status_description=f"failed: {secret}",
        attributes={name: secret, "note": f"{name} {secret}", "list": (secret, name), "map": {name: secret}},
        events=(Event(f"to {secret}", 1, {name: secret, "exception.message": f"{name} {secret}"}),),
    )
    spans = b"".join(encode_span(each) for each in (record, *records))
    for level in Privacy:
        scrubber = Scrubber(PrivacyFilter(level))
        batch = Batch(spans, 1 + len(records), Resource({"service.name": "s", name: secret}), Scope())
        scrubbed, lost = scrubber.scrub(batch)
        assert lost == 0
        assert scrubbed.count == batch.count
        found = scrubbed.records
        check_records(found)
        assert [each.span_id for each in found] == [each.span_id for each in batch.records]
        if level < Privacy.OPERATOR:
            shown = format_tree([found[0]._replace(resource=scrubbed.resource)]).lower()
            for mark in _MARKS:
                assert mark.lower() not in shown.replace("\\n", " "), shown
        again, lost = scrubber.scrub(scrubbed)
        assert lost == 0
        assert again.count == scrubbed.count


def check_places(data: bytes) -> None:
    """Names of hosts: one spelling each, which is its own; what is remembered is found, and is bounded."""
    source = Source(data)
    places = Places()
    name = source.text(80)
    for place in (name, name + ".onion", f"[{name}]", f"xn--{name}.com"):
        once = spelling(place)
        assert isinstance(once, str)
        places.add(place)
    relay = relay_of_exit_name(name)
    assert relay is None or len(bytes.fromhex(relay)) == 20
    privacy = PrivacyFilter(Privacy.PSEUDONYMOUS)
    hashed = privacy.attributes({"server.address": name, "tor.relay.fingerprint": name, "x": name, name: name})
    assert all(str(value).startswith("hash:") for key, value in hashed.items() if key == "server.address")
    assert len(places) <= 3 * 4


def check_escapes(data: bytes) -> None:
    """Any text: on a terminal it moves nothing, in HTML it is no markup; what was harmless is as it was."""
    is_wide = data[:1] == b"\xff" and len(data) % 2 == 1
    said = data[1:].decode("utf-16-le", "surrogatepass") if is_wide else hostile_text(data)
    shown = escape(said)
    check_shown(shown)
    assert escape(shown) == shown
    if said.isprintable():
        assert shown == said
    element = tag("p", said, title=said, class_=said)
    assert element.count("<") == element.count(">") == 2
    assert unescape(text(said)) == unescape(unescape(text(shown))) or "&" in said
    number = int.from_bytes(data[:9], "big", signed=True)
    check_shown(format_duration(number))


def check_pictures(data: bytes) -> None:
    """Spans of OTLP/JSON, drawn: each on its line, without a control character in it."""
    try:
        records = decode_json(data)
    except DecodeError:
        return
    for drawn in (
        format_tree(records),
        render_text(records, width=60, timezone=UTC),
        render_text(records, width=100, details=True, glyphs=ASCII_GLYPHS, timezone=UTC),
    ):
        assert drawn == "" or drawn.endswith("\n")
        for line in drawn.split("\n"):
            check_shown(line)
