"""Is this tor well, and can clew see what it does? Check after check, each with what to do about it.

Nothing is changed, and nothing leaves the machine but what one circuit needs: its relays see a circuit that carries
nothing.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from clew.errors import CircuitError, ConfigurationError, ControlAuthenticationError, TorError
from clew.exporters.memory import MemoryExporter
from clew.tor.address import ControlAddress
from clew.tor.circuit_mapper import CircuitMapper
from clew.tor.doctor_clock import check_clock
from clew.tor.events import StatusEvent
from clew.tor.finding import Finding, Verdict, ask, explain
from clew.tor.manager import CircuitManager
from clew.tor.mapper import EVENTS
from clew.tor.privacy import Privacy
from clew.tor.wire import split_arguments, unquote
from clew.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.tor.control import ControlClient
    from clew.tor.events import Event
    from clew.tor.finding import Fact

__all__ = ["Examination"]

# A tor that has just been started needs some seconds; one that gets no further for so long needs help.
_STUCK_SECONDS = 10.0
_POLL_SECONDS = 0.2
# On the public network a circuit may fail by chance: a relay that just went away, or is busy.
_CIRCUIT_ATTEMPTS = 3
# A page that needs a new circuit would already be called slow.
_SLOW_CIRCUIT_MS = 5_000
# tor answers on its own machine within milliseconds.
_SOCKS_SECONDS = 5.0

_PERCENT = re.compile(r"[0-9]{1,3}")


class Examination:
    """The checks of one tor.

    Args:
        connect: connects to its control port, and is let in.
        socks: the address of its SOCKS port; None for the one that tor names.
        timeout: seconds for all of it.
        progress: told, before a check, what is being checked, in a few words.

    Thread: one; blocks.
    """

    def __init__(
        self,
        connect: Callable[[], ControlClient],
        *,
        socks: ControlAddress | None = None,
        timeout: float = 60.0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._socks = socks
        self._deadline = time.monotonic() + timeout
        self._progress = progress
        self._skews: list[StatusEvent] = []
        self._is_bootstrapped = False

    def findings(self) -> Iterator[Finding]:
        """Check, and give each finding as soon as it is there. A check that needs another that failed is skipped."""
        self._progress("control port")
        try:
            control = self._connect()
        except ControlAuthenticationError as error:
            yield Finding("control port", Verdict.OK, "tor answers")
            yield Finding("authentication", Verdict.FAILED, *explain(error))
            return
        except TorError as error:
            yield Finding("control port", Verdict.FAILED, *explain(error))
            return
        with control:
            yield Finding("control port", Verdict.OK, f"{control.address} answers", facts={"address": control.address})
            checks: dict[str, Callable[[ControlClient], Finding]] = {
                "authentication": self._check_authentication,
                "tor": self._check_version,
                "events": self._check_events,
                "bootstrap": self._check_bootstrap,
                "SOCKS port": self._check_socks,
                "circuit": self._check_circuit,
                # The last, because building a circuit may make tor notice.
                "clock": lambda control: check_clock(control, self._skews),
            }
            for name, check in checks.items():
                self._progress(name)
                try:
                    yield check(control)
                except TorError as error:  # the connection is gone, or what tor says makes no sense
                    yield Finding(name, Verdict.FAILED, *explain(error))
                    return

    # --- the checks ---------------------------------------------------------------------------------------------------

    def _check_authentication(self, control: ControlClient) -> Finding:
        method = control.authentication
        if method == "NULL":
            return Finding(
                "authentication",
                Verdict.WARNING,
                "none: every program on this machine can control this tor",
                "set CookieAuthentication 1 in its torrc",
                {"method": method},
            )
        words = {
            "SAFECOOKIE": "by the cookie (SAFECOOKIE)",
            "COOKIE": "by the cookie (COOKIE)",
            "HASHEDPASSWORD": "by the password (HASHEDPASSWORD)",
        }
        return Finding("authentication", Verdict.OK, words[method], facts={"method": method})

    def _check_version(self, control: ControlClient) -> Finding:
        status = ask(control, "status/version/current") or "unknown"
        is_testing = control.get_conf("TestingTorNetwork").get("TestingTorNetwork") == ("1",)
        network = "testing" if is_testing else "public"
        facts: dict[str, Fact] = {"version": control.tor_version, "status": status, "network": network}
        text = f"{control.tor_version} on {'a testing network' if is_testing else 'the public network'}"
        # Values of control-spec 3.9, status/version/current, that the directory authorities decide.
        if status in ("old", "unrecommended", "obsolete"):
            text += f", {status}: the network's directory authorities recommend others"
            return Finding("tor", Verdict.WARNING, text, "upgrade tor", facts)
        return Finding("tor", Verdict.OK, text, facts=facts)

    def _check_events(self, control: ControlClient) -> Finding:
        known = set((ask(control, "events/names") or "").split())
        missing = [name for name in EVENTS if name not in known]
        # What this needs itself; a tor without STATUS_GENERAL would be older than ten years.
        wanted = [name for name in ("CIRC", "CIRC_MINOR", "STATUS_GENERAL") if name in known]
        control.add_listener(self._listen)
        control.set_events(wanted)
        if missing:
            return Finding(
                "events",
                Verdict.WARNING,
                f"this tor does not know {', '.join(missing)}: what they tell will be missing in traces",
                "upgrade tor",
                {"missing": missing},
            )
        return Finding("events", Verdict.OK, f"all {len(EVENTS)} that clew asks for", facts={"missing": missing})

    def _check_bootstrap(self, control: ControlClient) -> Finding:
        phase = self._wait_bootstrapped(control)
        percent = int(phase.get("PROGRESS", "0"))
        summary = phase.get("SUMMARY", phase.get("TAG", "unknown"))
        facts: dict[str, Fact] = {"percent": percent, "tag": phase.get("TAG")}
        if percent == 100:
            self._is_bootstrapped = True
            if ask(control, "network-liveness") == "down":
                return Finding(
                    "bootstrap",
                    Verdict.WARNING,
                    "100 %, but tor has heard nothing from the network for a while",
                    "check this machine's connection to the internet",
                    facts,
                )
            return Finding("bootstrap", Verdict.OK, "100 %: tor is connected to the network", facts=facts)
        text = f"{percent} % ({summary})"
        if _is_network_off(control):
            text, advice = f"{text}: DisableNetwork is set", "set DisableNetwork 0, or press Connect in Tor Browser"
        elif warning := phase.get("WARNING"):
            text, advice = f"{text}: {warning}", "check this machine's clock, firewall and connection; see tor's log"
        else:
            advice = "wait and try again; if it stays there, check the connection and see tor's log"
        return Finding("bootstrap", Verdict.FAILED, text, advice, facts)

    def _check_socks(self, control: ControlClient) -> Finding:
        addresses = _addresses(ask(control, "net/listeners/socks") or "")
        address = self._socks or next(iter(addresses), None)
        if address is None:
            if not self._is_bootstrapped and _is_network_off(control):
                return Finding("SOCKS port", Verdict.SKIPPED, "closed, because DisableNetwork is set")
            return Finding(
                "SOCKS port", Verdict.FAILED, "tor has none: programs cannot use it", "set SocksPort 9050 in its torrc"
            )
        facts: dict[str, Fact] = {"address": str(address)}
        if self._socks is None and not address.path and _is_loopback(address.host) and _is_remote(control.address):
            text = f"{address} on tor's machine, which is not this one"
            return Finding("SOCKS port", Verdict.WARNING, text, "give --socks HOST:PORT to have it tried", facts)
        try:
            answer = _greet(address, min(_SOCKS_SECONDS, self._left()))
        except OSError as error:
            text = f"{address} does not answer ({error.strerror or error})"
            return Finding("SOCKS port", Verdict.FAILED, text, "see SocksPort in tor's torrc", facts)
        # RFC 1928, section 3: version 5, no authentication required.
        if answer != b"\x05\x00":
            text = f"what listens on {address} does not answer as a SOCKS port does"
            return Finding("SOCKS port", Verdict.FAILED, text, "give tor's own (SocksPort in its torrc)", facts)
        if self._socks is not None and address not in addresses:
            text = f"{address} answers, but this tor does not know it"
            return Finding("SOCKS port", Verdict.WARNING, text, "see whether it is another tor's", facts)
        return Finding("SOCKS port", Verdict.OK, f"{address} answers", facts=facts)

    def _check_circuit(self, control: ControlClient) -> Finding:
        if not self._is_bootstrapped:
            return Finding("circuit", Verdict.SKIPPED, "not tried: tor is not connected to the network")
        failures: list[str] = []
        while len(failures) < _CIRCUIT_ATTEMPTS and (left := self._left()) > 0:
            try:
                total_ms, hops_ms = _build_circuit(control, left)
            except CircuitError as error:
                failures.append(str(error))
                continue
            return _describe_circuit(total_ms, hops_ms, failures)
        text = f"none in {_count(len(failures), 'attempt')}: {failures[-1]}" if failures else "no time was left for it"
        return Finding(
            "circuit",
            Verdict.FAILED,
            text,
            "try again in a minute; if it stays so, restart tor and see its log",
            {"attempts": len(failures)},
        )

    # --- what the checks need -----------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Seconds."""
        return max(0.0, self._deadline - time.monotonic())

    def _listen(self, event: Event) -> None:
        """Thread: the control connection's."""
        if isinstance(event, StatusEvent) and event.action == "CLOCK_SKEW":
            self._skews.append(event)

    def _wait_bootstrapped(self, control: ControlClient) -> dict[str, str]:
        """The phase that tor is in, at the end of its bootstrap or when it does not get any further."""
        last, changed = "", time.monotonic()
        while True:
            phase = _fields(ask(control, "status/bootstrap-phase") or "")
            percent = phase.get("PROGRESS", "")
            if percent != last:
                last, changed = percent, time.monotonic()
                self._progress(f"bootstrap ({percent} %)")
            is_done = not _PERCENT.fullmatch(percent) or int(percent) >= 100
            is_off = percent == "0" and _is_network_off(control)
            if is_done or is_off or not self._left() or time.monotonic() - changed > _STUCK_SECONDS:
                return phase if _PERCENT.fullmatch(percent) else {}
            time.sleep(_POLL_SECONDS)


