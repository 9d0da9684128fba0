"""Streams of a real tor while everything around them breaks: every event accounted for, nothing left behind."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from clew import FileExporter, MemoryExporter, SpanRecord, Status, Tracer
from clew.otlp import decode_json
from clew.tor.control import ControlClient
from clew.tor.events import parse_event
from clew.tor.mapper import EVENTS, TorMapper
from clew.tor.privacy import Privacy
from clew.tor.wire import Reply, ReplyLine
from tests.tor_expected import Expected, RawEvent, expected_builds, expected_streams, read_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clew import Span
    from clew.model import Stats
    from clew.tor.events import StreamEvent
    from clew.tor.lab import Lab
    from clew.tor.mapper import MapperCounts

pytestmark = [pytest.mark.tor, pytest.mark.timeout(300)]

STREAMS = 2000  # at least, in all rounds together
CIRCUITS = 500
ROUNDS = 2
STREAMS_PER_CIRCUIT = 4
THREADS = 40
HELD = 12  # streams that are open when something breaks
RELAY = "exit2"  # is killed
STEPS = ("tor.stream.attach", "tor.stream.connect", "tor.stream.resolve", "tor.stream.transfer")
MS = 1_000_000
ANSWER = b"y" * 500
# A valid address (its key is the base point of the curve) that nobody publishes.
NOBODY = "lbtgmztgmztgmztgmztgmztgmztgmztgmztgmztgmztgmztgmztmn5ad.onion"


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# --- both ends of the streams ----------------------------------------------------------------------------------------


class Handler(socketserver.BaseRequestHandler):
    """Answers "g" and hangs up; holds what says "h" until the other side hangs up."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            if self.request.recv(1) == b"g":
                self.request.sendall(ANSWER)
            else:
                self.request.sendall(b"!")
                self.request.recv(1)


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = True


