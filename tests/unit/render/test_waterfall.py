"""clew.render: whole pictures."""

from __future__ import annotations

import io
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from clew.model import Event, Link, Resource, SpanContext, SpanKind, SpanRecord, Status
from clew.render import ASCII_GLYPHS, UNICODE_GLYPHS, Legend, Totals, Waterfall, assemble, render_text

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START_NS = 1_790_000_000_123_000_000  # 2026-09-21T14:13:20.123Z
MS = 1_000_000
CLIENT = Resource({"service.name": "tor-client"})
TOR = Resource({"service.name": "tor"})


def circuit() -> list[SpanRecord]:
    """A circuit whose third hop failed, and a download that was given up because of it."""

    def span(span_id: str, parent_id: str, name: str, start: int, end: int, **fields: object) -> SpanRecord:
        record = SpanRecord(TRACE, span_id, parent_id, name, resource=CLIENT)
        times = {"start_time_ns": START_NS + start * MS, "end_time_ns": START_NS + end * MS}
        return record._replace(**times, **fields)  # type: ignore[arg-type]

    failed = {
        "status": Status.ERROR,
        "status_description": "relay7 did not answer",
        "attributes": {"error.type": "timeout"},
    }
    return [
        span("02", "01", "select-guard", 0, 100, attributes={"relay": "guard1"}),
        span("04", "03", "tor.circuit.extend", 200, 400, resource=TOR, attributes={"hop": 1}),
        span(
            "05",
            "03",
            "tor.circuit.extend",
            400,
            1600,
            resource=TOR,
            events=(Event("created", START_NS + 700 * MS, {"cells": 2}),),
            links=(Link(SpanContext(TRACE, "00000000000000ff")),),
            **failed,
        ),
        span("03", "01", "extend-circuit", 200, 1600, kind=SpanKind.CLIENT, **failed),
        span("06", "01", "download", 300, 900, status=Status.CANCELLED, status_description="no circuit"),
        span("01", "", "build-circuit", 0, 1600, **failed),
        span("08", "77", "stray", 800, 804),
    ]


def draw(records: list[SpanRecord], width: int, *, details: bool = False) -> str:
    return render_text(records, width=width, details=details, timezone=UTC)


PICTURE_80 = """\
━━ build-circuit ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 1.60 s ━━
7 spans · tor-client · ✗ 3 errors · ⊘ 1 cancelled
2026-09-21 14:13:20.123 +00:00 · trace 4bf92f3577b34da6a3ce929d0e0e4736
the time went to  tor.circuit.extend 2× 1.40 s (87%)

                                         time  0         500 ms    1 s
✗ build-circuit                        1.60 s  ──██─────────────────────────────
├ select-guard  relay=guard1           100 ms  ██
├ ✗ extend-circuit (client)            1.40 s      ─────────────────────────────
│ ├ tor.circuit.extend in tor  hop=1   200 ms      ████▎
│ └ ✗ tor.circuit.extend in tor        1.20 s          ▐████████████████████████
│     timeout: relay7 did not answer
│     ◆ created  cells=2              +300 ms                ◆
│     ↪ trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00000000000000ff
└ ⊘ download                           600 ms        ▒▒▒▒▒▒▒▒▒▒▒▒▒
    no circuit
stray                                 4.00 ms                  ▏
  ! its parent 77 is not here
"""  # noqa: RUF001

DETAILS_100_IN_ASCII = """\
== build-circuit ========================================================================= 1.60 s ==
7 spans - tor-client - x 3 errors - o 1 cancelled
2026-09-21 14:13:20.123 +00:00 - trace 4bf92f3577b34da6a3ce929d0e0e4736
the time went to  tor.circuit.extend 2x 1.40 s (87%)   build-circuit 100 ms (6%)

                                    time  0                 500 ms            1 s
x build-circuit                   1.60 s  ----###---------------------------------------------------
| error.type = "timeout"
|-select-guard                    100 ms  ####
|   relay = "guard1"
|-x extend-circuit (client)       1.40 s         ---------------------------------------------------
| | error.type = "timeout"
| |-tor.circuit.extend in tor     200 ms         #######|
| |   hop = 1
| `-x tor.circuit.extend in tor   1.20 s                ############################################
|     timeout: relay7 did not answer
|     error.type = "timeout"
|     * created                  +300 ms                           *
|       cells = 2
|     > trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00000000000000ff
`-o download                      600 ms             ======================
    no circuit
stray                            4.00 ms                               |
  ! its parent 77 is not here
"""


def test_picture_at_80_columns() -> None:
    """All that matters is on a small terminal: which span took the time, which failed and why."""
    assert draw(circuit(), 80) == PICTURE_80


def test_details_in_ascii() -> None:
    """All attributes, events and links, where the terminal knows no Unicode."""
    assert render_text(circuit(), width=100, details=True, glyphs=ASCII_GLYPHS, timezone=UTC) == DETAILS_100_IN_ASCII


