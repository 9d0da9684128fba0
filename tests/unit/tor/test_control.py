"""The control client against a scripted peer, since no real tor lies. What a real tor does: tests/integration."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import warnings
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from clew.errors import (
    ConfigurationError,
    ControlConnectionError,
    ControlProtocolError,
    ControlReplyError,
    TorError,
)
from clew.tor.control import ControlClient
from clew.tor.events import CircuitEvent, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELLO = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
OK = b"250 OK\r\n"
FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"


class Peer:
    """What listens on a port of loopback, and does with one connection what a test says."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.received: list[str] = []  # command lines
        self.gone = threading.Event()  # the client has disconnected
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._connection = socket.socket()
        self._pending = b""

    def serve(self, handle: Callable[[Peer], None]) -> str:
        """Handle the next connection on a thread; returns the address."""

        def run() -> None:
            try:
                self._connection.close()
                self._connection, _ = self._listener.accept()
                self._connection.settimeout(20)
                handle(self)
                while self._connection.recv(65536):
                    pass
            except OSError:
                pass  # the test is over
            except BaseException as error:  # the fixture raises it
                self.error = error
            finally:
                self.gone.set()
                self._connection.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return self.address

    def let_in(self) -> None:
        """What a tor without authentication does first."""
        self.answer(HELLO)
        self.answer(OK)

    def answer(self, *replies: bytes) -> str:
        """Take a command, and send these bytes."""
        while b"\r\n" not in self._pending:
            data = self._connection.recv(65536)
            if not data:
                raise OSError
            self._pending += data
        line, self._pending = self._pending.split(b"\r\n", 1)
        self.received.append(line.decode())
        for reply in replies:
            self.send(reply)
        return self.received[-1]

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._connection.sendall(data)

    def hang_up(self) -> None:
        """End the connection."""
        self._connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Wait for the thread, and raise what went wrong on it."""
        self._listener.close()
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive()
        self._connection.close()
        if self.error is not None:
            raise self.error


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A peer, and no thread of a client left after the test."""
    peer = Peer()
    yield peer
    peer.end()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("clew-")]
    assert left == []


def connect(peer: Peer, handle: Callable[[Peer], None], *, timeout: float = 20) -> ControlClient:
    """A client that the peer has let in."""

    def run(peer: Peer) -> None:
        peer.let_in()
        handle(peer)

    return ControlClient.connect(peer.serve(run), timeout=timeout)


def answers(*replies: bytes) -> Callable[[Peer], None]:
    """A handler that answers one command after the other."""

    def run(peer: Peer) -> None:
        for reply in replies:
            peer.answer(reply)

    return run


# --- connecting -----------------------------------------------------------------------------------------------------


def test_connect(peer: Peer) -> None:
    """A client knows tor's version and where it is; it sends what it has to and nothing else."""
    with connect(peer, answers()) as client:
        assert client.tor_version == "0.4.9.11"
        assert client.authentication == "NULL"
        assert client.address == peer.address
        assert client.is_connected
    assert not client.is_connected
    assert peer.gone.wait(10)
    assert peer.received == ["PROTOCOLINFO 1", "AUTHENTICATE"]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n",
            "is an HTTP server, not tor's control port: give the address of tor's control port",
        ),
        (
            b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<html>",
            "is a SOCKS port, not a control port: give the address of tor's control port",
        ),
        (b"220 mail.example.com ESMTP\r\n", "does not answer as tor's control port does"),
        (b"250 OK\r\n", "does not answer as tor's control port does"),
        (b"510 Unrecognized command\r\n", "does not answer as tor's control port does"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer as tor's control port does"),
        (b"\x05\xff", "does not answer as tor's control port does"),
    ],
    ids=["http", "socks", "smtp", "ok", "510", "ssh", "socks5"],
)
def test_stranger(peer: Peer, raw: bytes, sentence: str) -> None:
    """What listens and is no control port is told apart by what it answers."""
    with pytest.raises(ControlProtocolError, match=sentence) as caught:
        ControlClient.connect(peer.serve(answers(raw)))
    assert peer.address in str(caught.value)


def test_banner(peer: Peer) -> None:
    """A server that speaks first is no tor."""

    def run(peer: Peer) -> None:
        peer.send(b"220 mail.example.com ESMTP\r\n" * 2)

    with pytest.raises(ControlProtocolError, match="does not answer as tor's control port does"):
        ControlClient.connect(peer.serve(run))


