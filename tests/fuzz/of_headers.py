"""Fuzzed: what comes in HTTP headers and answers, and what the environment and the command line say."""

from __future__ import annotations

import argparse
import re
from contextlib import suppress
from datetime import UTC, datetime

from clew import configuration, limits
from clew.b3 import B3_HEADERS, headers_of, read
from clew.cli.option_values import point_in_time, positive
from clew.errors import ConfigurationError
from clew.exporters._http_reply import BadReplyError, Reply, ReplyReader
from clew.exporters._otlp_answer import Answer, Verdict, http_answer, http_date, partial_answer, quoted, retry_delay
from clew.exporters._otlp_settings import Settings, settle
from clew.formats.choose import Query
from clew.formats.reading import Glance
from clew.model import SpanContext
from clew.propagation import extract, inject
from clew.samplers import ParentSample
from clew.tor.privacy import Privacy, parse_privacy
from tests.fuzz.claims import check_shown
from tests.fuzz.source import Source, cuts, hostile_text

__all__ = ["check_answers", "check_b3", "check_environment", "check_http_reply", "check_options", "check_propagation"]

_NAMES = ("traceparent", "tracestate", "baggage", "Baggage", "TRACESTATE", "tracestate ", "x")
_SENT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def check_propagation(data: bytes) -> None:
    """Headers, a line each: the first character chooses the name."""
    pairs = [(_NAMES[line[0] % len(_NAMES)], line[1:]) for line in data.split(b"\n") if line]
    context = extract([(name.encode(), value) for name, value in pairs])
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value.decode("latin-1"))
    assert extract([(name, value.decode("latin-1")) for name, value in pairs]) == context
    if len({name.lower() for name in lists}) == len(lists):
        assert extract(lists) == context  # by names it is the same, where none is spelled in two ways
    assert context.is_remote
    assert context.trace_flags & ~3 == 0
    assert len(context.baggage) <= limits.BAGGAGE_MEMBERS
    if not context.is_valid:
        assert context == SpanContext("0" * 32, "0" * 16, is_remote=True, baggage=context.baggage)
    assert re.fullmatch("[0-9a-f]{32}", context.trace_id)
    assert re.fullmatch("[0-9a-f]{16}", context.span_id)
    assert sum(map(bool, map(str.strip, context.trace_state.split(",")))) <= limits.TRACESTATE_MEMBERS

    sent: dict[str, str] = {}
    inject(sent, context)
    for name, text in sent.items():
        assert name == name.lower()
        assert _SENT.fullmatch(text), (name, text)
    assert ("traceparent" in sent) == context.is_valid
    assert len(sent.get("baggage", "")) <= limits.BAGGAGE_BYTES
    back = extract(sent)
    assert back._replace(baggage={}) == context._replace(baggage={})
    # Undoing what is no UTF-8 makes three bytes of one: then some members are too long to go on.
    assert back.baggage.items() <= context.baggage.items()
    again: dict[str, str] = {}
    inject(again, back)
    assert again == sent


def check_b3(data: bytes) -> None:
    """B3 headers, a line each: the first character chooses the name."""
    lines: dict[str, list[str]] = {name: [] for name in B3_HEADERS}
    for line in filter(None, data.split(b"\n")):
        lines[B3_HEADERS[line[0] % len(B3_HEADERS)]].append(line[1:].decode("latin-1"))
    context = read(lines)
    if context is None:
        return
    assert context.is_valid
    assert re.fullmatch("[0-9a-f]{32}", context.trace_id)
    assert re.fullmatch("[0-9a-f]{16}", context.span_id)
    assert context.trace_flags in (0, 1)
    for propagators in (("b3",), ("b3multi",), ("b3multi", "b3")):
        sent = headers_of(context, propagators)
        assert all(map(_SENT.fullmatch, sent.values()))
        assert read({name: [sent[name]] if name in sent else [] for name in B3_HEADERS}) == context


def check_http_reply(data: bytes) -> None:
    """A response, and the end of the connection behind it."""
    whole = _reply([data])
    for pieces in cuts(data):
        found = _reply(pieces)
        if isinstance(whole, Reply) and isinstance(found, Reply):
            # What stands behind an answer is seen only if it comes along with the end of it.
            assert found[:4] == whole[:4]
            assert found.reusable or not whole.reusable
        else:
            assert found == whole
    if isinstance(whole, Reply):
        assert 200 <= whole.status <= 999
        assert len(whole.body) <= min(limits.OTLP_REPLY_BYTES, len(data))
        for name, value in whole.headers.items():
            assert name == name.lower()
            assert "\n" not in value
        _check_answer(http_answer(whole, datetime(2026, 1, 1, tzinfo=UTC)))


def _reply(pieces: list[bytes]) -> Reply | tuple[type[Exception], str]:
    reader = ReplyReader()
    try:
        for piece in pieces:
            if piece and (reply := reader.feed(piece)) is not None:
                return reply
        reply = reader.feed(b"")
        assert reply is not None  # nothing is waited for when nothing comes any more
        return reply
    except (BadReplyError, ConnectionResetError) as error:
        return type(error), str(error)


