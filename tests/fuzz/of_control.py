"""Fuzzed: bytes of tor's control port, all that is read of them but events; addresses; the program's connections."""

from __future__ import annotations

import re
import socket
import weakref
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from clew import limits
from clew._hot.first_bytes import FirstBytes
from clew.errors import ConfigurationError, ControlAuthenticationError, ControlProtocolError, ControlReplyError
from clew.tor import authentication, header_hooks
from clew.tor.address import ControlAddress
from clew.tor.authentication import authenticate, parse_protocol_info
from clew.tor.client_ports import Address, ClientPorts, normal_host, parse_address
from clew.tor.connections import Connections
from clew.tor.consensus import parse_router_statuses
from clew.tor.destinations import Destinations
from clew.tor.event_types import StreamEvent
from clew.tor.wire import Command, ControlParser, Reply, encode_command, quote, split_arguments, unquote
from tests.fuzz.source import Source, cuts, hostile_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "check_addresses",
    "check_authentication",
    "check_commands",
    "check_connections",
    "check_consensus",
    "check_first_bytes",
    "check_http_client",
    "check_wire",
    "replies_of",
]


def replies_of(pieces: list[bytes], **caps: int) -> tuple[list[Reply], str]:
    """The replies, and why it could not go on; "" if it could."""
    parser = ControlParser(**caps)
    replies: list[Reply] = []
    for piece in pieces:
        parser.feed(piece)
        try:
            while (reply := parser.next_reply()) is not None:
                replies.append(reply)
        except ControlProtocolError as error:
            with pytest.raises(ControlProtocolError, match=f"^{re.escape(str(error))}$"):
                parser.next_reply()
            return replies, str(error)
    return replies, ""


def check_wire(data: bytes) -> None:
    """Replies in pieces are those at once; nothing of them is made up; caps hold."""
    for caps in ({}, {"max_line_bytes": 32, "max_reply_bytes": 128}):
        replies, error = replies_of([data], **caps)
        size = 0
        for reply in replies:
            assert 0 <= reply.code <= 999
            assert reply.lines
            texts = [part.encode("utf-8", "surrogateescape") for line in reply.lines for part in line if part]
            assert not any("\r\n" in line.text for line in reply.lines)
            length = sum(map(len, texts))
            assert length <= caps.get("max_reply_bytes", limits.CONTROL_REPLY_BYTES) + 4
            size += length
        assert size <= len(data)
        for pieces in cuts(data):
            assert replies_of(pieces, **caps)[0] == replies
            # What is wrong with a line is told when it is seen, which may be before its end.
            assert (replies_of(pieces, **caps)[1] == "") == (error == "")


def check_commands(data: bytes) -> None:
    """Arguments: one command comes of them, or none; what is quoted is understood as what it was."""
    text = hostile_text(data)
    with suppress(ConfigurationError):
        quoted = quote(text)
        assert unquote(quoted) == text or "\\" in text or not _encodes(text)
        try:
            line = encode_command(Command.AUTHENTICATE, quoted, "a")
        except ConfigurationError:
            assert not _encodes(text)
        else:
            assert line.endswith(b"\r\n")
            assert not any(bad in line[:-2] for bad in (b"\r", b"\n", b"\0"))
    with suppress(ConfigurationError):
        line = encode_command(Command.GETINFO, *text.split(" "))
        assert line.count(b"\r") == line.count(b"\n") == 1
    with suppress(ControlProtocolError):
        words = split_arguments(text)
        assert sum(map(len, words)) <= len(text)
        assert '"' in text or " ".join(words) == text
        for word in words:
            assert len(unquote(word).encode("utf-8", "surrogateescape")) <= len(word.encode("utf-8", "surrogateescape"))


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def check_consensus(data: bytes) -> None:
    """Router status entries."""
    try:
        relays = parse_router_statuses(hostile_text(data))
    except ControlProtocolError:
        return
    for relay in relays:
        assert len(bytes.fromhex(relay.fingerprint)) == 20
        assert relay.fingerprint == relay.fingerprint.upper()
        assert 0 <= relay.or_port <= 65535
        assert relay.bandwidth >= 0
    assert len(relays) == sum(line.split(" ")[0] == "r" for line in hostile_text(data).split("\n"))


_COOKIE = bytes(range(32))


def check_authentication(data: bytes) -> None:
    """A peer that answers whatever it likes: it is never told the cookie, nor a password without asking for one."""
    replies, _ = replies_of([data])
    if not replies:
        return
    try:
        info = parse_protocol_info(replies[0])
    except ControlProtocolError:
        return
    assert all(isinstance(method, str) for method in info.methods)
    answers = iter(replies[1:])
    sent: list[tuple[Command, tuple[str, ...]]] = []

    def send(command: Command, *arguments: str) -> Reply:
        sent.append((command, arguments))
        encode_command(command, *arguments)
        reply = next(answers, None)
        if reply is None or not reply.is_success:
            raise ControlReplyError(*(515, "no") if reply is None else (reply.code, reply.text))
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(authentication, "_read_cookie", lambda _: _COOKIE)
        with suppress(ControlAuthenticationError, ControlProtocolError, ControlReplyError):
            method = authenticate(send, info, password="swordfish", cookie_path=None)
            assert method in info.methods
            assert method in ("HASHEDPASSWORD", "NULL")  # nobody who does not know the cookie gets by SAFECOOKIE
    for command, arguments in sent:
        assert command in (Command.AUTHENTICATE, Command.AUTHCHALLENGE)
        assert _COOKIE.hex() not in "".join(arguments).lower()
        assert "HASHEDPASSWORD" in info.methods or '"swordfish"' not in arguments


