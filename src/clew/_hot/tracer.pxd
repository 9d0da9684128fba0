cimport cython
from libc.stdint cimport uint8_t

from clew._hot.queue cimport Queue
from clew._hot.samplers cimport NativeSampler
from clew._hot.span cimport Span


cdef class TracerCore:
    cdef Queue queue
    cdef object sampler_, clock
    cdef NativeSampler native  # the sampler, if it decides without Python
    cdef bint decides_remote

    @cython.final
    cdef Span identify(self, Span above, object name, uint8_t kind)
    @cython.final
    cdef bint decide(self, Span span, Span above, object attributes) except -1
    @cython.final
    cdef int begin(self, Span span, Span above, object attributes, object links, object start_time_ns) except -1
    @cython.final
    cdef bint ask(self, Span span, object attributes, object parent)
