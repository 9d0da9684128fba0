"""The table of OpenTelemetry's names: whole, and found by whatever name."""

from __future__ import annotations

import pytest

from clew.tor.attributes import RULES, Content, Rule
from clew.tor.conventions import CONVENTIONS, row_of, row_of_tor
from clew.tor.privacy import ATTRIBUTES, Privacy


def test_each_name_has_one_row() -> None:
    """No name stands in the table twice, and only the last part of a name may be left open."""
    names = [row.name for row in CONVENTIONS]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "*" in name.removesuffix(".*") or name != name.lower()]


def test_an_open_name_is_dropped_where_names_tell() -> None:
    """At level 0 only names that are known go out: the rest of a name may be somebody's."""
    open_rows = [row for row in (*CONVENTIONS, *ATTRIBUTES) if row.name.endswith(".*")]
    assert open_rows
    assert {RULES[row.content][Privacy.ANONYMOUS] for row in open_rows} == {Rule.DROP}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("server.address", Content.DESTINATION),
        ("Server.Address", Content.DESTINATION),
        ("url.whatever.comes", Content.DESTINATION),
        ("url.scheme", Content.CODE),
        ("http.request.header.accept", Content.TEXT),
        ("http.request.header.cookie", Content.SECRET),
        ("network.peer.address", Content.CLIENT),
        ("error.type", Content.CODE),
        ("tor.circuit.purpose", Content.KEYWORD),
        ("tor.circuit.extra.new", Content.UNDECLARED),
        ("tor.of.tomorrow", Content.UNDECLARED),
        ("order", Content.APPLICATION),
        ("db.password", Content.SECRET),
        ("API_KEY", Content.SECRET),
        ("refresh-token", Content.SECRET),
        ("gen_ai.token.type", Content.APPLICATION),
        ("gen_ai.usage.input_tokens", Content.APPLICATION),
        ("monkey", Content.APPLICATION),
        ("", Content.APPLICATION),
        (".", Content.APPLICATION),
    ],
)
def test_what_a_name_tells(name: str, content: Content) -> None:
    """The exact name counts first, then whether it is a secret's, then the longest beginning."""
    assert row_of(name).content is content


def test_on_spans_of_tors_only_tors_names_count() -> None:
    """What an application may say of itself, tor may not."""
    assert row_of_tor("error.type").content is Content.KEYWORD
    assert row_of_tor("order").content is Content.UNDECLARED
    assert row_of_tor("url.scheme").content is Content.UNDECLARED
