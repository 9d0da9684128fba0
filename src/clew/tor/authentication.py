"""How to be let in by a tor: what it offers, and which of it is used.

In this order: SAFECOOKIE, which proves that both sides know the cookie and shows it to nobody; COOKIE, only with a
file that the user named; the password; nothing at all, if tor asks for nothing.

COOKIE sends the content of a file to whoever listens. Any process on that port could name any file of 32 bytes ("almost
never safe to use", control-spec 3.21), hence the user has to name it. Every tor since 0.2.3.13 offers SAFECOOKIE.

Source: control-spec 3.5 (AUTHENTICATE), 3.21 (PROTOCOLINFO), 3.24 (AUTHCHALLENGE), 5.1.
"""

from __future__ import annotations

import grp
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clew.errors import ControlAuthenticationError, ControlProtocolError, ControlReplyError
from clew.tor.wire import Command, quote, split_arguments, unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    from clew.tor.wire import Reply

__all__ = ["ProtocolInfo", "authenticate", "parse_protocol_info"]

_COOKIE_BYTES = 32  # "All authentication cookies are 32 bytes long" (3.21); nothing else is one
_NONCE_BYTES = 32
_SERVER_KEY = b"Tor safe cookie authentication server-to-controller hash"  # 3.24
_CLIENT_KEY = b"Tor safe cookie authentication controller-to-server hash"  # 3.24


class ProtocolInfo(NamedTuple):
    """What tor says of itself before it lets anybody in (control-spec 3.21)."""

    methods: frozenset[str]  # NULL, HASHEDPASSWORD, COOKIE, SAFECOOKIE
    cookie_path: str | None
    tor_version: str


def parse_protocol_info(reply: Reply) -> ProtocolInfo:
    """The reply to PROTOCOLINFO; lines and words that are not known are ignored, as 3.21 demands.

    Raises:
        ControlProtocolError: it is no such reply.
    """
    if reply.code != 250 or reply.lines[0].text.split(" ")[0] != "PROTOCOLINFO":
        raise ControlProtocolError("the answer to PROTOCOLINFO is another")
    methods: frozenset[str] = frozenset()
    cookie_path = None
    tor_version = ""
    for line in reply.lines:
        keyword, *words = split_arguments(line.text)
        for word in words:
            key, _, value = word.partition("=")
            if (keyword, key) == ("AUTH", "METHODS"):
                methods = frozenset(value.split(","))
            elif (keyword, key) == ("AUTH", "COOKIEFILE"):
                cookie_path = unquote(value)
            elif (keyword, key) == ("VERSION", "Tor"):
                tor_version = unquote(value)
    return ProtocolInfo(methods, cookie_path, tor_version)


def authenticate(
    send: Callable[..., Reply],
    info: ProtocolInfo,
    *,
    password: str | Callable[[], str] | None,
    cookie_path: str | None,
) -> str:
    """Be let in by the first method that can be used.

    Args:
        send: sends a command with its arguments and returns the reply; raises ControlReplyError if tor refuses.
        info: what tor said of itself.
        password: tor's control password, or what asks for it; asked only if tor is to be given one.
        cookie_path: the cookie's file, instead of the one that tor names.

    Returns: the method: SAFECOOKIE, COOKIE, HASHEDPASSWORD or NULL.

    Raises:
        ControlAuthenticationError: with what to do about it.

    Thread: any; blocks until tor answered.
    """
    path = cookie_path or info.cookie_path
    no_cookie: ControlAuthenticationError | None = None
    if path is not None and "SAFECOOKIE" in info.methods:
        try:
            cookie = _read_cookie(path)
        except ControlAuthenticationError as error:
            no_cookie = error  # and on to the password: nothing was sent yet
        else:
            _prove_cookie(send, cookie, path)
            return "SAFECOOKIE"
    elif cookie_path is not None and "COOKIE" in info.methods:
        _authenticate(send, _read_cookie(cookie_path).hex(), f"the cookie in {cookie_path}")
        return "COOKIE"
    if "HASHEDPASSWORD" in info.methods and password is not None:
        text = password if isinstance(password, str) else password()
        _authenticate(send, quote(text), "the password")
        return "HASHEDPASSWORD"
    if "NULL" in info.methods:
        # "To prevent some cross-protocol attacks, the AUTHENTICATE command is still required" (3.5).
        send(Command.AUTHENTICATE)
        return "NULL"
    raise no_cookie or _no_method(info)


