"""Circuits of a real tor, in the lab: what the traces say against what tor said."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from clew import FileExporter, SpanRecord, Status, Tracer
from clew.errors import CircuitError
from clew.otlp import decode_json
from clew.testing import capture_spans
from clew.tor.circuit_mapper import CircuitMapper
from clew.tor.control import ControlClient
from clew.tor.events import CircuitEvent, Event
from clew.tor.manager import CircuitManager
from clew.tor.privacy import Privacy

if TYPE_CHECKING:
    from pathlib import Path

    from clew.tor.consensus import RelayStatus
    from clew.tor.lab import Lab

pytestmark = pytest.mark.tor

CIRCUITS = 500
THREADS = 20
MS = 1_000_000
# Both are authorities: those have no bandwidth in the consensus, so tor itself never builds a circuit through them. A
# relay that could not reach another does not try again for a minute; nobody else's circuits shall suffer from that.
STOPPED = "auth3"
BEFORE = "auth1"
UNKNOWN = "F" * 40


@dataclass
class Recording:
    """A trace file of some hundred circuits, and what tor sent beside it."""

    path: Path
    relays: list[RelayStatus]
    raw: dict[str, list[CircuitEvent]] = field(default_factory=lambda: defaultdict(list))
    asked: dict[int, list[str] | None] = field(default_factory=dict)  # the path asked for, by number
    expected: dict[int, int | None] = field(default_factory=dict)  # the hop at which it must fail; 0: refused

    def traces(self) -> dict[int, list[SpanRecord]]:
        """The spans of each trace, by the number on its root."""
        by_trace = defaultdict(list)
        for line in self.path.read_bytes().splitlines():
            for record in decode_json(line):
                by_trace[record.trace_id].append(record)
        return {
            int(str(root.attributes["number"])): records
            for records in by_trace.values()
            for root in records
            if root.name == "work"
        }


@pytest.fixture(scope="module")
def recording(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """500 circuits, 20 at a time, some through a relay that is down, some to relays that there are not."""
    with ControlClient.connect(lab.control) as control:
        record = Recording(tmp_path_factory.mktemp("circuits") / "traces.jsonl", control.relays())
        control.add_listener(lambda event: note(record, event))
        plan(record)
        with (
            Tracer("lab", FileExporter(record.path)) as tracer,
            CircuitManager(control, tracer, privacy=Privacy.PSEUDONYMOUS) as manager,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            through = {n for n in range(CIRCUITS) if n % 20 < 3}
            list(pool.map(lambda n: build(record, tracer, manager, n), sorted(set(range(CIRCUITS)) - through)))
            lab.stop_node(STOPPED)
            try:
                list(pool.map(lambda n: build(record, tracer, manager, n), sorted(through)))
            finally:
                lab.start_node(STOPPED)
        return record


def note(record: Recording, event: Event) -> None:
    if isinstance(event, CircuitEvent):
        record.raw[event.circuit_id].append(event)


def plan(record: Recording) -> None:
    """What is asked for, and where it must fail."""
    names = {relay.nickname: relay.fingerprint for relay in record.relays}
    relays = [relay.nickname for relay in record.relays if "Authority" not in relay.flags]
    paths = itertools.cycle(itertools.permutations(relays, 3))
    for number in range(CIRCUITS):
        path: list[str] | None
        fails_at: int | None
        first, second, third = next(paths)
        match number % 20:
            case 0:
                path, fails_at = [BEFORE, STOPPED, first], 2
            case 1:
                path, fails_at = [first, BEFORE, STOPPED], 3
            case 2:
                path, fails_at = [STOPPED, first, second], 1
            case 3:
                path, fails_at = [first, second, second], 3  # no relay extends to itself
            case 4:
                path, fails_at = [first, UNKNOWN], 0
            case 5:
                path, fails_at = None, None
            case 6:
                path, fails_at = [first, second, third, first], None
            case _:
                path, fails_at = [first, second, third], None
        record.asked[number] = None if path is None else [names.get(name, name) for name in path]
        record.expected[number] = fails_at


def build(record: Recording, tracer: Tracer, manager: CircuitManager, number: int) -> None:
    with tracer.start_span("work", attributes={"number": number}) as span:
        try:
            circuit = manager.create_circuit(record.asked[number])
        except CircuitError as error:
            span.set_attribute("circuit", error.circuit_id)
        else:
            span.set_attribute("circuit", circuit.id)
            manager.close_circuit(circuit)


def spans(records: list[SpanRecord], name: str) -> list[SpanRecord]:
    return sorted((r for r in records if r.name == name), key=lambda r: (r.start_time_ns, r.end_time_ns))


def test_every_circuit_is_a_trace_with_its_end(recording: Recording) -> None:
    """500 traces; each has the hops that tor told of and the end that it had, under the operation that asked."""
    traces = recording.traces()
    assert sorted(traces) == list(range(CIRCUITS))
    built = 0
    for number, records in traces.items():
        (work,) = spans(records, "work")
        (operation,) = spans(records, "build-circuit")
        builds = spans(records, "tor.circuit.build")
        hops = spans(records, "tor.circuit.extend")
        assert operation.parent_id == work.span_id
        fails_at = recording.expected[number]
        if fails_at == 0:
            assert (builds, hops, operation.attributes["error.type"]) == ([], [], "reply_552")
            continue
        (build,) = builds
        assert build.parent_id == operation.span_id
        assert {hop.parent_id for hop in hops} == {build.span_id}
        assert (
            build.attributes["tor.circuit.id"] == operation.attributes["tor.circuit.id"] == work.attributes["circuit"]
        )
        asked = recording.asked[number]
        length = 3 if asked is None else len(asked)
        raw = recording.raw[str(build.attributes["tor.circuit.id"])]
        is_built = "BUILT" in [event.status for event in raw]
        if fails_at is None and not is_built:  # the machine is busy, and tor fails now and then
            fails_at = 1 + sum(event.status == "EXTENDED" for event in raw)
        built += is_built
        assert [hop.attributes["tor.hop.index"] for hop in hops] == list(range(1, (fails_at or length) + 1))
        if fails_at is None:
            assert (build.status, operation.status) == (Status.UNSET, Status.UNSET)
            assert {hop.status for hop in hops} == {Status.UNSET}
            assert [hop.attributes["tor.hop.role"] for hop in hops] == ["guard", *["middle"] * (length - 2), "exit"]
        else:
            failed = raw[-1]
            assert failed.status == "FAILED"
            assert failed.reason is not None
            assert (build.status, operation.status, hops[-1].status) == (Status.ERROR,) * 3
            assert {hop.status for hop in hops[:-1]} <= {Status.UNSET}
            for span in (build, hops[-1]):
                assert span.attributes["error.type"] == failed.reason.lower()
                assert span.attributes["tor.circuit.reason"] == failed.reason
                assert span.attributes.get("tor.circuit.remote_reason") == failed.remote_reason
            assert build.attributes["tor.circuit.failed_hop"] == fails_at
    assert built > CIRCUITS / 2


def test_every_hop_has_the_time_between_its_events(recording: Recording) -> None:
    """A hop lasts from the arrival of the event before to that of its own, within a millisecond; nothing is missing."""
    compared = 0
    for records in recording.traces().values():
        for build in spans(records, "tor.circuit.build"):
            raw = recording.raw[str(build.attributes["tor.circuit.id"])]
            ends = [e.time_ns for e in raw if e.status in ("LAUNCHED", "EXTENDED")]
            if build.status is Status.ERROR:
                ends.append(raw[-1].time_ns)
            hops = spans(records, "tor.circuit.extend")
            assert len(hops) == len(ends) - 1
            for hop, (begin, end) in zip(hops, itertools.pairwise(ends), strict=True):
                assert abs(hop.duration_ns - (end - begin)) <= MS
                assert abs(hop.start_time_ns - begin) <= MS
                compared += 1
            assert "tor.circuit.partial" not in build.attributes
    assert compared > 2 * CIRCUITS


def test_the_file_tells_of_no_relay(recording: Recording) -> None:
    """At level 1, nothing in the file is a relay's fingerprint, nickname or address; equal relays have equal hashes."""
    data = recording.path.read_bytes()
    assert [word for word in telling(recording.relays) if word in data.lower()] == []
    guards = {
        (recording.asked[number] or [""])[0]: hop.attributes["tor.relay.fingerprint"]
        for number, records in recording.traces().items()
        for hop in spans(records, "tor.circuit.extend")[:1]
        if recording.asked[number]
    }
    assert len(set(guards.values())) == len(guards) == 7, "five relays and two authorities"