_STATUSES = (200, 202, 204, 302, 400, 404, 429, 500, 502, 503, 504, 999)
_TYPES = ("application/json", "application/x-protobuf", "text/plain; charset=utf-8", "Application/JSON;x", "")


def check_answers(data: bytes) -> None:
    """Bodies and headers of answers by HTTP, and what gRPC has in their place."""
    source = Source(data)
    status, content_type = source.pick(_STATUSES), source.pick(_TYPES)
    headers = {
        "content-type": content_type,
        "retry-after": source.line().decode("latin-1"),
        "date": source.line().decode("latin-1"),
        "location": source.line().decode("latin-1"),
    }
    body = source.rest()
    _check_answer(http_answer(Reply(status, headers, body, True, True), datetime(2026, 1, 1, tzinfo=UTC)))
    for as_json in (False, True):
        answer = partial_answer(body, as_json=as_json)
        assert answer.verdict is Verdict.DELIVERED
        _check_answer(answer)
    wait = retry_delay(body)
    assert wait is None or wait >= 0
    for text in (*headers.values(), hostile_text(body)):
        date = http_date(text)
        assert date is None or date.tzinfo is UTC
        check_shown(quoted(text))


def _check_answer(answer: Answer) -> None:
    check_shown(answer.text)
    # Each character may become its escape, of ten.
    assert len(answer.text) <= 100 + 10 * limits.OTLP_TEXT_CHARACTERS + 30
    assert type(answer.rejected) is int
    assert answer.rejected >= 0
    assert answer.wait is None or 0 <= answer.wait < float("inf")
    assert answer.wait is None or answer.verdict is Verdict.LATER


# --- settings --------------------------------------------------------------------------------------------------------

_OTLP = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}{name}"
    for signal in ("", "TRACES_")
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION", "INSECURE", "CERTIFICATE", "CLIENT_KEY")
)
_VARIABLES = (*_OTLP, *(name for name in configuration.VARIABLES if name.startswith("OTEL_")))
_SECRET = "hunter2hunter2"


def check_environment(data: bytes) -> None:
    """Variables, a line each: the first character chooses the name."""
    values = {
        _VARIABLES[line[0] % len(_VARIABLES)]: hostile_text(line[1:]).replace("\0", "")
        for line in data.split(b"\n")
        if line
    }
    _check_otlp(values)
    _check_otlp({**values, "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={_SECRET},{values.get(_OTLP[2], '')}"})
    stripped = {name: value.strip() for name, value in values.items() if value.strip()}
    with suppress(ConfigurationError):
        attributes = configuration._resource_attributes(stripped)
        assert all(attributes)
    with suppress(ConfigurationError):
        configuration._is_true("OTEL_SDK_DISABLED", stripped)
    for name, least, most in (
        ("OTEL_BSP_SCHEDULE_DELAY", 1, 86_400_000),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, 1_000_000),
    ):
        with suppress(ConfigurationError):
            number = configuration._number(name, stripped, least, most)
            assert number is None or least <= number <= most
    with suppress(ConfigurationError):
        sampler = configuration._sampler(stripped)
        inner = sampler._root if isinstance(sampler, ParentSample) and hasattr(sampler, "_root") else sampler
        assert 0 <= getattr(inner, "probability", 1) <= 1


def _check_otlp(values: dict[str, str]) -> None:
    settings: Settings | None
    try:
        settings = settle(
            values,
            endpoint=None,
            protocol=None,
            headers=None,
            timeout=None,
            compression=None,
            insecure=None,
            certificate=None,
            client_certificate=None,
            client_key=None,
        )
    except ConfigurationError as error:
        settings, problem = None, str(error)
    if settings is None:
        assert any(name in problem for name in (*values, "client_key")), problem
        if _SECRET not in "".join(values.values()).replace(f"authorization={_SECRET}", ""):
            assert _SECRET not in problem
        return
    assert settings.timeout > 0
    for name, value in settings.headers:
        assert re.fullmatch("[!-~]+", name)
        assert name == name.lower()
        assert re.fullmatch("[\t\x20-\x7e\x80-\xff]*", value)
        assert value == value.strip(" \t")
    endpoint = settings.endpoint
    assert re.fullmatch(r"[!-~]*", endpoint.path)
    assert re.fullmatch(r"[!-~]+", endpoint.target)
    assert 0 <= endpoint.port <= 65535
    assert "?" not in endpoint.shown or not endpoint.port
    assert _SECRET not in repr(settings) or _SECRET in endpoint.shown
    assert _SECRET not in settings.hide(f"no {_SECRET} here") or (("authorization", _SECRET) not in settings.headers)


_GLANCE = Glance("4bf92f3577b34da6a3ce929d0e0e4736", "GET /x", 1, 2, is_error=True)


def check_options(data: bytes) -> None:
    """What may stand behind options of the command line; a pattern for names of spans."""
    text = hostile_text(data).replace("\0", "")
    with suppress(argparse.ArgumentTypeError):
        assert point_in_time(text) >= 0
    with suppress(argparse.ArgumentTypeError):
        assert 0 < positive(text) <= 1_000_000
    with suppress(ConfigurationError):
        assert isinstance(parse_privacy(text), Privacy)
    matches = Query(name=text[:64]).matcher()
    assert matches is None or isinstance(matches(_GLANCE), bool)
