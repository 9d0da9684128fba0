from libc.stdint cimport int64_t, uint64_t


cdef class NativeSampler:
    cdef bint decide(self, uint64_t trace_low) noexcept


cdef class ProbabilitySample(NativeSampler):
    cdef readonly double probability
    cdef uint64_t below


cdef class RateLimitSample(NativeSampler):
    cdef readonly double per_second
    cdef object clock
    cdef int64_t* begun
    cdef int64_t window_ns
    cdef Py_ssize_t size, next
