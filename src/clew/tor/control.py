"""A connection to tor's control port: the socket, its threads, the commands.

Three threads, so that a time is never late. The first receives and notes the time; it runs in the native core and does
not wait for the interpreter, however busy that is. The second splits bytes into replies and hands them on, to the
command that waits or to the queue of events. The third (dispatch.py) parses the events and calls the listeners, in the
order in which tor sent them. A fourth, where it is wanted, asks a silent tor now and then whether it is there.

Source: control-spec; each command names its section.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from clew._hot.receiver import Receiver
from clew.errors import ConfigurationError, ControlConnectionError, ControlProtocolError, ControlReplyError, TorError
from clew.limits import CLOSE_TIMEOUT_SECONDS, CONTROL_RECEIVED_BYTES, CONTROL_TIMEOUT_SECONDS
from clew.tor.address import ControlAddress
from clew.tor.authentication import authenticate, parse_protocol_info
from clew.tor.consensus import RelayStatus, parse_router_statuses
from clew.tor.dispatch import ControlStats, EventDispatcher
from clew.tor.greenlets import have_replaced
from clew.tor.wire import Command, ControlParser, Reply, encode_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from clew.tor.events import Event

__all__ = ["ControlClient"]

_CIRCUIT_ID = re.compile(r"[0-9A-Za-z]{1,16}")  # CircuitID (control-spec 2.4)
_SERVER_SPEC = re.compile(r"\$?[0-9A-Fa-f]{40}(?:[~=][0-9A-Za-z]{1,19})?|[0-9A-Za-z]{1,19}")  # ServerSpec (2.4)
_WORD = re.compile(r"[0-9A-Za-z_-]+")  # names of options, events and signals, purposes


class _Waiting:
    """A command whose reply has not come."""

    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.reply: Reply | None = None  # stays None if the connection is lost


class ControlClient:
    """A connection to tor's control port, made by `connect`. A context manager.

    Thread: every method may be called from any thread, also by a listener. After a fork the connection is the
        parent's: the child can only `close` its copy.
    """

    def __init__(self, connection: socket.socket, address: ControlAddress, timeout: float) -> None:
        self._socket = connection
        self._address = address
        self._timeout = timeout
        self._pid = os.getpid()
        self._tor_version = ""
        self._authentication = ""
        self._lock = threading.Lock()  # guards sending, the order of what waits, and these two:
        self._closing = False
        self._lost: TorError | None = None  # why
        self._given_up: TorError | None = None  # why we ended it
        self._waiting: deque[_Waiting] = deque()  # tor answers in order (control-spec 1)
        self._first_bytes = b""  # of what listens there
        self._heard = 0  # pieces of bytes, so far
        self._over = threading.Event()
        self._events = EventDispatcher()
        self._received = Receiver(connection.fileno(), CONTROL_RECEIVED_BYTES)
        self._threads: list[threading.Thread] = []
        self._start(self._received.run, "clew-tor-receive")
        self._start(self._read, "clew-tor-read")

    def _start(self, run: Callable[[], None], name: str) -> None:
        self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        self._threads[-1].start()

    # --- opening and closing ----------------------------------------------------------------------------------------

    @classmethod
    def connect(
        cls,
        address: str,
        *,
        password: str | Callable[[], str] | None = None,
        cookie_path: str | None = None,
        timeout: float = CONTROL_TIMEOUT_SECONDS,
        heartbeat: float | None = None,
    ) -> Self:
        """Connect to a tor and be let in.

        Args:
            address: "9051", "127.0.0.1:9051", "[::1]:9051", "unix:/run/tor/control" or "/run/tor/control".
            password: tor's control password, or a function that asks for it; called only if a password is needed.
            cookie_path: tor's cookie, if it is not where tor says (in a container, say).
            timeout: seconds to wait for the connection, and for the reply to each command from then on.
            heartbeat: seconds without a word from tor after which it is asked whether it is there; without a reply the
                connection is lost. None: a tor that hangs, or a connection that is dead without having ended (through
                a tunnel, say), is noticed at the next command only.

        Raises:
            ConfigurationError: the address is none, or the heartbeat has no pause, or gevent has replaced threads.
            ControlConnectionError: nobody listens there, or not in time.
            ControlProtocolError: what listens there is not tor's control port.
            ControlAuthenticationError: tor does not let us in.

        Thread: any; blocks.
        """
        if heartbeat is not None and heartbeat <= 0:
            raise ConfigurationError(f"a heartbeat is a number of seconds above 0, not {heartbeat:g}")
        if have_replaced("socket", "threading"):
            raise ConfigurationError(
                "gevent has replaced threads or sockets, and a connection to tor needs real ones: trace this tor from "
                "another process (clew tor attach)"
            )
        where = ControlAddress.parse(address)
        client = cls(where.open(timeout), where, timeout)
        try:
            client._introduce(password, cookie_path)
            if heartbeat is not None:
                client._start(lambda: client._watch(heartbeat), "clew-tor-heartbeat")
        except BaseException:
            client.close()
            raise
        return client

    def _introduce(self, password: str | Callable[[], str] | None, cookie_path: str | None) -> None:
        try:
            info = parse_protocol_info(self._send(Command.PROTOCOLINFO, "1"))
        except (ControlConnectionError, ControlProtocolError, ControlReplyError):
            raise self._describe_stranger() from None
        self._tor_version = info.tor_version
        self._authentication = authenticate(self._send, info, password=password, cookie_path=cookie_path)

    def _describe_stranger(self) -> TorError:
        """What may be at an address that does not answer PROTOCOLINFO."""
        where = self._address
        advice = "give the address of tor's control port (ControlPort or ControlSocket in its torrc)"
        if b"Tor is not an HTTP Proxy" in self._first_bytes:  # what its SOCKS port says to commands that begin with P
            return ControlProtocolError(f"{where} is a SOCKS port, not a control port: {advice}")
        if self._first_bytes.startswith(b"HTTP/"):
            return ControlProtocolError(f"{where} is an HTTP server, not tor's control port: {advice}")
        if self._lost is not None and not self._first_bytes:
            return ControlConnectionError(f"{where} closed the connection without an answer: {advice}")
        return ControlProtocolError(f"what listens on {where} does not answer as tor's control port does: {advice}")

    def close(self, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Disconnect, after the listeners were given what had arrived. A second call does nothing.

        Args:
            timeout: seconds that the listeners have for it; what is left then is dropped and counted. A listener that
                never returns keeps its thread.

        Thread: any; blocks. Called by a listener, it does not wait: the dispatch thread ends after that listener.
        """
        if os.getpid() != self._pid:
            self._socket.close()  # only the copy: to shut the connection down would end the parent's
            return
        with self._lock:
            self._closing = True
        self._shutdown()
        for thread in self._threads:
            thread.join()
        self._events.join(timeout)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the control port is."""
        return str(self._address)

    @property
    def tor_version(self) -> str:
        """tor's version: "0.4.9.11"."""
        return self._tor_version

    @property
    def authentication(self) -> str:
        """How tor let us in: SAFECOOKIE, COOKIE, HASHEDPASSWORD or NULL (without anything)."""
        return self._authentication

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there, as far as this process knows."""
        return self._lost is None and not self._closing

    def stats(self) -> ControlStats:
        """How many events came, and what became of them."""
        return self._events.stats()

    # --- listeners --------------------------------------------------------------------------------------------------

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Have a function called with each event from now on, in tor's order. `set_events` chooses what tor sends.

        Thread: it is called on the client's dispatch thread, one event at a time; while it blocks, events queue up.
            What it raises is counted, logged the first time, and kept away from the other listeners.
        """
        self._events.add_listener(listener)

    def add_raw_listener(self, listener: Callable[[Reply, int], None]) -> None:
        """Have a function called with each event as tor sent it, and its arrival (wall-clock nanoseconds since 1970).

        It holds what clients told tor, credentials of SOCKS included (see `events.without_credentials`).

        Thread: as for `add_listener`; it is called before those.
        """
        self._events.add_raw_listener(listener)

    def remove_listener(self, listener: Callable[[Event], None]) -> None:
        """Have a function no longer called; one that is not known is ignored."""
        self._events.remove_listener(listener)

    def on_disconnect(self, listener: Callable[[TorError], None]) -> None:
        """Have a function called once, with the reason, when the connection is lost; not when `close` ends it.

        Thread: the dispatch thread, after the last event; the caller's, at once, if that is over.
        """
        self._events.on_disconnect(listener)

    # --- commands ---------------------------------------------------------------------------------------------------

    def get_info(self, *keys: str) -> dict[str, str]:
        """What tor knows (control-spec 3.9).

        Args:
            keys: "version", "circuit-status", "ns/all", ...

        Returns: a value for each key; lines of a longer one are joined with "\n".
        Raises: ControlReplyError: tor does not know a key, or has no value for it.
        Thread: any; blocks, as all commands do, until tor answered or the client's timeout has passed.
        """
        reply = self._send(Command.GETINFO, *keys)
        values: dict[str, str] = {}
        for line in reply.lines:
            key, equals, value = line.text.partition("=")
            if equals:
                values[key] = value if line.data is None else line.data
        for key in keys:
            if key not in values:
                raise ControlProtocolError(f"tor's answer to GETINFO {key} does not contain it")
        return values

    def relays(self) -> list[RelayStatus]:
        """The relays of the consensus that tor has; none before it has one.

        Thread: any; blocks; parsing takes a tenth of a second for the 8,000 relays of the public network.
        """
        return parse_router_statuses(self.get_info("ns/all")["ns/all"])

    def get_conf(self, *names: str) -> dict[str, tuple[str, ...]]:
        """Values of tor's options (control-spec 3.3).

        Returns: for each option, under tor's own spelling of its name, its values: several if it was set several
            times, none if it has its default.
        Raises: ControlReplyError: there is no such option.
        """
        for name in names:
            _check(_WORD, name, "an option of tor")
        values: dict[str, tuple[str, ...]] = {}
        for line in self._send(Command.GETCONF, *names).lines:
            name, equals, value = line.text.partition("=")
            values[name] = values.get(name, ()) + ((value,) if equals else ())
        return values

    def set_events(self, names: Iterable[str]) -> None:
        """Choose the events that tor sends on this connection, and no others (control-spec 3.4).

        Raises: ControlReplyError: this tor does not know one of them; nothing has changed then.
        """
        names = list(names)
        for name in names:
            _check(_WORD, name, "an event's name")
        self._send(Command.SETEVENTS, *names)

    def extend_circuit(self, circuit_id: str = "0", path: Iterable[str] = (), *, purpose: str | None = None) -> str:
        """Build a circuit, or make one longer (control-spec 3.10). Returns before it is built.

        Args:
            circuit_id: "0" for a new one.
            path: relays by fingerprint (with or without "$") or nickname; tor chooses for a new circuit without path.
            purpose: "general" or "controller", for a new one.

        Returns: the circuit's id.
        Raises: ControlReplyError: tor cannot: an unknown relay, no consensus yet, ...
        """
        _check(_CIRCUIT_ID, circuit_id, "a circuit's id")
        arguments = [circuit_id]
        hops = []
        for hop in path:
            _check(_SERVER_SPEC, hop, "a relay's fingerprint or nickname")
            hops.append(f"${hop}" if len(hop) >= 40 and not hop.startswith("$") else hop)
        if hops:
            arguments.append(",".join(hops))
        if purpose is not None:
            _check(_WORD, purpose, "a circuit's purpose")
            arguments.append(f"purpose={purpose}")
        words = self._send(Command.EXTENDCIRCUIT, *arguments).text.split(" ")
        if len(words) < 2 or words[0] != "EXTENDED" or not _CIRCUIT_ID.fullmatch(words[1]):
            raise ControlProtocolError("tor's answer to EXTENDCIRCUIT has no circuit's id")
        return words[1]

    def close_circuit(self, circuit_id: str, *, if_unused: bool = False) -> None:
        """Close a circuit (control-spec 3.17).

        Raises: ControlReplyError: there is no such circuit (any more).
        """
        _check(_CIRCUIT_ID, circuit_id, "a circuit's id")
        self._send(Command.CLOSECIRCUIT, circuit_id, *(("IfUnused",) if if_unused else ()))

    def signal(self, name: str) -> None:
        """Send tor a signal: "NEWNYM", "SHUTDOWN", "HEARTBEAT", ... (control-spec 3.7).

        Raises: ControlReplyError: tor does not know it.
        """
        _check(_WORD, name, "a signal's name")
        self._send(Command.SIGNAL, name)

    def take_ownership(self) -> None:
        """Make tor end when this connection does (control-spec 3.23)."""
        self._send(Command.TAKEOWNERSHIP)

    # --- the wire ---------------------------------------------------------------------------------------------------

    def _send(self, command: Command, *arguments: str) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            ControlConnectionError: the connection is gone, or tor did not answer in time.
            ControlReplyError: tor refused.
        """
        data = encode_command(command, *arguments)
        if os.getpid() != self._pid:
            raise ControlConnectionError("this connection to tor belongs to the parent process: connect again here")
        waiting = _Waiting()
        with self._lock:
            self._check_connected()
            self._waiting.append(waiting)
            try:
                self._socket.sendall(data)
            except OSError:
                self._shutdown()  # the reader notices and tells all who wait
        if not waiting.done.wait(self._timeout):
            # It stays in the row, so that a reply that comes after all is not taken for the next command's.
            raise ControlConnectionError(
                f"tor at {self._address} did not answer {command.value} within {self._timeout:g} s: "
                "try again, with a longer timeout if it is busy"
            )
        reply = waiting.reply
        if reply is None:
            self._check_connected()
            raise AssertionError("a command ended without reply on a live connection")
        if not reply.is_success:
            raise ControlReplyError(reply.code, reply.text)
        return reply

    def _check_connected(self) -> None:
        if self._closing:
            raise ControlConnectionError(f"the connection to tor at {self._address} was closed here: connect again")
        if self._lost is not None:
            raise type(self._lost)(*self._lost.args)  # one of its own for each thread: tracebacks grow on them

    def _read(self) -> None:
        """The second thread."""
        parser = ControlParser()
        lost: TorError = ControlConnectionError(
            f"tor at {self._address} closed the control connection: it ended or was restarted, connect again"
        )
        try:
            while (piece := self._received.take()) is not None:
                data, time_ns = piece
                self._heard += 1
                if not self._first_bytes:
                    self._first_bytes = data[:64]
                parser.feed(data)
                self._hand_on(parser, time_ns)
        except ControlProtocolError as error:
            lost = ControlProtocolError(
                f"what tor at {self._address} sent is not the control protocol ({error}): the connection was ended"
            )
        self._received.stop()
        self._end(lost)

    def _hand_on(self, parser: ControlParser, time_ns: int) -> None:
        events: list[Reply] = []
        try:
            while (reply := parser.next_reply()) is not None:
                if reply.is_event:
                    events.append(reply)
                else:
                    self._answer(reply)
        finally:  # what came before an error happened
            if events:
                self._events.put(events, time_ns)

    def _answer(self, reply: Reply) -> None:
        try:
            waiting = self._waiting.popleft()
        except IndexError:
            raise ControlProtocolError("a reply that no command asked for") from None
        waiting.reply = reply
        waiting.done.set()

    def _end(self, lost: TorError) -> None:
        with self._lock:
            self._lost = lost = self._given_up or lost
            reason = None if self._closing else lost
            waiting = list(self._waiting)
            self._waiting.clear()
        self._shutdown()  # so that the other side learns of it too
        for command in waiting:
            command.done.set()
        self._over.set()
        self._events.end(reason)

    def _watch(self, heartbeat: float) -> None:
        """The thread of the heartbeat."""
        heard = 0
        while not self._over.wait(heartbeat):
            if heard == self._heard:
                try:
                    self._send(Command.GETINFO, "version")
                except ControlReplyError:
                    pass  # a reply is a reply
                except TorError:
                    self._given_up = ControlConnectionError(
                        f"tor at {self._address} has not answered for {self._timeout:g} s: it hangs, or the connection "
                        "to it is dead"
                    )
                    self._shutdown()  # the reader notices
                    return
            heard = self._heard

    def _shutdown(self) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_RDWR)


def _check(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise ConfigurationError(f"{value!r} is not {what}: correct it")
