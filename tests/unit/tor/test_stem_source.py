"""A stem controller as a source of events: what it is asked, and what comes of what it does."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import stem  # type: ignore[import-untyped]
import stem.control  # type: ignore[import-untyped]
import stem.response  # type: ignore[import-untyped]

from clew.errors import (
    ConfigurationError,
    ControlAuthenticationError,
    ControlConnectionError,
    ControlProtocolError,
    ControlReplyError,
    TorError,
)
from clew.tor.events import CircuitEvent, Event, UnknownEvent
from clew.tor.stem_source import StemSource, from_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clew.tor.wire import Reply

LAUNCHED = "650 CIRC 7 LAUNCHED PURPOSE=CONFLUX_UNLINKED CONFLUX_ID=1F\r\n"


class FakeController(stem.control.Controller):  # type: ignore[misc]
    """stem's controller without a connection: its lists of listeners, and answers that are given."""

    def __init__(self) -> None:
        self.alive = self.authenticated = True
        self.listeners: dict[str, list[Callable[[Any], None]]] = {}
        self.status_listeners: list[Callable[[object, str, float], None]] = []
        self.sent: list[str] = []
        self.refused: set[str] = set()
        self.answer: Callable[[list[str]], dict[str, str]] = lambda keys: {
            key: {"events/names": "CIRC STREAM CONF_CHANGED FUTURE", "version": "0.4.9.11 (git-0123)"}[key]
            for key in keys
        }

    def is_alive(self) -> bool:
        return self.alive

    def is_authenticated(self) -> bool:
        return self.authenticated

    def add_status_listener(self, callback: Any, spawn: bool = True) -> None:
        assert not spawn
        self.status_listeners.append(callback)

    def remove_status_listener(self, callback: Any) -> None:
        self.status_listeners = [listener for listener in self.status_listeners if listener != callback]

    def add_event_listener(self, listener: Any, *events: str) -> None:
        for name in events:
            self.listeners.setdefault(name, []).append(listener)
        self._set_events()
        if self.refused.intersection(events):
            raise stem.ProtocolError("SETEVENTS rejected")

    def remove_event_listener(self, listener: Any) -> None:
        for name, listeners in list(self.listeners.items()):
            self.listeners[name] = [each for each in listeners if each != listener]
            if not self.listeners[name]:
                del self.listeners[name]
        self._set_events()

    def _set_events(self) -> None:
        if not self.alive:
            raise stem.SocketClosed
        self.sent.append(" ".join(self.listeners))

    def get_info(self, params: Any, default: Any = None, get_bytes: bool = False) -> Any:
        return self.answer(params)

    def get_conf(self, param: str, default: Any = None, multiple: bool = False) -> Any:
        assert multiple
        if param == "Nonsense":
            raise stem.InvalidArguments("552", "unrecognized option", [param])
        return ["1"]

    def receive(self, raw: str) -> None:
        """As stem does with a message from tor."""
        message = stem.response.ControlMessage.from_str(raw)
        stem.response.convert("EVENT", message)
        for listener in self.listeners.get(message.type, []):
            listener(message)

    def end(self) -> None:
        """As stem does when the connection is gone."""
        self.alive = False
        for listener in list(self.status_listeners):
            listener(self, stem.control.State.CLOSED, time.time())


@pytest.fixture
def controller() -> FakeController:
    """A controller that is connected."""
    return FakeController()


@pytest.fixture
def source(controller: FakeController) -> Iterator[StemSource]:
    """A source on it."""
    with from_stem(controller) as source:
        yield source


def test_events(controller: FakeController, source: StemSource) -> None:
    """Events are read from what tor sent, whatever stem makes of it, with the time at which stem called."""
    events: list[Event] = []
    raw: list[tuple[Reply, int]] = []
    source.add_listener(events.append)
    source.add_raw_listener(lambda reply, time_ns: raw.append((reply, time_ns)))
    source.set_events(["CIRC", "CONF_CHANGED", "FUTURE"])
    before = time.time_ns()
    controller.receive(LAUNCHED)
    controller.receive("650-CONF_CHANGED\r\n650-SocksPort=9050\r\n650 OK\r\n")
    controller.receive("650 FUTURE 1\r\n")
    after = time.time_ns()
    source.close()
    circuit, changed, future = events
    assert isinstance(circuit, CircuitEvent)
    assert (circuit.purpose, circuit.conflux_id) == ("CONFLUX_UNLINKED", "1F")
    assert changed == UnknownEvent(changed.time_ns, "CONF_CHANGED", "CONF_CHANGED\nSocksPort=9050\nOK")
    assert future == UnknownEvent(future.time_ns, "FUTURE", "FUTURE 1")
    assert before <= circuit.time_ns <= changed.time_ns <= future.time_ns <= after
    assert [(reply.lines[0].text.split(" ")[0], time_ns) for reply, time_ns in raw] == [
        (event.raw_type, event.time_ns) for event in events
    ]
    assert source.stats().dispatched == 3


def test_a_listener_is_removed(controller: FakeController, source: StemSource) -> None:
    """A listener that was removed gets nothing more."""
    events: list[Event] = []
    source.add_listener(events.append)
    source.remove_listener(events.append)
    source.set_events(["CIRC"])
    controller.receive(LAUNCHED)
    source.close()
    assert events == []


