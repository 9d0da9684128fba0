"""The tracer's part of the core: makes spans, and decides which of them record."""

from cpython.object cimport PyObject
from libc.stdint cimport INT64_MIN, int64_t, uint8_t

from clew._hot.clock cimport monotonic_ns, wall_ns
from clew._hot.ids cimport PARENT_KNOWN, PARENT_REMOTE, RANDOM, SAMPLED, random_id
from clew._hot.queue cimport OpenSpan, Queue
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


cdef inline bint is_parent(Span above) noexcept:
    return above is not None and (above.trace_low | above.trace_high) != 0


cdef class TracerCore:
    """Makes spans, and puts those that ended into a queue. `clew.Tracer` is built on it."""

    def __init__(self, Queue queue not None, sampler, clock=None):
        self.queue = queue
        self.sampler_ = sampler
        self.clock = clock
        self.native = sampler if isinstance(sampler, NativeSampler) else None
        self.decides_remote = bool(getattr(sampler, "decides_remote", False))

    @property
    def sampler(self):
        """What decides which traces are recorded."""
        return self.sampler_

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
        cdef Span span, above
        cdef Queue queue = self.queue
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
        span = self.identify(above, name, 1 if kind is INTERNAL else kind_number(kind, queue))
        if not self.decide(span, above, attributes):
            queue.not_sampled += 1
            return span
        span.flags |= SAMPLED
        self.begin(span, above, attributes, links, start_time_ns)
        return span

    # What start_span is made of. clew.otel has another way to decide.

    cdef Span identify(self, Span above, object name, uint8_t kind):
        """A span with its place in a trace, which records nothing and is not sampled."""
        cdef Span span = Span.__new__(Span)
        span.kind_ = kind
        span.label = name if type(name) is str else exact_text(name, &self.queue.coerced)
        span.description = NO_TEXT
        span.id = random_id()
        if is_parent(above):
            span.trace_high = above.trace_high
            span.trace_low = above.trace_low
            span.parent = above.id
            span.trace_state = above.trace_state
            span.flags = above.flags & RANDOM | PARENT_KNOWN | (PARENT_REMOTE if above.remote else 0)
        else:
            span.trace_high = random_id()
            span.trace_low = random_id()
            span.trace_state = NO_TEXT
            span.flags = RANDOM | PARENT_KNOWN
        return span

    cdef bint decide(self, Span span, Span above, object attributes) except -1:
        """Whether to record it: once per trace, so a parent's decision holds, but for what a sampler wants to hear of."""
        if is_parent(above):
            if above.remote and self.decides_remote:
                return self.ask(span, attributes, above.context)
            return above.flags & SAMPLED
        if self.native is not None:
            return self.native.decide(span.trace_low)
        return self.ask(span, attributes, None)

    cdef int begin(self, Span span, Span above, object attributes, object links, object start_time_ns) except -1:
        """Have it record. What is not sampled belongs to nobody's ledger, and is not exported when it ends."""
        cdef Queue queue = self.queue
        span.process = queue.process
        span.queue = queue
        span.clock = self.clock
        span.state = RECORDING
        if span.flags & SAMPLED:
            span.node.span = <PyObject*> span
            span.node.finish = finish_open
            queue.begin_span(&span.node)
        if attributes is not None:
            span.set_all(attributes)
        if not (type(links) is tuple and len(<tuple> links) == 0):
            add_links(span, links, queue)
        # The clocks last: the span measures the program, not its own making.
        if is_parent(above) and not above.remote and above.state != SILENT:
            span.offset_ns = above.offset_ns
            span.start_ns = span.now() if start_time_ns is None else span.given_time(start_time_ns)
            return 0
        if self.clock is None:
            span.start_ns = anchored_now(&span.offset_ns)
        else:
            span.start_ns = read_given(self.clock, True, queue)
            span.offset_ns = span.start_ns - read_given(self.clock, False, queue)
        if start_time_ns is not None:
            span.start_ns = span.given_time(start_time_ns)
        return 0

    cdef bint ask(self, Span span, object attributes, object parent):
        """The decision of a sampler written in Python; False, counted, if it fails."""
        try:
            return bool(
                self.sampler_.should_sample(
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