def test_silent_stranger(peer: Peer) -> None:
    """A server that says nothing is given up after the timeout."""
    with pytest.raises(ControlProtocolError, match="does not answer as tor's control port does"):
        ControlClient.connect(peer.serve(lambda peer: None), timeout=0.05)


def test_closed_without_an_answer(peer: Peer) -> None:
    """A server that closes may be a tor that is just ending: no connection, and not another protocol."""

    def run(peer: Peer) -> None:
        peer.answer()
        peer.hang_up()

    with pytest.raises(ControlConnectionError, match=f"{peer.address} closed the connection without an answer: give"):
        ControlClient.connect(peer.serve(run))


def test_closed_while_authenticating(peer: Peer) -> None:
    """A tor that goes away in the middle is said to have gone away."""

    def run(peer: Peer) -> None:
        peer.answer(HELLO)
        peer.answer()
        peer.hang_up()

    with pytest.raises(ControlConnectionError, match=f"tor at {peer.address} closed the control connection"):
        ControlClient.connect(peer.serve(run))


# --- commands -------------------------------------------------------------------------------------------------------


def test_get_info(peer: Peer) -> None:
    """Values of one line, of several, of none, and with an equals sign in them."""
    raw = b"250-version=0.4.9.11 (git=abc)\r\n250+ns/all=\r\nr a\r\n..\r\n.\r\n250-circuit-status=\r\n250 OK\r\n"
    with connect(peer, answers(raw)) as client:
        assert client.get_info("version", "ns/all", "circuit-status") == {
            "version": "0.4.9.11 (git=abc)",
            "ns/all": "r a\n.",
            "circuit-status": "",
        }
    assert peer.received[2:] == ["GETINFO version ns/all circuit-status"]


def test_get_info_without_the_key(peer: Peer) -> None:
    """An answer to another question is not taken."""
    with (
        connect(peer, answers(b"250-config-file=x\r\n250 OK\r\n")) as client,
        pytest.raises(ControlProtocolError, match="GETINFO version does not contain it"),
    ):
        client.get_info("version")


def test_get_conf(peer: Peer) -> None:
    """Options with one value, with several, and with their default."""
    raw = b"250-Log=notice stdout\r\n250-Log=info file /x\r\n250-SocksPort=9050\r\n250 Nickname\r\n"
    with connect(peer, answers(raw)) as client:
        assert client.get_conf("log", "SocksPort", "Nickname") == {
            "Log": ("notice stdout", "info file /x"),
            "SocksPort": ("9050",),
            "Nickname": (),
        }
    assert peer.received[2:] == ["GETCONF log SocksPort Nickname"]


def test_relays(peer: Peer) -> None:
    """The relays of the consensus; none if tor has no consensus yet."""
    entry = b"r relay1 AAoQQoQ4kd5nb93CKYJa/b9eqDQ K7Oc4KSV0SPjDkqCn1kqVSDhfYs 2038-01-01 00:00:00 127.0.0.1 5001 0\r\n"
    full = b"250+ns/all=\r\n" + entry + b"s Exit Fast\r\nw Bandwidth=7\r\n.\r\n250 OK\r\n"
    with connect(peer, answers(b"250-ns/all=\r\n250 OK\r\n", full)) as client:
        assert client.relays() == []
        (relay,) = client.relays()
        assert (relay.nickname, relay.or_port, relay.bandwidth) == ("relay1", 5001, 7)
        assert relay.flags == {"Exit", "Fast"}


