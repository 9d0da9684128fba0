from libc.stdint cimport uint64_t

# How often this process and its ancestors forked since the core was loaded. Read only.
cdef unsigned int fork_number

cdef uint64_t random_id() noexcept

# W3C trace context level 2, section 3.2.2.5, and in OTLP's Span.flags.
cdef enum:
    SAMPLED = 0x01
    RANDOM = 0x02
    PARENT_KNOWN = 0x100
    PARENT_REMOTE = 0x200
