"""Circuit events to spans: whole traces, compared as text."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import NeverSample, limits
from clew.errors import ConfigurationError
from clew.pretty import format_tree
from clew.testing import CapturedSpans, capture_spans
from clew.tor.circuit_mapper import CircuitMapper, Claim, Outcome
from clew.tor.circuits import Trigger
from clew.tor.events import BuildTimeoutEvent, CircuitEvent, CircuitMinorEvent, Relay
from clew.tor.privacy import Privacy
from clew.tor.simulation import simulate_circuit

MS = 1_000_000
T0 = 1_767_225_600_000_000_000
GUARD = Relay("A" * 40, "anna")
MIDDLE = Relay("B" * 40, "bert")
EXIT = Relay("C" * 40, "carl")
FOURTH = Relay("D" * 40, "dora")
PATH = (GUARD, MIDDLE, EXIT)


def circ(at_ms: float, status: str, hops: int = 0, circuit_id: str = "7", **fields: Any) -> CircuitEvent:
    path = (*PATH, FOURTH)[:hops]
    return CircuitEvent(T0 + round(at_ms * MS), circuit_id, status, path, **{"purpose": "GENERAL", **fields})


def minor(at_ms: float, change: str, hops: int, circuit_id: str = "7", **fields: Any) -> CircuitMinorEvent:
    return CircuitMinorEvent(T0 + round(at_ms * MS), circuit_id, change, (*PATH, FOURTH)[:hops], **fields)


def drawn(captured: CapturedSpans) -> str:
    return format_tree(captured.records, ids=False)


def traced(*events: CircuitEvent | CircuitMinorEvent, level: Privacy = Privacy.ANONYMOUS) -> str:
    """The traces of these events, as text."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer, level)
        for event in events:
            mapper.handle(event)
        return drawn(captured)


