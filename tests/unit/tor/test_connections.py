"""Which span made which connection: addresses that are used again, events that come late, and doubt."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import Tracer, limits
from clew.tor.client_ports import ClientPorts
from clew.tor.connections import Connections
from tests.fake_tor import stream_event

if TYPE_CHECKING:
    import socket

    from clew import Span

PORTS = ClientPorts.parse(['"127.0.0.1:9050" "127.0.0.1:9150"'])
TOR, OTHER_PORT = ("127.0.0.1", 9050), ("127.0.0.1", 9150)
NEAR = ("127.0.0.1", 40_000)
MS = 1_000_000
LATE = limits.SOCKS_REQUEST_NS + 1


class FakeSocket:
    """As much of a socket as is looked at."""

    type = 1

    def __init__(self) -> None:
        self.is_closed = False

    def fileno(self) -> int:
        return -1 if self.is_closed else 7


class Program:
    """Connections of a program whose sockets stay open until they are closed."""

    def __init__(self) -> None:
        self.connections = Connections(PORTS)
        self.sockets: list[FakeSocket] = []

    def connect(
        self,
        time_ns: int,
        span: Span | None,
        *,
        near: tuple[str, int] = NEAR,
        far: tuple[str, int] = TOR,
        again: FakeSocket | None = None,
    ) -> FakeSocket:
        connected = again or FakeSocket()
        self.sockets.append(connected)
        ref = cast("weakref.ref[socket.socket]", weakref.ref(connected))
        self.connections.add(time_ns, near, far, ref, span)
        return connected

    def owner(self, time_ns: int, *, near: str = "127.0.0.1:40000", group: str | None = None) -> Span | None:
        event = stream_event("1", "NEW", source_addr=near, time_ns=time_ns, group=group)
        taken = self.connections.take(event)
        return None if taken is None else taken.span


def spans(number: int) -> list[Span]:
    with Tracer("test") as tracer:
        return [tracer.start_span(str(each)) for each in range(number)]


A, B, C = spans(3)


def balanced(connections: Connections) -> bool:
    counts = connections.counts
    return counts.made == counts.taken + counts.given_up + counts.evicted + counts.waiting and counts.waiting >= 0


def test_a_stream_belongs_to_the_connection_from_its_address() -> None:
    """Host and port are the key; an address that is not ours has no owner."""
    program = Program()
    program.connect(1 * MS, A)
    program.connect(2 * MS, B, near=("127.0.0.1", 40_001))
    assert program.owner(3 * MS, near="127.0.0.1:40001") is B
    assert program.owner(3 * MS, near="127.0.0.1:40002") is None
    assert program.owner(3 * MS, near="127.0.0.2:40000") is None
    assert program.owner(3 * MS) is A
    assert balanced(program.connections)


def test_a_connection_has_one_stream() -> None:
    """What was taken is not taken again."""
    program = Program()
    program.connect(1 * MS, A)
    assert program.owner(2 * MS) is A
    assert program.owner(3 * MS) is None


def test_an_event_that_comes_late_is_the_older_connections() -> None:
    """The address was used again before the event of its first use was looked at: times decide."""
    program = Program()
    program.connect(1 * MS, A).is_closed = True
    program.connect(10 * MS, B)
    assert program.owner(2 * MS) is A
    assert program.owner(11 * MS) is B


def test_a_connection_that_had_no_stream_casts_doubt() -> None:
    """Was it closed without one, or is tor late to tell? The stream has no owner; the one after it is the newer's."""
    program = Program()
    program.connect(1 * MS, A).is_closed = True
    program.connect(10 * MS, B)
    assert program.owner(11 * MS) is None
    assert program.owner(12 * MS) is B
    assert program.owner(13 * MS) is None
    assert program.connections.counts.ambiguous == 1
    assert balanced(program.connections)


def test_no_doubt_remains_after_a_while() -> None:
    """By then tor would have told."""
    program = Program()
    program.connect(1 * MS, A).is_closed = True
    program.connect(10 * MS, B)
    assert program.owner(10 * MS + LATE) is B
    assert program.owner(11 * MS + LATE) is None
    assert balanced(program.connections)


def test_there_is_no_doubt_between_connections_of_one_span() -> None:
    """Whichever it was, the owner is the same."""
    program = Program()
    program.connect(1 * MS, A).is_closed = True
    program.connect(10 * MS, A)
    assert program.owner(11 * MS) is A
    assert program.owner(12 * MS) is A
    assert program.owner(13 * MS) is None
    assert program.connections.counts.ambiguous == 0
    assert balanced(program.connections)


