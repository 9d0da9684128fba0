"""Circuits as traced operations, against a control client without a tor."""

from __future__ import annotations

import _thread
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import pytest

from clew import NeverSample
from clew.errors import CircuitError, ConfigurationError, ControlConnectionError, ControlReplyError, TorError
from clew.model import Status
from clew.testing import CapturedSpans, capture_spans
from clew.tor.circuit_mapper import CircuitMapper
from clew.tor.events import CircuitEvent, Event, Relay
from clew.tor.manager import Circuit, CircuitManager
from clew.tor.privacy import Privacy
from clew.tor.simulation import simulate_circuit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from clew.tor.control import ControlClient

MS = 1_000_000
PATH = ["A" * 40, "$" + "B" * 40, "carl"]
RELAYS = (Relay("A" * 40, "anna"), Relay("B" * 40, "bert"), Relay("C" * 40, "carl"))
FOURTH = Relay("D" * 40, "dora")


class FakeControl:
    """Does with EXTENDCIRCUIT what `script` does: emit events before the reply, after it, or refuse."""

    def __init__(self, script: Callable[[FakeControl, str], None] | None = None) -> None:
        self.script = script or built_before_the_reply
        self.listeners: list[Callable[[Event], None]] = []
        self.disconnect_listeners: list[Callable[[TorError], None]] = []
        self.events: list[str] = []
        self.closed: list[str] = []
        self.paths: list[tuple[str, ...]] = []
        self.fail_at: int | None = None
        self.start_time_ns: int | None = None
        self._ids = iter(range(1, 10_000))
        self._lock = threading.Lock()
        self._dispatch = threading.Lock()

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Callable[[Event], None]) -> None:
        self.listeners.remove(listener)

    def on_disconnect(self, listener: Callable[[TorError], None]) -> None:
        self.disconnect_listeners.append(listener)

    def set_events(self, names: Iterable[str]) -> None:
        self.events = list(names)

    def extend_circuit(self, circuit_id: str = "0", path: Iterable[str] = (), **_: object) -> str:
        with self._lock:
            self.paths.append(tuple(path))
            if circuit_id == "0":
                circuit_id = str(next(self._ids))
        self.script(self, circuit_id)
        return circuit_id

    def close_circuit(self, circuit_id: str) -> None:
        if circuit_id == "404":
            raise ControlReplyError(552, 'Unknown circuit "404"')
        self.closed.append(circuit_id)
        self.emit(simulate_circuit(RELAYS, (0, 0, 0), 1, circuit_id=circuit_id, reason="REQUESTED")[-1])

    def emit(self, *events: Event) -> None:
        with self._dispatch:  # there is one dispatch thread
            for event in events:
                for listener in self.listeners:
                    listener(event)

    def lifetime(self, circuit_id: str) -> list[Event]:
        return simulate_circuit(
            RELAYS, (MS, MS, MS), self.fail_at, circuit_id=circuit_id, start_time_ns=self.start_time_ns
        )


def built_before_the_reply(control: FakeControl, circuit_id: str) -> None:
    control.emit(*control.lifetime(circuit_id))


def built_after_the_reply(control: FakeControl, circuit_id: str) -> None:
    threading.Thread(target=control.emit, args=control.lifetime(circuit_id)).start()


def never_built(control: FakeControl, circuit_id: str) -> None:
    control.emit(*control.lifetime(circuit_id)[:2])


def interrupted(control: FakeControl, circuit_id: str) -> None:
    never_built(control, circuit_id)
    _thread.interrupt_main()


def refused(control: FakeControl, circuit_id: str) -> None:
    raise ControlReplyError(552, 'No such router "carl"')


