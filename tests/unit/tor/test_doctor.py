"""The checks of a tor, on answers that a tor could give."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self, cast

import pytest

from clew.errors import (
    CircuitError,
    ControlAuthenticationError,
    ControlConnectionError,
    ControlProtocolError,
    ControlReplyError,
    TorError,
)
from clew.tor import doctor
from clew.tor.address import ControlAddress
from clew.tor.circuits import Trigger
from clew.tor.doctor import Examination
from clew.tor.events import Event, Relay, StatusEvent
from clew.tor.finding import Verdict
from clew.tor.mapper import EVENTS
from clew.tor.simulation import simulate_circuit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clew.tor.control import ControlClient
    from clew.tor.finding import Finding

MS = 1_000_000
RELAYS = (Relay("A" * 40, "anna"), Relay("B" * 40, "bert"), Relay("C" * 40, "carl"))


class FakeControl:
    """A connection to a tor that is well, but for what a test changes."""

    def __init__(self, socks_port: int) -> None:
        self.address = "127.0.0.1:9051"
        self.tor_version = "0.4.9.11"
        self.authentication = "SAFECOOKIE"
        self.conf = {"TestingTorNetwork": ("0",), "DisableNetwork": ("0",)}
        self.info: dict[str, str | TorError] = {
            "status/version/current": "recommended",
            "events/names": " ".join((*EVENTS, "STATUS_GENERAL", "BW")),
            "status/bootstrap-phase": 'NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"',
            "network-liveness": "up",
            "net/listeners/socks": f'"unix:/nowhere/socks" "127.0.0.1:{socks_port}"' if socks_port else "",
            "consensus/valid-after": "2001-01-01 00:00:00",
            "consensus/valid-until": "2999-01-01 00:00:00",
        }
        self.hops_ms: tuple[int, ...] = (20, 30, 40)
        self.failures = 0
        self.listeners: list[Callable[[Event], None]] = []
        self.events: list[str] = []
        self.is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def get_info(self, key: str) -> dict[str, str]:
        value = self.info.get(key, ControlReplyError(552, "Unrecognized key"))
        if isinstance(value, TorError):
            raise value
        return {key: value}

    def get_conf(self, name: str) -> dict[str, tuple[str, ...]]:
        return {name: self.conf[name]}

    def set_events(self, names: Iterable[str]) -> None:
        self.events = list(names)

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Callable[[Event], None]) -> None:
        self.listeners.remove(listener)

    def on_disconnect(self, listener: Callable[[TorError], None]) -> None:
        pass

    def extend_circuit(self, *_: object, **__: object) -> str:
        failed_at = 2 if self.failures else None
        self.failures -= 1
        self.emit(*simulate_circuit(RELAYS, tuple(MS * each for each in self.hops_ms), failed_at, circuit_id="7"))
        return "7"

    def close_circuit(self, circuit_id: str) -> None:
        pass

    def emit(self, *events: Event) -> None:
        for event in events:
            for listener in list(self.listeners):
                listener(event)


@pytest.fixture
def socks_port() -> Iterator[int]:
    """A SOCKS port on 127.0.0.1 that greets one client."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with suppress(OSError):  # a test without a client
                connection, _ = server.accept()
                with connection:
                    assert connection.recv(100) == b"\x05\x01\x00"
                    connection.sendall(b"\x05\x00")

        thread = threading.Thread(target=greet)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def control(socks_port: int) -> FakeControl:
    """A tor that is well."""
    return FakeControl(socks_port)


def findings(control: FakeControl, socks: str | None = None) -> dict[str, Finding]:
    """What was found, by check."""
    address = None if socks is None else ControlAddress.parse(socks)
    examination = Examination(lambda: cast("ControlClient", control), socks=address, timeout=5.0)
    return {finding.check: finding for finding in examination.findings()}


