"""The native core: spans, their context, the samplers that need no Python, the queue of encoded spans.

One compiled implementation, in Cython, a module for each noun. What a span needs: clock, ids, values, notes, buffer,
queue, scopes, samplers, span, tracer. OTLP the other way: wire, messages, decode, transcode. And receiver, which notes
when a socket's bytes came. The interface, with types, is `__init__.pyi`.
"""

import sys

# Between two of its Python calls everything here is atomic because of the GIL. Loading what is compiled would switch it
# on for the whole program, with a warning; whether that is wanted is the program's to say.
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "clew needs the GIL, and this Python runs without: start it with PYTHON_GIL=1 in the environment or with the "
        "option -X gil=1, or use a build of Python that is not free-threaded."
    )

from clew._hot.decode import spans_to_records, traces_to_records
from clew._hot.ids import fork_count
from clew._hot.queue import Queue
from clew._hot.samplers import AlwaysSample, NeverSample, ProbabilitySample, RateLimitSample
from clew._hot.scopes import split_by_scope
from clew._hot.span import ContextScope, Span, current_span, remote_span, use_span
from clew._hot.tracer import CURRENT, TracerCore
from clew._hot.transcode import attributes_to_json, spans_to_json

__all__ = [
    "CURRENT",
    "AlwaysSample",
    "ContextScope",
    "NeverSample",
    "ProbabilitySample",
    "Queue",
    "RateLimitSample",
    "Span",
    "TracerCore",
    "attributes_to_json",
    "current_span",
    "fork_count",
    "remote_span",
    "spans_to_json",
    "spans_to_records",
    "split_by_scope",
    "traces_to_records",
    "use_span",
]