def manage(control: FakeControl, captured: CapturedSpans, **arguments: object) -> CircuitManager:
    if "mapper" not in arguments:
        arguments = {"privacy": Privacy.ANONYMOUS} | arguments
    return CircuitManager(cast("ControlClient", control), captured.tracer, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("script", [built_before_the_reply, built_after_the_reply])
def test_create(script: Callable[[FakeControl, str], None]) -> None:
    """A span of the caller's trace, with tor's own of exactly that circuit under it; the circuit is returned."""
    control = FakeControl(script)
    with capture_spans() as captured, manage(control, captured) as manager:
        with captured.tracer.start_span("work"):
            circuit = manager.create_circuit(PATH)
        assert circuit == Circuit("1", RELAYS, "GENERAL")
        assert control.paths == [("A" * 40, "B" * 40, "carl")]
        assert control.events == ["CIRC", "CIRC_MINOR"]
        assert captured.tree() == (
            "trace  test\n"
            "  work\n"
            "    build-circuit\n"
            "      - tor.circuit.hops = 3\n"
            "      tor.circuit.build\n"
            '        - clew.privacy.level = "anonymous"\n'
            '        - tor.circuit.purpose = "GENERAL"\n'
            '        - tor.circuit.build_flags = ["NEED_CAPACITY"]\n'
            "        - tor.circuit.hops = 3\n"
            "        tor.circuit.extend\n"
            "          - tor.hop.index = 1\n"
            '          - tor.hop.role = "guard"\n'
            "        tor.circuit.extend\n"
            "          - tor.hop.index = 2\n"
            '          - tor.hop.role = "middle"\n'
            "        tor.circuit.extend\n"
            "          - tor.hop.index = 3\n"
            '          - tor.hop.role = "exit"\n'
        )
    assert control.listeners == []


def test_tor_chooses() -> None:
    """Without a path tor chooses it; the operation has the name that the caller wants."""
    control = FakeControl()
    with capture_spans() as captured, manage(control, captured, privacy=Privacy.LAB) as manager:
        manager.create_circuit(span_name="extend-circuit")
        assert control.paths == [()]
        assert captured.records[-1].name == "extend-circuit"
        assert captured.records[-1].attributes == {"tor.circuit.id": "1", "tor.circuit.hops": 3}


@pytest.mark.parametrize("path", [PATH, RELAYS])
def test_a_failure(path: Sequence[str | Relay]) -> None:
    """CircuitError says which hop and why, and so does the trace, with the relay that the caller had named."""
    control = FakeControl()
    control.fail_at = 3
    with capture_spans() as captured, manage(control, captured, privacy=Privacy.LAB) as manager:
        with pytest.raises(
            CircuitError, match=r"^the circuit was not built: hop 3: destroyed, and the relay said"
        ) as e:
            manager.create_circuit(path)
        assert (e.value.circuit_id, e.value.reason, e.value.remote_reason) == ("1", "destroyed", "connectfailed")
        hop, build, operation = captured.records[-3:]
        assert hop.attributes["tor.relay.nickname"] == "carl"
        assert hop.attributes["tor.hop.role"] == "exit"
        assert (build.status, operation.status) == (Status.ERROR, Status.ERROR)
        assert operation.attributes["error.type"] == "destroyed"
        assert operation.events == (), "texts and stack traces are data"


def test_tor_refuses() -> None:
    """tor's words are kept up to what they quote, in the error and in the trace: what they quote is a relay."""
    with capture_spans() as captured, manage(FakeControl(refused), captured) as manager:
        with pytest.raises(CircuitError, match=r"^tor refused: 552 No such router$") as e:
            manager.create_circuit(PATH)
        assert (e.value.reason, e.value.__cause__, e.value.__suppress_context__) == ("reply_552", None, True)
        assert captured.tree() == (
            'trace  test\n  build-circuit  ERROR: tor refused: 552 No such router\n    - error.type = "reply_552"\n'
        )


def test_the_connection_is_gone() -> None:
    """The error of the connection reaches the caller as it is."""

    def gone(_: FakeControl, __: str) -> None:
        raise ControlConnectionError("the connection to tor was lost")

    with capture_spans() as captured, manage(FakeControl(gone), captured) as manager:
        with pytest.raises(ControlConnectionError):
            manager.create_circuit()
        assert captured.records[0].attributes == {"error.type": "ControlConnectionError"}


@pytest.mark.parametrize("path", [[], "carl"])
def test_a_path_that_is_none(path: list[str]) -> None:
    """An empty list, or a name that is not in a list, is a mistake and not a wish for any path."""
    with capture_spans() as captured, manage(FakeControl(), captured) as manager, pytest.raises(ConfigurationError):
        manager.create_circuit(path)


def test_a_timeout() -> None:
    """When the time is over tor is told to close the circuit; the trace is whole, the error says which hop it was."""
    control = FakeControl(never_built)
    with capture_spans() as captured, manage(control, captured) as manager:
        with pytest.raises(CircuitError, match=r"not built within 0 s: hop 2 was in progress") as e:
            manager.create_circuit(timeout=0)
        assert (control.closed, e.value.reason) == (["1"], "timeout")
        assert [(r.name, r.status, r.status_description) for r in captured.records][1:] == [
            ("tor.circuit.extend", Status.CANCELLED, "requested, and the relay said connectfailed"),
            ("tor.circuit.build", Status.CANCELLED, "hop 2: requested, and the relay said connectfailed"),
            ("build-circuit", Status.ERROR, "the circuit was not built within 0 s: hop 2 was in progress"),
        ]


def test_a_tor_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout holds for the command too; a reply that comes later still closes the circuit."""
    monkeypatch.setattr("clew.tor.manager._CLOSE_WAIT_SECONDS", 0)
    answer, was_closed = threading.Event(), threading.Event()

    class Slow(FakeControl):
        def close_circuit(self, circuit_id: str) -> None:
            super().close_circuit(circuit_id)
            was_closed.set()

    def slow(control: FakeControl, circuit_id: str) -> None:
        assert answer.wait(30)
        never_built(control, circuit_id)

    control = Slow(slow)
    with capture_spans() as captured, manage(control, captured) as manager:
        with pytest.raises(CircuitError, match="tor did not answer"):
            manager.create_circuit(timeout=0)
        answer.set()
        assert was_closed.wait(30)
    assert control.closed == ["1"]


def test_ctrl_c() -> None:
    """Waiting can be interrupted: tor is told to close the circuit, and the operation is cancelled."""
    control = FakeControl(interrupted)
    with capture_spans() as captured, manage(control, captured) as manager:
        with pytest.raises(KeyboardInterrupt):
            manager.create_circuit()
        assert control.closed == ["1"]
        assert [(r.name, r.status) for r in captured.records][-2:] == [
            ("tor.circuit.build", Status.CANCELLED),
            ("build-circuit", Status.CANCELLED),
        ]


@pytest.mark.parametrize("is_before_the_reply", [True, False])
def test_the_connection_is_lost_meanwhile(is_before_the_reply: bool) -> None:
    """Whoever waits for a circuit hears at once that the connection was lost."""

    def lost(control: FakeControl, circuit_id: str) -> None:
        never_built(control, circuit_id)
        tell = threading.Thread(target=control.disconnect_listeners[0], args=(ControlConnectionError("lost"),))
        tell.start()
        if is_before_the_reply:
            tell.join()

    with capture_spans() as captured, manage(FakeControl(lost), captured) as manager:
        with pytest.raises(CircuitError, match="connection_lost") as e:
            manager.create_circuit()
        assert e.value.reason == "connection_lost"
        assert captured.records[-1].status is Status.ERROR


def test_closing_the_manager_wakes_who_waits() -> None:
    """Operations under way end with an error, and the circuits stay at tor."""
    control = FakeControl()
    with capture_spans() as captured:
        manager = manage(control, captured)

        def close(control: FakeControl, circuit_id: str) -> None:
            never_built(control, circuit_id)
            manager.close()

        control.script = close
        with pytest.raises(CircuitError, match="detached"):
            manager.create_circuit()
        assert control.closed == []


def test_extend_and_close() -> None:
    """Both are operations; the extension has the added hop from the command on."""
    control = FakeControl()
    with capture_spans() as captured, manage(control, captured) as manager:
        circuit = manager.create_circuit()
        captured.clear()

        def extended(control: FakeControl, circuit_id: str) -> None:
            for status in ("EXTENDED", "BUILT"):
                control.emit(CircuitEvent(time.time_ns(), circuit_id, status, hops))

        hops = (*RELAYS, FOURTH)
        control.script = extended
        with captured.tracer.start_span("work"):
            assert manager.extend_circuit(circuit, ["dora"]).path == hops
            manager.close_circuit(circuit)
        assert control.closed == ["1"]
        tree = captured.tree()
        assert [line.strip() for line in tree.splitlines() if "- " not in line] == [
            "trace  test",
            "work",
            "extend-circuit",
            "tor.circuit.build",
            "tor.circuit.extend",
            "close-circuit",
        ]
        assert "tor.circuit.reused = true" in tree


def test_closing_a_circuit_that_is_gone() -> None:
    """tor's refusal is an error of the operation."""
    with capture_spans() as captured, manage(FakeControl(), captured) as manager:
        with pytest.raises(CircuitError, match=r"^tor refused: 552 Unknown circuit$"):
            manager.close_circuit("404")
        assert captured.records[0].attributes == {"error.type": "reply_552"}


def test_a_shared_mapper() -> None:
    """With a mapper that somebody else feeds, the manager listens to nothing itself, and other circuits are traced."""
    control = FakeControl()
    with capture_spans() as captured:
        mapper = CircuitMapper(captured.tracer, Privacy.ANONYMOUS)
        control.add_listener(mapper.handle)
        with manage(control, captured, mapper=mapper) as manager:
            assert (control.listeners, control.events) == ([mapper.handle], [])
            manager.create_circuit()
            control.emit(*simulate_circuit(RELAYS, (MS, MS, MS), circuit_id="99"))
        assert [r.name for r in captured.records if not r.parent_id] == ["build-circuit", "tor.circuit.build"]
        assert control.listeners == [mapper.handle]


def test_a_level_beside_a_mapper() -> None:
    """A mapper has its level already: another one is a mistake, and not ignored."""
    with capture_spans() as captured, pytest.raises(ConfigurationError):
        manage(FakeControl(), captured, mapper=CircuitMapper(captured.tracer), privacy=Privacy.LAB)


def test_not_sampled() -> None:
    """Everything works, nothing is recorded."""
    control = FakeControl()
    with capture_spans(sampler=NeverSample()) as captured, manage(control, captured) as manager:
        assert manager.create_circuit().path == RELAYS
        control.fail_at = 1
        with pytest.raises(CircuitError, match="hop 1: destroyed"):
            manager.create_circuit()
        assert captured.records == []


def test_many_at_once() -> None:
    """200 circuits from 16 threads, events before and after the replies, some failing: each under its own operation."""

    def either(control: FakeControl, circuit_id: str) -> None:
        hops = simulate_circuit(
            RELAYS, (int(circuit_id),) * 3, 2 if int(circuit_id) % 3 == 0 else None, circuit_id=circuit_id
        )
        if int(circuit_id) % 2:
            control.emit(*hops)
        else:
            threading.Thread(target=control.emit, args=hops).start()

    with capture_spans() as captured, manage(FakeControl(either), captured, privacy=Privacy.LAB) as manager:

        def work(number: int) -> str | None:
            with captured.tracer.start_span("work", attributes={"number": number}) as span:
                try:
                    circuit_id = manager.create_circuit().id
                except CircuitError as error:
                    circuit_id = error.circuit_id or ""
                span.set_attribute("circuit", circuit_id)
                return circuit_id

        with ThreadPoolExecutor(16) as pool:
            ids = list(pool.map(work, range(200)))
        assert len(set(ids)) == 200
        records = captured.records
        traces = {r.trace_id: r.attributes["circuit"] for r in records if r.name == "work"}
        assert len(traces) == 200
        for record in records:
            circuit = traces[record.trace_id]
            assert record.attributes.get("tor.circuit.id", circuit) == circuit
            if record.name == "tor.circuit.build":
                assert record.duration_ns == (2 if int(str(circuit)) % 3 == 0 else 3) * int(str(circuit))
        assert sum(r.name == "tor.circuit.build" for r in records) == 200
        assert manager.mapper.counts.building == 0