def test_own_time_where_there_is_room() -> None:
    """A wide terminal shows own times, too."""
    line = next(line for line in draw(circuit(), 200).splitlines() if "✗ build-circuit" in line)
    assert line.split()[2:6] == ["1.60", "s", "100", "ms"]


def rich_text(records: list[SpanRecord], width: int = 80, *, color: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=color, color_system="standard" if color else None, legacy_windows=False
    )
    for trace in assemble(records):
        console.print(Waterfall(trace, timezone=UTC))
    return file.getvalue()


def test_rich_draws_the_same() -> None:
    """What rich prints without colour is the plain picture."""
    assert rich_text(circuit()) == PICTURE_80


def test_colours() -> None:
    """Errors are red, what was cancelled is yellow, the path of time is bright."""
    lines = rich_text(circuit(), color=True).splitlines()
    (extend,) = [line for line in lines if "extend-circuit" in line]
    assert "\x1b[1;31mextend-circuit\x1b[0m" in extend
    (reason,) = [line for line in lines if "relay7 did not answer" in line]
    assert "\x1b[1;31mtimeout: relay7 did not answer\x1b[0m" in reason
    (download,) = [line for line in lines if "download" in line]
    assert "\x1b[1;33mdownload\x1b[0m" in download
    (guard,) = [line for line in lines if "select-guard" in line]
    assert "\x1b[96m██\x1b[0m" in guard


def test_a_reason_is_told_once() -> None:
    """An error that went up through its callers is told where it began, not at each of them."""
    assert draw(circuit(), 80).count("relay7 did not answer") == 1


def test_totals_of_a_trace_that_is_not_drawn_whole() -> None:
    """The headline counts all spans, and what is left out is said."""
    (trace,) = assemble([SpanRecord(TRACE, "01", "", "root", start_time_ns=START_NS, end_time_ns=START_NS + MS)])
    picture = Waterfall(trace, totals=Totals(1_000_000, 2, 0), is_continued=True, timezone=UTC)
    lines = ["".join(text for text, _ in line) for line in picture.lines(80)]
    assert lines[1] == "1,000,000 spans · unknown_service · ✗ 2 errors"
    assert lines[3] == "continued: other spans of this trace were drawn before"
    assert lines[-1] == "999,999 more spans of this trace are not drawn, the shorter ones without an error"


def test_a_link_within_the_trace() -> None:
    """It names the span that it leads to; with details, and where it leads elsewhere, there are the ids."""
    first, second, *_ = circuit()
    here = Link(SpanContext(TRACE, second.span_id))
    same_id = Link(SpanContext("ab" * 16, second.span_id))
    records = [first._replace(links=(here, same_id)), second]
    drawn = draw(records, 80)
    assert "↪ tor.circuit.extend  hop=1\n" in drawn
    assert f"↪ trace {'ab' * 16} span {second.span_id}\n" in drawn
    assert f"↪ trace {TRACE} span {second.span_id}\n" in draw(records, 80, details=True)


def test_keys_that_are_ids() -> None:
    """Of a key its last part is shown; where that is "id", the part before it, so that they can be told apart."""
    stream = SpanRecord(
        TRACE,
        "01",
        "",
        "stream",
        start_time_ns=START_NS,
        end_time_ns=START_NS + MS,
        attributes={"tor.stream.id": "14", "tor.circuit.id": "11", "id": 7},
    )
    assert "stream  stream=14 circuit=11 id=7 " in draw([stream], 120)


def test_a_kind_beside_a_short_name() -> None:
    """In a narrow column, a short name leaves its room to the kind and the service."""
    record = SpanRecord(TRACE, "01", "", "fetch", SpanKind.CLIENT, START_NS, START_NS + MS)
    child = record._replace(span_id="02", parent_id="01", resource=TOR)
    assert "└ fetch (client) in tor  1.00 ms" in draw([record, child], 80)
    child = child._replace(name="x" * 100)
    assert "└ xxxxxxxxxxxxxxxxxxxxx… (client) in tor  1.00 ms" in draw([record, child], 80)


def test_many_events() -> None:
    """A span with many events shows the first ones and counts the rest; details show all."""
    events = tuple(Event(f"event {number}", START_NS + number) for number in range(50))
    record = SpanRecord(TRACE, "01", "", "root", start_time_ns=START_NS, end_time_ns=START_NS + MS, events=events)
    text = draw([record], 80)
    assert "◆ event 7 " in text
    assert "event 8" not in text
    assert "◆ and 42 more events" in text
    assert "◆ event 49 " in draw([record], 80, details=True)


def test_remarks() -> None:
    """What is odd about a span is said: unfinished, dropped parts, an end before the start, rings, copies."""
    times = {"start_time_ns": START_NS, "end_time_ns": START_NS - 5}
    odd = SpanRecord(TRACE, "01", "01", "odd", attributes={"clew.unfinished": True}, dropped_events=3, dropped_links=1)
    text = draw([odd._replace(**times), odd._replace(name="copy")], 80)  # type: ignore[arg-type]
    for remark in (
        "! it is its own ancestor: the ring is cut here",
        "! it was not ended: it was open when the program was",
        "! it ends 5 ns before it starts",
        "! dropped: 3 events, 1 links",
        "! a span with this id came before",
    ):
        assert remark in text


