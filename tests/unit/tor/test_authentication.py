"""What a tor offers to be let in by, and which of it is used."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING

import pytest

from clew.errors import ConfigurationError, ControlAuthenticationError, ControlProtocolError, ControlReplyError
from clew.tor.authentication import ProtocolInfo, authenticate, parse_protocol_info
from clew.tor.wire import Command, ControlParser, Reply, ReplyLine, encode_command

if TYPE_CHECKING:
    from pathlib import Path

COOKIE = bytes(range(32))
SERVER_NONCE = bytes(range(100, 132))
DEBIAN = (
    b"250-PROTOCOLINFO 1\r\n"
    b'250-AUTH METHODS=COOKIE,SAFECOOKIE,HASHEDPASSWORD COOKIEFILE="/run/tor/a b\\\\c\\303\\251"\r\n'
    b'250-VERSION Tor="0.4.9.11"\r\n'
    b"250 OK\r\n"
)
FUTURE = (
    b"250-PROTOCOLINFO 2 more\r\n"
    b"250-FUTURE METHODS=X Tor=9\r\n"
    b"250-AUTH METHODS=NULL,SMELL NOSE=1\r\n"
    b'250-VERSION Tor="0.5" Git="x y"\r\n'
    b"250 OK\r\n"
)


def reply(raw: bytes) -> Reply:
    """The reply that some lines are."""
    parser = ControlParser()
    parser.feed(raw)
    found = parser.next_reply()
    assert found is not None
    return found


class FakeTor:
    """Answers like a tor whose cookie and password are known, and keeps what it was sent."""

    def __init__(self, cookie: bytes = COOKIE, password: str = "open sesame", code: int = 515) -> None:
        self.cookie = cookie
        self.password = password
        self.code = code
        self.sent: list[bytes] = []
        self.accepted = b"AUTHENTICATE"

    def __call__(self, command: Command, *arguments: str) -> Reply:
        line = encode_command(command, *arguments).removesuffix(b"\r\n")
        self.sent.append(line)
        if command is Command.AUTHCHALLENGE:
            assert arguments[0] == "SAFECOOKIE"
            message = self.cookie + bytes.fromhex(arguments[1]) + SERVER_NONCE
            server = _mac(b"Tor safe cookie authentication server-to-controller hash", message)
            self.accepted = (
                b"AUTHENTICATE " + _mac(b"Tor safe cookie authentication controller-to-server hash", message).encode()
            )
            return Reply(
                250, (ReplyLine(f"AUTHCHALLENGE SERVERHASH={server.upper()} SERVERNONCE={SERVER_NONCE.hex().upper()}"),)
            )
        known = [
            self.accepted,
            b'AUTHENTICATE "%s"' % self.password.encode(),
            b"AUTHENTICATE " + self.cookie.hex().encode(),
        ]
        if line not in known:
            raise ControlReplyError(self.code, "Authentication failed")
        return Reply(250, (ReplyLine("OK"),))


def _mac(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def info(*methods: str, cookie_path: str | None = None) -> ProtocolInfo:
    """What a tor says that offers these methods."""
    return ProtocolInfo(frozenset(methods), cookie_path, "0.4.9.11")


@pytest.fixture
def cookie(tmp_path: Path) -> str:
    """The path of tor's cookie."""
    path = tmp_path / "control_auth_cookie"
    path.write_bytes(COOKIE)
    return str(path)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            DEBIAN,
            ProtocolInfo(frozenset({"COOKIE", "SAFECOOKIE", "HASHEDPASSWORD"}), "/run/tor/a b\\cé", "0.4.9.11"),
        ),
        (
            FUTURE,
            ProtocolInfo(frozenset({"NULL", "SMELL"}), None, "0.5"),
        ),
        (b"250-PROTOCOLINFO 1\r\n250 OK\r\n", ProtocolInfo(frozenset(), None, "")),
    ],
    ids=["Debian's", "a future one", "an empty one"],
)
def test_protocol_info(raw: bytes, expected: ProtocolInfo) -> None:
    """Lines and words that are not known are ignored, escapes in the path are read."""
    assert parse_protocol_info(reply(raw)) == expected


