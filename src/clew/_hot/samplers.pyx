"""The samplers that decide without running Python code."""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport ceil
from libc.stdint cimport INT64_MIN, int64_t, uint64_t

from clew._hot.clock cimport monotonic_ns

from clew.errors import ConfigurationError
from clew.limits import RATE_LIMIT_PER_SECOND


cdef class NativeSampler:
    cdef bint decide(self, uint64_t trace_low) noexcept:
        return False

    def should_sample(self, trace_id, name, kind, attributes, parent):
        return self.decide(int(trace_id, 16) & 0xFFFFFFFFFFFFFFFF)

    def __repr__(self):
        return f"{type(self).__name__}()"


@cython.final
cdef class AlwaysSample(NativeSampler):
    """Records every trace."""

    cdef bint decide(self, uint64_t trace_low) noexcept:
        return True


@cython.final
cdef class NeverSample(NativeSampler):
    """Records none; what a span then costs is the context that it keeps."""


@cython.final
cdef class ProbabilitySample(NativeSampler):
    """Records a share of the traces, chosen by the trace id, so that services that see the same trace agree.

    Args:
        probability: 0 (none) to 1 (all).

    Raises: ConfigurationError.
    Source: OpenTelemetry's TraceIdRatioBased, as its SDKs for Python and Go compute it from the lower 64 bits.
    """

    def __init__(self, probability):
        if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
            raise ConfigurationError(f"ProbabilitySample takes a probability from 0 to 1, not {probability!r}.")
        self.probability = probability
        self.below = <uint64_t> min(round(probability * 2**64), 2**64 - 1)

    cdef bint decide(self, uint64_t trace_low) noexcept:
        return trace_low < self.below or self.probability == 1

    def __repr__(self):
        return f"ProbabilitySample({self.probability:g})"


@cython.final
cdef class RateLimitSample(NativeSampler):
    """Records the first traces of any second, up to a number.

    A bucket of that many tokens; each token comes back one second of the monotonic clock after it was taken. So a burst
    of `per_second` traces is recorded whole, and no window of one second, wherever it begins, holds more.
    Below one a second, the one token comes back after 1 / `per_second` seconds.

    Args:
        per_second: more than 0, at most RATE_LIMIT_PER_SECOND; what is not whole is rounded up to the next whole number
            of tokens, each kept as much longer than a second.
        clock: for tests.

    Raises: ConfigurationError.
    """

    def __cinit__(self, per_second, *, clock=None):
        if (
            isinstance(per_second, bool)
            or not isinstance(per_second, (int, float))
            or not 0 < per_second <= RATE_LIMIT_PER_SECOND
        ):
            raise ConfigurationError(
                f"RateLimitSample takes traces per second, above 0 and up to {RATE_LIMIT_PER_SECOND}, "
                f"not {per_second!r}."
            )
        self.per_second = per_second
        self.clock = clock
        self.size = <Py_ssize_t> ceil(per_second)
        self.window_ns = <int64_t> (self.size / self.per_second * 1e9)
        self.begun = <int64_t*> PyMem_Malloc(self.size * sizeof(int64_t))
        if self.begun == NULL:
            raise MemoryError
        for i in range(self.size):
            self.begun[i] = INT64_MIN

    def __dealloc__(self):
        PyMem_Free(self.begun)

    cdef bint decide(self, uint64_t trace_low) noexcept:
        cdef int64_t now
        if self.clock is None:
            now = monotonic_ns()
        else:
            try:
                now = self.clock.monotonic_ns()
            except Exception:
                now = monotonic_ns()
        # `next` is the token that was taken longest ago.
        if self.begun[self.next] != INT64_MIN and now - self.begun[self.next] < self.window_ns:
            return False
        self.begun[self.next] = now
        self.next += 1
        if self.next == self.size:
            self.next = 0
        return True

    def __repr__(self):
        return f"RateLimitSample({self.per_second:g})"