class Program:
    """What uses tor: connections, each with a span of its own that owns its stream and says what became of it:
    "done", "refused 5" (the reply of SOCKS), "broken", "given up", "no tor".
    """

    def __init__(self, tracer: Tracer, port: int) -> None:
        self.tracer = tracer
        self.port = port
        self.owners: dict[str, Span] = {}

    def owner(self, event: StreamEvent) -> Span | None:
        """What the mapper asks."""
        return self.owners.pop(event.source_addr or "", None)

    def get(self, host: str, port: int, user: str) -> None:
        """Fetch an answer."""
        self._request(host, port, user, lambda tor: "done" if self._fetch(tor) == ANSWER else "broken")

    def give_up(self, host: str, port: int, user: str) -> None:
        """Ask for a connection and hang up."""
        self._request(host, port, user, None)

    def hold(self, host: str, port: int, user: str, held: threading.Semaphore, release: threading.Event) -> None:
        """Have a connection that stays until it breaks or is released."""

        def use(tor: socket.socket) -> str:
            tor.sendall(b"h")
            tor.recv(1)
            held.release()
            tor.settimeout(0.05)
            while not release.is_set():
                with contextlib.suppress(TimeoutError):
                    tor.recv(1)
                    return "broken"
            return "done"

        self._request(host, port, user, use)

    def _fetch(self, tor: socket.socket) -> bytes:
        tor.sendall(b"g")
        data = b""
        while piece := tor.recv(4096):
            data += piece
        return data

    def _request(self, host: str, port: int, user: str, use: Callable[[socket.socket], str] | None) -> None:
        with self.tracer.start_span("request") as span:
            source = ""
            try:
                with socket.create_connection(("127.0.0.1", self.port), 60) as tor:
                    near = tor.getsockname()
                    source = f"{near[0]}:{near[1]}"
                    self.owners[source] = span
                    result = self._ask(tor, host, port, user, use)
            except ConnectionRefusedError:
                result = "no tor"
            except (OSError, EOFError):
                result = "broken"
            span.set_attribute("result", result)
            if result != "given up":  # tor may tell of that stream later
                self.owners.pop(source, None)

    def _ask(
        self, tor: socket.socket, host: str, port: int, user: str, use: Callable[[socket.socket], str] | None
    ) -> str:
        """SOCKS 5 with a name and a password (RFC 1928 and 1929), by which tor keeps circuits apart."""
        name = user.encode()
        tor.sendall(b"\x05\x01\x02")
        self._read(tor, 2)
        tor.sendall(b"\x01" + bytes([len(name)]) + name + b"\x01x")
        self._read(tor, 2)
        tor.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
        if use is None:
            return "given up"
        reply = self._read(tor, 10)[1]
        return f"refused {reply}" if reply else use(tor)

    def _read(self, tor: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = tor.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


# --- who watches -----------------------------------------------------------------------------------------------------


class Wire:
    """A loopback port in front of tor's control socket. A connection through it can be cut, in the middle of a line.

    One connection after the other.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._cut = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self) -> None:
        """With the next bytes from tor, half of which still arrive."""
        self._cut.set()

    def close(self) -> None:
        """Once nobody is connected."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
                far.connect(self._path)
                upwards = threading.Thread(target=self._pump, args=(near, far))
                upwards.start()
                self._pump(far, near, may_cut=True)
                upwards.join()

    def _pump(self, source: socket.socket, sink: socket.socket, *, may_cut: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if may_cut and self._cut.is_set():
                    self._cut.clear()
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Run:
    """One connection to tor, from its first event to its end. What tor said is in a file: memory is measured."""

    path: Path
    begin_ns: int = 0
    reason: str = ""
    end_ns: int = 0

    def events(self) -> list[RawEvent]:
        lines = (line.split(" ", 1) for line in self.path.read_text().splitlines())
        return [read_event(text, int(time_ns)) for time_ns, text in lines]


class Watcher:
    """One connection to tor after the other, and one mapper for all of them."""

    def __init__(self, wire: Wire, mapper: TorMapper, directory: Path) -> None:
        self._wire = wire
        self._mapper = mapper
        self._directory = directory
        self._client: ControlClient | None = None
        self._lost = threading.Event()
        self.received = 0  # events, over all connections
        self.runs: list[Run] = []

    def connect(self) -> None:
        """Watch tor from now on."""
        self._lost.clear()
        client = ControlClient.connect(self._wire.address)
        run = Run(self._directory / f"{len(self.runs)}.log")
        log = run.path.open("w")

        def note(reply: Reply, time_ns: int) -> None:
            log.write(f"{time_ns} {reply.lines[0].text}\n")

        def end(reason: str) -> None:
            log.close()
            run.reason, run.end_ns = reason, time.time_ns()
            self._mapper.close(reason, run.end_ns)
            self._lost.set()

        self._client, self._end = client, end
        self.runs.append(run)
        client.add_raw_listener(note)
        client.add_listener(self._mapper.handle)
        client.on_disconnect(lambda _: end("CONNECTION_LOST"))
        client.set_events(EVENTS)
        run.begin_ns = time.time_ns()

    def wait_lost(self) -> None:
        """Wait until the connection is gone."""
        assert self._lost.wait(60)
        self._settle()

    def disconnect(self) -> None:
        """Go, as who has seen enough."""
        assert self._client is not None
        self._client.close()
        self._end("DETACHED")
        self._settle()

    def _settle(self) -> None:
        client, self._client = self._client, None
        assert client is not None
        client.close()
        stats = client.stats()
        self.received += stats.received
        assert stats == (stats.received, stats.received, 0, 0, 0, 0), "all were received, dispatched, no more"
        assert self._mapper.counts.open == 0


# --- what happens ----------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """All that takes part."""

    lab: Lab
    program: Program
    watcher: Watcher
    wire: Wire
    web_port: int
    closed_port: int
    onion: str
    service: str
    pool: ThreadPoolExecutor
    numbers: Iterator[int]

    def traffic(self, count: int) -> list[Future[None]]:
        """Streams that end by themselves: most of them well, some not."""
        return [self.pool.submit(self._stream, next(self.numbers)) for _ in range(count)]

    def _stream(self, number: int) -> None:
        user = f"u{number // STREAMS_PER_CIRCUIT}"
        match number % 25:
            case 3:
                self.program.get("127.0.0.1", self.closed_port, user)
            case 8:
                self.program.get(NOBODY, 80, user)
            case 13:
                self.program.give_up("127.0.0.1", self.web_port, f"g{number}")
            case _:
                self.program.get("127.0.0.1", self.web_port, user)

    @contextlib.contextmanager
    def held(self, host: str = "127.0.0.1", port: int | None = None) -> Iterator[None]:
        """Some streams that are open meanwhile, unless they break."""
        held, release = threading.Semaphore(0), threading.Event()
        target = self.web_port if port is None else port
        threads = [
            threading.Thread(target=self.program.hold, args=(host, target, f"h{next(self.numbers)}", held, release))
            for _ in range(HELD)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                assert held.acquire(timeout=60)
            yield
        finally:
            release.set()
            for thread in threads:
                thread.join()

    def round(self) -> None:
        """Everything that can break does."""
        self.lab.start_node(self.service)
        self.watcher.connect()
        late = self.service_down()
        self.connection_cut()
        self.relay_killed()
        self.tor_restarted()
        finish(late)
        self.watcher.disconnect()
        self.program.owners.clear()

    def service_down(self) -> list[Future[None]]:
        """Returns: what may take until tor gives up, half a minute."""
        with self.held(self.onion, 80):
            finish(self.to_service())
            self.lab.stop_node(self.service)
            late = self.to_service()
            wait_done(late, 1)
        return late

    def to_service(self) -> list[Future[None]]:
        return [self.pool.submit(self.program.get, self.onion, 80, f"s{n % 3}") for n in range(9)]

    def connection_cut(self) -> None:
        with self.held():
            streams = self.traffic(300)
            wait_done(streams, 20)
            self.wire.cut()
            self.watcher.wait_lost()
            self.watcher.connect()
            finish(streams)

    def relay_killed(self) -> None:
        with self.held():
            streams = self.traffic(300)
            wait_done(streams, 20)
            pid = self.lab.node(RELAY).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_done(streams, 60)
            self.lab.start_node(RELAY)
            finish(streams)

    def tor_restarted(self) -> None:
        with self.held():
            streams = self.traffic(60)
            wait_done(streams, 10)
            self.lab.stop_node("client")
            self.watcher.wait_lost()
            finish(streams)
        self.lab.start_node("client")
        self.watcher.connect()
        finish(self.traffic(400))


def wait_done(futures: list[Future[None]], count: int) -> None:
    wait_for(lambda: sum(map(Future.done, futures)) >= count, f"fewer than {count} requests ended")


def finish(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result(120)


@dataclass
class Memory:
    """What there is of memory that this test can count."""

    objects: Counter[str]  # of the project's own types
    blocks: int  # of Python's allocator
    resident_bytes: int

    @classmethod
    def now(cls) -> Memory:
        for thing in gc.get_objects():  # caches are bounded, and the soak does not fill them
            if isinstance(thing, functools._lru_cache_wrapper) and thing.__module__.startswith("clew."):
                thing.cache_clear()
        gc.collect()
        kinds = (type(thing) for thing in gc.get_objects())
        objects = Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("clew."))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(objects, sys.getallocatedblocks(), pages * os.sysconf("SC_PAGE_SIZE"))


@dataclass
class Soak:
    """What came of it."""

    runs: list[Run]
    records: list[SpanRecord]  # tor's
    requests: list[SpanRecord]  # the program's
    received: int  # events
    counts: MapperCounts
    stats: Stats
    memory: list[Memory]  # before the first round, and after each

    def of(self, run: Run) -> list[SpanRecord]:
        """The spans of one connection to tor."""
        before = max((other.end_ns for other in self.runs if other.end_ns < run.end_ns), default=0)
        return in_order(record for record in self.records if before < record.end_time_ns <= run.end_ns)


@pytest.fixture(scope="module")
def soak(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """More than 2,000 streams over more than 500 circuits, with everything that can break."""
    directory = tmp_path_factory.mktemp("streams")
    tor_path, program_path = directory / "tor.jsonl", directory / "program.jsonl"
    memory = [Memory.now()]
    with (
        Server(("127.0.0.1", 0), Handler) as server,
        socket.socket() as closed,
        Tracer("tor", FileExporter(tor_path)) as tracer,
        Tracer("program", FileExporter(program_path)) as other_tracer,
        ThreadPoolExecutor(THREADS) as pool,
        contextlib.closing(Wire(lab.control)) as wire,
    ):
        threading.Thread(target=server.serve_forever).start()
        closed.bind(("127.0.0.1", 0))
        service = lab.add_onion_service(80, server.server_address[1])
        program = Program(other_tracer, lab.socks_port)
        mapper = TorMapper(tracer, Privacy.LAB, owner=program.owner)
        watcher = Watcher(wire, mapper, directory)
        stage = Stage(
            lab=lab,
            program=program,
            watcher=watcher,
            wire=wire,
            web_port=server.server_address[1],
            closed_port=closed.getsockname()[1],
            onion=service.address,
            service=service.name,
            pool=pool,
            numbers=itertools.count(),
        )
        try:
            for _ in range(ROUNDS):
                stage.round()
                assert tracer.flush(30)
                assert other_tracer.flush(30)
                memory.append(Memory.now())
        finally:
            server.shutdown()
        return Soak(
            watcher.runs,
            read(tor_path),
            read(program_path),
            watcher.received,
            mapper.counts,
            tracer.stats(),
            memory,
        )


def in_order(records: Iterable[SpanRecord]) -> list[SpanRecord]:
    return sorted(records, key=lambda record: (record.start_time_ns, record.end_time_ns))


def read(path: Path) -> list[SpanRecord]:
    return [record for line in path.read_bytes().splitlines() for record in decode_json(line)]


def test_nothing_is_lost_and_nothing_stays(soak: Soak) -> None:
    """Every event was taken, every stream, circuit and span has ended in one way, and none is open."""
    counts = soak.counts
    assert counts.events == soak.received == sum(len(run.events()) for run in soak.runs)
    assert (counts.ignored, counts.open, counts.evicted) == (0, 0, 0)
    streams, circuits = counts.streams, counts.circuits
    assert streams.opened == streams.done + streams.failed + streams.cancelled + streams.lost >= STREAMS
    assert circuits.launched == circuits.built + circuits.failed + circuits.lost >= CIRCUITS
    assert (streams.unknown, circuits.unknown, circuits.known) == (0, 0, 0)
    stats = soak.stats
    assert stats.started == stats.ended == stats.exported == len(soak.records)
    assert (stats.failed, stats.queued, stats.coerced, stats.errors) == (0, 0, 0, 0)
    assert {run.reason for run in soak.runs} == {"CONNECTION_LOST", "DETACHED"}
    assert len(soak.runs) == 3 * ROUNDS


def test_every_stream_is_one_span(soak: Soak) -> None:
    """With the times, the status and the reason that tor's own events give, however it ended; its steps join up."""
    causes = Counter[object]()
    for run in soak.runs:
        causes += check_streams(soak.of(run), expected_streams(run.events(), run.end_ns, run.reason))
    assert causes[None] > STREAMS / 2
    # A destination that refuses (older tors say so), an address that nobody publishes, a program that gives up, a
    # circuit that breaks, a connection to tor that breaks.
    assert causes["misc"] + causes["connectrefused"] > 10
    assert min(causes[cause] for cause in ("resolvefailed", "done", "destroy", "connection_lost")) > 10


def test_every_circuit_is_one_span(soak: Soak) -> None:
    """The same for builds of circuits, and for their hops."""
    causes = Counter[object]()
    for run in soak.runs:
        causes += check_builds(soak.of(run), expected_builds(run.events(), run.end_ns, run.reason))
    assert causes[None] > CIRCUITS
    assert min(causes["destroyed"], causes["connection_lost"]) > 0


def test_whenever_one_comes_and_goes(soak: Soak) -> None:
    """The same for whoever had watched tor for any piece of that time."""
    random = Random(4)
    for run in soak.runs:
        lines = run.path.read_text().splitlines()
        for size in (5, 30, 100, 400, 1500):
            begin = random.randrange(len(lines))
            piece = [line.split(" ", 1) for line in lines[begin : begin + size]]
            reason = random.choice(("CONNECTION_LOST", "DETACHED"))
            end_ns = int(piece[-1][0]) + MS
            memory = MemoryExporter()
            with Tracer("tor", memory) as tracer:
                mapper = TorMapper(tracer, Privacy.LAB)
                for time_ns, text in piece:
                    mapper.handle(parse_event(Reply(650, (ReplyLine(text),)), int(time_ns)))
                mapper.close(reason, end_ns)
            records = in_order(memory.records)
            events = [read_event(text, int(time_ns)) for time_ns, text in piece]
            check_streams(records, expected_streams(events, end_ns, reason))
            check_builds(records, expected_builds(events, end_ns, reason))


def check_streams(records: list[SpanRecord], expected: Iterable[Expected]) -> Counter[object]:
    """That streams and their steps are what they must be. Returns: how many have ended why."""
    steps = by_parent(record for record in records if record.name in STEPS)
    causes = Counter[object]()
    for record, stream in compare(records, "tor.stream", "tor.stream", expected):
        causes[record.attributes.get("error.type")] += 1
        own = steps[record.span_id]
        assert all(before.end_time_ns == after.start_time_ns for before, after in itertools.pairwise(own))
        if not stream.is_partial:
            times = [own[0].start_time_ns, *(step.end_time_ns for step in own)]
            assert is_near(times, stream.steps_ns), stream
    return causes


def check_builds(records: list[SpanRecord], expected: Iterable[Expected]) -> Counter[object]:
    """The same for builds of circuits and their hops."""
    hops = by_parent(record for record in records if record.name == "tor.circuit.extend")
    causes = Counter[object]()
    for record, build in compare(records, "tor.circuit.build", "tor.circuit", expected):
        causes[record.attributes.get("error.type")] += 1
        assert is_near([hop.end_time_ns for hop in hops[record.span_id]], build.steps_ns), build
    return causes


def compare(
    records: list[SpanRecord], name: str, prefix: str, expected: Iterable[Expected]
) -> list[tuple[SpanRecord, Expected]]:
    """That spans of that name are what they must be. Returns: each with what was expected of it."""
    found, wanted = defaultdict(list), defaultdict(list)
    for record in records:
        if record.name == name:
            found[str(record.attributes[f"{prefix}.id"])].append(record)
    for each in sorted(expected, key=lambda each: each.start_ns):
        wanted[each.id].append(each)
    assert {name: len(group) for name, group in found.items()} == {name: len(group) for name, group in wanted.items()}
    pairs = [pair for each_id in found for pair in zip(found[each_id], wanted[each_id], strict=True)]
    for record, each in pairs:
        assert is_near([record.start_time_ns, record.end_time_ns], [each.start_ns, each.end_ns]), each
        assert (record.status, record.attributes.get("error.type")) == (each.status, each.error_type), each
        assert (f"{prefix}.partial" in record.attributes) == each.is_partial, each
        assert ("clew.unfinished" in record.attributes) == each.is_unfinished, each
    exact = [is_near([record.start_time_ns, record.end_time_ns], [e.start_ns, e.end_ns], MS) for record, e in pairs]
    assert sum(exact) >= 0.95 * len(exact)
    return pairs


def is_near(times_ns: list[int], others_ns: list[int], most: int = 50 * MS) -> bool:
    """Whether they are the same within so many nanoseconds.

    The others are what another process read of tor. On a machine that is busy either can be late; `compare` sees to it
    that nearly all are the same within a millisecond.
    """
    return len(times_ns) == len(others_ns) and all(abs(a - b) <= most for a, b in zip(times_ns, others_ns, strict=True))


def by_parent(records: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    groups = defaultdict(list)
    for record in records:
        groups[record.parent_id].append(record)
    return groups


def test_every_span_is_below_what_it_belongs_to(soak: Soak) -> None:
    """Parents are there, children lie within them but where the documentation says otherwise, failures say why."""
    by_id = {record.span_id: record for record in soak.records + soak.requests}
    outside = Counter[str]()
    for record in soak.records:
        assert record.status is Status.UNSET or record.attributes["error.type"]
        if record.parent_id:
            parent = by_id[record.parent_id]
            if record.start_time_ns < parent.start_time_ns:
                outside[f"{record.name} begins before {parent.name}"] += 1
            if record.end_time_ns > parent.end_time_ns and (
                parent.name != "tor.hs.connect" or parent.status is Status.UNSET
            ):
                outside[f"{record.name} ends after {parent.name}"] += 1
    # tor tells of a stream's end after the program has closed it. A circuit may have been begun when a stream came. An
    # introduction may be acknowledged late (and tor goes on with what it began for a connection that has failed).
    assert outside.keys() <= {
        "tor.stream ends after request",
        "tor.circuit.build begins before tor.stream.attach",
        "tor.hs.connect.introduce ends after tor.hs.connect",
    }


def test_the_program_saw_the_same(soak: Soak) -> None:
    """Each request owns the one stream that tor made for it, and that stream ended as the program was told."""
    streams = by_parent(record for record in soak.records if record.name == "tor.stream")
    seen = Counter[object]()
    unseen = 0
    for request in soak.requests:
        own = streams[request.span_id]
        result = str(request.attributes["result"])
        if result == "no tor":
            assert own == []
            continue
        if not any(run.begin_ns <= request.start_time_ns <= request.end_time_ns <= run.end_ns for run in soak.runs):
            assert len(own) <= 1  # nobody saw its beginning, or its end
            continue
        if not own:  # tor ended before it looked at it, or what it said was cut off
            unseen += 1
            continue
        (stream,) = own
        seen[result] += 1
        if "clew.unfinished" in stream.attributes:
            continue
        if result == "done":  # the circuit may have broken when all was there
            assert stream.attributes.get("error.type") in (None, "destroy")
        elif result == "given up":
            assert stream.status is not Status.ERROR
        else:
            assert stream.status is Status.ERROR
    assert sum(seen.values()) > 0.8 * STREAMS
    assert unseen <= 2 * ROUNDS * (THREADS + HELD), "no more than were under way at the two breaks of each round"
    assert min(seen[result] for result in ("done", "given up", "broken", "refused 1", "refused 4")) > 10


def test_memory_is_back_to_where_it_began(soak: Soak) -> None:
    """A further round of everything leaves no object of the project's more, and no block of Python's for a stream."""
    before, first, *_, last = soak.memory
    assert last.objects == first.objects
    for kind in ("Stream", "Circuit", "Build", "Running", "Span", "ControlClient", "Reply", "StreamEvent"):
        assert last.objects[kind] == before.objects[kind]
    streams = soak.counts.streams.opened / ROUNDS * (ROUNDS - 1)
    assert last.blocks - first.blocks < streams / 2
    assert last.resident_bytes - first.resident_bytes < 16 * 1024 * 1024