@pytest.mark.parametrize("level", Privacy)
def test_levels(lab: Lab, tmp_path: Path, level: Privacy) -> None:
    """Levels 0 and 1 tell of no relay, level 2 not of the guard, level 3 of all; also where a circuit fails."""
    path = tmp_path / "traces.jsonl"
    with ControlClient.connect(lab.control) as control:
        relays = control.relays()
        first, second, third = [relay for relay in relays if "Authority" not in relay.flags][:3]
        with Tracer("lab", FileExporter(path)) as tracer, CircuitManager(control, tracer, privacy=level) as manager:
            hops = [relay.fingerprint for relay in (first, second, third)]
            with tracer.start_span("work"):
                manager.create_circuit(hops)
                for wrong in ([*hops, hops[-1]], [hops[0], UNKNOWN]):
                    with pytest.raises(CircuitError):
                        manager.create_circuit(wrong)
    data = path.read_bytes().lower()
    told = [word for word in telling(relays) if word in data]
    expected = {
        Privacy.ANONYMOUS: [],
        Privacy.PSEUDONYMOUS: [],
        Privacy.OPERATOR: telling([second, third], addresses=False),
        Privacy.LAB: telling([first, second, third], addresses=False),
    }
    assert sorted(told) == sorted(expected[level])
    assert (b"tor.circuit.id" in data) == (level > Privacy.ANONYMOUS)


