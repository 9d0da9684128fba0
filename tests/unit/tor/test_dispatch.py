"""The queue of events and the thread that calls the listeners."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from clew.errors import ControlConnectionError, TorError
from clew.tor.dispatch import ControlStats, EventDispatcher
from clew.tor.events import CircuitEvent, Event
from clew.tor.wire import Reply, ReplyLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MALFORMED = "CIRC"


def launched(number: int) -> str:
    """What a CIRC event says."""
    return f"CIRC {number} LAUNCHED"


class Gate:
    """A listener that waits inside until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.seen: list[str] = []

    def __call__(self, event: Event) -> None:
        assert isinstance(event, CircuitEvent)
        self.seen.append(event.circuit_id)
        self.entered.set()
        assert self.leave.wait(10)


@pytest.fixture
def make() -> Iterator[Callable[..., EventDispatcher]]:
    """Makes dispatchers, and ends them after the test."""
    made: list[EventDispatcher] = []

    def _make(max_events: int = 100, max_bytes: int = 10_000) -> EventDispatcher:
        made.append(EventDispatcher(max_events=max_events, max_bytes=max_bytes))
        return made[-1]

    yield _make
    for dispatcher in made:
        dispatcher.end(None)
        dispatcher.join(10)


def put(dispatcher: EventDispatcher, text: str, time_ns: int = 1) -> None:
    """Queue an event of one line."""
    dispatcher.put([Reply(650, (ReplyLine(text),))], time_ns)


def finish(dispatcher: EventDispatcher, reason: TorError | None = None) -> ControlStats:
    """End it, wait for the listeners, and see what became of the events."""
    dispatcher.end(reason)
    dispatcher.join(10)
    return dispatcher.stats()


def test_order(make: Callable[..., EventDispatcher]) -> None:
    """Every listener gets every event, in order, with the time that was put, on a thread of the dispatcher's."""
    dispatcher = make()
    seen: list[tuple[str, int]] = []
    threads = set()

    def listen(event: Event) -> None:
        assert isinstance(event, CircuitEvent)
        seen.append((event.circuit_id, event.time_ns))
        threads.add(threading.current_thread().name)

    dispatcher.add_listener(listen)
    dispatcher.add_listener(listen)
    for number in range(50):
        put(dispatcher, launched(number), time_ns=1000 + number)
    assert finish(dispatcher) == ControlStats(50, 50, 0, 0, 0, 0)
    assert seen == [(str(number), 1000 + number) for number in range(50) for _ in range(2)]
    assert threads == {"clew-tor-events"}


def test_raw_listener(make: Callable[..., EventDispatcher], caplog: pytest.LogCaptureFixture) -> None:
    """A raw listener gets each event as tor sent it, before the others get theirs, malformed ones too."""
    dispatcher = make()
    seen: list[object] = []
    dispatcher.add_raw_listener(lambda reply, time_ns: seen.append((reply.text, time_ns)))
    dispatcher.add_listener(seen.append)
    put(dispatcher, MALFORMED, time_ns=1)
    put(dispatcher, launched(7), time_ns=2)
    assert finish(dispatcher) == ControlStats(2, 1, 1, 0, 0, 0)
    assert seen == [(MALFORMED, 1), (launched(7), 2), CircuitEvent(2, "7", "LAUNCHED")]


def test_remove_listener(make: Callable[..., EventDispatcher]) -> None:
    """A listener that was removed is no longer called; to remove it again is no error."""
    dispatcher = make()
    seen: list[Event] = []
    dispatcher.add_listener(seen.append)
    dispatcher.remove_listener(seen.append)
    dispatcher.remove_listener(seen.append)
    put(dispatcher, launched(1))
    finish(dispatcher)
    assert seen == []


@pytest.mark.parametrize("error", [ValueError("a secret"), SystemExit(3), KeyboardInterrupt()])
def test_raising_listener(
    make: Callable[..., EventDispatcher], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """What a listener raises is counted, logged once and without its text, and does not reach the other listeners."""
    dispatcher = make()
    seen: list[Event] = []

    def fail(event: Event) -> None:
        raise error

    dispatcher.add_listener(fail)
    dispatcher.add_listener(seen.append)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            put(dispatcher, launched(number))
        assert finish(dispatcher) == ControlStats(3, 3, 0, 0, 0, 3)
    assert len(seen) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"a listener of tor's events raised {type(error).__name__}; further errors of it are only counted"
    ]


