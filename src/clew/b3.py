"""B3 headers, as Zipkin's libraries and many service meshes speak them, to and from contexts.

Source: the OpenTelemetry specification, "Propagators API", section "B3 Requirements"; openzipkin/b3-propagation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clew.model import SpanContext

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["B3_HEADERS", "headers_of", "read"]

_SINGLE = "b3"
_TRACE_ID, _SPAN_ID, _SAMPLED, _FLAGS = "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"

B3_HEADERS = (_SINGLE, _TRACE_ID, _SPAN_ID, _SAMPLED, _FLAGS)

_PATTERN = r"(?i)([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?"
# "d" is debug: sampled, whatever anybody decides. "true" is what B3's first libraries wrote.
_YES = ("1", "d", "true")


def read(lines: Mapping[str, list[str]]) -> SpanContext | None:
    """The context of a request; None if there is none, or a wrong one.

    Where both are there, the one header counts before the several. A trace id of 64 bits gets zeros before it. Whoever
    leaves the decision open (no sampling state) has not sampled the trace.

    Args:
        lines: the values of each of `B3_HEADERS`.
    """
    if lines[_SINGLE]:
        return _context(lines[_SINGLE])
    if not all(len(lines[name]) == 1 for name in (_TRACE_ID, _SPAN_ID)):
        return None
    (trace_id,), (span_id,) = lines[_TRACE_ID], lines[_SPAN_ID]
    debug = lines[_FLAGS] == ["1"]
    sampled = debug or [value.strip().lower() for value in lines[_SAMPLED]] in (["1"], ["true"])
    return _context([f"{trace_id.strip()}-{span_id.strip()}-{int(sampled)}"])


def _context(values: list[str]) -> SpanContext | None:
    match = re.fullmatch(_PATTERN, values[0].strip(" \t")) if len(values) == 1 else None
    if match is None:
        return None
    trace_id, span_id, state = match.groups()
    flags = int((state or "0").lower() in _YES)
    context = SpanContext(trace_id.lower().zfill(32), span_id.lower(), flags, is_remote=True)
    return context if context.is_valid else None


def headers_of(context: SpanContext, propagators: tuple[str, ...]) -> dict[str, str]:
    """What to send: `b3` by the propagator of that name, the several headers by "b3multi"."""
    headers: dict[str, str] = {}
    sampled = str(int(context.is_sampled))
    if "b3" in propagators:
        headers[_SINGLE] = f"{context.trace_id}-{context.span_id}-{sampled}"
    if "b3multi" in propagators:
        headers |= {_TRACE_ID: context.trace_id, _SPAN_ID: context.span_id, _SAMPLED: sampled}
    return headers
