"""The tracer's part of the core: makes spans, and decides which of them record."""

from cpython.object cimport PyObject
from libc.stdint cimport INT64_MIN, int64_t, uint8_t

from clew._hot.clock cimport monotonic_ns, wall_ns
from clew._hot.ids cimport PARENT_KNOWN, PARENT_REMOTE, RANDOM, SAMPLED, random_id
from clew._hot.queue cimport OpenSpan, Queue
from clew._hot.samplers cimport NativeSampler
from clew._hot.span cimport (
    KINDS, NO_TEXT, RECORDING, SILENT, Span, as_span, finish_open, get_current, read_given,
)
from clew._hot.values cimport exact_text

from clew.limits import WALL_CLOCK_AGE_NS
from clew.model import Link, SpanKind

cdef object INTERNAL = SpanKind.INTERNAL

# The default of start_span's parent: whatever span is current.
CURRENT = type("Current", (), {"__repr__": lambda self: "CURRENT", "__slots__": ()})()
cdef object _CURRENT = CURRENT

# The last time that both clocks were read: the monotonic one, and how far the wall clock was ahead of it.
cdef int64_t both_read_ns = INT64_MIN
cdef int64_t both_offset_ns = 0
cdef int64_t OFFSET_AGE_NS = WALL_CLOCK_AGE_NS


cdef inline int64_t anchored_now(int64_t* offset_ns) noexcept:
    """The wall clock, for a trace that begins, and its offset from the monotonic clock.

    Traces that begin within a millisecond share a reading of the wall clock, which spares most of them the call.
    """
    global both_read_ns, both_offset_ns
    cdef int64_t now = monotonic_ns()
    if now - OFFSET_AGE_NS > both_read_ns:
        both_offset_ns = wall_ns() - now
        both_read_ns = now
    offset_ns[0] = both_offset_ns
    return now + both_offset_ns


cdef class TracerCore:
    """Makes spans, and puts those that ended into a queue. `clew.Tracer` is built on it."""

    cdef Queue queue
    cdef object sampler, clock
    cdef NativeSampler native  # the sampler, if it decides without Python
    cdef bint decides_remote

    def __init__(self, Queue queue not None, sampler, clock=None):
        self.queue = queue
        self.sampler = sampler
        self.clock = clock
        self.native = sampler if isinstance(sampler, NativeSampler) else None
        self.decides_remote = bool(getattr(sampler, "decides_remote", False))

    def start_span(
        self, name, kind=INTERNAL, *, attributes=None, links=(), parent=_CURRENT, start_time_ns=None
    ):
        """Begin a span.

        Args:
            name: what the operation is called; few different names, with what differs in the attributes.
            kind: its role.
            attributes: a mapping, copied.
            links: Link, SpanContext or Span, each pointing to another span.
            parent: a Span, a SpanContext, or None for a new trace; by default whatever span is current.
            start_time_ns: wall-clock nanoseconds; now by default.

        Returns: a span that is not current yet: `with` makes it so and ends it; else the caller calls `end()`.
        Thread: any. Never blocks.
        """
        cdef Span span = Span.__new__(Span)
        cdef Span above
        cdef Queue queue = self.queue
        cdef bint sampled, begins_here
        queue.check_process()
        if parent is _CURRENT:
            above = get_current()
        elif parent is None:
            above = None
        else:
            above = as_span(parent)
            if above is None:
                queue.coerced += 1
                above = get_current()
        if kind is INTERNAL:
            span.kind_ = 1
        else:
            span.kind_ = kind_number(kind, queue)
        span.label = name if type(name) is str else exact_text(name, &queue.coerced)
        span.description = NO_TEXT
        span.id = random_id()
        if above is not None and (above.trace_low | above.trace_high) != 0:
            begins_here = above.remote or above.state == SILENT
            span.trace_high = above.trace_high
            span.trace_low = above.trace_low
            span.parent = above.id
            span.trace_state = above.trace_state
            sampled = above.flags & SAMPLED
            if above.remote and self.decides_remote:
                sampled = self.ask(span, kind, attributes, above.context)
            span.flags = above.flags & RANDOM | PARENT_KNOWN | (PARENT_REMOTE if above.remote else 0)
        else:
            begins_here = True
            span.trace_high = random_id()
            span.trace_low = random_id()
            span.trace_state = NO_TEXT
            if self.native is not None:
                sampled = self.native.decide(span.trace_low)
            else:
                sampled = self.ask(span, kind, attributes, None)
            span.flags = RANDOM | PARENT_KNOWN
        if not sampled:
            queue.not_sampled += 1
            return span
        span.flags |= SAMPLED
        span.process = queue.process
        span.queue = queue
        span.clock = self.clock
        span.state = RECORDING
        span.node.span = <PyObject*> span
        span.node.finish = finish_open
        queue.begin_span(&span.node)
        if attributes is not None:
            span.set_all(attributes)
        if not (type(links) is tuple and len(<tuple> links) == 0):
            add_links(span, links, queue)
        # The clocks last: the span measures the program, not its own making.
        if not begins_here:
            span.offset_ns = above.offset_ns
            span.start_ns = span.now() if start_time_ns is None else span.given_time(start_time_ns)
        else:
            if self.clock is None:
                span.start_ns = anchored_now(&span.offset_ns)
            else:
                span.start_ns = read_given(self.clock, True, queue)
                span.offset_ns = span.start_ns - read_given(self.clock, False, queue)
            if start_time_ns is not None:
                span.start_ns = span.given_time(start_time_ns)
        return span

    cdef bint ask(self, Span span, object kind, object attributes, object parent):
        """The decision of a sampler written in Python; False, counted, if it fails."""
        try:
            return bool(
                self.sampler.should_sample(
                    span.trace_id, span.label, KINDS[span.kind_], {} if attributes is None else attributes, parent
                )
            )
        except Exception:
            self.queue.errors += 1
            return False


cdef uint8_t kind_number(object kind, Queue queue):
    cdef long number
    try:
        number = kind
        if 1 <= number <= 5:
            return <uint8_t> number
    except Exception:
        pass
    queue.coerced += 1
    return 1


cdef int add_links(Span span, object links, Queue queue) except -1:
    try:
        for link in links:
            if isinstance(link, Link):
                span.add_link(link.context, link.attributes)
            else:
                span.add_link(link)
    except Exception:
        queue.coerced += 1
    return 0
