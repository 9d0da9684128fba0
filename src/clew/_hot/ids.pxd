from libc.stdint cimport uint64_t

# How often this process and its ancestors forked since the core was loaded. Read only.
cdef unsigned int fork_number

cdef uint64_t random_id() noexcept