def _no_method(info: ProtocolInfo) -> ControlAuthenticationError:
    if "HASHEDPASSWORD" in info.methods:
        return ControlAuthenticationError("tor asks for its control password: give it")
    if "COOKIE" in info.methods and "SAFECOOKIE" not in info.methods:
        return ControlAuthenticationError(
            "tor offers the authentication method COOKIE only, which shows the cookie to whoever listens there: "
            "name the cookie's file yourself if that is your tor"
        )
    methods = ", ".join(sorted(info.methods)) or "none"
    return ControlAuthenticationError(
        f"tor offers no authentication method that clew knows ({methods}): "
        "set CookieAuthentication 1 or HashedControlPassword in its torrc"
    )


def _authenticate(send: Callable[..., Reply], secret: str, what: str) -> None:
    try:
        send(Command.AUTHENTICATE, secret)
    except ControlReplyError as error:
        if error.code != 515:
            raise
        raise ControlAuthenticationError(f"tor refused {what}: give the right one") from None


def _prove_cookie(send: Callable[..., Reply], cookie: bytes, path: str) -> None:
    """SAFECOOKIE: each side shows that it knows the cookie, tor first (control-spec 3.24)."""
    client_nonce = secrets.token_bytes(_NONCE_BYTES)
    reply = send(Command.AUTHCHALLENGE, "SAFECOOKIE", client_nonce.hex())
    fields = dict(word.partition("=")[::2] for word in reply.text.split(" "))
    try:
        server_hash = bytes.fromhex(fields["SERVERHASH"])
        server_nonce = bytes.fromhex(fields["SERVERNONCE"])
    except (KeyError, ValueError):
        raise ControlProtocolError("the answer to AUTHCHALLENGE has no hash or no nonce") from None
    message = cookie + client_nonce + server_nonce
    if not hmac.compare_digest(server_hash, hmac.digest(_SERVER_KEY, message, "sha256")):
        raise ControlAuthenticationError(
            f"what listens there does not know the cookie in {path}: "
            "it is another tor than the one that wrote this file, or no tor; give the path of its own cookie"
        )
    _authenticate(send, hmac.digest(_CLIENT_KEY, message, "sha256").hex(), f"the cookie in {path}")


def _read_cookie(path: str) -> bytes:
    try:
        # Whoever listens there named it: a pipe that nobody writes to must not keep us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            cookie = os.read(descriptor, _COOKIE_BYTES + 1)
        finally:
            os.close(descriptor)
    except PermissionError:
        raise ControlAuthenticationError(_describe_forbidden(path)) from None
    except FileNotFoundError:
        raise ControlAuthenticationError(
            f"tor's cookie {path} is not on this machine: give the path where it is, or tor's control password"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ControlAuthenticationError(
            f"tor's cookie {path} cannot be read ({reason}): give another path, or tor's control password"
        ) from None
    if len(cookie) != _COOKIE_BYTES:
        raise ControlAuthenticationError(f"{path} is not tor's cookie, which has 32 bytes: give its path")
    return cookie


def _describe_forbidden(path: str) -> str:
    """Debian's tor lets the group debian-tor read its cookie; which group it is here, the file may tell."""
    group = "debian-tor"
    readable = True
    try:
        status = Path(path).stat()
        readable = bool(status.st_mode & stat.S_IRGRP)
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        pass  # the folder is closed as well, or the group has no name: then the usual remedy is said
    if readable:
        return (
            f"no permission to read tor's cookie {path}: "
            f"join the group {group} (sudo adduser $USER {group}, then log in again), or use a control password"
        )
    return (
        f"no permission to read tor's cookie {path}, not even for its group: set CookieAuthFileGroupReadable 1 in "
        f"tor's torrc and join the group {group} (sudo adduser $USER {group}), or use a control password"
    )