def verdicts(found: dict[str, Finding], but: str = "") -> set[Verdict]:
    """Of all checks but one."""
    return {finding.verdict for check, finding in found.items() if check != but}


def test_a_tor_that_is_well(control: FakeControl, socks_port: int) -> None:
    """Every check is ok, in an order that a person can follow; nothing is to be done."""
    found = findings(control)
    assert list(found) == [
        *("control port", "authentication", "tor", "events", "bootstrap", "SOCKS port", "circuit", "clock"),
    ]
    assert verdicts(found) == {Verdict.OK}
    assert not any(finding.advice for finding in found.values())
    assert found["tor"].text == "0.4.9.11 on the public network"
    assert found["SOCKS port"].text == f"127.0.0.1:{socks_port} answers"
    assert found["circuit"].text == "built in 90 ms, hop by hop 20 + 30 + 40 ms"
    assert found["circuit"].facts["hops_ms"] == [20.0, 30.0, 40.0]
    assert control.is_closed


# --- the control port -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "check", "text", "advice"),
    [
        (
            ControlConnectionError("nothing listens on 127.0.0.1:9051: start tor"),
            *("control port", "nothing listens on 127.0.0.1:9051", "start tor"),
        ),
        (
            ControlProtocolError("127.0.0.1:9050 is a SOCKS port, not a control port: give the address"),
            *("control port", "127.0.0.1:9050 is a SOCKS port, not a control port", "give the address"),
        ),
        (
            ControlAuthenticationError("tor refused the password: give the right one"),
            *("authentication", "tor refused the password", "give the right one"),
        ),
    ],
)
def test_no_connection(error: TorError, check: str, text: str, advice: str) -> None:
    """It says why and what to do, and stops: nothing else can be known."""

    def connect() -> ControlClient:
        raise error

    found = list(Examination(connect).findings())
    assert (found[-1].check, found[-1].verdict, found[-1].text, found[-1].advice) == (
        check,
        Verdict.FAILED,
        text,
        advice,
    )
    assert [finding.verdict for finding in found[:-1]] == [Verdict.OK] * (check == "authentication")


def test_the_connection_is_lost(control: FakeControl) -> None:
    """Whatever was being checked has failed, and it ends there."""
    control.info["status/bootstrap-phase"] = ControlConnectionError("tor closed the control connection: it ended")
    found = list(findings(control).values())
    assert (found[-1].check, found[-1].verdict) == ("bootstrap", Verdict.FAILED)
    assert (found[-1].text, found[-1].advice) == ("tor closed the control connection", "it ended")


@pytest.mark.parametrize(
    ("method", "verdict"),
    [
        ("SAFECOOKIE", Verdict.OK),
        ("COOKIE", Verdict.OK),
        ("HASHEDPASSWORD", Verdict.OK),
        ("NULL", Verdict.WARNING),
    ],
)
def test_authentication(control: FakeControl, method: str, verdict: Verdict) -> None:
    """A tor that lets everybody in is worth a warning."""
    control.authentication = method
    assert findings(control)["authentication"].verdict is verdict


@pytest.mark.parametrize("status", ["old", "obsolete", "unrecommended"])
def test_an_old_tor(control: FakeControl, status: str) -> None:
    """As the network's directory authorities see it."""
    control.info["status/version/current"] = status
    found = findings(control)
    assert (found["tor"].verdict, found["tor"].advice) == (Verdict.WARNING, "upgrade tor")
    assert status in found["tor"].text
    assert verdicts(found, but="tor") == {Verdict.OK}


def test_a_tor_that_lacks_what_is_asked(control: FakeControl) -> None:
    """Events that it does not know are named; they are not asked for."""
    control.info["events/names"] = "CIRC STREAM"
    found = findings(control)
    assert found["events"].verdict is Verdict.WARNING
    assert found["events"].facts["missing"] == [name for name in EVENTS if name not in ("CIRC", "STREAM")]
    assert "HS_DESC" in found["events"].text
    assert control.events == ["CIRC"]