def test_the_program_keeps_its_listeners(controller: FakeController) -> None:
    """stem's listeners stay, get what they got, and tor is asked for theirs and ours; afterwards for theirs."""
    theirs: list[str] = []
    controller.add_event_listener(lambda message: theirs.append(message.type), "CIRC", "BW")
    ours: list[Event] = []
    with from_stem(controller) as source:
        source.add_listener(ours.append)
        source.set_events(["CIRC", "STREAM"])
        controller.receive(LAUNCHED)
        controller.receive("650 BW 1 2\r\n")
        assert controller.sent[-1] == "CIRC BW STREAM"
    controller.receive(LAUNCHED)
    assert theirs == ["CIRC", "BW", "CIRC"]
    assert len(ours) == 1
    assert controller.sent[-1] == "CIRC BW"
    assert controller.status_listeners == []


def test_events_are_chosen_anew(controller: FakeController, source: StemSource) -> None:
    """What was chosen before and is not now comes no more; no event comes twice, and tor never has to stop."""
    events: list[Event] = []
    source.add_listener(events.append)
    source.set_events(["CIRC", "FUTURE"])
    source.set_events(["CIRC", "STREAM"])
    source.set_events(["CIRC"])
    controller.receive(LAUNCHED)
    controller.receive("650 FUTURE 1\r\n")
    assert controller.sent == ["CIRC FUTURE", "CIRC FUTURE STREAM"]
    source.close()
    assert [event.raw_type for event in events] == ["CIRC"]


def test_events_that_tor_does_not_know(controller: FakeController, source: StemSource) -> None:
    """An event that this tor does not have is refused as tor would, and nothing has changed."""
    source.set_events(["CIRC"])
    with pytest.raises(ControlReplyError, match='tor answered 552 Unrecognized event "NEWER"'):
        source.set_events(["STREAM", "NEWER"])
    assert controller.sent == ["CIRC"]


def test_events_that_stem_refuses(controller: FakeController, source: StemSource) -> None:
    """What stem itself refuses changes nothing either, though stem keeps the listener then."""
    events: list[Event] = []
    source.add_listener(events.append)
    source.set_events(["CIRC"])
    controller.refused = {"FUTURE"}
    with pytest.raises(ControlProtocolError, match="SETEVENTS rejected"):
        source.set_events(["FUTURE"])
    assert list(controller.listeners) == ["CIRC"]
    controller.receive(LAUNCHED)
    source.close()
    assert len(events) == 1


def test_the_controller_is_closed(controller: FakeController, source: StemSource) -> None:
    """Who asked is told once, after the last event; later events, of another connection, are not taken."""
    told: list[object] = []
    source.add_listener(lambda event: told.append(event.raw_type))
    source.on_disconnect(told.append)
    source.set_events(["CIRC"])
    controller.receive(LAUNCHED)
    assert source.is_connected
    controller.end()
    assert not source.is_connected
    controller.receive(LAUNCHED)
    controller.end()
    source.close()
    first, second = told
    assert first == "CIRC"
    assert isinstance(second, ControlConnectionError)
    assert controller.listeners == {}


def test_closed_by_us(controller: FakeController) -> None:
    """Letting go is no loss: nobody is told. A second call does nothing, and a listener may do it."""
    told: list[TorError] = []
    source = from_stem(controller)
    source.on_disconnect(told.append)
    source.add_listener(lambda _: source.close())
    source.set_events(["CIRC"])
    controller.receive(LAUNCHED)
    source.close()
    source.close()
    controller.end()
    assert told == []


def test_closed_while_it_was_handed_over(controller: FakeController) -> None:
    """A controller that closes in the moment before it could be watched is noticed."""
    controller.alive = False
    source = StemSource(controller)
    told: list[TorError] = []
    source.on_disconnect(told.append)
    source.close()
    assert len(told) == 1


def test_answers(controller: FakeController, source: StemSource) -> None:
    """GETINFO and GETCONF are answered as by ControlClient."""
    assert source.get_info("version") == {"version": "0.4.9.11 (git-0123)"}
    assert source.tor_version == "0.4.9.11"
    assert source.get_conf("TestingTorNetwork") == {"TestingTorNetwork": ("1",)}
    with pytest.raises(ControlReplyError, match="552 unrecognized option"):
        source.get_conf("Nonsense")


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (stem.SocketClosed("gone"), ControlConnectionError),
        (stem.SocketError("gone"), ControlConnectionError),
        (stem.OperationFailed("551", "no"), ControlReplyError),
        (stem.OperationFailed(None, "no"), ControlReplyError),
        (stem.ProtocolError("nonsense"), ControlProtocolError),
    ],
)
def test_errors(controller: FakeController, source: StemSource, error: Exception, ours: type[Exception]) -> None:
    """stem's exceptions are told as ours."""

    def fail(_: list[str]) -> dict[str, str]:
        raise error

    controller.answer = fail
    with pytest.raises(ours):
        source.get_info("version")


def test_what_is_no_controller(controller: FakeController, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be used is one sentence each."""
    with pytest.raises(ConfigurationError, match=r"takes a stem\.control\.Controller, not a str"):
        from_stem("9051")
    controller.authenticated = False
    with pytest.raises(ControlAuthenticationError, match="call its authenticate"):
        from_stem(controller)
    controller.alive = False
    with pytest.raises(ControlConnectionError, match="connect it first"):
        from_stem(controller)
    monkeypatch.setitem(sys.modules, "stem.control", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'clew\[stem\]'"):
        from_stem(controller)