def _build_circuit(control: ControlClient, timeout: float) -> tuple[float, list[float]]:
    """Build a circuit and close it.

    Returns: the milliseconds that it took, and each of its hops.
    Raises: CircuitError, ControlConnectionError.
    """
    memory = MemoryExporter()
    with Tracer("doctor", memory) as tracer:
        mapper = CircuitMapper(tracer, Privacy.ANONYMOUS, unclaimed=False)
        control.add_listener(mapper.handle)
        control.on_disconnect(lambda _: mapper.close("CONNECTION_LOST"))
        try:
            manager = CircuitManager(control, tracer, mapper=mapper)
            manager.close_circuit(manager.create_circuit(timeout=timeout))
        finally:
            control.remove_listener(mapper.handle)
            mapper.close("DETACHED")
    records = sorted(memory.records, key=lambda record: record.start_time_ns)
    hops_ms = [record.duration_ns / 1e6 for record in records if record.name == "tor.circuit.extend"]
    return next(record.duration_ns / 1e6 for record in records if record.name == "tor.circuit.build"), hops_ms


def _describe_circuit(total_ms: float, hops_ms: list[float], failures: list[str]) -> Finding:
    facts: dict[str, Fact] = {
        "attempts": len(failures) + 1,
        "duration_ms": round(total_ms, 3),
        "hops_ms": [round(each, 3) for each in hops_ms],
    }
    text = f"built in {total_ms:.0f} ms, hop by hop {' + '.join(f'{each:.0f}' for each in hops_ms)} ms"
    if failures:
        text = f"{text}, after {_count(len(failures), 'attempt')} that failed: {failures[-1]}"
        return Finding("circuit", Verdict.WARNING, text, "try again: by chance that happens now and then", facts)
    if total_ms > _SLOW_CIRCUIT_MS:
        advice = "try again; if it stays slow, so is this machine's connection, or tor's guard"
        return Finding("circuit", Verdict.WARNING, f"{text}: that is slow", advice, facts)
    return Finding("circuit", Verdict.OK, text, facts=facts)


