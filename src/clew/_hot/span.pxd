cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from clew._hot.buffer cimport Buffer
from clew._hot.notes cimport Notes
from clew._hot.queue cimport OpenSpan, Queue
from clew._hot.values cimport Attributes

cdef enum SpanState:
    SILENT  # records nothing: not sampled, or a stand-in for a span elsewhere
    RECORDING
    ENDED

# Status, as C numbers.
cdef enum:
    UNSET = 0
    OK = 1
    ERROR = 2
    CANCELLED = 3

# "" is always this one object where a span has no description or tracestate; KINDS are SpanKind by number.
cdef str NO_TEXT
cdef tuple KINDS


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Span:
    cdef OpenSpan node
    cdef void* vectorcall
    cdef Queue queue
    cdef object clock
    cdef object label, description, trace_state
    cdef object token  # of the context variable, while this is current
    cdef Span previous  # what was current before, if this is displaced
    cdef uint64_t trace_high, trace_low, id, parent
    cdef int64_t start_ns, end_ns
    cdef int64_t offset_ns  # wall clock minus monotonic clock, read where the trace began in this process
    cdef Attributes attributes_
    cdef Notes events_, links_
    cdef uint32_t flags
    cdef uint16_t scope  # of its pipeline's scopes, 0 for clew's own; see scopes.pyx
    cdef PyObject* face  # what stands for it in another API, if that is alive; not owned
    cdef unsigned int process
    cdef uint8_t state, kind_, status_
    cdef bint entered
    cdef bint remote  # stands for a span of another process
    cdef bint displaced  # was left while another span was current: not to become current again

    cdef int64_t now(self) noexcept
    cdef int64_t given_time(self, object time_ns) except? -1
    cdef int set_all(self, object attributes) except -1
    cdef int copy_attributes(self, object attributes, Attributes* copies, uint32_t limit) except -1
    cdef int record(self, object error, object attributes, int64_t time_ns) except -1
    cdef int describe(self, object error, object attributes, int64_t time_ns) except -1
    cdef Span enter(self)
    cdef int make_current(self) except -1
    cdef bint leave(self, object error) except -1
    cdef int restore(self) except -1
    cdef void finish(self, int64_t end_ns) noexcept
    cdef void finish_unended(self) noexcept
    cdef void encode(self, Buffer* buffer) noexcept


cdef Span get_current()
cdef Span as_span(object parent)
cdef Span previous_of(object token)
cdef Span still_valid(Span span)
cdef void make_valid(Span span) noexcept
cdef object current  # the context variable
cdef int64_t read_given(object clock, bint wall, Queue queue) noexcept
cdef void finish_open(OpenSpan* node) noexcept