def telling(relays: list[RelayStatus], *, addresses: bool = True) -> list[bytes]:
    """What would tell of a relay, in lower case."""
    words = {word for relay in relays for word in (relay.fingerprint.lower(), relay.nickname.lower())}
    if addresses:
        words |= {word for relay in relays for word in (relay.address, f":{relay.or_port}")}
    return sorted(word.encode() for word in words)


def test_operations(lab: Lab) -> None:
    """Create, extend, close: each a span of the caller's trace, with tor's own under it."""
    with (
        ControlClient.connect(lab.control) as control,
        capture_spans() as captured,
        CircuitManager(control, captured.tracer, privacy=Privacy.ANONYMOUS) as manager,
    ):
        *hops, other = [relay.fingerprint for relay in control.relays() if "Authority" not in relay.flags][:4]
        with captured.tracer.start_span("work"):
            circuit = manager.create_circuit(hops)
            longer = manager.extend_circuit(circuit, [other])
            manager.close_circuit(longer)
        assert [relay.fingerprint for relay in circuit.path] == hops
        assert (longer.id, longer.path[:3], longer.path[3].fingerprint) == (circuit.id, circuit.path, other)
        names = [line.strip() for line in captured.tree().splitlines() if not line.strip().startswith("- ")]
        assert names == [
            "trace  test",
            "work",
            "build-circuit",
            "tor.circuit.build",
            *["tor.circuit.extend"] * 3,
            "extend-circuit",
            "tor.circuit.build",
            "tor.circuit.extend",
            "close-circuit",
        ]


def test_a_timeout_leaves_no_circuit(lab: Lab) -> None:
    """When the time is over tor has closed the circuit, and the trace has its end."""
    with (
        ControlClient.connect(lab.control) as control,
        capture_spans() as captured,
        CircuitManager(control, captured.tracer) as manager,
    ):
        with pytest.raises(CircuitError, match="not built within 0 s") as error:
            manager.create_circuit(timeout=0)
        build = spans(captured.records, "tor.circuit.build")
        assert [(b.status, b.attributes["error.type"]) for b in build] == [(Status.CANCELLED, "requested")]
        known = [line.split()[0] for line in control.get_info("circuit-status")["circuit-status"].splitlines()]
        assert error.value.circuit_id not in known


def test_the_circuits_of_others(lab: Lab) -> None:
    """A mapper that listens sees the circuits of others, each as a trace of its own, joined to no operation of ours."""
    with (
        ControlClient.connect(lab.control) as control,
        ControlClient.connect(lab.control) as other,
        capture_spans() as captured,
    ):
        mapper = CircuitMapper(captured.tracer, Privacy.LAB)
        control.add_listener(mapper.handle)
        control.set_events(["CIRC", "CIRC_MINOR"])
        manager = CircuitManager(control, captured.tracer, mapper=mapper)
        hops = [relay.fingerprint for relay in control.relays() if "Authority" not in relay.flags][:3]
        theirs = other.extend_circuit("0", hops)
        ours = manager.create_circuit(hops).id
        deadline = time.monotonic() + 60
        parents: dict[object, str] = {}
        while theirs not in parents and time.monotonic() < deadline:
            builds = spans(captured.records, "tor.circuit.build")
            parents = {build.attributes["tor.circuit.id"]: build.parent_id for build in builds}
            time.sleep(0.01)
        assert parents.pop(ours)
        assert parents[theirs] == ""
        assert set(parents.values()) == {""}