def test_commands(peer: Peer) -> None:
    """Each command as it goes over the wire."""
    with connect(peer, answers(*[b"250 EXTENDED 12\r\n"] * 3, *[OK] * 6)) as client:
        assert client.extend_circuit() == "12"
        assert client.extend_circuit(path=[FINGERPRINT, f"${FINGERPRINT}", f"{FINGERPRINT}~relay1", "relay2"]) == "12"
        assert client.extend_circuit("7fX", [FINGERPRINT], purpose="controller") == "12"
        client.close_circuit("12")
        client.close_circuit("12", if_unused=True)
        client.set_events(iter(["CIRC", "CIRC_MINOR"]))
        client.set_events([])
        client.signal("NEWNYM")
        client.take_ownership()
    assert peer.received[2:] == [
        "EXTENDCIRCUIT 0",
        f"EXTENDCIRCUIT 0 ${FINGERPRINT},${FINGERPRINT},${FINGERPRINT}~relay1,relay2",
        f"EXTENDCIRCUIT 7fX ${FINGERPRINT} purpose=controller",
        "CLOSECIRCUIT 12",
        "CLOSECIRCUIT 12 IfUnused",
        "SETEVENTS CIRC CIRC_MINOR",
        "SETEVENTS",
        "SIGNAL NEWNYM",
        "TAKEOWNERSHIP",
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_info("version\r\nSIGNAL HALT"),
        lambda client: client.get_info("a b"),
        lambda client: client.get_conf("a=b"),
        lambda client: client.set_events(["CIRC\nSIGNAL"]),
        lambda client: client.extend_circuit("0 purpose=controller"),
        lambda client: client.extend_circuit("1" * 17),
        lambda client: client.extend_circuit(path=["a,b"]),
        lambda client: client.extend_circuit(path=["relay1 purpose=x"]),
        lambda client: client.extend_circuit(path=["x" * 20]),
        lambda client: client.extend_circuit(path=[""]),
        lambda client: client.extend_circuit(purpose="a b"),
        lambda client: client.close_circuit("1 IfUnused"),
        lambda client: client.signal("NEWNYM\r\n"),
    ],
)
def test_refused_argument(peer: Peer, call: Callable[[ControlClient], object]) -> None:
    """What is not one argument of its kind is refused before anything is sent."""
    with connect(peer, answers(OK)) as client:
        with pytest.raises(ConfigurationError):
            call(client)
        client.signal("NEWNYM")
    assert peer.received[2:] == ["SIGNAL NEWNYM"]


def test_refused_command(peer: Peer) -> None:
    """A refusal carries tor's code and words; the next command works."""
    with connect(peer, answers(b'552 Unknown circuit "99"\r\n', OK)) as client:
        with pytest.raises(ControlReplyError, match='tor answered 552 Unknown circuit "99"') as caught:
            client.close_circuit("99")
        assert (caught.value.code, caught.value.text) == (552, 'Unknown circuit "99"')
        client.close_circuit("1")


@pytest.mark.parametrize("raw", [b"250 OK\r\n", b"250 EXTENDED\r\n", b"250 EXTENDED a,b\r\n"])
def test_extended_without_an_id(peer: Peer, raw: bytes) -> None:
    """A new circuit without an id is an error of the other side."""
    with connect(peer, answers(raw)) as client, pytest.raises(ControlProtocolError, match="no circuit's id"):
        client.extend_circuit()


def test_late_reply(peer: Peer) -> None:
    """A reply that comes after its command was given up is not taken for the next command's."""
    given_up = threading.Event()

    def run(peer: Peer) -> None:
        peer.answer()
        assert given_up.wait(10)
        peer.send(b"250-version=late\r\n250 OK\r\n")
        peer.answer(b"250-version=right\r\n250 OK\r\n")

    with connect(peer, run, timeout=0.2) as client:
        with pytest.raises(ControlConnectionError, match=r"did not answer GETINFO within 0\.2 s: try again"):
            client.get_info("version")
        given_up.set()
        client._timeout = 20
        assert client.get_info("version") == {"version": "right"}


