"""Ended spans as OTLP bytes, bounded by bytes, in chunks that become batches; and the ledger of all spans.

Everything here happens under the GIL, and nothing between two of its Python calls runs Python code or allocates what the
garbage collector counts. So every operation is atomic without a lock, also when a finalizer ends a span in the middle
of another's work, and a fork finds the queue whole.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint64_t

from clew._hot.buffer cimport Buffer, free_buffer, reserve, trim
from clew._hot.clock cimport monotonic_ns
from clew._hot.ids cimport fork_number

from clew.model import SpanLimits, Stats

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) nogil
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible) nogil
    void PyThread_release_lock(PyThread_type_lock lock) nogil


cdef void free_chunk(Chunk* chunk) noexcept:
    if chunk != NULL:
        free_buffer(&chunk.buffer)
        PyMem_Free(chunk)


@cython.final
cdef class Queue:
    def __cinit__(
        self,
        Py_ssize_t max_bytes,
        Py_ssize_t batch_spans,
        Py_ssize_t batch_bytes,
        limits=SpanLimits(),
        Py_ssize_t max_spans=PY_SSIZE_T_MAX,
    ):
        (
            self.max_attributes, self.max_events, self.max_links, self.max_event_attributes, self.max_link_attributes,
            value_length, event_value_length,
        ) = limits
        self.value_length = -1 if value_length is None else value_length
        self.event_value_length = -1 if event_value_length is None else event_value_length
        self.max_bytes = max_bytes
        self.max_spans = max_spans
        self.batch_spans = batch_spans
        self.batch_bytes = batch_bytes
        self.process = fork_number
        self.alarm = new_alarm()
        self.tail = self.head = <Chunk*> PyMem_Calloc(1, sizeof(Chunk))
        if self.alarm == NULL or self.head == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.free_chunks()
        if self.alarm != NULL:
            PyThread_free_lock(self.alarm)

    cdef void free_chunks(self) noexcept:
        cdef Chunk* chunk
        while self.head != NULL:
            chunk = self.head
            self.head = chunk.next
            free_chunk(chunk)
        free_chunk(self.spare)
        self.spare = self.tail = NULL

    # --- the process -------------------------------------------------------------------------------------------------

    cdef void reset(self) noexcept:
        """Begin anew in a child: what the parent queued is the parent's to export, and so are its open spans."""
        cdef Chunk* chunk = <Chunk*> PyMem_Calloc(1, sizeof(Chunk))
        cdef void* alarm = new_alarm()
        self.process = fork_number
        if chunk != NULL:
            self.free_chunks()
            self.head = self.tail = chunk
        if alarm != NULL:
            # The old one may be held by a thread that this process does not have; to free it is not safe.
            self.alarm = alarm
        self.worker_started = self.waiting = self.woken = False
        self.open_spans = NULL
        self.queued_bytes = self.queued_spans = self.taken_bytes = self.taken_spans = 0
        self.started = self.ended = self.not_sampled = self.put = self.exported = self.failed = self.not_kept = 0
        self.dropped_full = self.dropped_closed = self.dropped_memory = 0
        self.coerced = self.errors = 0

    # --- the side of the spans; what is short of it is in queue.pxd -------------------------------------------------

    cdef void commit(self, size_t start) noexcept:
        """The span that begins at `start` of the buffer is encoded."""
        cdef Buffer* buffer = &self.tail.buffer
        cdef Py_ssize_t size = <Py_ssize_t> (buffer.length - start)
        if buffer.failed or self.queued_bytes + size > self.max_bytes:
            if buffer.failed:
                self.dropped_memory += 1
            else:
                self.dropped_full += 1
            buffer.failed = False
            buffer.length = start
            return
        self.queued_bytes += size
        self.queued_spans += 1
        self.put += 1
        self.tail.count += 1
        if self.tail.count >= self.batch_spans or <Py_ssize_t> buffer.length >= self.batch_bytes:
            self.seal()
        if not self.worker_started:
            self.worker_started = True
            self.call_start_worker()

    cdef void seal(self) noexcept:
        """The tail is a full batch: begin another and tell the worker."""
        cdef Chunk* chunk = self.spare
        self.spare = NULL
        if chunk == NULL:
            chunk = <Chunk*> PyMem_Calloc(1, sizeof(Chunk))
            if chunk == NULL:
                return  # the batch grows on until there is memory
        # The next batch will be about as long; and what this one has too much is given back, so that the memory taken is
        # what the bound on bytes says.
        reserve(&chunk.buffer, self.tail.buffer.length + (self.tail.buffer.length >> 4))
        chunk.buffer.failed = False
        trim(&self.tail.buffer)
        self.tail.next = chunk
        self.tail = chunk
        self.ring()

    cdef inline void ring(self) noexcept:
        if self.waiting:
            self.waiting = False
            PyThread_release_lock(self.alarm)

    cdef void call_start_worker(self) noexcept:
        if self.start_worker is None:
            return
        try:
            self.start_worker()
        except BaseException:
            # This may be any moment of the traced program, a finalizer's too: nothing may reach it.
            self.errors += 1

    # --- the side of the worker --------------------------------------------------------------------------------------

    def take(self, double timeout):
        cdef int64_t deadline = 0, left
        cdef Chunk* chunk
        self.check_process()
        if timeout > 0:
            deadline = monotonic_ns() + <int64_t> (min(timeout, 1e9) * 1e9)
        while self.head == self.tail and not self.woken:
            left = deadline - monotonic_ns() if timeout > 0 else 0
            if left <= 0:
                break
            self.waiting = True
            with nogil:
                PyThread_acquire_lock_timed(self.alarm, left // 1000 + 1, 0)
            if self.waiting:
                self.waiting = False  # nobody rang
            else:
                PyThread_acquire_lock(self.alarm, 0)  # rung; after the time was up, perhaps, and then it is open
        if self.head != self.tail:
            chunk = self.head
            self.head = chunk.next
        else:
            self.woken = False
            if self.tail.count == 0:
                return None
            chunk = <Chunk*> PyMem_Calloc(1, sizeof(Chunk)) if self.spare == NULL else self.spare
            if chunk == NULL:
                raise MemoryError
            self.spare = NULL
            chunk.next = NULL
            self.tail, chunk = chunk, self.tail
            self.head = self.tail
        try:
            batch = PyBytes_FromStringAndSize(<char*> chunk.buffer.data, chunk.buffer.length), chunk.count
        except MemoryError:
            chunk.next = self.head
            self.head = chunk
            raise
        self.taken_bytes = <Py_ssize_t> chunk.buffer.length
        self.taken_spans = chunk.count
        # Kept for the next batch, unless it has grown out of the ordinary.
        if self.spare == NULL and <Py_ssize_t> chunk.buffer.capacity <= 2 * self.batch_bytes:
            chunk.buffer.length = 0
            chunk.count = 0
            chunk.next = NULL
            self.spare = chunk
        else:
            free_chunk(chunk)
        return batch

    def settle(self, uint64_t exported, uint64_t failed):
        self.check_process()
        if exported + failed > <uint64_t> self.taken_spans:
            raise ValueError(f"{exported} + {failed} spans settled, {self.taken_spans} taken")
        self.exported += exported
        self.failed += failed
        self.taken_spans -= <Py_ssize_t> (exported + failed)
        self.queued_spans -= <Py_ssize_t> (exported + failed)
        if self.taken_spans == 0:
            self.queued_bytes -= self.taken_bytes
            self.taken_bytes = 0

    def settle_kept(self, uint64_t exported, uint64_t failed, uint64_t not_kept):
        self.check_process()
        if exported + failed + not_kept > self.put - self.exported - self.failed - self.not_kept:
            raise ValueError(f"{exported} + {failed} + {not_kept} spans settled, fewer were queued")
        self.exported += exported
        self.failed += failed
        self.not_kept += not_kept
        self.queued_bytes -= self.taken_bytes
        self.queued_spans -= self.taken_spans
        self.taken_bytes = self.taken_spans = 0

    def wake(self):
        self.check_process()
        self.woken = True
        self.ring()

    # --- everybody's -------------------------------------------------------------------------------------------------

    def end_open_spans(self):
        cdef Py_ssize_t ended = 0
        self.check_process()
        while self.open_spans != NULL:
            self.open_spans.finish(self.open_spans)
            ended += 1
        return ended

    def count_error(self):
        self.check_process()
        self.errors += 1

    @property
    def put_total(self):
        self.check_process()
        return self.put

    @property
    def lost_total(self):
        self.check_process()
        return self.failed + self.dropped_full + self.dropped_closed + self.dropped_memory

    def stats(self):
        self.check_process()
        return Stats(
            started=self.started,
            ended=self.ended,
            not_sampled=self.not_sampled,
            exported=self.exported,
            failed=self.failed,
            queued=self.put - self.exported - self.failed - self.not_kept,
            queued_bytes=self.queued_bytes,
            dropped={
                "queue_full": self.dropped_full,
                "closed": self.dropped_closed,
                "memory": self.dropped_memory,
                "not_kept": self.not_kept,
            },
            coerced=self.coerced,
            errors=self.errors,
        )


cdef void* new_alarm() noexcept:
    """A lock that is held: whoever waits for it waits until it is released."""
    cdef void* alarm = PyThread_allocate_lock()
    if alarm != NULL:
        PyThread_acquire_lock(alarm, 0)
    return alarm