@pytest.mark.parametrize(
    "raw", [b"250 OK\r\n", b"220 mail.example.com ESMTP\r\n", b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS="\r\n250 OK\r\n']
)
def test_no_protocol_info(raw: bytes) -> None:
    """Another reply is not taken for it."""
    with pytest.raises(ControlProtocolError):
        parse_protocol_info(reply(raw))


def test_safe_cookie_first(cookie: str) -> None:
    """SAFECOOKIE goes before all others: the cookie itself is never sent, nobody is asked for a password."""
    tor = FakeTor()
    offered = info("COOKIE", "SAFECOOKIE", "HASHEDPASSWORD", "NULL", cookie_path=cookie)
    assert authenticate(tor, offered, password=lambda: pytest.fail("asked"), cookie_path=None) == "SAFECOOKIE"
    assert [line.split()[0] for line in tor.sent] == [b"AUTHCHALLENGE", b"AUTHENTICATE"]
    assert COOKIE.hex().encode() not in b"".join(tor.sent).lower()


def test_new_nonce_each_time(cookie: str) -> None:
    """No challenge is used twice."""
    tor = FakeTor()
    for _ in range(2):
        authenticate(tor, info("SAFECOOKIE", cookie_path=cookie), password=None, cookie_path=None)
    assert len(set(tor.sent)) == 4


def test_path_of_the_user_goes_first(cookie: str) -> None:
    """A path that the user gave is read instead of the one that tor names."""
    authenticate(FakeTor(), info("SAFECOOKIE", cookie_path="/nowhere"), password=None, cookie_path=cookie)


def test_stranger_with_another_cookie(cookie: str) -> None:
    """Who cannot prove that it knows the cookie gets no answer that could help it, nor the password."""
    tor = FakeTor(cookie=bytes(32))
    offered = info("SAFECOOKIE", "HASHEDPASSWORD", cookie_path=cookie)
    with pytest.raises(ControlAuthenticationError, match=f"does not know the cookie in {cookie}"):
        authenticate(tor, offered, password="open sesame", cookie_path=None)
    assert len(tor.sent) == 1


@pytest.mark.parametrize(
    "text", ["AUTHCHALLENGE", "AUTHCHALLENGE SERVERHASH=00", "AUTHCHALLENGE SERVERHASH=xx SERVERNONCE=00"]
)
def test_malformed_challenge(cookie: str, text: str) -> None:
    """An answer to the challenge without hash and nonce is an error of the other side."""
    with pytest.raises(ControlProtocolError, match="no hash or no nonce"):
        authenticate(
            lambda *_: Reply(250, (ReplyLine(text),)),
            info("SAFECOOKIE", cookie_path=cookie),
            password=None,
            cookie_path=None,
        )


def test_cookie_only_from_a_named_file(cookie: str) -> None:
    """COOKIE would send the content of any file that a stranger names: it has to be named by the user."""
    tor = FakeTor()
    with pytest.raises(ControlAuthenticationError, match="name the cookie's file yourself"):
        authenticate(tor, info("COOKIE", cookie_path=cookie), password=None, cookie_path=None)
    assert tor.sent == []
    offered = info("COOKIE", cookie_path="/etc/passwd")
    assert authenticate(tor, offered, password=None, cookie_path=cookie) == "COOKIE"
    assert tor.sent == [b"AUTHENTICATE " + COOKIE.hex().encode()]


def test_password_when_the_cookie_cannot_be_read(tmp_path: Path) -> None:
    """Where there is no cookie to read, a password that was given is used."""
    tor = FakeTor()
    offered = info("SAFECOOKIE", "HASHEDPASSWORD", cookie_path=str(tmp_path / "none"))
    assert authenticate(tor, offered, password=lambda: "open sesame", cookie_path=None) == "HASHEDPASSWORD"
    assert tor.sent == [b'AUTHENTICATE "open sesame"']


def test_null() -> None:
    """A tor that asks for nothing is sent a bare AUTHENTICATE; a password is not shown to it."""
    tor = FakeTor()
    assert authenticate(tor, info("NULL"), password="open sesame", cookie_path=None) == "NULL"
    assert tor.sent == [b"AUTHENTICATE"]


def test_wrong_password() -> None:
    """A wrong password: said so, without the password."""
    with pytest.raises(ControlAuthenticationError, match="tor refused the password: give the right one") as caught:
        authenticate(FakeTor(), info("HASHEDPASSWORD"), password="hunter2", cookie_path=None)
    assert "hunter2" not in str(caught.value)


def test_password_with_a_line_end() -> None:
    """A password that would end the command early is not sent."""
    tor = FakeTor()
    with pytest.raises(ConfigurationError, match="must not contain CR, LF or NUL"):
        authenticate(tor, info("HASHEDPASSWORD"), password="x\r\nSIGNAL HALT", cookie_path=None)
    assert tor.sent == []


def test_another_refusal() -> None:
    """A refusal that is not about the secret is tor's own."""
    with pytest.raises(ControlReplyError, match="551"):
        authenticate(FakeTor(code=551), info("HASHEDPASSWORD"), password="x", cookie_path=None)


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        (("HASHEDPASSWORD",), "tor asks for its control password: give it"),
        (("SMELL", "TASTE"), r"no authentication method that clew knows \(SMELL, TASTE\): set CookieAuthentication 1"),
        ((), r"no authentication method that clew knows \(none\)"),
    ],
)
def test_no_method_in_common(methods: tuple[str, ...], sentence: str) -> None:
    """What is missing, and what to do about it."""
    with pytest.raises(ControlAuthenticationError, match=sentence):
        authenticate(FakeTor(), info(*methods), password=None, cookie_path=None)


def test_no_cookie(tmp_path: Path) -> None:
    """A cookie that is not on this machine, as with a tor in a container."""
    path = tmp_path / "none"
    with pytest.raises(ControlAuthenticationError, match=f"tor's cookie {path} is not on this machine: give the path"):
        authenticate(FakeTor(), info("SAFECOOKIE", cookie_path=str(path)), password=None, cookie_path=None)


@pytest.mark.parametrize("content", [b"", COOKIE[:31], COOKIE + b"\n", bytes(100_000)])
def test_not_a_cookie(tmp_path: Path, content: bytes) -> None:
    """A file that has not 32 bytes is no cookie, and is not used (control-spec 3.21)."""
    path = tmp_path / "cookie"
    path.write_bytes(content)
    tor = FakeTor()
    with pytest.raises(ControlAuthenticationError, match=f"{path} is not tor's cookie, which has 32 bytes"):
        authenticate(tor, info("SAFECOOKIE", cookie_path=str(path)), password=None, cookie_path=None)
    assert tor.sent == []


def test_a_pipe_is_no_cookie(tmp_path: Path) -> None:
    """Whoever listens may name any file: one that would keep its reader waiting for ever does not."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ControlAuthenticationError, match="is not tor's cookie"):
        authenticate(FakeTor(), info("SAFECOOKIE", cookie_path=str(path)), password=None, cookie_path=None)


@pytest.mark.parametrize("path", ["/", "/dev/null/x", "/\0"])
def test_unreadable_cookie(path: str) -> None:
    """Whatever else the system says of the path is passed on."""
    with pytest.raises(ControlAuthenticationError, match="cannot be read"):
        authenticate(FakeTor(), info("SAFECOOKIE", cookie_path=path), password=None, cookie_path=None)