def test_many_threads(peer: Peer) -> None:
    """Commands of many threads at once each get their own reply."""

    def run(peer: Peer) -> None:
        for _ in range(200):
            peer.send(b"650 CIRC 1 BUILT\r\n")
            key = peer.answer().split(" ")[1].encode()
            peer.send(b"250-%s=<%s>\r\n250 OK\r\n" % (key, key))

    wrong: list[object] = []

    def ask(client: ControlClient, name: str) -> None:
        for number in range(20):
            key = f"{name}/{number}"
            answer = client.get_info(key)
            if answer != {key: f"<{key}>"}:
                wrong.append(answer)

    with connect(peer, run) as client:
        threads = [threading.Thread(target=ask, args=(client, f"t{number}")) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# --- events ---------------------------------------------------------------------------------------------------------


def test_events(peer: Peer) -> None:
    """Events come to the listeners in order, with the time of their arrival, beside the replies."""
    before = time.time_ns()
    seen: list[Event] = []

    def run(peer: Peer) -> None:
        peer.answer(b"650 CIRC 1 LAUNCHED\r\n250 OK\r\n650 CIRC 1 EXTENDED a\r\n650 CIRC", b" 1 BUILT a,b\r\n")
        peer.answer(OK)

    with connect(peer, run) as client:
        client.add_listener(seen.append)
        client.set_events(["CIRC"])
        client.signal("HEARTBEAT")
    after = time.time_ns()
    assert [(event.circuit_id, event.status) for event in seen if isinstance(event, CircuitEvent)] == [
        ("1", "LAUNCHED"),
        ("1", "EXTENDED"),
        ("1", "BUILT"),
    ]
    times = [event.time_ns for event in seen]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= after
    assert client.stats()[:2] == (3, 3)


def test_removed_listener(peer: Peer) -> None:
    """A listener that was removed hears nothing."""
    seen: list[Event] = []
    with connect(peer, answers(b"650 CIRC 1 LAUNCHED\r\n250 OK\r\n")) as client:
        client.add_listener(seen.append)
        client.remove_listener(seen.append)
        client.set_events(["CIRC"])
    assert seen == []


def test_commands_of_a_listener(peer: Peer) -> None:
    """A listener may send commands, and wait for their replies."""
    done = threading.Event()
    answered: list[dict[str, str]] = []

    def listen(event: Event) -> None:
        answered.append(client.get_info("version"))
        done.set()

    with connect(peer, answers(b"650 CIRC 1 LAUNCHED\r\n250 OK\r\n", b"250-version=1\r\n250 OK\r\n")) as client:
        client.add_listener(listen)
        client.set_events(["CIRC"])
        assert done.wait(10)
    assert answered == [{"version": "1"}]


# --- the end --------------------------------------------------------------------------------------------------------


def test_disconnect(peer: Peer) -> None:
    """A tor that goes away: waiting commands end, listeners hear it after the last event, later commands say why."""
    seen: list[object] = []
    told = threading.Event()

    def run(peer: Peer) -> None:
        peer.answer(b"650 CIRC 1 LAUNCHED\r\n250 OK\r\n")
        peer.answer()
        peer.hang_up()

    def tell(reason: TorError) -> None:
        seen.append(str(reason))
        told.set()

    sentence = f"tor at {peer.address} closed the control connection: it ended or was restarted, connect again"
    with connect(peer, run) as client:
        client.add_listener(lambda event: seen.append(event.raw_type))
        client.on_disconnect(tell)
        client.set_events(["CIRC"])
        for _ in range(2):
            with pytest.raises(ControlConnectionError) as caught:
                client.get_info("version")
            assert str(caught.value) == sentence
        assert told.wait(10)
        assert not client.is_connected
    assert seen == ["CIRC", sentence]


def test_end_in_the_middle_of_a_reply(peer: Peer) -> None:
    """Half a reply is none."""

    def run(peer: Peer) -> None:
        peer.answer(b"250-version=1\r\n250 O")
        peer.hang_up()

    with connect(peer, run) as client, pytest.raises(ControlConnectionError, match="closed the control connection"):
        client.get_info("version")


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"nonsense\r\n", r"is not the control protocol \(a reply begins with three digits"),
        (b"250 OK\r\n250 OK\r\n", r"is not the control protocol \(a reply that no command asked for\)"),
        (b"250-a\r\n650 CIRC 1 BUILT\r\n", r"is not the control protocol \(an asynchronous reply"),
    ],
)
def test_broken_protocol(peer: Peer, raw: bytes, sentence: str) -> None:
    """A peer that falls out of step is left, and everybody told why."""
    reasons: list[TorError] = []
    with connect(peer, answers(raw)) as client:
        client.on_disconnect(reasons.append)
        with contextlib.suppress(ControlProtocolError):  # the bytes behind a good reply may come later, or with it
            client.signal("NEWNYM")
        assert peer.gone.wait(10)
        with pytest.raises(ControlProtocolError, match=sentence):
            client.signal("NEWNYM")
    assert [type(reason) for reason in reasons] == [ControlProtocolError]


def test_close_is_no_disconnect(peer: Peer) -> None:
    """A client that was closed here says so; its listeners are told nothing; closing it twice does nothing."""
    reasons: list[TorError] = []
    with connect(peer, answers()) as client:
        client.on_disconnect(reasons.append)
    client.close()
    client.on_disconnect(reasons.append)
    assert reasons == []
    with pytest.raises(ControlConnectionError, match="was closed here: connect again"):
        client.get_info("version")


