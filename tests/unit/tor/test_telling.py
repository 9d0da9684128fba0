"""What is found in a text and what is not, at each level."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import limits
from clew.tor.privacy import Privacy, PrivacyFilter
from clew.tor.telling import Search

ONION = "maz6zleovxiz5w3zivr22laf62vown56xsn3v3whqn5nr26xdaa6tcyd"
FINGERPRINT = "E4DAB83899C6B5BA3928E91098407E35E446A58A"
HASH = re.compile(r"hash:[0-9a-f]{16}")


def clean(text: str, level: Privacy = Privacy.PSEUDONYMOUS, *, code: bool = False) -> str:
    """The text with hashes as "#"."""
    privacy = PrivacyFilter(level)
    privacy.places.add("example.kitchen")
    return HASH.sub("#", Search(privacy).clean(text, code=code))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"to {ONION}", "to #"),
        (f"to www.{ONION.upper()}.onion:80/x now", "to # now"),
        (f"_{ONION}_", "_#_"),
        ("expyuzz4wqqyqhjn.onion", "#"),
        ("GET https://user:pw@example.com:8080/path?q=1 now", "GET https://# now"),
        ("ws://[2001:db8::1]:80/x", "ws://#"),
        ("file:///srv/x", "file://#"),
        ("a/example.com/secret path", "a/# path"),
        ("no route to example.com:443", "no route to #"),
        ("host.rareending:443", "#"),
        ("EXAMPLE.DE", "#"),
        ("example.com.har", "#"),
        ("example.org_cache", "#"),
        ("xn--bcher-kva.xn--p1ai", "#"),
        ("fetch_example.kitchen-cache", "#"),
        ("www.Example.Kitchen", "#"),
        ("at 10.1.2.3:80", "at #"),
        ("x1.2.3.4y", "x#y"),
        ("[2001:db8::1]:443/a", "#"),
        ("fe80::1%eth0", "#"),
        ("aa:bb:cc:dd:ee:ff", "#"),
        ("AA-BB-CC-DD-EE-FF", "#"),
        (f"${FINGERPRINT}~guard2 is slow", "# is slow"),
        (f"a_{FINGERPRINT}.txt", "a_#.txt"),
        (f"12:34:{FINGERPRINT}", "12:34:#"),
        (" ".join(FINGERPRINT[i : i + 4] for i in range(0, 40, 4)), "#"),
        (FINGERPRINT + FINGERPRINT[:24], "#"),
        ("b4gYx0Lm9Qe1ZtRk7VwPs2Nc5Ha", "#"),
        ("to alice.b+c@example.com", "to #"),
        ("open /home/alice/notes", "open /home/#/notes"),
    ],
)
def test_what_tells_is_replaced(text: str, expected: str) -> None:
    """At level 1 places, relays, machines and users are replaced, with ports and paths behind them."""
    assert clean(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cart",
        "fetching page 12 of 20, took 1.5 s",
        "12:34:56",
        "2026-01-01T12:34:56.789Z",
        "main.py:42",
        "clew.tor.mapper",
        "os.path.join",
        "requests.exceptions.ConnectionError",
        "v1.2.3",
        "d83a1f0e-1c2b-4d5e-8f90-a1b2c3d4e5f6",
        "0af7651916cd43dd8448eb211c80319c",
        "std::vector<int>",
        "a-rather-long-name-of-a-task-in-kebab-case",
        "some_long_name_of_a_function_in_snake_case",
        "50% of $100 & more",
        "größer als vorher",
        "100%25",
        "hash:0123456789abcdef",
    ],
)
def test_what_does_not_tell_stays(text: str) -> None:
    """It is the same object, so that who asked can see that nothing was found."""
    search = Search(PrivacyFilter())
    assert search.clean(text) is text
    assert search.clean(again := "".join(list(text))) is again


@pytest.mark.parametrize("text", ["example.com", f"{ONION}.onion", "https://example.com/x", "example.kitchen/x"])
@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
        lambda text: "".join(f"%25{byte:02X}" for byte in text.encode()),
        lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
        lambda text: "".join(f"\\u{byte:04x}" for byte in text.encode()),
        lambda text: "".join(f"&#{byte};" for byte in text.encode()),
        lambda text: "".join(f"&#x{byte:x};" for byte in text.encode()),
        lambda text: "".join(chr(byte + 0xFEE0) for byte in text.encode()),
        lambda text: text.replace(".", "\u3002"),
        "\u200b".join,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
        lambda text: base64.b32encode(text.encode()).decode().lower(),
        lambda text: text.encode().hex(),
        lambda text: "x." + base64.b64encode(text.encode()).decode().rstrip("=") + ".y",
    ],
)
def test_disguises_do_not_help(text: str, disguise: object) -> None:
    """Escapes and encodings are seen through."""
    assert callable(disguise)
    assert "#" in clean(disguise(text))


def test_names_in_code_have_dots() -> None:
    """In the name of an attribute two letters at the end make no host; a certain ending does, and what is known."""
    for name in ("user.id", "order.no", "a.b.de", "http.url.x", "main.py"):
        assert clean(name, code=True) == name
    for name in ("visits.example.com", "example.kitchen", f"x.{ONION}", "latency.10.0.0.1"):
        assert "#" in clean(name, code=True)


def test_the_hash_is_that_of_the_place() -> None:
    """What is found in a text has the hash that it has as an attribute."""
    privacy = PrivacyFilter()
    search = Search(privacy)
    place = privacy.hash("server.address", "example.com")
    assert search.clean("at Example.com:443/x") == f"at {place}"
    assert search.clean("at https://me@EXAMPLE.com:80/") == f"at https://{place}"
    assert search.clean(f"${FINGERPRINT}~karl") == privacy.hash("tor.relay.fingerprint", FINGERPRINT)
    assert search.clean(f"{ONION}.onion") == privacy.hash("tor.hs.address", ONION)


SECRETS = [
    ("https://user:hunter2@example.com/x", "https://example.com/x"),
    ("ask user:hunter2@example.com", "ask [secret]@example.com"),
    ('SOCKS_USERNAME="a b" SOCKS_PASSWORD=hunter2 x', "[secret] [secret] x"),
    ("Authorization: Basic hunter2hunter2", "[secret]"),
    ("Bearer hunter2hunter2", "[secret]"),
    ("Set-Cookie: id=hunter2; Path=/\nnext", "[secret]\nnext"),
    ('{"password": "hunter2", "a": 1}', '{"[secret]", "a": 1}'),
    ("my_api_key=hunter2&b=1", "my_[secret]&b=1"),
    ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY----- x", "[secret] x"),
    ("ADD_ONION ED25519-V3:hunter2hunter2 Port=80", "ADD_ONION [secret] Port=80"),
    ("descriptor:x25519:HUNTER2HUNTER2", "descriptor:[secret]"),
    ("AUTHENTICATE 68756e74657232", "[secret]"),
]


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_secrets_go_at_every_level(text: str, expected: str) -> None:
    """Credentials, cookies and keys are at no level; in the lab nothing else is touched."""
    assert clean(text, Privacy.LAB) == expected
    for level in Privacy:
        assert "hunter2" not in clean(text, level).lower()


def test_the_operator_sees_where_but_not_who() -> None:
    """At level 2 names and URLs stay, without signatures; machines' addresses, relays and users do not."""
    level = Privacy.OPERATOR
    for text in ("at example.com:80/x", f"{ONION}.onion", "https://example.com/x?q=1#y", "example.kitchen"):
        assert clean(text, level) == text
    assert clean("https://a:b@example.com/x?q=1&Signature=s&token=t#y", level) == (
        "https://example.com/x?q=1&Signature=[secret]&[secret]#y"
    )
    assert clean(f"10.0.0.1 ${FINGERPRINT} a@b.c /home/alice", level) == "# # # /home/#"