# --- addresses -------------------------------------------------------------------------------------------------------

_LISTED = "abcdefgh.onion"


def check_addresses(data: bytes) -> None:
    """Whatever a person, a tor or a program's URL calls an address."""
    text = hostile_text(data)
    with suppress(ConfigurationError):
        address = ControlAddress.parse(text)
        assert address.path or 0 < address.port <= 65535
        assert address.path or ControlAddress.parse(str(address)) == address
    found = parse_address(text)
    if found is not None:
        assert 0 < found.port <= 65535
        assert normal_host(found.host) == found.host
        assert parse_address(f"[{found.host}]:{found.port}") == found
    ports = ClientPorts.parse([text, f'"{text}"'], text)
    ports = ports._replace(anywhere=ports.anywhere | {9050})
    assert all(0 < port <= 65535 for port in ports.numbers)
    assert not ports.lead_to_tor(Address("192.0.2.1", 9050), Address("192.0.2.2", 4000)) or "192.0.2" in text
    with suppress(ConfigurationError):
        ClientPorts.of(text)
    _check_destinations(text)


def _check_destinations(text: str) -> None:
    if Destinations([_LISTED]).allow_url(text):
        assert (urlsplit(text).hostname or "").removeprefix("[").removesuffix("]") == _LISTED
    try:
        listed = Destinations([text])
    except ConfigurationError:
        return
    assert listed
    for url in ("http://example.com/", "http://x.abcdefgh.onion/"):
        assert not listed.allow_url(url) or text.lower().partition(":")[0] == urlsplit(url).hostname


# --- connections of the program --------------------------------------------------------------------------------------


class _Socket:
    """As much of a socket as is asked for."""

    type = socket.SOCK_STREAM

    def __init__(self) -> None:
        self.number = 3

    def fileno(self) -> int:
        return self.number


_HOSTS = ("127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo", "localhost", "")
_PORTS = ClientPorts(frozenset([Address("127.0.0.1", 9050)]), frozenset([9051]))


def check_connections(data: bytes) -> None:
    """Connections and streams in any order: the ledger balances, and nobody gets a connection twice."""
    source = Source(data)
    connections = Connections(_PORTS)
    sockets = [_Socket() for _ in range(4)]
    given: list[object] = []
    time_ns = 1_000_000_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SOCKS_CONNECTIONS_WAITING", 5)
        while source:
            time_ns += source.number(4) * 2_000_000_000
            act = source.number(6)
            near = (source.pick(_HOSTS), 4000 + source.number(3), 0, 0)[: 2 + 2 * source.number(2)]
            if act < 3:
                far = (source.pick(_HOSTS), source.pick((9050, 9051, 80)))
                connections.add(time_ns, near, far, _reference(source.pick(sockets)), None)
            elif act < 5:
                extra = {"SESSION_GROUP": source.pick(("-1", "-2"))} if source.number(2) else {}
                place = source.text(12) or f"{near[0]}:{near[1]}"
                stream = StreamEvent(time_ns, "1", "NEW", "0", "x:80", source_addr=place, extra=extra)
                taken = connections.take(stream)
                assert taken is None or all(taken is not each for each in given)
                given += filter(None, [taken])
            else:
                source.pick(sockets).number = -1
            counts = connections.counts
            assert counts.made == counts.taken + counts.given_up + counts.evicted + counts.waiting, counts
            assert 0 <= counts.waiting <= 2 * 5
            assert min(counts) >= 0
    connections.clear()
    assert connections.counts.waiting == 0


def _reference(connection: _Socket) -> Any:
    return weakref.ref(connection)


@cache
def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    other.sendall(b"12345")
    assert client.recv(3) == b"123"
    return client, other


def check_first_bytes(data: bytes) -> None:
    """The native watcher, with descriptors, ports and tickets of any kind, in any order."""
    source = Source(data)
    client, other = _connected()
    port = client.getsockname()[1]
    watcher = FirstBytes(source.number(4))
    tickets: list[int] = [0]
    while source:
        act = source.number(4)
        if act == 0:
            number = source.pick((client.fileno(), other.fileno(), -1, 1 << 20, 0))
            handshakes = {source.number(8): source.number(8) for _ in range(source.number(4))}
            ticket = watcher.watch(number, source.pick((port, 0, 65535)), handshakes)
            if ticket is not None:
                tickets.append(ticket)
        elif act == 1:
            seen = watcher.take(source.pick(tickets) if source.number(2) else source.number(1 << 62))
            assert seen is None or seen > 0
        elif act == 2:
            assert watcher.noted >= 0
        else:
            watcher.stop()
            watcher.run()


def check_http_client(data: bytes) -> None:
    """A request of http.client before it is sent: a header is added to what has none, or nothing is."""
    buffer = data.split(b"\n")
    before = list(buffer)
    connection = SimpleNamespace(
        _buffer=buffer, _tunnel_host=None, sock=object(), auto_open=1, host="a.onion", port=80, connect=None
    )
    watcher = _Watcher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header_hooks.HEADERS, "watchers", (watcher,))
        header_hooks._add_to_http_client(connection)
    added = buffer[len(before) :]
    assert buffer[: len(before)] == before
    assert added in ([], [b"traceparent: 00-x"])
    if any(line.lower().startswith(b"traceparent:") for line in before[1:]):
        assert added == []
    if added:
        assert before[0].split(b" ")[1].startswith(b"/")


class _Watcher:
    def headers(self, host: str, port: int | None, connection: object) -> Mapping[str, str]:
        return {"traceparent": "00-x"}

    def count_error(self) -> None:
        """Nothing."""