def test_nobodys_connection_is_a_connection() -> None:
    """One that was made where no span was current has a stream of its own, and casts doubt as any other does."""
    program = Program()
    program.connect(1 * MS, None)
    assert program.owner(2 * MS) is None
    assert program.connections.counts.taken == 1
    program.connect(3 * MS, A).is_closed = True
    program.connect(10 * MS, None)
    assert program.owner(11 * MS) is None
    assert program.owner(12 * MS) is None
    assert program.connections.counts.waiting == 0


def test_a_stream_from_before_the_connection_is_not_its_own() -> None:
    """tor told of it before the connection was made: it was another program's."""
    program = Program()
    program.connect(10 * MS, A)
    assert program.owner(9 * MS) is None
    assert program.owner(11 * MS) is A


def test_a_closed_connection_has_a_stream_only_for_a_while() -> None:
    """Later another program may have the address; as long as the socket is open, nobody else can."""
    program = Program()
    program.connect(0, A)
    program.connect(0, B, near=("127.0.0.1", 40_001)).is_closed = True
    assert program.owner(LATE) is A
    assert program.owner(LATE, near="127.0.0.1:40001") is None
    assert program.connections.counts.waiting == 0
    assert balanced(program.connections)


def test_a_socket_that_is_gone_counts_as_closed() -> None:
    """The program let go of it without closing it."""
    program = Program()
    program.connect(0, A)
    program.sockets.clear()
    assert program.owner(LATE) is None


def test_in_doubt_there_is_no_owner() -> None:
    """One local port, two of tor's: nobody can say which of the two connections a stream is on."""
    program = Program()
    program.connect(1 * MS, A)
    program.connect(2 * MS, B, far=OTHER_PORT)
    assert program.owner(3 * MS) is None
    assert program.owner(4 * MS) is None
    assert program.connections.counts.ambiguous == 2
    assert program.connections.counts.waiting == 0  # by now both have had theirs
    assert balanced(program.connections)


def test_tors_number_of_the_listener_ends_the_doubt() -> None:
    """Streams that are beyond doubt teach which SESSION_GROUP is which port's."""
    program = Program()
    program.connect(1 * MS, C, near=("127.0.0.1", 40_001))
    assert program.owner(2 * MS, near="127.0.0.1:40001", group="-4") is C
    program.connect(3 * MS, A)
    program.connect(4 * MS, B, far=OTHER_PORT)
    assert program.owner(5 * MS, group="-9") is None
    assert program.owner(5 * MS, group="-4") is A
    assert program.owner(6 * MS, group="-5") is B


def test_connecting_without_blocking_is_one_connection() -> None:
    """Who calls connect_ex again to see how it went has no second connection, whatever span is current by then."""
    program = Program()
    first = program.connect(1 * MS, A)
    program.connect(2 * MS, None, again=first)
    assert program.owner(3 * MS) is A
    assert balanced(program.connections)


def test_what_does_not_lead_to_tor_is_left_out() -> None:
    """Another host's port of the same number, a datagram socket, a name that stayed one."""
    program = Program()
    program.connect(1 * MS, A, far=("192.0.2.1", 9050))
    program.connect(1 * MS, A, far=("tor.example", 9050))
    program.connect(1 * MS, A).type = 2
    assert program.owner(2 * MS) is None
    assert program.connections.counts.made == 0


def test_other_forms_of_an_address_are_the_same_address() -> None:
    """IPv6 as sockets have it and as tor writes it, with a scope, and IPv4 within IPv6."""
    ports = ClientPorts.parse(['"[::1]:9050" "127.0.0.1:9050"'])
    connections = Connections(ports)
    held = FakeSocket()
    ref = cast("weakref.ref[socket.socket]", weakref.ref(held))
    connections.add(0, ("::1", 40_000, 0, 0), ("::1", 9050, 0, 0), ref, A)
    connections.add(0, ("::ffff:127.0.0.1", 40_000, 0, 0), ("::ffff:127.0.0.1", 9050, 0, 0), ref, B)
    for near, owner in (("::1:40000", A), ("127.0.0.1:40000", B)):
        taken = connections.take(stream_event("1", "NEW", source_addr=near, time_ns=1))
        assert taken is not None
        assert taken.span is owner


@pytest.mark.parametrize(
    "near", [None, "", "/run/tor/socks:0", "unix:", ":", "127.0.0.1:", "127.0.0.1:99999", "(Tor_internal):0"]
)
def test_a_stream_without_an_address_has_no_owner(near: str | None) -> None:
    """tor's own streams, and those that came by a Unix socket."""
    connections = Connections(PORTS)
    assert connections.take(stream_event("1", "NEW", source_addr=near)) is None


