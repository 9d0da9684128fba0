from libc.stdint cimport uint64_t

cdef unsigned int forks() noexcept
cdef uint64_t random_id() noexcept
