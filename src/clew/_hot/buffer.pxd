"""A growable byte buffer, and protobuf's wire format on it. Everything here is inlined, and runs without Python.

A buffer that could not grow is marked `failed` and ignores what follows, so that an encoder checks once, at its end.

Source: the Protocol Buffers encoding specification.
"""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    int PyUnicode_KIND(object text) noexcept
    void* PyUnicode_DATA(object text) noexcept
    uint32_t PyUnicode_READ(int kind, void* data, Py_ssize_t index) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

cdef extern from "<endian.h>":
    uint64_t htole64(uint64_t value) noexcept
    uint64_t htobe64(uint64_t value) noexcept
    uint32_t htole32(uint32_t value) noexcept


cdef struct Buffer:
    uint8_t* data
    size_t length
    size_t capacity
    bint failed


cdef inline void free_buffer(Buffer* buffer) noexcept:
    PyMem_Free(buffer.data)
    buffer.data = NULL
    buffer.length = buffer.capacity = 0
    buffer.failed = False


cdef inline void trim(Buffer* buffer) noexcept:
    """Give back the room that is not used."""
    cdef void* data = PyMem_Realloc(buffer.data, buffer.length) if buffer.length else NULL
    if data != NULL:
        buffer.data = <uint8_t*> data
        buffer.capacity = buffer.length


cdef inline bint reserve(Buffer* buffer, size_t more) noexcept:
    """Make room for `more` bytes; False if there is none to be had."""
    cdef size_t wanted
    cdef void* data
    if buffer.length + more <= buffer.capacity:
        return not buffer.failed
    if buffer.failed:
        return False
    wanted = buffer.capacity + (buffer.capacity >> 1)
    if wanted < buffer.length + more:
        wanted = buffer.length + more
    data = PyMem_Realloc(buffer.data, wanted)
    if data == NULL:
        buffer.failed = True
        return False
    buffer.data = <uint8_t*> data
    buffer.capacity = wanted
    return True


# The `raw_` functions write without a check: their caller has reserved the room.

cdef inline void raw_byte(Buffer* buffer, uint8_t value) noexcept:
    buffer.data[buffer.length] = value
    buffer.length += 1


cdef inline void raw_varint(Buffer* buffer, uint64_t value) noexcept:
    while value >= 0x80:
        raw_byte(buffer, <uint8_t> (value | 0x80))
        value >>= 7
    raw_byte(buffer, <uint8_t> value)


cdef inline void raw_bytes(Buffer* buffer, const void* data, size_t size) noexcept:
    memcpy(buffer.data + buffer.length, data, size)
    buffer.length += size


cdef inline void raw_fixed64(Buffer* buffer, uint64_t value) noexcept:
    value = htole64(value)
    raw_bytes(buffer, &value, 8)


cdef inline void raw_fixed32(Buffer* buffer, uint32_t value) noexcept:
    value = htole32(value)
    raw_bytes(buffer, &value, 4)


cdef inline void raw_id(Buffer* buffer, uint64_t value) noexcept:
    """Eight bytes of an id, in network order."""
    value = htobe64(value)
    raw_bytes(buffer, &value, 8)


cdef inline size_t varint_size(uint64_t value) noexcept:
    cdef size_t size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


cdef inline void put_varint_field(Buffer* buffer, uint8_t tag, uint64_t value) noexcept:
    if reserve(buffer, 11):
        raw_byte(buffer, tag)
        raw_varint(buffer, value)


# A nested message of unknown length starts with room for a length of three bytes, filled in when it is closed.
# Protobuf allows such padded varints. What passes 2 MiB is moved up to make room for five.
cdef enum:
    LENGTH_BYTES = 3


cdef inline size_t open_nested(Buffer* buffer, uint8_t tag) noexcept:
    if reserve(buffer, 1 + LENGTH_BYTES):
        raw_byte(buffer, tag)
        buffer.length += LENGTH_BYTES
    return buffer.length


cdef inline void close_nested(Buffer* buffer, size_t start) noexcept:
    cdef uint64_t size
    cdef int i, width = LENGTH_BYTES
    if buffer.failed:
        return
    size = buffer.length - start
    if size >= 1 << (7 * LENGTH_BYTES):
        if not reserve(buffer, 2):
            return
        memmove(buffer.data + start + 2, buffer.data + start, size)
        buffer.length += 2
        width = 5
    start -= LENGTH_BYTES
    for i in range(width - 1):
        buffer.data[start + i] = <uint8_t> ((size >> (7 * i)) | 0x80)
    buffer.data[start + width - 1] = <uint8_t> (size >> (7 * (width - 1)))


cdef inline size_t utf8_size(object text) noexcept:
    """Bytes that `put_text` will write for a str."""
    cdef Py_ssize_t i, length = PyUnicode_GET_LENGTH(text)
    cdef size_t size
    cdef int kind
    cdef void* data
    cdef uint32_t point
    if PyUnicode_IS_COMPACT_ASCII(text):
        return <size_t> length
    kind = PyUnicode_KIND(text)
    data = PyUnicode_DATA(text)
    size = 0
    for i in range(length):
        point = PyUnicode_READ(kind, data, i)
        size += 1 if point < 0x80 else 2 if point < 0x800 else 3 if point < 0x10000 else 4
    return size


cdef inline void raw_utf8(Buffer* buffer, object text, size_t size) noexcept:
    """A str as UTF-8, `size` bytes as told by `utf8_size`. A lone surrogate becomes U+FFFD, which is as long."""
    cdef Py_ssize_t i
    cdef int kind
    cdef void* data
    cdef uint32_t point
    cdef uint8_t* out
    if PyUnicode_IS_COMPACT_ASCII(text):
        raw_bytes(buffer, PyUnicode_DATA(text), size)
        return
    kind = PyUnicode_KIND(text)
    data = PyUnicode_DATA(text)
    out = buffer.data + buffer.length
    for i in range(PyUnicode_GET_LENGTH(text)):
        point = PyUnicode_READ(kind, data, i)
        if point < 0x80:
            out[0] = <uint8_t> point
            out += 1
        elif point < 0x800:
            out[0] = <uint8_t> (0xC0 | point >> 6)
            out[1] = <uint8_t> (0x80 | point & 0x3F)
            out += 2
        elif point < 0x10000:
            if 0xD800 <= point < 0xE000:
                point = 0xFFFD
            out[0] = <uint8_t> (0xE0 | point >> 12)
            out[1] = <uint8_t> (0x80 | point >> 6 & 0x3F)
            out[2] = <uint8_t> (0x80 | point & 0x3F)
            out += 3
        else:
            out[0] = <uint8_t> (0xF0 | point >> 18)
            out[1] = <uint8_t> (0x80 | point >> 12 & 0x3F)
            out[2] = <uint8_t> (0x80 | point >> 6 & 0x3F)
            out[3] = <uint8_t> (0x80 | point & 0x3F)
            out += 4
    buffer.length += size


cdef inline void put_text(Buffer* buffer, uint8_t tag, object text) noexcept:
    """A string field."""
    cdef size_t size = utf8_size(text)
    if reserve(buffer, 11 + size):
        raw_byte(buffer, tag)
        raw_varint(buffer, size)
        raw_utf8(buffer, text, size)