def test_the_lab_sees_everything() -> None:
    """At level 3 only secrets go."""
    text = f"10.0.0.1 ${FINGERPRINT} a@b.c /home/alice https://example.com/x {ONION}"
    assert clean(text, Privacy.LAB) == text


def test_a_url_that_stays() -> None:
    """What is no URL stays as it is, but for signatures."""
    search = Search(PrivacyFilter(Privacy.OPERATOR))
    assert search.url("https://u:p@h:1/x?sig=1&b=2") == "https://h:1/x?sig=[secret]&b=2"
    assert search.url("/x?b=2&X-Amz-Signature=1") == "/x?b=2&X-Amz-Signature=[secret]"
    assert search.url("example.com") == "example.com"


def test_what_went_through_before_goes_through_unchanged() -> None:
    """A hash stays what it is, as the host of a URL too; what else such a URL tells does not stay."""
    search = Search(PrivacyFilter(Privacy.PSEUDONYMOUS))
    once = search.clean("GET https://example.com/x failed, see other.example and 192.0.2.1")
    assert search.clean(once) == once
    assert search.clean("https://hash:0123456789abcdef/x?q") == "https://hash:0123456789abcdef"


def test_a_long_text_is_hashed() -> None:
    """What would take long to search is not searched."""
    assert clean("a. " * limits.SEARCHED_CHARACTERS) == "#"


def test_a_place_that_becomes_known_is_found() -> None:
    """What was found before is forgotten when another place is known."""
    privacy = PrivacyFilter()
    search = Search(privacy)
    assert search.clean("at example.kitchen") == "at example.kitchen"
    privacy.places.add("Example.Kitchen")
    assert HASH.sub("#", search.clean("at example.kitchen")) == "at #"
    assert HASH.sub("#", search.clean(".".join("abcdefghijklmnopqrstuvwxyz"))) == "#"  # too many parts to look at


def test_what_is_remembered_is_bounded() -> None:
    """Texts that never come again do not pile up."""
    search = Search(PrivacyFilter())
    for number in range(limits.SEARCHED_TEXTS + 10):
        search.clean(f"page.{number}")
    assert len(search._seen) <= limits.SEARCHED_TEXTS


@pytest.mark.parametrize("level", Privacy)
@given(text=st.text(alphabet=st.sampled_from("ab.:/@%$\\&#x;=-_0159AF \n\u3002\ud800é"), max_size=120))
def test_any_text_is_survived(level: Privacy, text: str) -> None:
    """Nothing raises, whatever stands in a text."""
    assert isinstance(Search(PrivacyFilter(level)).clean(text), str)