def test_malformed(make: Callable[..., EventDispatcher], caplog: pytest.LogCaptureFixture) -> None:
    """An event that is not understood is counted and logged once; the next ones come."""
    dispatcher = make()
    seen: list[Event] = []
    dispatcher.add_listener(seen.append)
    with caplog.at_level(logging.WARNING):
        for text in (MALFORMED, launched(1), MALFORMED, launched(2)):
            put(dispatcher, text)
        assert finish(dispatcher) == ControlStats(4, 2, 2, 0, 0, 0)
    assert len(seen) == 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("max_events", "max_bytes"), [(3, 10_000), (100, 3 * len(launched(0)))], ids=["events", "bytes"]
)
def test_slow_listener(make: Callable[..., EventDispatcher], max_events: int, max_bytes: int) -> None:
    """When the listeners are too slow for the queue, the oldest events go, and the ledger says how many."""
    dispatcher = make(max_events, max_bytes)
    gate = Gate()
    dispatcher.add_listener(gate)
    put(dispatcher, launched(0))
    assert gate.entered.wait(10)
    for number in range(1, 9):
        put(dispatcher, launched(number))
    assert dispatcher.stats() == ControlStats(9, 0, 0, 5, 4, 0)  # one with the listener, three waiting
    gate.leave.set()
    assert finish(dispatcher) == ControlStats(9, 4, 0, 5, 0, 0)
    assert gate.seen == ["0", "6", "7", "8"]


def test_size_of_blocks(make: Callable[..., EventDispatcher]) -> None:
    """Data blocks count as bytes of an event."""
    dispatcher = make(max_bytes=1000)
    gate = Gate()
    dispatcher.add_listener(gate)
    put(dispatcher, launched(0))
    assert gate.entered.wait(10)
    dispatcher.put([Reply(650, (ReplyLine("HS_DESC_CONTENT", "x" * 2000), ReplyLine("OK")))], 1)
    assert dispatcher.stats().dropped == 1
    gate.leave.set()


def test_given_up(make: Callable[..., EventDispatcher]) -> None:
    """Events that the listeners did not take in time at the end are dropped and counted."""
    dispatcher = make()
    gate = Gate()
    dispatcher.add_listener(gate)
    for number in range(4):
        put(dispatcher, launched(number))
    assert gate.entered.wait(10)
    dispatcher.end(None)
    dispatcher.join(0)
    assert dispatcher.stats() == ControlStats(4, 0, 0, 3, 1, 0)
    gate.leave.set()
    dispatcher.join(10)
    assert dispatcher.stats() == ControlStats(4, 1, 0, 3, 0, 0)
    assert gate.seen == ["0"]


def test_disconnect(make: Callable[..., EventDispatcher]) -> None:
    """The listeners of the end are called once, after the last event, with the reason; a late one is called at once."""
    dispatcher = make()
    seen: list[object] = []
    reason = ControlConnectionError("gone")
    dispatcher.add_listener(lambda event: seen.append(event.raw_type))
    dispatcher.on_disconnect(seen.append)
    put(dispatcher, launched(1))
    finish(dispatcher, reason)
    assert seen == ["CIRC", reason]
    dispatcher.on_disconnect(seen.append)
    assert seen == ["CIRC", reason, reason]


def test_end_without_reason(make: Callable[..., EventDispatcher]) -> None:
    """An end that was asked for is told to nobody."""
    dispatcher = make()
    seen: list[object] = []
    dispatcher.on_disconnect(seen.append)
    finish(dispatcher)
    dispatcher.on_disconnect(seen.append)
    assert seen == []


def test_raising_disconnect_listener(make: Callable[..., EventDispatcher]) -> None:
    """One that raises is counted and does not reach the next."""
    dispatcher = make()
    seen: list[object] = []

    def fail(reason: TorError) -> None:
        raise ValueError

    dispatcher.on_disconnect(fail)
    dispatcher.on_disconnect(seen.append)
    assert finish(dispatcher, ControlConnectionError("gone")).listener_errors == 1
    assert len(seen) == 1


def test_join_by_a_listener(make: Callable[..., EventDispatcher]) -> None:
    """A listener that waits for the end of its own thread is not held."""
    dispatcher = make()
    dispatcher.add_listener(lambda event: dispatcher.join(10))
    put(dispatcher, launched(1))
    assert finish(dispatcher) == ControlStats(1, 1, 0, 0, 0, 0)
