"""What is kept of spans that may never be exported: whole traces until it is decided about them, and what shows trouble.

All of it works on the encoded spans of a batch (concatenated ScopeSpans.spans fields) and makes no object for a span.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from clew._hot.buffer cimport Buffer, free_buffer, reserve
from clew._hot.clock cimport monotonic_ns
from clew._hot.ids cimport PARENT_REMOTE, fork_number
from clew._hot.messages cimport SPAN_ATTRIBUTES, SPANS, Pair, SpanFields, read_pair, read_span
from clew._hot.samplers cimport ProbabilitySample
from clew._hot.wire cimport Field, Slice, describe, next_field, next_of

from clew.errors import DecodeError

cdef enum:
    ERROR = 2  # Status.code


# One span of a batch, with its field tag.
cdef struct Entry:
    const uint8_t* begin
    const uint8_t* end
    SpanFields fields


cdef int next_entry(Slice* rest, Entry* entry) except -1:
    """The next span; 0 if there is none."""
    cdef Field field
    cdef int found
    while True:
        entry.begin = rest.at
        found = next_field(rest, &field)
        if found > 0 and field.tag != SPANS:
            continue
        if found > 0:
            found = read_span(field.data, &entry.fields)
            if found == 0:
                entry.end = rest.at
                return 1
        if found < 0:
            raise DecodeError(f"a span cannot be read: {describe(found)}")
        return 0


cdef inline bint is_local_root(const SpanFields* span) noexcept:
    """Whether no span of this process is its parent."""
    return span.parent_id.at == span.parent_id.end or (span.flags & PARENT_REMOTE) != 0


cdef inline bint is_slow(const SpanFields* span, int64_t slower_ns) noexcept:
    return slower_ns >= 0 and span.end_ns > span.start_ns and <int64_t> (span.end_ns - span.start_ns) >= slower_ns


cdef inline Slice slice_of(bytes data):
    cdef Slice rest
    rest.at = <const uint8_t*> PyBytes_AS_STRING(data)
    rest.end = rest.at + PyBytes_GET_SIZE(data)
    return rest


cdef bint is_error(const SpanFields* span) noexcept:
    """Whether a span failed. One that was cancelled travels as an error with an attribute that says so."""
    cdef Slice run = span.attributes
    cdef Slice body
    cdef Pair pair
    if span.status_code != ERROR:
        return False
    while next_of(&run, SPAN_ATTRIBUTES, &body) > 0:
        if read_pair(body, &pair) >= 0 and is_text(pair.key, b"clew.status") and is_text(pair.value.data, b"cancelled"):
            return False
    return True


cdef inline bint is_text(Slice data, bytes text) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    return data.end - data.at == size and memcmp(data.at, PyBytes_AS_STRING(text), size) == 0


def shows_trouble(bytes spans not None, bint errors, int64_t slower_ns):
    cdef Slice rest = slice_of(spans)
    cdef Entry entry
    while next_entry(&rest, &entry):
        if errors and is_error(&entry.fields):
            return True
        if is_local_root(&entry.fields) and is_slow(&entry.fields, slower_ns):
            return True
    return False


@cython.final
@cython.no_gc
cdef class Pending:
    """A trace that is not decided about: its spans so far."""

    cdef Buffer buffer
    cdef Py_ssize_t count
    cdef bint has_error
    cdef int64_t since_ns  # of the monotonic clock

    def __dealloc__(self):
        free_buffer(&self.buffer)


@cython.final
cdef class TraceKeeper:
    cdef bint keep_errors
    cdef int64_t slower_ns, wait_ns
    cdef ProbabilitySample sampler
    cdef Py_ssize_t max_bytes, max_decisions
    cdef unsigned int process
    cdef dict pending  # by trace id, the oldest first
    cdef dict kept  # ids of traces that are kept, the oldest first
    cdef Buffer out
    cdef Py_ssize_t out_count, let_go
    cdef readonly Py_ssize_t held, held_bytes

    def __cinit__(
        self, bint keep_errors, int64_t slower_ns, ProbabilitySample sampler not None, *, Py_ssize_t max_bytes,
        Py_ssize_t max_decisions, double wait_seconds
    ):
        self.keep_errors = keep_errors
        self.slower_ns = slower_ns
        self.wait_ns = <int64_t> (wait_seconds * 1e9)
        self.sampler = sampler
        self.max_bytes = max_bytes
        self.max_decisions = max_decisions
        self.process = fork_number
        self.pending = {}
        self.kept = {}

    def __dealloc__(self):
        free_buffer(&self.out)

    cdef void check_process(self):
        """In a child: what the parent kept is the parent's."""
        if self.process != fork_number:
            self.process = fork_number
            self.pending = {}
            self.kept = {}
            self.held = self.held_bytes = 0
            self.out_count = self.let_go = 0
            self.out.length = 0

    def take(self, bytes spans not None):
        cdef Slice rest
        cdef Entry entry
        cdef int64_t now = monotonic_ns()
        self.check_process()
        rest = slice_of(spans)
        while next_entry(&rest, &entry):
            self.take_span(&entry, now)
        self.expire(now)
        return self.give()

    def expired(self):
        self.check_process()
        self.expire(monotonic_ns())
        return self.give()

    def decide_all(self):
        self.check_process()
        while self.pending:
            self.decide(next(iter(self.pending)), False)
        return self.give()

    cdef take_span(self, const Entry* entry, int64_t now):
        cdef const SpanFields* span = &entry.fields
        cdef Py_ssize_t size = entry.end - entry.begin
        cdef Pending trace
        cdef bytes trace_id = PyBytes_FromStringAndSize(
            <const char*> span.trace_id.at, span.trace_id.end - span.trace_id.at
        )
        if trace_id in self.kept:
            self.write(entry.begin, size)
            self.out_count += 1
            return
        trace = self.pending.get(trace_id)
        if trace is None:
            trace = Pending.__new__(Pending)
            trace.since_ns = now
            self.pending[trace_id] = trace
        if not reserve(&trace.buffer, size):
            raise MemoryError
        memcpy(trace.buffer.data + trace.buffer.length, entry.begin, size)
        trace.buffer.length += size
        trace.count += 1
        self.held += 1
        self.held_bytes += size
        if is_error(span):
            trace.has_error = True
        if is_local_root(span):
            self.decide(trace_id, is_slow(span, self.slower_ns))
        else:
            while self.held_bytes > self.max_bytes:
                self.decide(next(iter(self.pending)), False)

    cdef expire(self, int64_t now):
        cdef Pending oldest
        while self.pending:
            trace_id = next(iter(self.pending))
            oldest = self.pending[trace_id]
            if now - oldest.since_ns < self.wait_ns:
                return
            self.decide(trace_id, False)

    cdef decide(self, bytes trace_id, bint is_slow):
        cdef Pending trace = self.pending.pop(trace_id)
        self.held -= trace.count
        self.held_bytes -= trace.buffer.length
        if not (is_slow or (self.keep_errors and trace.has_error) or self.sampler.decide(low_half(trace_id))):
            self.let_go += trace.count
            return
        self.write(trace.buffer.data, trace.buffer.length)
        self.out_count += trace.count
        # What comes of it later belongs with it. Of a trace that was let go nothing is remembered: another request of
        # it in this process may be the one with the error.
        self.kept[trace_id] = None
        if len(self.kept) > self.max_decisions:
            del self.kept[next(iter(self.kept))]

    cdef write(self, const uint8_t* data, Py_ssize_t size):
        if not reserve(&self.out, size):
            self.out.failed = False
            raise MemoryError
        memcpy(self.out.data + self.out.length, data, size)
        self.out.length += size

    cdef give(self):
        """(spans to be exported, how many, how many were let go), and begin anew."""
        given = PyBytes_FromStringAndSize(<const char*> self.out.data, self.out.length), self.out_count, self.let_go
        self.out.length = 0
        self.out_count = self.let_go = 0
        return given


cdef uint64_t low_half(bytes trace_id):
    """The lower 64 bits, which samplers decide by."""
    cdef uint64_t low = 0
    cdef Py_ssize_t index, size = PyBytes_GET_SIZE(trace_id)
    for index in range(max(size - 8, 0), size):
        low = low << 8 | <uint8_t> PyBytes_AS_STRING(trace_id)[index]
    return low
