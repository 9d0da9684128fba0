"""Finds in a text of the program's own what tells where the user goes: names, addresses, relays, and secrets.

What is found is replaced by its keyed hash, the same that it has as an attribute of tor's spans. A text is looked
through as it stands, with its escapes undone (percent, backslash, character references, compatibility forms of
Unicode), and where a word may be base64, base32 or hex, also as what that stands for.

It cannot find what does not look like a place and was not seen as one: a path without its host, a person's name, a host
without a dot, a relay's nickname, an address written as one number, a text that was compressed or encrypted.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from base64 import b32decode
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from clew import limits
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.tor.privacy import PrivacyFilter

__all__ = ["Search"]

# --- secrets --------------------------------------------------------------------------------------------------------

# Without one of these, in lower case, a text has none of the secrets below.
_HINTS = (
    "socks_",
    "auth",
    "basic ",
    "bearer",
    "digest",
    "cookie",
    "passw",
    "secret",
    "token",
    "key",
    "rsa1024",
    "25519",
)
_HINTS_ALONE = ("basic ", "bearer", "digest", "authenticate", "key-----")  # where there is no ":" and no "="
_SECRET = re.compile(
    r"""
      -----BEGIN\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY.*?(?:-----END\ [A-Z0-9\ ]{0,40}-----|\Z)
    | \bSOCKS_(?:USERNAME|PASSWORD)=(?:"(?:[^"\\]|\\.)*"?|\S*)
    | \b(?:ED25519-V3|RSA1024|x25519):[A-Za-z0-9+/=]{8,}
    | \b(?:bearer|basic|digest|authenticate)\ +[A-Za-z0-9+/=._~"-]{8,}
    | \b(?:(?:set-)?cookie|(?:proxy-)?authorization)["']?\ *[:=][^\r\n]+
    | (?:password|passwd|secret|token|api_?key|private_?key)["']?\ *[:=]\ *["']?[^\s"'&,;#]+
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_USER_OF_URL = re.compile(r"(?<=://)[^\s/?#@\"'<>]{1,512}@")
_USER_AND_PASSWORD = re.compile(r"(?<![^\s\"'=,;(])[\w.+%~-]{1,254}:[^\s:@/\"']{1,254}@(?=[\w\[])")

# --- places ---------------------------------------------------------------------------------------------------------

# Without one of these a text has nothing that is found below, escaped or not.
_WORTH_A_LOOK = re.compile(r"[.:%@$\\&=]|[^\x00-\x7f]|[A-Za-z0-9+/_-]{12}|(?:[0-9A-F]{4} ){9}|/(?:home|Users)/|-----")
# The same for a word of it, without escapes. What is searched for below has no spaces in it.
_WORDS = re.compile(r"\S+")
_WORD_WORTH_A_LOOK = re.compile(r"[.:@$]|[A-Za-z0-9+/_-]{12}|/(?:home|Users)/")
_SPACED_FINGERPRINT = re.compile(r"\b(?:[0-9A-F]{4} ){9}[0-9A-F]{4}\b")

# What is known by its form, wherever it stands. All of it is bounded or begins where a word does, so that a long text
# costs no more than its length.
_CERTAIN = re.compile(
    r"""
      (?P<url>\b[a-z][a-z0-9+.-]{0,31}://[^\s"'<>`{|}\\^]+)
    | (?P<mail>(?<![\w.+%-])[\w.+%-]{1,254}@[\w-]+(?:\.[\w-]+)*)
    | (?P<home>(?-i:/(?:home|Users)/)[^\s/:;,"']+)
    | (?P<relay>\$?[0-9a-f]{40,}(?:[~=][0-9a-z]{1,19}\b)?)
    | (?P<onion>(?:(?<![\w.-])(?:[\w-]{1,63}\.){1,8})?[a-z2-7]{56}[a-z2-7]*(?:\.onion\b)?)
    | (?P<ipv4>(?<!\d)\d{1,3}(?:\.\d{1,3}){3}(?!\d))
    | (?P<mac>(?<![0-9a-f])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![0-9a-f]))
    | (?P<ipv6>(?<![0-9A-Za-z:.])\[?(?:[0-9a-f]{0,4}:){2,8}(?:[0-9.]{7,15}|[0-9a-f]{1,4})?(?:%\w{1,16})?\]?)
    """,
    re.IGNORECASE | re.VERBOSE,
)
# What may be something else, in what is left.
_UNCERTAIN = re.compile(r"(?P<name>(?<![\w-])[\w-]+(?:\.[\w-]+)+)|(?P<word>[A-Za-z0-9+/_-]{12,}={0,6})")
_PORT_AND_PATH = re.compile(r"\.?(:\d{1,5}\b)?(?:/[^\s\"'<>`{|}\\^]*)?")

_URL = re.compile(r"([^:]+)://([^/?#]*)(.*)", re.DOTALL)
_HASH = re.compile(r"hash:[0-9a-f]{16}")
# What OpenTelemetry's convention on url.full has redacted, and what is called so.
_SIGNATURE = re.compile(
    r"([?&;#](?:awsaccesskeyid|signature|sig|x-(?:goog|amz)-(?:signature|credential|security-token)"
    r"|[\w-]{0,32}(?:token|secret|password|passwd|api_?key)))=[^&;#]*",
    re.IGNORECASE,
)

# --- host names -----------------------------------------------------------------------------------------------------

# Names in a program's code have dots too, and often end in two letters. There only these make a host of a name.
_CERTAIN_ENDS = frozenset(("com", "net", "org", "onion", "exit", "i2p"))
# Generic ones that are seldom the end of anything else in a program; and those of countries (ISO 3166), but for .py,
# which is a file more often than Paraguay.
_LIKELY_ENDS = """
aero app arpa art asia bid biz blog club coop dev edu eth fun gov icu info loan men mil mobi moe museum ninja online
party press rocks shop site tech top travel vip wiki win wtf xxx xyz ac ad ae af ag ai al am ao aq ar as at au aw ax az
ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj
dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr
ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc
md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl
pm pn pr ps pt pw qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj
tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
_ENDS = _CERTAIN_ENDS.union(_LIKELY_ENDS.split())
_LABEL = re.compile(r"[^_-]+")
_PARTS = re.compile(r"[^._-]+")
_MOST_PARTS = 24  # of a name that is compared part by part; longer ones nobody needs

# --- escapes --------------------------------------------------------------------------------------------------------

_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_BACKSLASH = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4}))")
_REFERENCE = re.compile(r"&#(?:x([0-9A-Fa-f]{1,5})|([0-9]{1,6}));")
# Soft hyphens, zero-width characters; and the full stops that RFC 3490, section 3.1, takes for dots.
_INVISIBLE_AND_DOTS = {ord(c): "" for c in "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"}
_INVISIBLE_AND_DOTS |= {ord(c): "." for c in "\u3002\uff0e\uff61"}
_MOST_ESCAPES = 3  # one within the other
_URLSAFE = str.maketrans("-_", "+/")
_SEPARATORS = re.compile(r"[/_-]+")
_SHORTEST_WORD = 12
# A relay's identity in base64: 20 bytes, as a consensus writes it, or an Ed25519 key.
_IDENTITY = re.compile(r"(?=.*[0-9+/])(?=.*[A-Z])(?=.*[a-z])(?:.{27}|.{43})=?")


class Search:
    """Replaces what tells, as one level says.

    At PSEUDONYMOUS all of it; at OPERATOR what may be a client or a guard (addresses of machines, fingerprints, mail
    addresses), while names and URLs stay; at LAB nothing. Secrets (credentials, keys, the user in a URL) go everywhere.
    At ANONYMOUS as at PSEUDONYMOUS, for who wants to know whether there is anything.

    Thread: one at a time.
    """

    def __init__(self, privacy: PrivacyFilter) -> None:
        self._filter = privacy
        self._places = privacy.places
        self._names_go = privacy.level < Privacy.OPERATOR
        self._only_secrets = privacy.level is Privacy.LAB
        self._handlers: dict[str, Callable[[re.Match[str], bool, int], tuple[str, int] | None]] = {
            "url": self._url,
            "mail": self._mail,
            "home": self._home,
            "relay": self._relay,
            "onion": self._onion,
            "ipv4": self._ipv4,
            "ipv6": self._ipv6,
            "mac": self._mac,
            "name": self._name,
            "word": self._word,
        }
        # Programs say the same again and again. Forgotten when another place is known.
        self._seen: dict[tuple[str, bool], str] = {}
        self._seen_places = 0

    def clean(self, text: str, *, code: bool = False) -> str:
        """The text without what tells; the same object if there is nothing.

        Args:
            code: it is a name from a program, in which dots separate words: "order.id" is no host in Indonesia.
        """
        if self._only_secrets:
            return _without_secrets(text)
        if self._seen_places != self._places.additions or len(self._seen) >= limits.SEARCHED_TEXTS:
            self._seen_places = self._places.additions
            self._seen = {}
        clean = self._seen.get((text, code))
        if clean is None:
            clean = self._first_look(text, code)
            if len(text) <= limits.SEARCHED_TEXT_CHARACTERS:
                self._seen[text, code] = clean
        return text if clean == text else clean

    def url(self, url: str) -> str:
        """A URL that stays, without the user in it and without signatures."""
        match = _URL.fullmatch(url)
        if match is None:
            return _SIGNATURE.sub(r"\1=[secret]", url)
        return f"{match[1]}://{match[2].rpartition('@')[2]}" + _SIGNATURE.sub(r"\1=[secret]", match[3])

    # --- one text ---------------------------------------------------------------------------------------------------

    def _first_look(self, text: str, code: bool) -> str:
        if _WORTH_A_LOOK.search(text) is None:
            return _without_secrets(text)
        if len(text) > limits.SEARCHED_CHARACTERS:
            return self._hash(text)
        return self._clean(text, code, 0)

    def _clean(self, text: str, code: bool, depth: int) -> str:
        plain = _unescape(text)
        clean = _SPACED_FINGERPRINT.sub(self._spaced_fingerprint, _without_secrets(plain))
        words = _words_worth_a_look(clean)
        if words:
            known = self._replace(_CERTAIN, clean, words, code, depth)
            words = words if known is clean else _words_worth_a_look(known)
            clean = self._replace(_UNCERTAIN, known, words, code, depth)
        return text if clean == plain else clean

    def _replace(
        self, pattern: re.Pattern[str], text: str, words: list[tuple[int, int]], code: bool, depth: int
    ) -> str:
        parts: list[str] = []
        done = 0
        for begin, end in words:
            at = max(begin, done)
            while (match := pattern.search(text, at, end)) is not None:
                assert match.lastgroup is not None
                found = self._handlers[match.lastgroup](match, code, depth)
                if found is not None:
                    parts += (text[done : match.start()], found[0])
                    done = at = found[1]
                elif pattern is _CERTAIN:  # it is not what it looks like, but something in it may be
                    at = match.start() + 1
                else:
                    at = match.end()
        if not parts:
            return text
        parts.append(text[done:])
        return "".join(parts)

    def _tells(self, text: str, depth: int) -> bool:
        return self._clean(text, False, depth) != text

    def _hash(self, text: str) -> str:
        return self._filter.hash("", text)

    def _place(self, place: str, match: re.Match[str]) -> tuple[str, int]:
        """A place's hash, in place of it and of a port and a path behind it, which are as telling."""
        rest = _PORT_AND_PATH.match(match.string, match.end())
        assert rest is not None
        return self._filter.hash("server.address", place), rest.end()

    # --- what was found: its replacement and where that ends, or None if it may stay --------------------------------

    def _url(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int]:
        if not self._names_go:
            return self.url(match[0]), match.end()
        parts = _URL.fullmatch(match[0])
        assert parts is not None
        authority = parts[2].rpartition("@")[2]
        if _HASH.fullmatch(authority) is not None:  # it went through here before
            return f"{parts[1]}://{authority}", match.end()
        host = authority[: authority.index("]") + 1] if authority.startswith("[") and "]" in authority else None
        if host is None:
            host = authority.partition(":")[0]
        hidden = self._filter.hash("server.address", host) if host else self._hash(parts[3])
        return f"{parts[1]}://{hidden}", match.end()

    def _mail(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int]:
        return self._hash(match[0].lower()), match.end()

    def _home(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int]:
        folder, _, user = match[0].rpartition("/")
        return f"{folder}/{self._hash(user)}", match.end()

    def _relay(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int]:
        return self._filter.hash("tor.relay.fingerprint", match[0]), match.end()

    def _spaced_fingerprint(self, match: re.Match[str]) -> str:
        return self._filter.hash("tor.relay.fingerprint", match[0].replace(" ", ""))

    def _onion(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int] | None:
        return self._place(match[0], match) if self._names_go else None

    def _ipv4(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int]:
        return self._place(match[0], match)

    def _ipv6(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int] | None:
        address = match[0].strip("[]").partition("%")[0]
        try:
            IPv6Address(address)
        except ValueError:  # a time of day, a slice, ...
            return None
        return None if address == "::" else self._place(match[0], match)  # an operator of C++

    def _mac(self, match: re.Match[str], _code: bool, _depth: int) -> tuple[str, int]:
        return self._hash(match[0].lower().replace("-", ":")), match.end()

    def _name(self, match: re.Match[str], code: bool, depth: int) -> tuple[str, int] | None:
        name = match[0]
        if self._names_go and self._is_host(name.lower(), match, code):
            return self._place(name, match)
        # Such as the parts of a JSON Web Token.
        if any(self._is_telling_word(part, depth) for part in name.split(".") if len(part) >= _SHORTEST_WORD):
            return self._hash(name), match.end()
        return None

    def _word(self, match: re.Match[str], _code: bool, depth: int) -> tuple[str, int] | None:
        return (self._hash(match[0]), match.end()) if self._is_telling_word(match[0], depth) else None

    # --- names ------------------------------------------------------------------------------------------------------

    def _is_host(self, name: str, match: re.Match[str], code: bool) -> bool:
        labels = name.split(".")
        # Of "example.com_cache" and "example.org.txt" too.
        if not _CERTAIN_ENDS.isdisjoint(label[0] for text in labels[1:] if (label := _LABEL.search(text))):
            return True
        last = _LABEL.search(labels[-1])
        if last is not None and not code:
            end = last[0]
            if end in _ENDS or (end == "py" and labels[-2] in ("com", "edu", "gov", "mil", "coop")):
                return True
            if end != "py" and not end.isdigit():  # a file's line, and a version's part, are no port
                rest = _PORT_AND_PATH.match(match.string, match.end())
                if rest is not None and rest[1] is not None:
                    return True
        return labels[-1].startswith("xn--") or self._knows(name)

    def _knows(self, name: str) -> bool:
        """Whether a place that was seen stands in a name, between separators."""
        if not self._places:
            return False
        parts = list(_PARTS.finditer(name))
        if len(parts) > _MOST_PARTS:
            return True
        return any(
            name[begin.start() : end.end()] in self._places
            for index, begin in enumerate(parts)
            for end in parts[index + 1 :]
        )

    # --- encoded words ----------------------------------------------------------------------------------------------

    def _is_telling_word(self, word: str, depth: int) -> bool:
        if _IDENTITY.fullmatch(word) is not None:
            return True
        if depth == _MOST_ESCAPES:
            return False
        pieces = [word, *(p for p in _SEPARATORS.split(word) if _SHORTEST_WORD <= len(p) < len(word))]
        return any(self._tells(text, depth + 1) for piece in pieces for text in _decodings(piece))


def _decodings(word: str) -> Iterator[str]:
    """What a word stands for, if it is text in hex, base64 or base32."""
    bare = word.rstrip("=")
    for decode in (bytes.fromhex, _from_base64, _from_base32):
        try:
            text = decode(bare).decode()
        except ValueError:
            continue
        if text.isprintable() or not set(text).isdisjoint("\r\n\t"):
            yield text


def _from_base64(word: str) -> bytes:
    return binascii.a2b_base64(word.translate(_URLSAFE) + "=" * (-len(word) % 4), strict_mode=True)


def _from_base32(word: str) -> bytes:
    return b32decode(word.upper() + "=" * (-len(word) % 8))


# --- the text as a whole --------------------------------------------------------------------------------------------


def _words_worth_a_look(text: str) -> list[tuple[int, int]]:
    words = map(re.Match.span, _WORDS.finditer(text))
    return [(begin, end) for begin, end in words if _WORD_WORTH_A_LOOK.search(text, begin, end) is not None]


def _without_secrets(text: str) -> str:
    if "@" in text:
        text = _USER_AND_PASSWORD.sub("[secret]@", _USER_OF_URL.sub("", text))
    lower = text.lower()
    has_hint = any(hint in lower for hint in (_HINTS if ":" in text or "=" in text else _HINTS_ALONE))
    return _SECRET.sub("[secret]", text) if has_hint else text


def _unescape(text: str) -> str:
    """The text with all escapes undone that are known here, also those within each other."""
    for _ in range(_MOST_ESCAPES):
        plain = text
        if not plain.isascii():
            plain = unicodedata.normalize("NFKC", plain.translate(_INVISIBLE_AND_DOTS))
        if "%" in plain:
            plain = _PERCENT.sub(_from_percent, plain)
        if "\\" in plain:
            plain = _BACKSLASH.sub(_from_number, plain)
        if "&#" in plain:
            plain = _REFERENCE.sub(_from_number, plain)
        if plain == text:
            break
        text = plain
    return text


def _from_percent(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")


def _from_number(match: re.Match[str]) -> str:
    return chr(int(match[1], 16) if match[1] is not None else int(match[2], 16 if match.re is _BACKSLASH else 10))
