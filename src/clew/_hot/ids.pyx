"""Random ids, and the count of forks that everything tied to one process checks.

The generator is xoshiro256++ (Blackman and Vigna, 2019), its 256 bits of state taken from the operating system when
the core is loaded and again in every child. It is not `random`, which users seed to make their programs repeatable.
"""

from libc.stdint cimport uint64_t

cdef extern from "unistd.h" nogil:
    int getentropy(void* buffer, size_t length)

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil, void (*child)() noexcept nogil)

# Counted by the C library's own hook, because servers written in C fork without telling Python. The hook may take no
# lock and allocate nothing: it adds one, and whoever looks next finds that the process is another.
fork_number = 0
cdef unsigned int seeded_in = 0
cdef uint64_t state[4]


cdef void in_child() noexcept nogil:
    global fork_number
    fork_number += 1


cdef inline uint64_t rotate(uint64_t value, int bits) noexcept:
    return (value << bits) | (value >> (64 - bits))


cdef bint seed() noexcept:
    global seeded_in
    seeded_in = fork_number
    return getentropy(state, sizeof(state)) == 0 and (state[0] | state[1] | state[2] | state[3]) != 0


cdef uint64_t random_id() noexcept:
    """64 random bits, never all zero (which means «no id»)."""
    cdef uint64_t result, shifted
    if seeded_in != fork_number and not seed():
        # The kernel gave entropy at import and refuses it now, which no kernel is known to do. The inherited state
        # is stepped apart, so that at least this process and its parent do not share their ids.
        state[0] ^= <uint64_t> fork_number * 0x9E3779B97F4A7C15U
    while True:
        result = rotate(state[0] + state[3], 23) + state[0]
        shifted = state[1] << 17
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= shifted
        state[3] = rotate(state[3], 45)
        if result != 0:
            return result


def fork_count() -> int:
    """How often this process and its ancestors forked since the core was loaded, seen from this process."""
    return fork_number


if not seed():
    raise OSError("the system gave no random bytes (getentropy), without which clew cannot make trace ids")
if pthread_atfork(NULL, NULL, in_child) != 0:
    raise MemoryError("the system's list of fork handlers could not be extended")