# --- the network ------------------------------------------------------------------------------------------------------


def test_a_bootstrap_that_is_stuck(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given some time; then tor's own words are told, and no circuit is tried."""
    monkeypatch.setattr(doctor, "_STUCK_SECONDS", 0.0)
    control.info["status/bootstrap-phase"] = (
        'WARN BOOTSTRAP PROGRESS=10 TAG=conn_done SUMMARY="Connected to a relay" WARNING="No route to host" COUNT=3'
    )
    found = findings(control)
    assert found["bootstrap"].verdict is Verdict.FAILED
    assert found["bootstrap"].text == "10 % (Connected to a relay): No route to host"
    assert "firewall" in found["bootstrap"].advice
    assert found["circuit"].verdict is Verdict.SKIPPED


def test_a_bootstrap_that_goes_on(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tor that was just started is waited for; who waits is told how far it is."""
    monkeypatch.setattr(doctor, "_POLL_SECONDS", 0.0)
    told: list[str] = []

    def tell(what: str) -> None:
        told.append(what)
        if what == "bootstrap (50 %)":
            control.info["status/bootstrap-phase"] = "NOTICE BOOTSTRAP PROGRESS=100 TAG=done"

    control.info["status/bootstrap-phase"] = "NOTICE BOOTSTRAP PROGRESS=50 TAG=loading_descriptors"
    examination = Examination(lambda: cast("ControlClient", control), progress=tell)
    assert {finding.verdict for finding in examination.findings()} == {Verdict.OK}
    assert told[:6] == ["control port", "authentication", "tor", "events", "bootstrap", "bootstrap (50 %)"]


@pytest.mark.parametrize("phase", ["", "NOTICE BOOTSTRAP PROGRESS=many", ControlReplyError(551, "x")])
def test_a_bootstrap_that_nobody_understands(control: FakeControl, phase: str | TorError) -> None:
    """Then it has not succeeded."""
    control.info["status/bootstrap-phase"] = phase
    assert findings(control)["bootstrap"].verdict is Verdict.FAILED


def test_a_network_that_is_switched_off(control: FakeControl) -> None:
    """With DisableNetwork nothing is waited for, and the SOCKS port need not be there."""
    control.conf["DisableNetwork"] = ("1",)
    control.info["status/bootstrap-phase"] = "NOTICE BOOTSTRAP PROGRESS=0 TAG=starting SUMMARY=Starting"
    control.info["net/listeners/socks"] = ""
    found = findings(control)
    assert found["bootstrap"].text == "0 % (Starting): DisableNetwork is set"
    assert "DisableNetwork 0" in found["bootstrap"].advice
    assert found["SOCKS port"].verdict is found["circuit"].verdict is Verdict.SKIPPED


def test_a_network_that_fell_silent(control: FakeControl) -> None:
    """tor noticed that it hears nothing any more."""
    control.info["network-liveness"] = "down"
    assert findings(control)["bootstrap"].verdict is Verdict.WARNING


# --- SOCKS ------------------------------------------------------------------------------------------------------------


def test_no_socks_port() -> None:
    """SocksPort 0."""
    found = findings(FakeControl(0))
    assert (found["SOCKS port"].verdict, found["SOCKS port"].advice) == (
        Verdict.FAILED,
        "set SocksPort 9050 in its torrc",
    )
    assert verdicts(found, but="SOCKS port") == {Verdict.OK}


def test_a_socks_port_that_does_not_answer(control: FakeControl) -> None:
    """Nobody listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found = findings(control, socks=str(bound.getsockname()[1]))
    assert found["SOCKS port"].verdict is Verdict.FAILED
    assert "Connection refused" in found["SOCKS port"].text
    assert findings(control, socks="/nowhere/socks")["SOCKS port"].text == (
        "/nowhere/socks does not answer (No such file or directory)"
    )


def test_something_else_on_the_socks_port(control: FakeControl) -> None:
    """An HTTP server does not answer as a SOCKS port does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = findings(control, socks=str(server.getsockname()[1]))
        thread.join()
    assert found["SOCKS port"].verdict is Verdict.FAILED
    assert "does not answer as a SOCKS port does" in found["SOCKS port"].text


def test_a_socks_port_of_another_tor(control: FakeControl, socks_port: int) -> None:
    """The one that was named answers, but tor does not name it."""
    control.info["net/listeners/socks"] = '"127.0.0.1:9"'
    found = findings(control, socks=str(socks_port))
    assert found["SOCKS port"].verdict is Verdict.WARNING
    assert "this tor does not know it" in found["SOCKS port"].text


def test_a_tor_on_another_machine(control: FakeControl) -> None:
    """Its 127.0.0.1 is not ours."""
    control.address = "192.0.2.7:9051"
    found = findings(control)
    assert found["SOCKS port"].verdict is Verdict.WARNING
    assert "--socks" in found["SOCKS port"].advice


# --- the circuit ------------------------------------------------------------------------------------------------------


def test_a_circuit_that_fails_by_chance(control: FakeControl) -> None:
    """The next attempt is good enough, but it is told; no relay is named."""
    control.failures = 1
    circuit = findings(control)["circuit"]
    assert circuit.verdict is Verdict.WARNING
    assert "after 1 attempt that failed: the circuit was not built: " in circuit.text
    assert circuit.facts["attempts"] == 2
    assert "bert" not in circuit.text


def test_no_circuit(control: FakeControl) -> None:
    """After three attempts it is no chance."""
    control.failures = 10
    circuit = findings(control)["circuit"]
    assert circuit.verdict is Verdict.FAILED
    assert circuit.text.startswith("none in 3 attempts: the circuit was not built: ")
    assert circuit.advice


def test_a_tor_that_refuses(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no guard that it could use, say."""

    def refuse(*_: object, **__: object) -> str:
        raise ControlReplyError(551, "Couldn't start circuit")

    monkeypatch.setattr(control, "extend_circuit", refuse)
    assert "tor refused: 551 Couldn't start circuit" in findings(control)["circuit"].text


def test_no_time_is_left(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is for all of it."""

    def fail(_: object, timeout: float) -> None:
        monkeypatch.setattr(Examination, "_left", lambda _: 0.0)
        raise CircuitError(f"not built within {timeout:.0f} s", reason=Trigger.LOST)

    monkeypatch.setattr(doctor, "_build_circuit", fail)
    assert findings(control)["circuit"].text == "none in 1 attempt: not built within 5 s"
    assert findings(control)["circuit"].text == "no time was left for it"


def test_a_slow_circuit(control: FakeControl) -> None:
    """One that a person would notice."""
    control.hops_ms = (100, 5000, 100)
    circuit = findings(control)["circuit"]
    assert circuit.verdict is Verdict.WARNING
    assert circuit.text.endswith("that is slow")


# --- the clock --------------------------------------------------------------------------------------------------------


def test_tor_notices_that_its_clock_is_wrong(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says while the circuit is built is the last word."""
    build = control.extend_circuit

    def notice(*arguments: object, **keywords: object) -> str:
        arguments_of_event = {"SKEW": "-3600", "SOURCE": "OR:192.0.2.1:443"}
        control.emit(StatusEvent(0, "STATUS_GENERAL", "WARN", "CLOCK_SKEW", arguments_of_event))
        return build()

    monkeypatch.setattr(control, "extend_circuit", notice)
    found = findings(control)
    assert found["clock"].verdict is Verdict.FAILED
    assert found["clock"].text == "slow by 60 min, tor says, by a relay"
    assert found["clock"].facts["skew_ms"] == -3_600_000
    assert "192.0.2.1" not in found["clock"].text