def test_too_many_that_wait_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are; and where newer ones were lost before they were looked at, no older one takes their streams."""
    monkeypatch.setattr(limits, "SOCKS_CONNECTIONS_WAITING", 3)
    program = Program()
    program.connect(1 * MS, A)
    assert program.owner(0) is None  # has looked at it
    for number in range(5):
        program.connect((2 + number) * MS, B, near=("127.0.0.1", 40_001 + number))
    assert program.owner(20 * MS) is None
    assert [program.owner(20 * MS, near=f"127.0.0.1:{40_001 + number}") for number in range(5)] == [None, None, B, B, B]
    counts = program.connections.counts
    assert (counts.made, counts.evicted) == (6, 2)
    assert balanced(program.connections)


def test_one_by_one_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes connections and never uses them does not fill the memory."""
    monkeypatch.setattr(limits, "SOCKS_CONNECTIONS_WAITING", 3)
    program = Program()
    for number in range(9):
        program.connect(number * MS, A, near=("127.0.0.1", 40_000 + number))
        program.owner(number * MS, near="127.0.0.1:1")
    assert [program.owner(20 * MS, near=f"127.0.0.1:{40_000 + number}") for number in range(9)] == [None] * 6 + [A] * 3
    assert program.connections.counts.evicted == 6
    assert balanced(program.connections)


def test_connections_that_stay_open_are_looked_at_now_and_then() -> None:
    """One that is closed after all is given up."""
    program = Program()
    held = program.connect(0, A)
    program.owner(LATE, near="127.0.0.1:1")
    assert program.connections.counts.waiting == 1
    held.is_closed = True
    program.owner(2 * LATE, near="127.0.0.1:1")
    assert program.connections.counts.waiting == 0


def test_nothing_is_left_of_a_tor_that_is_gone() -> None:
    """The next tor's streams are not those of the last one's connections."""
    program = Program()
    program.connect(1 * MS, A)
    program.connections.clear()
    assert program.owner(2 * MS) is None
    assert balanced(program.connections)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([40_000, 40_001]),  # the near port
            st.booleans(),  # whether a span is current
            st.booleans(),  # whether a stream begins
            st.booleans(),  # whether it is closed before the events are looked at
            st.integers(0, 3),  # how many connections later the events are looked at
            st.integers(0, 25),  # after how many milliseconds tor tells; the next connection is made after ten
        ),
        max_size=30,
    )
)
def test_no_stream_gets_another_ones_span(history: list[tuple[int, bool, bool, bool, int, int]]) -> None:
    """Whatever is used again, closed, unused or late: the owner is the span of the connection, or nobody."""
    program = Program()
    made = spans(len(history))
    events: list[tuple[int, int, Span | None, str]] = []  # look at it then; time, whose, address
    last: dict[int, FakeSocket] = {}
    told_ns = 0

    def look(until: int) -> None:
        while events and events[0][0] <= until:  # tor tells in order, and late or not we look in that order
            _, time_ns, owner, near = events.pop(0)
            assert program.owner(time_ns, near=near) in (owner, None)

    for number, (port, has_span, has_stream, closes, lag, slow_ms) in enumerate(history):
        if port in last:
            last[port].is_closed = True  # or else the address would not be free
        span = made[number] if has_span else None
        connected = program.connect(number * 10 * MS, span, near=("127.0.0.1", port))
        last[port] = connected
        if has_stream:
            told_ns = max(told_ns, number * 10 * MS + slow_ms * MS)
            events.append((number + lag, told_ns, span, f"127.0.0.1:{port}"))
        connected.is_closed = closes
        look(number)
    look(len(history) + 3)
    assert balanced(program.connections)


@given(st.lists(st.tuples(st.sampled_from([40_000, 40_001]), st.booleans(), st.integers(0, 3)), max_size=30))
def test_where_each_connection_has_its_stream_each_gets_its_own(history: list[tuple[int, bool, int]]) -> None:
    """As long as tor tells before the address is used again, and however late we look: no doubt, no stream missed."""
    program = Program()
    made = spans(len(history))
    events: list[tuple[int, int, Span | None, str]] = []
    for number, (port, has_span, lag) in enumerate(history):
        span = made[number] if has_span else None
        program.connect(number * 10 * MS, span, near=("127.0.0.1", port)).is_closed = True
        events.append((number + lag, number * 10 * MS + MS, span, f"127.0.0.1:{port}"))
        while events and events[0][0] <= number:
            _, time_ns, owner, near = events.pop(0)
            assert program.owner(time_ns, near=near) is owner
    assert program.connections.counts.ambiguous == 0
