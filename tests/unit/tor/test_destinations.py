"""Whom a trace may be told to: whole names, and nobody else."""

from __future__ import annotations

from contextlib import suppress

import httpx
import pytest
import urllib3
import yarl
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import ConfigurationError
from clew.tor.destinations import Destinations

ONION = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        (f"http://{ONION}/", True),
        (f"http://{ONION.upper()}/a?b", True),
        (f"https://{ONION}:444/", True),
        (f"http://user:secret@{ONION}/", True),
        ("http://api.example:8080/", True),
        ("http://api.example/", False),
        ("https://api.example:443/", False),
        ("http://plain.example/", True),
        ("http://tls.example/", False),
        ("https://tls.example/", True),
        ("wss://tls.example/", True),
        ("http://[2001:db8::1]/", True),
        ("http://[2001:DB8::1]:9/", True),
        (f"http://www.{ONION}/", False),
        (f"http://{ONION}.example/", False),
        (f"http://{ONION}./", False),
        (f"http://{ONION}@evil.example/", False),
        (f"http://evil.example/{ONION}", False),
        (f"http://evil.example\\@{ONION}/", False),
        (f"http://{ONION}\\@evil.example/", False),
        (f"http://{ONION}:99999/", False),
        ("http://[::1", False),
        (ONION, False),
        ("", False),
    ],
)
def test_a_host_is_on_the_list_or_not(url: str, allowed: bool) -> None:
    """The whole name, in any case; with a port only on that port."""
    listed = [ONION, "api.example:8080", "plain.example:80", "TLS.example:443", "[2001:db8:0::1]"]
    assert Destinations(listed).allow_url(url) is allowed


def test_a_port_that_is_not_known_is_not_on_the_list() -> None:
    """Unless the host is listed without one."""
    listed = Destinations(["a.onion", "b.onion:80"])
    assert listed.allow("a.onion", None)
    assert not listed.allow("b.onion", None)
    assert not listed.allow(None, 80)
    assert not Destinations().allow("a.onion", 80)


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        ([".onion"], "takes no patterns"),
        (["*.example.onion"], "takes no patterns"),
        (["*"], "takes no patterns"),
        ([f"http://{ONION}/"], f"write '{ONION}'"),
        (["user@a.onion"], "not URLs"),
        (["http://[a.onion]/"], "not URLs"),
        ([""], "lists hosts"),
        ([None], "lists hosts"),
        (["a.onion:0"], "wrong address or port"),
        (["a.onion:65536"], "wrong address or port"),
        (["a.onion:"], "is no host"),
        (["a..onion"], "is no host"),
        (["::1"], "is no host"),
        (["[::g]"], "is no host"),
        (["[::1:2:3:4:5:6:7:8:9]"], "wrong address or port"),
        (["bücher.example"], "is no host"),
        (["a b"], "is no host"),
        (["a.onion\n"], "is no host"),
        ("a.onion", r"write \['a.onion'\]"),
    ],
)
def test_what_is_no_host_is_refused(hosts: list[str], sentence: str) -> None:
    """Patterns, URLs and mistakes, each with a sentence that says what to do."""
    with pytest.raises(ConfigurationError, match=sentence):
        Destinations(hosts)


@given(st.text(max_size=80), st.integers(0, 70_000) | st.none())
def test_nothing_but_the_listed_host_is_allowed(host: str, port: int | None) -> None:
    """No other text is taken for it."""
    listed = Destinations(["a.onion", "b.onion:80"])
    expected = host.lower().strip("[]") == "a.onion" or (host.lower() == "b.onion" and port == 80)
    assert listed.allow(host, port) is expected


PIECES = [
    "a.onion",
    "b.example",
    "A",
    ".",
    "@",
    ":",
    "80",
    "/",
    "\\",
    "//",
    "#",
    "?",
    "%2e",
    "[",
    "]",
    "\t",
    "\n",
    " ",
    ";",
]


def hosts_of(url: str) -> set[str | None]:
    """Where HTTP clients go with this URL; those that refuse it go nowhere."""
    hosts: set[str | None] = set()
    with suppress(urllib3.exceptions.LocationParseError):
        hosts.add(urllib3.util.parse_url(url).host)
    with suppress(httpx.InvalidURL):
        hosts.add(httpx.URL(url).host)
    with suppress(ValueError):
        hosts.add(yarl.URL(url).host)
    return hosts


@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_client_would_go_elsewhere_with_an_url_that_is_allowed(pieces: list[str]) -> None:
    """Clients differ in what they make of strange URLs; one that any of them takes to another host is not allowed."""
    url = "http://" + "".join(pieces)
    if Destinations(["a.onion"]).allow_url(url):
        assert hosts_of(url) <= {"a.onion"}