def _greet(address: ControlAddress, timeout: float) -> bytes:
    """What a SOCKS port says to who offers no authentication (RFC 1928, section 3).

    Raises: OSError.
    """
    if address.path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        connection = socket.create_connection((address.host, address.port), timeout)
    with connection:
        connection.settimeout(timeout)
        if address.path:
            connection.connect(address.path)
        connection.sendall(b"\x05\x01\x00")
        return connection.recv(2)


def _is_network_off(control: ControlClient) -> bool:
    return control.get_conf("DisableNetwork").get("DisableNetwork") == ("1",)


def _fields(text: str) -> dict[str, str]:
    """KEYWORD=value, KEYWORD="quoted value", and words, which are left out."""
    pairs = (word.partition("=") for word in split_arguments(text))
    return {keyword: unquote(value) for keyword, equals, value in pairs if equals}


def _addresses(text: str) -> list[ControlAddress]:
    """Where tor says that it listens (control-spec 3.9, net/listeners): "127.0.0.1:9050" "unix:/run/tor/socks".

    TCP ports first: a Unix socket is often for one program only. What is no address is left out.
    """
    addresses = []
    for word in split_arguments(text):
        with suppress(ConfigurationError):
            addresses.append(ControlAddress.parse(unquote(word)))
    return sorted(addresses, key=lambda address: bool(address.path))


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "localhost")


def _is_remote(address: str) -> bool:
    control = ControlAddress.parse(address)
    return not control.path and not _is_loopback(control.host)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
