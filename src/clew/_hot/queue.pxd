cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from clew._hot.buffer cimport Buffer
from clew._hot.ids cimport fork_number

cdef struct Chunk:
    Buffer buffer
    Py_ssize_t count
    Chunk* next


# A node of the list of open spans, inside each span. A span is in the list while it can be ended by the queue.
cdef struct OpenSpan:
    OpenSpan* before
    OpenSpan* after
    void (*finish)(OpenSpan* node) noexcept
    PyObject* span


@cython.final
cdef class Queue:
    cdef public object start_worker
    cdef public bint closed
    cdef object __weakref__
    cdef Py_ssize_t max_bytes, max_spans, batch_spans, batch_bytes
    # What one span holds; here, because every span has its queue at hand. A length below 0 is none.
    cdef uint32_t max_attributes, max_events, max_links, max_event_attributes, max_link_attributes
    cdef Py_ssize_t value_length, event_value_length
    # This process's share; `reset` sets all of it to nothing in a child.
    cdef unsigned int process
    cdef bint worker_started, waiting, woken
    cdef void* alarm
    cdef Chunk* head
    cdef Chunk* tail
    cdef Chunk* spare
    cdef OpenSpan* open_spans
    cdef Py_ssize_t queued_bytes, queued_spans, taken_bytes, taken_spans
    cdef uint64_t started, ended, not_sampled, put, exported, failed, not_kept
    cdef uint64_t dropped_full, dropped_closed, dropped_memory
    cdef Py_ssize_t coerced, errors

    cdef void free_chunks(self) noexcept
    cdef void reset(self) noexcept
    cdef void commit(self, size_t start) noexcept
    cdef void seal(self) noexcept
    cdef void ring(self) noexcept
    cdef void call_start_worker(self) noexcept

    cdef inline void check_process(self) noexcept:
        if self.process != fork_number:
            self.reset()

    cdef inline void begin_span(self, OpenSpan* node) noexcept:
        self.started += 1
        node.before = NULL
        node.after = self.open_spans
        if self.open_spans != NULL:
            self.open_spans.before = node
        self.open_spans = node

    cdef inline void end_span(self, OpenSpan* node) noexcept:
        self.ended += 1
        if node.before != NULL:
            node.before.after = node.after
        else:
            self.open_spans = node.after
        if node.after != NULL:
            node.after.before = node.before

    cdef inline Buffer* begin_put(self) noexcept:
        """Where to encode a span that ended; NULL if it is dropped."""
        if self.closed:
            self.dropped_closed += 1
            return NULL
        if self.queued_bytes >= self.max_bytes or self.queued_spans >= self.max_spans:
            self.dropped_full += 1
            return NULL
        return &self.tail.buffer
