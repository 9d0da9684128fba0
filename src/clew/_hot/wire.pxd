"""Reads protobuf's wire format in place: the counterpart of `buffer`, for bytes that may be damaged or hostile.

No function here allocates, raises or needs the GIL, and no read goes past the end of the message it is in. They return
1 for "there was one", 0 for the end of the message, or a negative `Fault`. Padded varints are accepted; groups, which
protobuf still allows in unknown fields, are skipped.

Source: the Protocol Buffers encoding specification.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "<endian.h>" nogil:
    uint32_t le32toh(uint32_t value)
    uint64_t le64toh(uint64_t value)


cdef enum Fault:
    TRUNCATED = -1
    LONG_VARINT = -2
    BAD_TAG = -3
    TOO_DEEP = -4
    BAD_ID = -5


cdef inline str describe(int fault):
    if fault == TRUNCATED:
        return "a field reaches past the end of its message"
    if fault == LONG_VARINT:
        return "a number is longer than 64 bits"
    if fault == BAD_TAG:
        return "a field has an impossible tag"
    if fault == TOO_DEEP:
        return "values are nested too deep"
    return "an id is missing, all zero or of the wrong length"


# protobuf's decoders stop at 100 levels, and so do the groups that nobody has written for twenty years.
cdef enum:
    GROUP_DEPTH = 100


cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    GROUP_BEGIN = 3
    GROUP_END = 4
    FIXED32 = 5


cdef struct Slice:
    const uint8_t* at
    const uint8_t* end


cdef struct Field:
    uint32_t tag  # number << 3 | wire type: a known number of another wire type is an unknown field
    const uint8_t* begin  # of its tag
    uint64_t number  # VARINT, FIXED32, FIXED64
    Slice data  # BYTES


cdef inline int read_varint(Slice* rest, uint64_t* number) noexcept nogil:
    cdef uint64_t byte
    cdef int shift = 0
    if rest.at < rest.end and rest.at[0] < 0x80:
        number[0] = rest.at[0]
        rest.at += 1
        return 1
    number[0] = 0
    while rest.at < rest.end:
        byte = rest.at[0]
        rest.at += 1
        if shift == 63 and byte > 1:
            return LONG_VARINT
        number[0] |= (byte & 0x7F) << shift
        if byte < 0x80:
            return 1
        shift += 7
    return TRUNCATED


cdef inline int read_tag(Slice* rest, uint32_t* tag) noexcept nogil:
    cdef uint64_t number
    cdef int fault = read_varint(rest, &number)
    if fault < 0:
        return fault
    if number >> 32 != 0 or number >> 3 == 0:
        return BAD_TAG
    tag[0] = <uint32_t> number
    return 1


cdef inline int read_payload(Slice* rest, Field* field) noexcept nogil:
    """What follows a tag, anything but a group."""
    cdef uint32_t half
    cdef int fault
    cdef int wire_type = field.tag & 7
    if wire_type == VARINT:
        return read_varint(rest, &field.number)
    if wire_type == BYTES:
        fault = read_varint(rest, &field.number)
        if fault < 0:
            return fault
        if field.number > <uint64_t> (rest.end - rest.at):
            return TRUNCATED
        field.data.at = rest.at
        rest.at += field.number
        field.data.end = rest.at
        return 1
    if wire_type == FIXED64:
        if rest.end - rest.at < 8:
            return TRUNCATED
        memcpy(&field.number, rest.at, 8)
        field.number = le64toh(field.number)
        rest.at += 8
        return 1
    if wire_type == FIXED32:
        if rest.end - rest.at < 4:
            return TRUNCATED
        memcpy(&half, rest.at, 4)
        field.number = le32toh(half)
        rest.at += 4
        return 1
    return BAD_TAG


cdef inline int skip_group(Slice* rest, uint32_t begin) noexcept nogil:
    """Go past the end of a group whose first tag was read: groups nest, and each ends with its own number."""
    cdef uint32_t[GROUP_DEPTH] opened
    cdef int depth = 1
    cdef Field field
    cdef int fault
    opened[0] = begin
    while depth > 0:
        if rest.at == rest.end:
            return TRUNCATED
        fault = read_tag(rest, &field.tag)
        if fault < 0:
            return fault
        if field.tag & 7 == GROUP_BEGIN:
            if depth == GROUP_DEPTH:
                return TOO_DEEP
            opened[depth] = field.tag
            depth += 1
        elif field.tag & 7 == GROUP_END:
            depth -= 1
            if field.tag >> 3 != opened[depth] >> 3:
                return BAD_TAG
        else:
            fault = read_payload(rest, &field)
            if fault < 0:
                return fault
    return 1


cdef inline int next_field(Slice* rest, Field* field) noexcept nogil:
    """The next field of a message; 0 at its end."""
    cdef int fault
    memset(field, 0, sizeof(Field))
    while rest.at < rest.end:
        field.begin = rest.at
        fault = read_tag(rest, &field.tag)
        if fault < 0:
            return fault
        if field.tag & 7 != GROUP_BEGIN:
            return read_payload(rest, field)
        fault = skip_group(rest, field.tag)
        if fault < 0:
            return fault
    return 0


cdef inline int next_of(Slice* rest, uint32_t tag, Slice* data) noexcept nogil:
    """The payload of the next field with this tag (of wire type BYTES); 0 when there is none."""
    cdef Field field
    cdef int found
    data.at = data.end = NULL
    while True:
        found = next_field(rest, &field)
        if found <= 0:
            return found
        if field.tag == tag:
            data[0] = field.data
            return 1


cdef inline void extend(Slice* run, Slice rest, const Field* field) noexcept nogil:
    """Let a run of fields, to be walked later with `next_of`, begin with this field or reach to its end."""
    if run.at == NULL:
        run.at = field.begin
    run.end = rest.at
