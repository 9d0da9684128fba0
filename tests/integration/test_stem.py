"""A real stem controller, on the lab's tor: the same spans as over a connection of our own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from stem.control import Controller, EventType  # type: ignore[import-untyped]

from clew import MemoryExporter, SpanKind, Tracer
from clew.tor import CircuitManager, ControlClient, Privacy, TorMapper, from_stem, trace_requests
from clew.tor.event_types import CircuitEvent
from tests.fake_tor import socks_connect

if TYPE_CHECKING:
    from clew.tor.event_types import Event
    from clew.tor.lab import Lab
    from clew.tor.stem_source import StemSource

pytestmark = [
    pytest.mark.tor,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # stem's own, which nobody mends any more
]


def outline(memory: MemoryExporter, circuits: list[str]) -> list[tuple[object, ...]]:
    """What tor's spans of some circuits are, without times and ids of spans."""
    tors = [record for record in memory.records if record.name.startswith("tor.")]
    names = {record.span_id: record.name for record in tors}
    attributes = ("tor.circuit.id", "tor.hop.index", "tor.relay.fingerprint", "tor.circuit.purpose", "error.type")
    return sorted(
        (
            (record.name, names.get(record.parent_id), *(record.attributes.get(key) for key in attributes))
            for record in tors
            if record.attributes.get("tor.circuit.id") in circuits
        ),
        key=repr,
    )


@pytest.fixture(autouse=True)
def _leave_the_lab_its_tor(monkeypatch: pytest.MonkeyPatch) -> None:
    """stem takes a tor for its own whose owner is this process, as the lab's is, and has it end with the connection."""
    monkeypatch.setattr(Controller, "is_localhost", lambda _: False)


def test_the_same_spans(lab: Lab) -> None:
    """Circuits have the same spans through stem as through a ControlClient, and the program's listeners go on."""
    theirs: list[Any] = []
    direct, through_stem = MemoryExporter(), MemoryExporter()
    with (
        Tracer("direct", direct) as tracer,
        Tracer("stem", through_stem) as stem_tracer,
        ControlClient.connect(lab.control) as client,
        Controller.from_socket_file(lab.control) as controller,
    ):
        controller.authenticate()
        controller.add_event_listener(theirs.append, EventType.CIRC, EventType.BW)
        mapper, stem_mapper = TorMapper(tracer, Privacy.LAB), TorMapper(stem_tracer, Privacy.LAB)
        closed = [threading.Semaphore(0), threading.Semaphore(0)]

        def follow(connection: ControlClient | StemSource, mapper: TorMapper, closed: threading.Semaphore) -> None:
            def release(event: Event) -> None:
                if isinstance(event, CircuitEvent) and event.circuit_id in asked and event.status == "CLOSED":
                    closed.release()

            connection.add_listener(mapper.handle)
            connection.add_listener(release)
            connection.set_events(["CIRC", "CIRC_MINOR"])

        asked: list[str] = []
        with from_stem(controller) as source:
            assert source.tor_version == client.tor_version
            follow(client, mapper, closed[0])
            follow(source, stem_mapper, closed[1])
            with CircuitManager(client, tracer, mapper=mapper.circuits) as manager:
                relays = [relay.fingerprint for relay in client.relays() if "Authority" not in relay.flags]
                circuits = [manager.create_circuit(relays[: 1 + number % 3]) for number in range(6)]
                asked += [circuit.id for circuit in circuits]
                for circuit in circuits:
                    manager.close_circuit(circuit)
            for semaphore in closed:
                for _ in asked:
                    assert semaphore.acquire(timeout=30)
            mapper.close("DETACHED")
            stem_mapper.close("DETACHED")
        seen = {event.id for event in theirs if event.type == "CIRC"}
        assert seen.issuperset(asked)
        controller.get_info("version")  # it still works
        assert EventType.CIRC in controller._event_listeners
        assert EventType.CIRC_MINOR not in controller._event_listeners
    assert len(outline(direct, asked)) == 6 + 2 * (1 + 2 + 3)
    assert outline(through_stem, asked) == outline(direct, asked)


def test_a_controller_that_is_closed(lab: Lab) -> None:
    """When the program closes its controller, what is open ends with that, and the listeners were told."""
    memory = MemoryExporter()
    lost = threading.Event()
    with Tracer("stem", memory) as tracer:
        mapper = TorMapper(tracer)
        with Controller.from_socket_file(lab.control) as controller:
            controller.authenticate()
            source = from_stem(controller)
            source.add_listener(mapper.handle)

            def lose(_: object) -> None:
                mapper.close("CONNECTION_LOST")
                lost.set()

            source.on_disconnect(lose)
            source.set_events(["CIRC", "CIRC_MINOR"])
        assert lost.wait(10)
        source.close()
    assert mapper.counts.open == 0


def test_requests_are_joined(lab: Lab, web_port: int) -> None:
    """A stem controller does for `trace_requests`: a stream is below the span that asked for it."""
    memory = MemoryExporter()
    with Tracer("program", memory) as tracer, Controller.from_socket_file(lab.control) as controller:
        controller.authenticate()
        with from_stem(controller) as source:
            with (
                trace_requests(tracer, source),
                tracer.start_span("fetch") as span,
                socks_connect(("127.0.0.1", lab.socks_port), "127.0.0.1", web_port) as client,
            ):
                client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                with client.makefile("rb") as answer:
                    assert answer.read().endswith(b"/hello")
            assert source.is_connected
    (stream,) = [record for record in memory.records if record.name == "tor.stream" and record.kind is SpanKind.CLIENT]
    assert (stream.trace_id, stream.parent_id) == (span.trace_id, span.span_id)
    assert {"tor.stream.attach", "tor.stream.connect", "tor.stream.transfer"} <= {
        record.name for record in memory.records if record.parent_id == stream.span_id
    }