def test_what_tor_did_is_not_unfinished_business_of_the_program() -> None:
    """A stream whose end was not seen says why, and not that the program ended."""
    record = SpanRecord(TRACE, "01", "", "tor.stream", status=Status.ERROR)
    text = draw([record._replace(attributes={"clew.unfinished": True, "error.type": "connection_lost"})], 80)
    assert "! its end was not seen" in text
    assert "program" not in text


def test_a_trace_without_times() -> None:
    """Spans without any time are drawn."""
    text = draw([SpanRecord(TRACE, "01", "", "root"), SpanRecord(TRACE, "02", "01", "child")], 80)
    assert "at an unknown time" in text
    assert "└ child" in text
    far = SpanRecord(TRACE, "01", "", "root", start_time_ns=2**64 - 1, end_time_ns=2**64 - 1)
    assert "18446744073709551615 ns after 1970" in draw([far], 80) or "2554-" in draw([far], 80)


HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e\n[red]:smile:[/]日本" + "x" * 10_000


def hostile() -> list[SpanRecord]:
    record = SpanRecord(
        HOSTILE,
        HOSTILE,
        "",
        HOSTILE,
        SpanKind.CLIENT,
        START_NS,
        START_NS + MS,
        Status.ERROR,
        HOSTILE,
        {HOSTILE: HOSTILE, "list": (HOSTILE, {HOSTILE: HOSTILE}), "error.type": HOSTILE},
        (Event(HOSTILE, START_NS, {HOSTILE: HOSTILE}), Event("exception", 0, {"exception.stacktrace": HOSTILE})),
        (Link(SpanContext(HOSTILE, HOSTILE), {HOSTILE: HOSTILE}),),
        resource=Resource({"service.name": HOSTILE}),
    )
    return [
        record,
        record._replace(span_id="c", parent_id=HOSTILE, resource=Resource()),
        record._replace(parent_id="?"),
    ]


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize("glyphs", [UNICODE_GLYPHS, ASCII_GLYPHS])
def test_hostile_text(width: int, details: bool, glyphs: object) -> None:
    """Text from a trace never acts on the terminal, is never markup, and stays within the width."""
    assert glyphs is UNICODE_GLYPHS or glyphs is ASCII_GLYPHS
    used = UNICODE_GLYPHS if glyphs is UNICODE_GLYPHS else ASCII_GLYPHS
    text = render_text(hostile(), width=width, details=details, glyphs=used, timezone=UTC)
    assert text.replace("\n", "").isprintable()
    assert "\\x1b]0;title\\x07" in text
    if used is UNICODE_GLYPHS:
        assert max(map(cell_len, text.splitlines())) <= max(width, 60)
    assert len(text) < (1_000_000 if details else 30_000)


def test_hostile_text_through_rich() -> None:
    """rich takes nothing in it for markup or emoji either."""
    text = rich_text(hostile())
    assert "\x1b" not in text
    assert "[red]:smile:[/]" in text


def test_a_deep_chain() -> None:
    """10,000 levels: no recursion, names stay readable, lines within the width."""
    records = [
        SpanRecord(
            TRACE,
            str(n),
            str(n - 1) if n else "",
            f"span-{n}",
            start_time_ns=START_NS + n,
            end_time_ns=START_NS + 30_000,
        )
        for n in range(10_000)
    ]
    lines = draw(records, 80).splitlines()
    assert lines[-1].startswith("…9999 span-9999 ")
    assert max(map(len, lines)) <= 80


NAMES = st.text(max_size=60)
RECORDS = st.builds(
    SpanRecord,
    trace_id=st.just(TRACE),
    span_id=st.sampled_from("abcd"),
    parent_id=st.sampled_from(["", *"abcdz"]),
    name=NAMES,
    kind=st.sampled_from(SpanKind),
    start_time_ns=st.integers(0, 2**64 - 1),
    end_time_ns=st.integers(0, 2**64 - 1),
    status=st.sampled_from(Status),
    status_description=NAMES,
    attributes=st.dictionaries(NAMES, NAMES | st.integers() | st.binary(max_size=9), max_size=3),
    events=st.lists(st.builds(Event, NAMES, st.integers(0, 2**64 - 1)), max_size=3).map(tuple),
)


@given(st.lists(RECORDS, min_size=1, max_size=6), st.integers(60, 200), st.booleans())
def test_anything_is_drawn(records: list[SpanRecord], width: int, details: bool) -> None:
    """Whatever the spans are, they are drawn, within the width."""
    text = draw(records, width, details=details)
    assert max(map(cell_len, text.split("\n"))) <= width


def test_legend() -> None:
    """The legend explains the three parts of a bar."""
    file = io.StringIO()
    Console(file=file, width=80).print(Legend())
    assert file.getvalue() == "██ the trace waited for it   ▒▒ it ran beside that   ── its children ran\n"
