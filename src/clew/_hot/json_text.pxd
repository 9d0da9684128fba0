"""Writes JSON into a growing buffer: the counterpart of `buffer`, inlined, and without the GIL.

What does not fit any more is left out, and the output marked `failed`, so that a writer checks once, at its end.
Doubles are left out too, and put in at the end with the GIL: their digits are CPython's own (what `repr` gives).

Source: RFC 8259; Protocol Buffers, "ProtoJSON Format" (numbers of 64 bits and bytes as strings, names for NaN).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite, isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, strlen

from clew._hot.wire cimport Slice

cdef extern from *:
    """
    /* What a byte is in a JSON string: 0 for itself, 1 for part of UTF-8, otherwise what follows its backslash. */
    static const char clew_json_escapes[256] = {
        ['\\b'] = 'b', ['\\f'] = 'f', ['\\n'] = 'n', ['\\r'] = 'r', ['\\t'] = 't', ['"'] = '"', ['\\\\'] = '\\\\',
        [0 ... 7] = 'u', [11] = 'u', [14 ... 31] = 'u', [128 ... 255] = 1,
    };
    static const char clew_hex[] = "0123456789abcdef";
    static const char clew_base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    """
    const char* ESCAPES "clew_json_escapes"
    const char* HEX "clew_hex"
    const char* BASE64 "clew_base64"

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char format, int precision, int flags, int* kind) except NULL
    int Py_DTSF_ADD_DOT_0

cdef enum:
    DOUBLE_BYTES = 32  # the longest: -2.2250738585072014e-308


cdef struct Double:
    double value
    size_t offset  # where it belongs
    size_t size
    char[DOUBLE_BYTES] digits


cdef struct Output:
    char* data
    size_t length
    size_t capacity
    Double* doubles
    size_t double_count
    size_t double_capacity
    bint failed


cdef inline bint grow(Output* out, size_t more) noexcept nogil:
    cdef size_t wanted = 2 * out.capacity + more
    cdef void* data = NULL if out.failed else realloc(out.data, wanted)
    if data == NULL:
        out.failed = True
        return False
    out.data = <char*> data
    out.capacity = wanted
    return True


cdef inline bint reserve(Output* out, size_t more) noexcept nogil:
    return out.capacity - out.length >= more or grow(out, more)


cdef inline void put_bytes(Output* out, const void* data, size_t size) noexcept nogil:
    if reserve(out, size):
        memcpy(out.data + out.length, data, size)
        out.length += size


cdef inline void put(Output* out, const char* text) noexcept nogil:
    """A literal: its length is known to the C compiler."""
    put_bytes(out, text, strlen(text))


cdef inline void close(Output* out, const char* bracket) noexcept nogil:
    """End an object or an array, where a comma followed each element, and put a comma after it."""
    if out.length and out.data[out.length - 1] == c",":
        out.length -= 1
    put(out, bracket)


cdef inline void put_unsigned(Output* out, uint64_t value) noexcept nogil:
    cdef char[20] digits
    cdef int first = 20
    while True:
        first -= 1
        digits[first] = <char> (c"0" + value % 10)
        value //= 10
        if value == 0:
            break
    put_bytes(out, digits + first, 20 - first)


cdef inline void put_signed(Output* out, int64_t value) noexcept nogil:
    if value < 0:
        put(out, b"-")
        put_unsigned(out, 0 - <uint64_t> value)
    else:
        put_unsigned(out, <uint64_t> value)


cdef inline void put_hex(Output* out, Slice data) noexcept nogil:
    cdef char* at
    if reserve(out, 2 * (data.end - data.at)):
        at = out.data + out.length
        out.length += 2 * (data.end - data.at)
        while data.at < data.end:
            at[0] = HEX[data.at[0] >> 4]
            at[1] = HEX[data.at[0] & 15]
            at += 2
            data.at += 1


cdef inline void put_base64(Output* out, Slice data) noexcept nogil:
    cdef size_t size = data.end - data.at
    cdef uint32_t bits
    cdef char* at
    if not reserve(out, size // 3 * 4 + 4):
        return
    at = out.data + out.length
    while data.end - data.at >= 3:
        bits = <uint32_t> data.at[0] << 16 | <uint32_t> data.at[1] << 8 | data.at[2]
        at[0] = BASE64[bits >> 18]
        at[1] = BASE64[bits >> 12 & 63]
        at[2] = BASE64[bits >> 6 & 63]
        at[3] = BASE64[bits & 63]
        at += 4
        data.at += 3
    if data.at < data.end:
        bits = <uint32_t> data.at[0] << 16
        if data.end - data.at == 2:
            bits |= <uint32_t> data.at[1] << 8
        at[0] = BASE64[bits >> 18]
        at[1] = BASE64[bits >> 12 & 63]
        at[2] = BASE64[bits >> 6 & 63] if data.end - data.at == 2 else c"="
        at[3] = c"="
        at += 4
    out.length = at - out.data


cdef inline int sequence(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """The length of the UTF-8 sequence that begins here, or minus the length of what one U+FFFD stands for.

    Source: The Unicode Standard, table 3-7 and "U+FFFD Substitution of Maximal Subparts".
    """
    cdef uint8_t lead = at[0], low = 0x80, high = 0xBF
    cdef int i, size
    if lead < 0xC2 or lead > 0xF4:
        return -1
    if lead == 0xE0:
        low = 0xA0
    elif lead == 0xED:
        high = 0x9F
    elif lead == 0xF0:
        low = 0x90
    elif lead == 0xF4:
        high = 0x8F
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    for i in range(1, size):
        if at + i == end or at[i] < low or at[i] > high:
            return -i
        low = 0x80
        high = 0xBF
    return size


cdef inline void put_text(Output* out, Slice data) noexcept nogil:
    """A JSON string, in quotes."""
    cdef const uint8_t* begin = data.at
    cdef const uint8_t* at = data.at
    cdef char escape
    cdef char[6] control
    cdef int size
    put(out, b'"')
    while at < data.end:
        escape = ESCAPES[at[0]]
        if escape == 0:
            at += 1
            continue
        size = 0
        if escape == 1:
            size = sequence(at, data.end)
            if size > 0:
                at += size
                continue
        put_bytes(out, begin, at - begin)
        if size < 0:
            put(out, b"\xef\xbf\xbd")
            at -= size
        else:
            memcpy(control, b"\\?0000", 6)
            control[1] = escape
            if escape == c"u":
                control[4] = HEX[at[0] >> 4]
                control[5] = HEX[at[0] & 15]
            put_bytes(out, control, 6 if escape == c"u" else 2)
            at += 1
        begin = at
    put_bytes(out, begin, at - begin)
    put(out, b'"')


cdef inline void put_double(Output* out, uint64_t bits) noexcept nogil:
    cdef double value
    cdef size_t wanted
    cdef void* doubles
    memcpy(&value, &bits, 8)
    if not isfinite(value):
        put(out, b'"NaN"' if isnan(value) else b'"Infinity"' if value > 0 else b'"-Infinity"')
        return
    if out.double_count == out.double_capacity:
        wanted = 2 * out.double_capacity + 256
        doubles = realloc(out.doubles, wanted * sizeof(Double))
        if doubles == NULL:
            out.failed = True
            return
        out.doubles = <Double*> doubles
        out.double_capacity = wanted
    out.doubles[out.double_count].value = value
    out.doubles[out.double_count].offset = out.length
    out.double_count += 1


cdef inline bytes finished(Output* out):
    """The text with the doubles in their places."""
    cdef Double* item
    cdef size_t i, size = out.length, done = 0
    cdef char* digits
    cdef char* at
    for i in range(out.double_count):
        item = out.doubles + i
        digits = PyOS_double_to_string(item.value, c"r", 0, Py_DTSF_ADD_DOT_0, NULL)
        item.size = strlen(digits)
        memcpy(item.digits, digits, item.size)
        PyMem_Free(digits)
        size += item.size
    text = PyBytes_FromStringAndSize(NULL, size)
    at = PyBytes_AS_STRING(text)
    for i in range(out.double_count):
        item = out.doubles + i
        memcpy(at, out.data + done, item.offset - done)
        at += item.offset - done
        memcpy(at, item.digits, item.size)
        at += item.size
        done = item.offset
    memcpy(at, out.data + done, out.length - done)
    return text


cdef inline void discard(Output* out) noexcept nogil:
    free(out.data)
    free(out.doubles)
