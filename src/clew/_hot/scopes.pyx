"""Spans of several scopes in one queue: each says whose it is (scopes.pxd), until the batch is made.

Sorting a batch costs a few nanoseconds a span, and only where there is more than one scope; a queue for each scope would
cost a thread for each, or the order and the bounds of one queue.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from clew._hot.buffer cimport Buffer, free_buffer, raw_byte, raw_bytes, reserve
from clew._hot.wire cimport Field, Slice, describe, next_field

from clew.errors import DecodeError


cdef class Part:
    """The spans of one scope."""

    cdef Buffer buffer
    cdef Py_ssize_t count

    def __dealloc__(self):
        free_buffer(&self.buffer)


cdef inline int scope_of(Slice body) noexcept:
    """The number in the mark of a Span message, 0 if it has none."""
    cdef const uint8_t* mark = body.end - MARK_BYTES
    if (
        body.end - body.at >= MARK_BYTES + FLAGS_BYTES
        and mark[0] == MARK_0
        and mark[1] == MARK_1
        and mark[-FLAGS_BYTES] == FLAGS_0
        and mark[-FLAGS_BYTES + 1] == FLAGS_1
    ):
        return (mark[2] & 0x7F) | (mark[3] & 0x7F) << 7
    return 0


def split_by_scope(bytes spans) -> list:
    """What came out of a queue, by scope.

    Args:
        spans: concatenated ScopeSpans.spans fields, some with marks.

    Returns: tuples of such fields without marks, the number of spans and the number of their scope; scopes in the order
        in which they appear.
    Raises: DecodeError.
    """
    cdef dict parts = {}
    cdef Part part
    cdef Slice rest
    cdef Field field
    cdef const uint8_t* begin
    cdef size_t size, width, i
    cdef int found, scope, last = -1
    rest.at = <const uint8_t*> PyBytes_AS_STRING(spans)
    rest.end = rest.at + PyBytes_GET_SIZE(spans)
    while True:
        begin = rest.at
        found = next_field(&rest, &field)
        if found < 0:
            raise DecodeError(f"a span cannot be read: {describe(found)}")
        if found == 0:
            break
        scope = scope_of(field.data)
        if scope != last:
            part = parts.get(scope)
            if part is None:
                part = parts[scope] = Part()
            last = scope
        part.count += 1
        size = field.data.end - field.data.at
        if not reserve(&part.buffer, rest.at - begin):
            raise MemoryError
        if scope == 0:
            raw_bytes(&part.buffer, begin, rest.at - begin)
            continue
        # The same number of bytes for the length, which the span's encoder pads anyway.
        width = field.data.at - begin - 1
        size -= MARK_BYTES
        raw_byte(&part.buffer, begin[0])
        for i in range(width):
            raw_byte(&part.buffer, <uint8_t> (size >> (7 * i) & 0x7F | (0x80 if i + 1 < width else 0)))
        raw_bytes(&part.buffer, field.data.at, size)
    return [
        (PyBytes_FromStringAndSize(<char*> part.buffer.data, part.buffer.length), part.count, number)
        for number, part in parts.items()
    ]