def tree(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_a_built_circuit() -> None:
    """From LAUNCHED to BUILT, each hop from the one before to its own EXTENDED; closing later changes nothing."""
    text = traced(
        circ(0, "LAUNCHED", build_flags=("NEED_CAPACITY",), time_created_ns=T0),
        circ(30, "EXTENDED", 1, build_flags=("NEED_CAPACITY",)),
        circ(80, "EXTENDED", 2, build_flags=("NEED_CAPACITY",)),
        circ(200, "EXTENDED", 3, build_flags=("NEED_CAPACITY",)),
        circ(201, "BUILT", 3, build_flags=("NEED_CAPACITY",)),
        circ(90_000, "CLOSED", 3, reason="FINISHED"),
        level=Privacy.LAB,
    )
    assert text == tree("""
        trace  tor  201 ms
          tor.circuit.build  201 ms
            - clew.privacy.level = "lab"
            - tor.circuit.id = "7"
            - tor.circuit.purpose = "GENERAL"
            - tor.circuit.build_flags = ["NEED_CAPACITY"]
            - tor.circuit.hops = 3
            tor.circuit.extend  30.0 ms
              - tor.hop.index = 1
              - tor.relay.nickname = "anna"
              - tor.relay.fingerprint = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
              - tor.hop.role = "guard"
              - tor.circuit.id = "7"
            tor.circuit.extend  50.0 ms
              - tor.hop.index = 2
              - tor.relay.nickname = "bert"
              - tor.relay.fingerprint = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
              - tor.hop.role = "middle"
              - tor.circuit.id = "7"
            tor.circuit.extend  120 ms
              - tor.hop.index = 3
              - tor.relay.nickname = "carl"
              - tor.relay.fingerprint = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"
              - tor.hop.role = "exit"
              - tor.circuit.id = "7"
        """)


def test_a_failed_circuit() -> None:
    """The hop in progress has the error and its time; the build says which hop, how long, why."""
    text = traced(
        circ(0, "LAUNCHED"),
        circ(30, "EXTENDED", 1),
        circ(1530, "FAILED", 1, reason="DESTROYED", remote_reason="CONNECTFAILED"),
    )
    assert text == tree("""
        trace  tor  1.53 s
          tor.circuit.build  1.53 s  ERROR: hop 2: destroyed, and the relay said connectfailed
            - clew.privacy.level = "anonymous"
            - tor.circuit.purpose = "GENERAL"
            - error.type = "destroyed"
            - tor.circuit.hops = 1
            - tor.circuit.failed_hop = 2
            - tor.circuit.reason = "DESTROYED"
            - tor.circuit.remote_reason = "CONNECTFAILED"
            tor.circuit.extend  30.0 ms
              - tor.hop.index = 1
              - tor.hop.role = "guard"
            tor.circuit.extend  1.50 s  ERROR: destroyed, and the relay said connectfailed
              - tor.hop.index = 2
              - error.type = "destroyed"
              - tor.circuit.reason = "DESTROYED"
              - tor.circuit.remote_reason = "CONNECTFAILED"
        """)


def test_tor_gives_up_and_measures() -> None:
    """A build that is past tor's timeout says when that was; one that waited for a better guard says so."""
    text = traced(
        circ(0, "LAUNCHED"),
        circ(10, "EXTENDED", 1),
        minor(1500, "PURPOSE_CHANGED", 1, purpose="MEASURE_TIMEOUT", old_purpose="GENERAL"),
        circ(1600, "EXTENDED", 2, purpose="MEASURE_TIMEOUT"),
        circ(1700, "GUARD_WAIT", 2, purpose="MEASURE_TIMEOUT"),
        circ(9000, "CLOSED", 2, purpose="MEASURE_TIMEOUT", reason="MEASUREMENT_EXPIRED"),
    )
    assert text == tree("""
        trace  tor  9.00 s
          tor.circuit.build  9.00 s  ERROR: measurement_expired
            - clew.privacy.level = "anonymous"
            - tor.circuit.purpose = "MEASURE_TIMEOUT"
            - error.type = "measurement_expired"
            - tor.circuit.hops = 2
            - tor.circuit.reason = "MEASUREMENT_EXPIRED"
            * purpose_changed  +1.50 s
              - tor.circuit.purpose = "MEASURE_TIMEOUT"
              - tor.circuit.old_purpose = "GENERAL"
            * guard_wait  +1.70 s
              - tor.circuit.purpose = "MEASURE_TIMEOUT"
            tor.circuit.extend  10.0 ms
              - tor.hop.index = 1
              - tor.hop.role = "guard"
            tor.circuit.extend  1.59 s
              - tor.hop.index = 2
              - tor.hop.role = "exit"
        """)


def test_attached_in_the_middle() -> None:
    """The build begins where it was first seen and says that it is partial, and how old the circuit was by tor's clock.

    The hops so far have no spans; the next one has.
    """
    text = traced(
        circ(500, "EXTENDED", 2, time_created_ns=T0),
        circ(700, "EXTENDED", 3, time_created_ns=T0),
        circ(700, "BUILT", 3, time_created_ns=T0),
    )
    assert text == tree("""
        trace  tor  200 ms
          tor.circuit.build  200 ms
            - tor.circuit.partial = true
            - tor.circuit.age_ms = 500
            - clew.privacy.level = "anonymous"
            - tor.circuit.purpose = "GENERAL"
            - tor.circuit.hops = 3
            tor.circuit.extend  200 ms
              - tor.hop.index = 3
              - tor.hop.role = "exit"
        """)


@pytest.mark.parametrize(
    ("event", "picture"),
    [
        (circ(5, "BUILT", 3), "tor.circuit.build  0 ns\n"),
        (circ(5, "GUARD_WAIT", 3), ""),
        (circ(5, "FAILED", 0, reason="NOPATH"), "tor.circuit.build  0 ns  ERROR: nopath\n"),
        (circ(5, "CLOSED", 3, reason="FINISHED"), ""),
        (minor(5, "PURPOSE_CHANGED", 3), ""),
        (circ(5, "SOMETHING_NEW", 3), ""),
    ],
)
def test_a_single_event_of_an_unknown_circuit(event: CircuitEvent | CircuitMinorEvent, picture: str) -> None:
    """What is known is drawn, and no start, no hop is made up."""
    text = traced(event)
    assert [line.strip() + "\n" for line in text.splitlines() if "tor.circuit.build" in line] == (
        [picture] if picture else []
    )
    assert "tor.circuit.extend" not in text
    assert ("tor.circuit.partial = true" in text) == bool(picture)


def test_a_lost_event() -> None:
    """A hop whose EXTENDED was lost has no span, the next one no wrong time: the build says that it is partial."""
    text = traced(
        circ(0, "LAUNCHED"),
        circ(10, "EXTENDED", 1),
        circ(90, "EXTENDED", 3),
        circ(91, "EXTENDED", 4),
        circ(92, "BUILT", 4),
    )
    assert text == tree("""
        trace  tor  92.0 ms
          tor.circuit.build  92.0 ms
            - clew.privacy.level = "anonymous"
            - tor.circuit.purpose = "GENERAL"
            - tor.circuit.partial = true
            - tor.circuit.hops = 4
            tor.circuit.extend  10.0 ms
              - tor.hop.index = 1
              - tor.hop.role = "guard"
            tor.circuit.extend  1.00 ms
              - tor.hop.index = 4
              - tor.hop.role = "exit"
        """)


def test_a_cannibalized_circuit() -> None:
    """It has a further build of its own: marked as reused, with the circuit's age and only the hops that were added."""
    text = traced(
        circ(0, "LAUNCHED", time_created_ns=T0, purpose="HS_VANGUARDS", build_flags=("IS_INTERNAL",)),
        circ(10, "EXTENDED", 1, time_created_ns=T0, purpose="HS_VANGUARDS", build_flags=("IS_INTERNAL",)),
        circ(20, "BUILT", 1, time_created_ns=T0, purpose="HS_VANGUARDS", build_flags=("IS_INTERNAL",)),
        minor(5000, "CANNIBALIZED", 1, purpose="HS_CLIENT_INTRO", time_created_ns=T0 + 5000 * MS),
        circ(5040, "EXTENDED", 2, purpose="HS_CLIENT_INTRO", time_created_ns=T0 + 5000 * MS),
        circ(5041, "BUILT", 2, purpose="HS_CLIENT_INTRO", hs_state="HSCI_CONNECTING"),
    )
    assert text == tree("""
        trace  tor  20.0 ms
          tor.circuit.build  20.0 ms
            - clew.privacy.level = "anonymous"
            - tor.circuit.purpose = "HS_VANGUARDS"
            - tor.circuit.build_flags = ["IS_INTERNAL"]
            - tor.circuit.hops = 1
            tor.circuit.extend  10.0 ms
              - tor.hop.index = 1
              - tor.hop.role = "guard"
        trace  tor  41.0 ms
          tor.circuit.build  41.0 ms
            - tor.circuit.reused = true
            - tor.circuit.age_ms = 5000
            - clew.privacy.level = "anonymous"
            - tor.circuit.purpose = "HS_CLIENT_INTRO"
            - tor.circuit.build_flags = ["IS_INTERNAL"]
            - tor.circuit.hops = 2
            - tor.circuit.hs_state = "HSCI_CONNECTING"
            tor.circuit.extend  40.0 ms
              - tor.hop.index = 2
              - tor.hop.role = "introduction"
        """)


def test_tor_goes_away() -> None:
    """What is open ends with the reason, marked as unfinished; whoever detaches cancels."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer, Privacy.ANONYMOUS)
        for event in (circ(0, "LAUNCHED"), circ(10, "EXTENDED", 1), circ(0, "BUILT", 3, "8")):
            mapper.handle(event)
        captured.clear()
        mapper.close("CONNECTION_LOST", T0 + 40 * MS)
        assert drawn(captured) == tree("""
            trace  tor  40.0 ms
              tor.circuit.build  40.0 ms  ERROR: hop 2: connection_lost
                - clew.privacy.level = "anonymous"
                - tor.circuit.purpose = "GENERAL"
                - error.type = "connection_lost"
                - clew.unfinished = true
                - tor.circuit.hops = 1
                - tor.circuit.failed_hop = 2
                - tor.circuit.reason = "CONNECTION_LOST"
                tor.circuit.extend  10.0 ms
                  - tor.hop.index = 1
                  - tor.hop.role = "guard"
                tor.circuit.extend  30.0 ms  ERROR: connection_lost
                  - tor.hop.index = 2
                  - error.type = "connection_lost"
                  - tor.circuit.reason = "CONNECTION_LOST"
            """)
        assert (mapper.counts.lost, mapper.counts.known) == (1, 0)
        captured.clear()
        mapper.handle(circ(50, "LAUNCHED"))
        mapper.close("DETACHED", T0 + 60 * MS)
        assert "tor.circuit.build  10.0 ms  CANCELLED: hop 1: detached" in drawn(captured)


def test_another_run_of_tor_uses_the_ids_again() -> None:
    """A LAUNCHED for an id that is known ends the old circuit as lost and begins another."""
    text = traced(
        circ(0, "LAUNCHED"), circ(10, "EXTENDED", 1), circ(500, "LAUNCHED", purpose="TESTING"), circ(520, "BUILT", 0)
    )
    assert [line.strip() for line in text.splitlines() if "tor.circuit.build" in line] == [
        "tor.circuit.build  500 ms  ERROR: hop 2: tor_restarted",
        "tor.circuit.build  20.0 ms",
    ]


def test_a_clock_that_is_set_back() -> None:
    """No duration is negative: a time before the last one counts as the last one."""
    text = traced(circ(100, "LAUNCHED"), circ(150, "EXTENDED", 1), circ(20, "EXTENDED", 2), circ(160, "BUILT", 2))
    assert [line.split()[1:] for line in text.splitlines() if "tor.circuit." in line and "-" not in line] == [
        ["60.0", "ms"],
        ["50.0", "ms"],
        ["0", "ns"],
    ]


def test_unknown_things_are_kept() -> None:
    """Statuses, keywords and reasons of another tor are kept, under the level's rules, and counted."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer, Privacy.LAB)
        mapper.handle(circ(0, "LAUNCHED", extra={"NEW_KEY": "1.2.3.4", "word": "", "odd key": "x"}))
        mapper.handle(circ(5, "WARMED_UP"))
        mapper.handle(BuildTimeoutEvent(T0, "RESET"))
        mapper.handle(circ(9, "FAILED", reason="BRAND_NEW"))
        assert captured.tree() == tree("""
            trace  tor
              tor.circuit.build  ERROR: hop 1: brand_new
                - clew.privacy.level = "lab"
                - tor.circuit.id = "7"
                - tor.circuit.purpose = "GENERAL"
                - tor.circuit.extra.new_key = "1.2.3.4"
                - tor.circuit.extra.words = "odd key=x"
                - error.type = "brand_new"
                - tor.circuit.hops = 0
                - tor.circuit.failed_hop = 1
                - tor.circuit.reason = "BRAND_NEW"
                * unknown_status
                  - tor.circuit.purpose = "GENERAL"
                  - tor.circuit.status = "WARMED_UP"
                tor.circuit.extend  ERROR: brand_new
                  - tor.hop.index = 1
                  - tor.hop.role = "guard"
                  - tor.circuit.id = "7"
                  - error.type = "brand_new"
                  - tor.circuit.reason = "BRAND_NEW"
            """)
        assert (mapper.counts.events, mapper.counts.unknown, mapper.counts.failed) == (3, 1, 1)


def test_circuits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap the oldest circuit is ended and counted; nothing grows."""
    monkeypatch.setattr(limits, "CIRCUITS_OPEN", 3)
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        for number in range(10):
            mapper.handle(circ(number, "LAUNCHED", circuit_id=str(number)))
        assert (mapper.counts.known, mapper.counts.evicted, mapper.counts.building) == (3, 7, 3)
        assert drawn(captured).count("CANCELLED: hop 1: evicted") == 7


def test_not_sampled() -> None:
    """Nothing is recorded, everything is followed."""
    with capture_spans("tor", sampler=NeverSample()) as captured:
        mapper = CircuitMapper(captured.tracer)
        for event in simulate_circuit(PATH, (MS, MS, MS), fail_at=3, start_time_ns=T0):
            mapper.handle(event)
        assert captured.records == []
        assert (mapper.counts.failed, mapper.counts.known) == (1, 0)


# --- claims ---------------------------------------------------------------------------------------------------------


class Operation:
    """A span that waits for a circuit."""

    def __init__(
        self, captured: CapturedSpans, mapper: CircuitMapper, name: str, circuit_id: str | None = None
    ) -> None:
        self.mapper = mapper
        self.span = captured.tracer.start_span(name, start_time_ns=T0)
        self.outcomes: list[Outcome] = []
        self.ticket = mapper.expect(circuit_id)

    def answered(self, circuit_id: str, path: tuple[Relay, ...] = (), extend_ms: float | None = None) -> None:
        extend_time_ns = None if extend_ms is None else T0 + round(extend_ms * MS)
        self.mapper.claim(self.ticket, circuit_id, Claim(self.span, self.outcomes.append, path, extend_time_ns))


def shape(captured: CapturedSpans) -> str:
    """Names and durations only."""
    return "".join(
        line + "\n" for line in drawn(captured).splitlines() if line.strip()[:1] not in "-*" and "trace" not in line
    )


def test_events_before_the_reply() -> None:
    """A circuit whose events all arrive before the reply with its id is joined to its operation, and to no other."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        one = Operation(captured, mapper, "one")
        other = Operation(captured, mapper, "other")
        for event in simulate_circuit(PATH[:1], (MS,), circuit_id="21", start_time_ns=T0):
            mapper.handle(event)
        for event in simulate_circuit(PATH[:2], (MS, MS), fail_at=2, circuit_id="22", start_time_ns=T0):
            mapper.handle(event)
        assert captured.records == []
        one.answered("22")
        other.answered("21")
        one.span.end(T0 + 5 * MS)
        other.span.end(T0 + 5 * MS)
        assert shape(captured) == (
            "  one  5.00 ms\n"
            "    tor.circuit.build  2.00 ms  ERROR: hop 2: destroyed, and the relay said connectfailed\n"
            "      tor.circuit.extend  1.00 ms\n"
            "      tor.circuit.extend  1.00 ms  ERROR: destroyed, and the relay said connectfailed\n"
            "  other  5.00 ms\n"
            "    tor.circuit.build  1.00 ms\n"
            "      tor.circuit.extend  1.00 ms\n"
        )
        assert [outcome.trigger for outcome in one.outcomes + other.outcomes] == [Trigger.FAILED, Trigger.BUILT]
        assert one.outcomes[0].explanation == "hop 2: destroyed, and the relay said connectfailed"
        assert (one.outcomes[0].failed_hop, one.outcomes[0].path) == (2, PATH[:1])
        assert other.outcomes[0].path == PATH[:1]


def test_events_after_the_reply() -> None:
    """The claim waits for the circuit just as well; the hop that fails is named where the path was."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer, Privacy.LAB)
        one = Operation(captured, mapper, "one")
        one.answered("3", PATH)
        for event in simulate_circuit(PATH, (MS, MS, MS), fail_at=3, circuit_id="3", start_time_ns=T0):
            mapper.handle(event)
        one.span.end()
        hop = next(r for r in captured.records if r.attributes.get("tor.hop.index") == 3)
        assert hop.attributes["tor.relay.nickname"] == "carl"
        assert hop.attributes["tor.hop.role"] == "exit"
        assert hop.trace_id == one.span.trace_id


def test_the_circuits_of_others() -> None:
    """While a command is under way they wait, and go on without it, with their own times, as traces of their own."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        mapper.handle(circ(0, "LAUNCHED", circuit_id="1"))
        one = Operation(captured, mapper, "one")
        mapper.handle(circ(5, "BUILT", 0, circuit_id="1"))
        assert len(captured.records) == 1, "a circuit that was there before the command need not wait"
        for event in simulate_circuit(PATH[:1], (MS,), circuit_id="2", start_time_ns=T0):
            mapper.handle(event)
        later = Operation(captured, mapper, "later")
        assert len(captured.records) == 1
        one.answered("9")
        assert len(captured.records) == 3, "the later command cannot have made it"
        mapper.withdraw(later.ticket)
        assert all(record.trace_id not in (one.span.trace_id, later.span.trace_id) for record in captured.records)


def test_a_mapper_for_claimed_circuits_only() -> None:
    """What nobody asked for is not traced, and not kept."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer, unclaimed=False)
        one = Operation(captured, mapper, "one")
        for number in range(3):
            for event in simulate_circuit(PATH[:1], (MS,), circuit_id=str(number), start_time_ns=T0):
                mapper.handle(event)
        one.answered("1")
        mapper.handle(circ(9, "LAUNCHED", circuit_id="77"))
        assert (mapper.counts.known, mapper.counts.launched) == (1, 1)
        assert {record.trace_id for record in captured.records} == {one.span.trace_id}


def test_an_extension() -> None:
    """A circuit made longer: a further build under the operation, from the command on, with the added hop."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        for event in simulate_circuit(PATH, (MS, MS, MS), circuit_id="7", start_time_ns=T0):
            mapper.handle(event)
        captured.clear()
        extend = Operation(captured, mapper, "extend-circuit", "7")
        mapper.handle(circ(140, "EXTENDED", 4))
        mapper.handle(circ(141, "BUILT", 4))
        assert captured.records == []
        extend.answered("7", (FOURTH,), extend_ms=100)
        extend.span.end(T0 + 150 * MS)
        assert shape(captured) == (
            "  extend-circuit  150 ms\n    tor.circuit.build  41.0 ms\n      tor.circuit.extend  40.0 ms\n"
        )
        assert extend.outcomes[0].path == (*PATH, FOURTH)
        assert next(r for r in captured.records if r.name == "tor.circuit.build").attributes["tor.circuit.reused"]


def test_a_refused_extension() -> None:
    """tor refused the command: the circuit is what it was, and its events go on."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        for event in simulate_circuit(PATH, (MS, MS, MS), circuit_id="7", start_time_ns=T0):
            mapper.handle(event)
        captured.clear()
        extend = Operation(captured, mapper, "extend-circuit", "7")
        mapper.handle(circ(140, "CLOSED", 3, reason="REQUESTED"))
        mapper.withdraw(extend.ticket)
        assert captured.records == []
        assert mapper.counts.known == 0


def test_the_extension_of_a_circuit_never_seen() -> None:
    """Its length is learnt from the first hop that is added."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer, unclaimed=False)
        extend = Operation(captured, mapper, "extend-circuit", "7")
        extend.answered("7", (FOURTH,), extend_ms=0)
        mapper.handle(circ(40, "EXTENDED", 4))
        mapper.handle(circ(41, "BUILT", 4))
        hop = next(r for r in captured.records if r.name == "tor.circuit.extend")
        assert (hop.attributes["tor.hop.index"], hop.duration_ns) == (4, 40 * MS)


def test_claims_are_told_when_tor_goes_away() -> None:
    """Nobody waits for ever: with events or without, an operation hears that its circuit is lost."""
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        one = Operation(captured, mapper, "one")
        other = Operation(captured, mapper, "other")
        one.answered("1")
        other.answered("2")
        mapper.handle(circ(0, "LAUNCHED", circuit_id="2"))
        mapper.close("CONNECTION_LOST")
        assert [(o.trigger, o.reason) for o in one.outcomes + other.outcomes] == 2 * [(Trigger.LOST, "CONNECTION_LOST")]


@given(data=st.data())
def test_any_order_of_replies_and_events(data: st.DataObject) -> None:
    """However the events of many circuits and the replies to their commands interleave, each circuit is joined to the
    operation whose reply has its id, and the circuits of others to none.
    """
    commands = data.draw(st.integers(1, 5))
    others = data.draw(st.integers(0, 2))
    with capture_spans("tor") as captured:
        mapper = CircuitMapper(captured.tracer)
        operations = [Operation(captured, mapper, f"op-{i}") for i in range(commands)]
        # Each queue is in order; they interleave at random. The reply to a command is a queue of its own.
        queues: list[list[Any]] = [
            list(simulate_circuit(PATH, (i + 1, i + 1, i + 1), circuit_id=str(i), start_time_ns=T0))
            for i in range(commands + others)
        ]
        queues += [[i] for i in range(commands)]
        while any(queues):
            queue = data.draw(st.sampled_from([q for q in queues if q]))
            item = queue.pop(0)
            if isinstance(item, int):
                operations[item].answered(str(item))
            else:
                mapper.handle(item)
        for operation in operations:
            operation.span.end()
        builds = {str(r.attributes["tor.circuit.id"]): r for r in captured.records if r.name == "tor.circuit.build"}
        assert len(builds) == commands + others
        parents = {operation.span.span_id: str(i) for i, operation in enumerate(operations)}
        assert {c: parents.get(b.parent_id, "none") for c, b in builds.items()} == {
            str(i): str(i) if i < commands else "none" for i in range(commands + others)
        }
        assert all(build.duration_ns == 3 * (int(circuit) + 1) for circuit, build in builds.items())
        assert len(captured.records) == commands + 4 * (commands + others)


# --- simulation -----------------------------------------------------------------------------------------------------


def test_simulated_events_look_like_tors() -> None:
    """LAUNCHED without a path, an EXTENDED for each hop, BUILT; or FAILED where it shall fail."""
    events = simulate_circuit(PATH, (10, 20, 30), start_time_ns=T0)
    assert [(e.time_ns - T0, e.status, len(e.path)) for e in events if isinstance(e, CircuitEvent)] == [
        (0, "LAUNCHED", 0),
        (10, "EXTENDED", 1),
        (30, "EXTENDED", 2),
        (60, "EXTENDED", 3),
        (60, "BUILT", 3),
    ]
    failed = simulate_circuit(PATH, (10, 20, 30), fail_at=1, start_time_ns=T0)[-1]
    assert isinstance(failed, CircuitEvent)
    assert (failed.status, failed.reason, failed.path) == ("FAILED", "DESTROYED", ())


@pytest.mark.parametrize(("delays", "fail_at"), [((1, 1), None), ((1, 1, 1), 4), ((1, 1, 1), 0)])
def test_simulation_checks_its_arguments(delays: tuple[int, ...], fail_at: int | None) -> None:
    """A missing delay or a hop that does not exist is a mistake of the caller."""
    with pytest.raises(ConfigurationError):
        simulate_circuit(PATH, delays, fail_at)
