"""Between processes and threads: W3C trace context and baggage as headers, and as what is current.

Source: W3C trace context level 2, W3C baggage.
"""

from __future__ import annotations

import re
from contextvars import ContextVar, Token, copy_context
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar

from clew._hot import current_span, remote_span, use_span
from clew.errors import ConfigurationError
from clew.limits import BAGGAGE_BYTES, BAGGAGE_MEMBERS, TRACESTATE_MEMBERS
from clew.model import SpanContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping
    from types import TracebackType

    from clew._hot import ContextScope, Span

__all__ = ["PROPAGATORS", "attach", "carry", "extract", "get_baggage", "inject", "set_propagators", "with_baggage"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Text: TypeAlias = "str | bytes"


class _WithItems(Protocol):
    """A mapping, or what is none and has pairs all the same, as the headers of http.server and aiohttp."""

    def items(self) -> Iterable[tuple[Any, Any]]: ...


_Headers: TypeAlias = "_WithItems | Iterable[tuple[_Text, _Text]]"

_TRACEPARENT = "traceparent"
_TRACESTATE = "tracestate"
_BAGGAGE = "baggage"
_W3C = (_TRACEPARENT, _TRACESTATE, _BAGGAGE)

_NO_BAGGAGE: Mapping[str, str] = MappingProxyType({})
_baggage: ContextVar[Mapping[str, str]] = ContextVar("clew.baggage", default=_NO_BAGGAGE)

# Optional white space around a header's value and the members of a list (RFC 9110, section 5.6.3).
_SPACE = " \t"

# Patterns are compiled by `re` when they are first used: at import they would be 1 ms of all that `import clew` takes.

# --- traceparent -----------------------------------------------------------------------------------------------------

# Section 3.2.2: version "-" trace-id "-" parent-id "-" trace-flags; what a later version adds begins with another dash.
_TRACEPARENT_PATTERN = r"(?s)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
# Section 3.2.2.5: sampled and random; others must be set to zero by who does not know them.
_KNOWN_FLAGS = 0x03
_NO_TRACE_ID = "0" * 32
_NO_SPAN_ID = "0" * 16
_NO_CONTEXT = SpanContext(_NO_TRACE_ID, _NO_SPAN_ID, is_remote=True)


def _parse_traceparent(lines: list[str]) -> tuple[str, str, int] | None:
    """The trace id, span id and flags; None if there is no header, more than one, or a wrong one."""
    if len(lines) != 1:
        return None
    match = re.fullmatch(_TRACEPARENT_PATTERN, lines[0].strip(_SPACE))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
        return None
    return trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS


# --- tracestate ------------------------------------------------------------------------------------------------------

# Sections 3.3.2.2.1 (key) and 3.3.2.2.2 (value).
_TRACESTATE_MEMBER = r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
# 32 members of a key, "=", a value and a comma; twice that, for white space. Longer is no tracestate but an attack.
_TRACESTATE_BYTES = 2 * TRACESTATE_MEMBERS * (256 + 1 + 256 + 1)


def _valid_tracestate(text: str) -> str:
    """The list as it was received; "" if a member of it is wrong, or they are too many."""
    text = text.strip(_SPACE)
    if len(text) > _TRACESTATE_BYTES:
        return ""
    # Section 3.3.2.2: empty members are allowed.
    members = [stripped for member in text.split(",") if (stripped := member.strip(_SPACE))]
    if len(members) > TRACESTATE_MEMBERS or not all(re.fullmatch(_TRACESTATE_MEMBER, member) for member in members):
        return ""
    return text if members else ""


# --- baggage ---------------------------------------------------------------------------------------------------------

# W3C baggage, section 3.3.1: a key is a token (RFC 9110), a value is made of these octets, the rest percent-encoded.
_BAGGAGE_KEY = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_BAGGAGE_VALUE = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_TO_ENCODE = rb"[^\x21\x23\x24\x26-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]"
_ENCODED = rb"%([0-9A-Fa-f]{2})"


def _parse_baggage(lines: list[str]) -> Mapping[str, str]:
    """The members that are right, up to the limits, summed over all lines. Their properties are not kept."""
    found: dict[str, str] = {}
    left = BAGGAGE_BYTES
    members = 0
    for line in lines:
        for member in line[: left + 1].split(","):
            left -= len(member) + 1
            members += 1
            # The last comma does not count.
            if left < -1 or members > BAGGAGE_MEMBERS:
                return found
            key, equals, value = member.partition(";")[0].partition("=")
            key, value = key.strip(_SPACE), value.strip(_SPACE)
            if equals and re.fullmatch(_BAGGAGE_KEY, key) and re.fullmatch(_BAGGAGE_VALUE, value):
                found[key] = _decode_percent(value)
    return found


def _decode_percent(value: str) -> str:
    """What is no escape stays as it is; what is no UTF-8 becomes U+FFFD (section 3.3.1.3)."""
    return re.sub(_ENCODED, lambda code: bytes([int(code[1], 16)]), value.encode()).decode(errors="replace")


def _format_baggage(baggage: Mapping[str, str]) -> str:
    """As many members as the limits allow, those that are too long left out."""
    members: list[str] = []
    left = BAGGAGE_BYTES
    for key, value in baggage.items():
        if len(members) == BAGGAGE_MEMBERS:
            break
        if re.fullmatch(_BAGGAGE_KEY, key):
            encoded = re.sub(_TO_ENCODE, lambda octet: b"%%%02X" % ord(octet[0]), value.encode(errors="replace"))
            member = f"{key}={encoded.decode()}"
            if len(member) <= left:
                members.append(member)
                left -= len(member) + 1
    return ",".join(members)


def get_baggage() -> Mapping[str, str]:
    """What travels with the current trace: names and values, read only."""
    return _baggage.get()


# --- headers ---------------------------------------------------------------------------------------------------------

# The names of OpenTelemetry's specification ("Known values" of OTEL_PROPAGATORS) that clew speaks.
PROPAGATORS = ("tracecontext", "baggage", "b3", "b3multi")

_ONLY_W3C = frozenset(("tracecontext", "baggage"))
_propagators: tuple[str, ...] = ("tracecontext", "baggage")


def set_propagators(names: Iterable[str]) -> None:
    """Say which headers `inject` writes and `extract` reads, in all of the process.

    Args:
        names: of `PROPAGATORS`; none for no headers at all. "b3" writes one header and "b3multi" several; either reads
            both. Where several find a context, the last one counts.

    Raises: ConfigurationError.
    Thread: any.
    """
    global _propagators  # noqa: PLW0603 - it is the process's
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in PROPAGATORS:
            raise ConfigurationError(f"a propagator is one of {', '.join(PROPAGATORS)}, not {name!r}.")
    _propagators = chosen


def inject(headers: MutableMapping[str, str], context: SpanContext | None = None) -> None:
    """Write `traceparent`, `tracestate` and `baggage` for a request to another process, or what `set_propagators` says.

    Headers of these names that are there already are replaced, however they are spelled. Where no span is current there
    is no traceparent to write, and where there is no baggage, no baggage: then those there are stay.

    Args:
        headers: to be sent.
        context: to write instead of the current span and baggage.
    """
    if context is None:
        context, baggage = current_span().context, get_baggage()
    else:
        baggage = context.baggage
    traceparent = f"00-{context.trace_id}-{context.span_id}-{context.trace_flags & _KNOWN_FLAGS:02x}"
    try:
        # Checked before it goes out: a context may be made by hand, and a header must not end early.
        if _parse_traceparent([traceparent]) is not None:
            if "tracecontext" in _propagators:
                _replace(headers, _TRACEPARENT, traceparent)
                _replace(headers, _TRACESTATE, _valid_tracestate(context.trace_state))
            if not _ONLY_W3C.issuperset(_propagators):
                from clew.b3 import headers_of

                for name, value in headers_of(context, _propagators).items():
                    _replace(headers, name, value)
        if "baggage" in _propagators and (members := _format_baggage(baggage)):
            _replace(headers, _BAGGAGE, members)
    except Exception:  # noqa: BLE001 - headers that refuse to be written: the request goes out untraced, but it goes
        return


def _replace(headers: MutableMapping[str, str], name: str, value: str) -> None:
    for key in [key for key in headers if str(key).lower() == name]:
        # Not `del`: headers that hold several of a name, such as multidict's, may have lost them all by the first.
        headers.pop(key, None)
    if value:
        headers[name] = value


def extract(headers: _Headers) -> SpanContext:
    """Read `traceparent`, `tracestate` and `baggage` of a request from another process, or what `set_propagators` says.

    Args:
        headers: whatever has names and values, in any case, as str or bytes:

            - what has `items()`, a name as often as it came or with a list of values: a dict, and the headers of
              http.server, aiohttp, Starlette, Django, Flask, requests, httpx;
            - pairs: `scope["headers"]` of ASGI, `getheaders()` of http.client, the metadata of gRPC, Kafka's headers;
            - the `environ` of WSGI, known by its `wsgi.version`, where headers are called `HTTP_...`.

    Returns: the context to pass as `parent`, or to `attach`. Its `is_valid` is False if there is no right traceparent:
        then it has no ids and no tracestate, as if there were none, but the baggage that came.
    """
    propagators = _propagators
    context = _NO_CONTEXT
    if propagators == ("tracecontext", "baggage"):
        lines = _header_lines(headers, _W3C)
        context = _w3c_context(lines) or context
    else:
        from clew.b3 import B3_HEADERS, read

        lines = _header_lines(headers, _W3C + B3_HEADERS)
        for name in propagators:
            if name != "baggage":
                context = (_w3c_context if name == "tracecontext" else read)(lines) or context
    if lines[_BAGGAGE] and "baggage" in propagators:
        context = context._replace(baggage=_parse_baggage(lines[_BAGGAGE]))
    return context


def _w3c_context(lines: dict[str, list[str]]) -> SpanContext | None:
    parent = _parse_traceparent(lines[_TRACEPARENT])
    if parent is None:
        return None
    # RFC 9110, section 5.3: several lines of one name are one list.
    return SpanContext(*parent, trace_state=_valid_tracestate(",".join(lines[_TRACESTATE])), is_remote=True)


def _header_lines(headers: _Headers, names: tuple[str, ...]) -> dict[str, list[str]]:
    """All values of the headers of these names, in their order."""
    lines: dict[str, list[str]] = {name: [] for name in names}
    try:
        if isinstance(headers, dict) and "wsgi.version" in headers:
            # PEP 3333: always a dict, and what came several times is joined by the server.
            keys = {name: "HTTP_" + name.upper().replace("-", "_") for name in names}
            return {name: [headers[key]] if key in headers else [] for name, key in keys.items()}
        items: Any = getattr(headers, "items", lambda: headers)
        for name, values in items():
            if (found := lines.get(_text(name).lower())) is not None:
                found.extend(map(_text, values if isinstance(values, (list, tuple)) else (values,)))
    except Exception:  # noqa: BLE001 - an object that is no headers after all: the request is served, untraced
        return {name: [] for name in names}
    return lines


def _text(value: object) -> str:
    # Latin-1 as HTTP has it: no octet is wrong, and those beyond ASCII match none of the patterns.
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


# --- what is current -------------------------------------------------------------------------------------------------


class _Attached:
    """A context manager: a span and a baggage are current in the block."""

    __slots__ = ("_baggage", "_scope", "_token")

    def __init__(self, span: Span | None, baggage: Mapping[str, str]) -> None:
        self._scope: ContextScope | None = None if span is None else use_span(span)
        self._baggage = baggage
        self._token: Token[Mapping[str, str]] | None = None

    def __enter__(self) -> None:
        self._token = _baggage.set(self._baggage)
        if self._scope is not None:
            self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._scope is not None:
            self._scope.__exit__(kind, error, traceback)
        token, self._token = self._token, None
        if token is not None:
            try:
                _baggage.reset(token)
            except ValueError:
                # The block is left in another context than it was entered in, as an async generator's is that another
                # task closes. There it was not current, so there is nothing to restore.
                return


def attach(context: SpanContext) -> _Attached:
    """A context manager: spans that begin in the block belong to the trace of `context`, and its baggage is current.

    Args:
        context: from `extract`. If it is not valid, what is current stays so, and only the baggage is taken.

    Raises: nothing.
    """
    try:
        span = remote_span(context) if context.is_valid else None
    except ValueError:
        span = None  # ids that are no hex digits: made by hand
    return _Attached(span, MappingProxyType(dict(context.baggage)))


def with_baggage(entries: Mapping[str, str]) -> _Attached:
    """A context manager: in the block these names and values travel with the trace, besides those that do already.

    It goes to every service that the program calls with `inject`, so nothing belongs in it that one of them should not
    know. What W3C baggage cannot carry is left out by `inject`: names that are no tokens, more than 64 members, more
    than 8,192 bytes.
    """
    merged = {**get_baggage(), **{str(key): str(value) for key, value in entries.items()}}
    return _Attached(None, MappingProxyType(merged))


def carry(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a function so that it runs in the context of here and now: current span, baggage and all else.

    For threads and thread pools: `pool.submit(carry(work), item)`. Tasks of asyncio carry the context on their own.

    Thread: the result may be called on any, also on several at once.
    """
    context = copy_context()

    @wraps(function)
    def carried(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # A copy each time: a context can be entered once at a time.
        return context.copy().run(function, *args, **kwargs)

    return carried