def test_close_with_a_command_waiting(peer: Peer) -> None:
    """A command that waits while its client is closed ends."""
    waits = threading.Event()
    errors: list[BaseException] = []

    def run(peer: Peer) -> None:
        peer.answer()
        waits.set()

    def ask() -> None:
        try:
            client.get_info("version")
        except ControlConnectionError as error:
            errors.append(error)

    with connect(peer, run) as client:
        thread = threading.Thread(target=ask)
        thread.start()
        assert waits.wait(10)
    thread.join(10)
    assert [str(error) for error in errors] == [
        f"the connection to tor at {peer.address} was closed here: connect again"
    ]


def test_close_by_a_listener(peer: Peer) -> None:
    """A listener may close the client that calls it."""
    closed = threading.Event()

    def listen(event: Event) -> None:
        client.close()
        closed.set()

    client = connect(peer, answers(b"250 OK\r\n650 CIRC 1 LAUNCHED\r\n"))
    client.add_listener(listen)
    client.set_events(["CIRC"])
    assert closed.wait(10)
    client.close()


def test_close_gives_listeners_what_arrived(peer: Peer) -> None:
    """Events that arrived before the end are dispatched before `close` returns."""
    seen: list[Event] = []
    go = threading.Event()

    def listen(event: Event) -> None:
        assert go.wait(10)
        seen.append(event)

    with connect(peer, answers(b"650 CIRC 1 LAUNCHED\r\n" * 500 + OK)) as client:
        client.add_listener(listen)
        client.set_events(["CIRC"])
        go.set()
    assert len(seen) == 500


def test_close_gives_a_hanging_listener_up(peer: Peer) -> None:
    """A listener that does not return does not hold `close` for longer than its timeout; the rest is counted."""
    entered = threading.Event()
    leave = threading.Event()

    def listen(event: Event) -> None:
        entered.set()
        assert leave.wait(10)

    client = connect(peer, answers(b"650 CIRC 1 LAUNCHED\r\n" * 5 + OK))
    client.add_listener(listen)
    client.set_events(["CIRC"])
    assert entered.wait(10)
    client.close(timeout=0)
    assert client.stats().dropped == 4
    leave.set()
    client.close()


def test_opened_and_closed_many_times(peer: Peer) -> None:
    """Neither threads nor files are left."""
    files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(30):
        with connect(peer, answers(b"250-version=1\r\n250 OK\r\n")) as client:
            client.get_info("version")
        assert peer.gone.wait(10)
        peer.gone.clear()
        assert peer._thread is not None
        peer._thread.join()
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 1


def test_a_silent_tor_is_asked_whether_it_is_there(peer: Peer) -> None:
    """As often as it is silent for the time of the heartbeat; while it answers, the connection stays."""
    answered = threading.Event()

    def handle(peer: Peer) -> None:
        peer.let_in()
        for _ in range(3):
            assert peer.answer(b"250-version=0.4.9.11\r\n", OK) == "GETINFO version"
        assert peer.answer(b"552 no\r\n") == "GETINFO version"  # an answer, too
        answered.set()

    with ControlClient.connect(peer.serve(handle), timeout=20, heartbeat=0.001) as client:
        assert answered.wait(20)
        assert client.is_connected


def test_a_tor_that_does_not_answer_is_given_up(peer: Peer) -> None:
    """The connection is lost then, with that reason, though nobody closed it."""

    def handle(peer: Peer) -> None:
        peer.let_in()
        peer.answer()

    lost: Queue[TorError] = Queue()
    with ControlClient.connect(peer.serve(handle), timeout=0.2, heartbeat=0.001) as client:
        client.on_disconnect(lost.put)
        assert str(lost.get(timeout=20)) == (
            f"tor at {peer.address} has not answered for 0.2 s: it hangs, or the connection to it is dead"
        )
        assert not client.is_connected
        with pytest.raises(ControlConnectionError, match="has not answered"):
            client.signal("NEWNYM")


def test_a_heartbeat_without_a_pause(peer: Peer) -> None:
    """It is refused before anything is connected."""
    with pytest.raises(ConfigurationError, match="heartbeat"):
        ControlClient.connect(peer.address, heartbeat=0)


def test_fork(peer: Peer) -> None:
    """A child can neither use nor end its parent's connection."""
    with connect(peer, answers(b"250-version=1\r\n250 OK\r\n")) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: this process has threads
            child = os.fork()
        if child == 0:
            try:
                client.get_info("version")
            except ControlConnectionError as error:
                client.close()
                os._exit(7 if "belongs to the parent process" in str(error) else 1)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert client.get_info("version") == {"version": "1"}
