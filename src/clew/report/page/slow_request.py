"""A slow request on the page: a line that opens on a click, and its waterfall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.model import SpanKind, Status
from clew.pretty import format_duration, format_value
from clew.render.reasons import find_reason
from clew.render.timing import Timing
from clew.report.axis import Axis
from clew.report.figures import CIRCUIT_BUILD, label_of
from clew.report.page.charts import Part, bar, percent, scale
from clew.report.page.markup import Markup, join, tag
from clew.report.wording import shorten
from clew.tor import circuits, streams
from clew.tree import assemble

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clew.model import Attributes, SpanRecord
    from clew.report.findings import SlowRequest
    from clew.tree import Node

__all__ = ["KINDS", "slow_request"]

# What a span is of, and its colour; the beginning of its name tells.
KINDS = {"the program, and what answered it": 0, "stream": 3, "onion service": 5, "circuit": 1}
_KIND_OF = (("tor.stream", "stream"), ("tor.hs.", "onion service"), ("tor.", "circuit"), ("", next(iter(KINDS))))
_LEVELS = 12  # deeper spans are not indented further
_VALUES_SHOWN = 40  # attributes of one span
_TICKS = 5
_NO_NAME = "(no name)"
_RELAY_SHOWN = 13  # characters of a relay without a nickname: of "hash:" and 16 digits, or of 40 digits

_STATUS_WORDS = {Status.ERROR: "failed", Status.CANCELLED: "cancelled"}


def slow_request(number: int, request: SlowRequest, longest_ns: int) -> Markup:
    """One of the slowest requests.

    Args:
        number: its rank, from 1.
        longest_ns: the duration of the slowest.
    """
    status = _STATUS_WORDS.get(request.status)
    first_byte = "" if request.first_byte_ns is None else f"first byte after {format_duration(request.first_byte_ns)}"
    target = tag("bdi", shorten(request.target), class_="target") if request.target else ""
    what = [
        tag("bdi", shorten(request.name) or _NO_NAME, class_="name"),
        target,
        tag("span", ": ".join(filter(None, (status, shorten(request.reason)))), class_="badge") if status else "",
        tag("span", "onion service", class_="badge calm") if request.is_onion else "",
    ]
    return tag(
        "details",
        tag(
            "summary",
            tag("span", f"{number}", class_="rank"),
            tag("span", *(join((each, " ")) for each in what if each), class_="what"),
            tag("span", first_byte, class_="note"),
            tag("span", bar([Part("", 0, request.duration_ns)], longest_ns), class_="length"),
            tag("span", format_duration(request.duration_ns), class_="figure"),
        ),
        _waterfall(request),
        class_="request",
        id=f"request-{number}",
    )


def _waterfall(request: SlowRequest) -> Markup:
    (trace, *_) = assemble(request.spans)
    timing = Timing(trace)
    duration_ns = max(timing.duration_ns, 1)
    axis = Axis(0, duration_ns, is_log=False)
    head = tag(
        "div", tag("span", "span", class_="name"), scale(axis), tag("span", "time", class_="figure"), class_="row head"
    )
    lines = [percent(axis.at(mark.duration_ns)) for mark in axis.ticks(_TICKS)]
    hidden = request.spans_total - len(request.spans)
    left_out = (
        tag("p", f"{hidden:,} more spans are not drawn: the shorter ones without an error.", class_="note")
        if hidden
        else ""
    )
    return tag("div", head, *(_row(node, timing, lines) for node in trace.walk()), left_out, class_="waterfall")


def _row(node: Node, timing: Timing, lines: Iterable[str]) -> Markup:
    record = node.record
    status = {Status.ERROR: " failed", Status.CANCELLED: " cancelled"}.get(record.status, "")
    notes = [hint] if (hint := _hint(record)) else []
    if node.parent is not None and record.service_name != node.parent.record.service_name:
        notes.append(f"in {record.service_name}")
    indent = "│ " * min(node.depth, _LEVELS)
    name = tag(
        "span",
        tag("span", indent, class_="indent", aria_hidden="true") if node.depth else "",
        tag("bdi", shorten(record.name) or _NO_NAME),
        *(tag("span", tag("bdi", shorten(each)), class_="note") for each in notes),
        class_="name",
    )
    duration = format_duration(record.duration_ns) if record.duration_ns >= 0 else "< 0"
    summary = (name, _bar(node, timing, lines), tag("span", duration, class_="figure"))
    return tag(
        "details", tag("summary", *summary, class_=f"row c{_color(record.name)}{status}"), _details(node), class_="span"
    )


def _hint(record: SpanRecord) -> str:
    """What tells a span from others of its name."""
    attributes = record.attributes
    match record.name:
        case circuits.EXTEND_SPAN:
            index = attributes.get("tor.hop.index")
            relay = (
                attributes.get("tor.relay.nickname") or str(attributes.get("tor.relay.fingerprint", ""))[:_RELAY_SHOWN]
            )
            words = [f"hop {index}" if isinstance(index, int) else "", attributes.get("tor.hop.role"), relay]
        case circuits.BUILD_SPAN:
            purpose = attributes.get("tor.circuit.purpose")
            words = [label_of(CIRCUIT_BUILD, str(purpose)) if purpose else "", _age("out of one", attributes)]
        case streams.STREAM_SPAN:
            words = ["to a directory" if record.kind is SpanKind.INTERNAL else "", _age("on a circuit", attributes)]
        case _:
            attempt = attributes.get("tor.hs.attempt")
            words = [f"attempt {attempt}" if isinstance(attempt, int) and attempt > 1 else ""]
    return " · ".join(str(word) for word in words if word)


def _age(words: str, attributes: Attributes) -> str:
    """That a circuit was there before."""
    age_ms = attributes.get("tor.circuit.age_ms")
    if not attributes.get("tor.circuit.reused") or not isinstance(age_ms, int):
        return ""
    return f"{words} {format_duration(age_ms * 1_000_000)} old"


def _color(name: str) -> int:
    return next(KINDS[kind] for start, kind in _KIND_OF if name.startswith(start))


def _bar(node: Node, timing: Timing, lines: Iterable[str]) -> Markup:
    """The span as a pale bar, in it the times at which the request waited for it and for nothing below it."""
    record = node.record

    def at(time_ns: int) -> float:
        return min(max((time_ns - timing.start_ns) / max(timing.duration_ns, 1), 0.0), 1.0)

    def piece(start_ns: int, end_ns: int, class_: str) -> Markup:
        x, end = at(start_ns), at(end_ns)
        return tag("rect", x=percent(x), width=percent(max(end - x, 0.0)), y="25%", height="50%", rx="2", class_=class_)

    marks = [tag("line", x1=line, x2=line, y1="0", y2="100%", class_="grid") for line in lines]
    marks.append(piece(record.start_time_ns, record.end_time_ns, "all"))
    # However short it is, something is seen of it.
    start = percent(at(record.start_time_ns))
    marks.append(tag("line", x1=start, x2=start, y1="25%", y2="75%", class_="edge"))
    marks += [piece(start_ns, end_ns, "path") for start_ns, end_ns in timing.path[node]]
    for event in record.events:
        title = tag("title", f"{shorten(event.name)}, after {format_duration(event.time_ns - timing.start_ns)}")
        marks.append(tag("circle", title, cx=percent(at(event.time_ns)), cy="50%", r="3.5", class_="event"))
    return tag("svg", *marks, class_="bar", aria_hidden="true")


def _details(node: Node) -> Markup:
    """What a span says of itself."""
    record = node.record
    lines: list[Markup] = []
    if reason := find_reason(record):
        lines.append(tag("p", shorten(reason), class_="reason"))
    lines += [tag("p", note, class_="note") for note in node.notes if node.depth]
    pairs = [("starts after", format_duration(record.start_time_ns - _root(node).record.start_time_ns))]
    if record.kind is not SpanKind.INTERNAL:
        pairs.append(("kind", record.kind.name.lower()))
    pairs += [(key, format_value(value)) for key, value in list(record.attributes.items())[:_VALUES_SHOWN]]
    for event in record.events[:_VALUES_SHOWN]:
        said = "".join(f", {key} = {format_value(value)}" for key, value in list(event.attributes.items())[:8])
        pairs.append((f"◆ {event.name}", f"after {format_duration(event.time_ns - record.start_time_ns)}{said}"))
    for link in record.links[:8]:
        said = "".join(f", {key} = {format_value(value)}" for key, value in list(link.attributes.items())[:8])
        pairs.append(("↪ link", f"trace {link.context.trace_id} span {link.context.span_id}{said}"))
    rows = (tag("div", tag("dt", shorten(key)), tag("dd", shorten(value))) for key, value in pairs)
    return tag("div", *lines, tag("dl", *rows), class_="more")


def _root(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node
