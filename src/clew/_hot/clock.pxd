"""The system's two clocks, in nanoseconds."""

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec


cdef inline int64_t read_clock(bint wall) noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME if wall else CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline int64_t wall_ns() noexcept nogil:
    return read_clock(True)


cdef inline int64_t monotonic_ns() noexcept nogil:
    return read_clock(False)
