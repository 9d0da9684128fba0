"""Attributes: what a span, an event and a link carry."""

from cpython.object cimport PyObject

from libc.stdint cimport uint8_t, uint32_t

from clew._hot.buffer cimport Buffer

cdef struct Attribute:
    PyObject* key
    PyObject* value


cdef struct Attributes:
    Attribute* items
    uint32_t count
    uint32_t capacity
    uint32_t dropped


cdef object snapshot(object value, Py_ssize_t length, Py_ssize_t* coerced)
cdef str exact_text(object value, Py_ssize_t* coerced)
cdef bint store(Attributes* attributes, str key, object value, uint32_t limit) noexcept
cdef Py_ssize_t update_plain(Attributes* attributes, object mapping, uint32_t limit, Py_ssize_t length) noexcept
cdef int update_rest(
    Attributes* attributes, object mapping, Py_ssize_t done, uint32_t limit, Py_ssize_t length, Py_ssize_t* coerced
) except -1
cdef dict as_dict(Attributes* attributes)
cdef void clear(Attributes* attributes) noexcept
cdef void put_attributes(Buffer* buffer, uint8_t tag, Attributes* attributes) noexcept
cdef void put_pair(Buffer* buffer, uint8_t tag, object key, object value) noexcept
