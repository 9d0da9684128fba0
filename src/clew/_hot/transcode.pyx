"""OTLP protobuf to OTLP/JSON text, without a Python object for any span.

The thread that writes a trace file shares the GIL with the program that is traced, so it is released here. Only the
digits of doubles need it, as they are CPython's own (what `repr` gives): they are put in at the end.

Source: OTLP specification, "JSON Protobuf Encoding"; Protocol Buffers, "ProtoJSON Format"; RFC 8259.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite, isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strlen

from clew._hot.messages cimport (
    ARRAY_VALUE, BOOL_VALUE, BYTES_VALUE, DOUBLE_VALUE, EVENT_ATTRIBUTES, INT_VALUE, KVLIST_VALUE, LINK_ATTRIBUTES,
    RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES, SPAN_EVENTS, SPAN_LINKS, SPANS, STRING_VALUE, Elements, EventFields, LinkFields, Pair, SpanFields,
    Value, elements_of, next_element, read_event, read_link, read_pair, read_span, read_value,
)
from clew._hot.wire cimport TOO_DEEP, Slice, describe, next_of

from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH

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


# What does not fit any more is left out, and `failed` set: writers need not check.
cdef struct Output:
    char* data
    size_t length
    size_t capacity
    Double* doubles
    size_t double_count
    size_t double_capacity
    bint failed


# Writes one element of a repeated field; returns a fault or 0.
ctypedef int (*Writer)(Output* out, Slice body) noexcept nogil

cdef int DEPTH = DECODED_VALUE_DEPTH
cdef const char* HEX = b"0123456789abcdef"
cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

# What a byte is in a JSON string: 0 for itself, 1 for part of UTF-8, otherwise the letter that follows a backslash.
cdef char[256] ESCAPES
memset(ESCAPES, 0, 128)
memset(ESCAPES + 128, 1, 128)
memset(ESCAPES, c"u", 32)
ESCAPES[c"\b"] = c"b"
ESCAPES[c"\f"] = c"f"
ESCAPES[c"\n"] = c"n"
ESCAPES[c"\r"] = c"r"
ESCAPES[c"\t"] = c"t"
ESCAPES[c'"'] = c'"'
ESCAPES[c"\\"] = c"\\"


# --- text -----------------------------------------------------------------------------------------------------------


cdef bint grow(Output* out, size_t more) noexcept nogil:
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


cdef void put_base64(Output* out, Slice data) noexcept nogil:
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


cdef void put_text(Output* out, Slice data) noexcept nogil:
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


cdef void put_double(Output* out, uint64_t bits) noexcept nogil:
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


# --- spans ----------------------------------------------------------------------------------------------------------
# Fields at their default are left out. A comma follows each element, see `close`. Every function returns a fault
# or 0.


cdef int write_value(Output* out, const Value* value, Slice pair, Slice body, int depth) noexcept nogil:
    """An AnyValue. Its lists are read from the KeyValue (`pair`) or the AnyValue (`body`) it is in."""
    if value.tag == STRING_VALUE:
        put(out, b'{"stringValue":')
        put_text(out, value.data)
        put(out, b"},")
    elif value.tag == INT_VALUE:
        put(out, b'{"intValue":"')
        put_signed(out, <int64_t> value.number)
        put(out, b'"},')
    elif value.tag == BOOL_VALUE:
        put(out, b'{"boolValue":true},' if value.number else b'{"boolValue":false},')
    elif value.tag == DOUBLE_VALUE:
        put(out, b'{"doubleValue":')
        put_double(out, value.number)
        put(out, b"},")
    elif value.tag == BYTES_VALUE:
        put(out, b'{"bytesValue":"')
        put_base64(out, value.data)
        put(out, b'"},')
    elif value.tag == 0:
        put(out, b"{},")
    else:
        return write_list(out, value, pair, body, depth)
    return 0


cdef int write_list(Output* out, const Value* value, Slice pair, Slice body, int depth) noexcept nogil:
    cdef Elements elements = elements_of(value, pair, body)
    cdef Slice element, nothing
    cdef Value inner
    cdef int found
    cdef bint empty = True
    if depth == 0:
        return TOO_DEEP
    memset(&nothing, 0, sizeof(Slice))
    put(out, b'{"arrayValue":{' if value.tag == ARRAY_VALUE else b'{"kvlistValue":{')
    while True:
        found = next_element(&elements, &element)
        if found < 0:
            return found
        if found == 0:
            break
        if empty:
            put(out, b'"values":[')
            empty = False
        if value.tag == KVLIST_VALUE:
            found = write_pair(out, element, depth - 1)
        else:
            memset(&inner, 0, sizeof(Value))
            found = read_value(element, &inner)
            if found == 0:
                found = write_value(out, &inner, nothing, element, depth - 1)
        if found < 0:
            return found
    if empty:
        put(out, b"}},")
    else:
        close(out, b"]}},")
    return 0


cdef int write_pair(Output* out, Slice body, int depth) noexcept nogil:
    cdef Pair pair
    cdef Slice nothing
    cdef int fault = read_pair(body, &pair)
    if fault < 0:
        return fault
    memset(&nothing, 0, sizeof(Slice))
    put(out, b"{")
    if pair.key.at != pair.key.end:
        put(out, b'"key":')
        put_text(out, pair.key)
        put(out, b",")
    if pair.has_value:
        put(out, b'"value":')
        fault = write_value(out, &pair.value, body, nothing, depth)
        if fault < 0:
            return fault
    close(out, b"},")
    return 0


cdef int write_attribute(Output* out, Slice body) noexcept nogil:
    return write_pair(out, body, DEPTH)


cdef inline int write_all(Output* out, Slice run, uint32_t tag, Writer write) noexcept nogil:
    """The elements of a repeated field."""
    cdef Slice body
    cdef int found
    while True:
        found = next_of(&run, tag, &body)
        if found <= 0:
            return found
        found = write(out, body)
        if found < 0:
            return found


cdef inline int write_array(Output* out, const char* name, Slice run, uint32_t tag, Writer write) noexcept nogil:
    cdef int fault
    if run.at == NULL:
        return 0
    put(out, name)
    fault = write_all(out, run, tag, write)
    close(out, b"],")
    return fault


cdef inline void write_id(Output* out, const char* name, Slice value) noexcept nogil:
    if value.at != value.end:
        put(out, name)
        put_hex(out, value)
        put(out, b'",')


cdef inline void write_text(Output* out, const char* name, Slice value) noexcept nogil:
    if value.at != value.end:
        put(out, name)
        put_text(out, value)
        put(out, b",")


cdef inline void write_number(Output* out, const char* name, int64_t value) noexcept nogil:
    if value:
        put(out, name)
        put_signed(out, value)
        put(out, b",")


cdef inline void write_time(Output* out, const char* name, uint64_t value) noexcept nogil:
    if value:
        put(out, name)
        put_unsigned(out, value)
        put(out, b'",')


cdef int write_event(Output* out, Slice body) noexcept nogil:
    cdef EventFields event
    cdef int fault = read_event(body, &event)
    if fault < 0:
        return fault
    put(out, b"{")
    write_time(out, b'"timeUnixNano":"', event.time_ns)
    write_text(out, b'"name":', event.name)
    fault = write_array(out, b'"attributes":[', event.attributes, EVENT_ATTRIBUTES, write_attribute)
    if fault < 0:
        return fault
    write_number(out, b'"droppedAttributesCount":', event.dropped_attributes)
    close(out, b"},")
    return 0


cdef int write_link(Output* out, Slice body) noexcept nogil:
    cdef LinkFields link
    cdef int fault = read_link(body, &link)
    if fault < 0:
        return fault
    put(out, b"{")
    write_id(out, b'"traceId":"', link.trace_id)
    write_id(out, b'"spanId":"', link.span_id)
    write_text(out, b'"traceState":', link.trace_state)
    fault = write_array(out, b'"attributes":[', link.attributes, LINK_ATTRIBUTES, write_attribute)
    if fault < 0:
        return fault
    write_number(out, b'"droppedAttributesCount":', link.dropped_attributes)
    write_number(out, b'"flags":', link.flags)
    close(out, b"},")
    return 0


cdef int write_span(Output* out, Slice body) noexcept nogil:
    cdef SpanFields span
    cdef int fault = read_span(body, &span)
    if fault < 0:
        return fault
    put(out, b"{")
    write_id(out, b'"traceId":"', span.trace_id)
    write_id(out, b'"spanId":"', span.span_id)
    write_text(out, b'"traceState":', span.trace_state)
    write_id(out, b'"parentSpanId":"', span.parent_id)
    write_number(out, b'"flags":', span.flags)
    write_text(out, b'"name":', span.name)
    write_number(out, b'"kind":', span.kind)
    write_time(out, b'"startTimeUnixNano":"', span.start_ns)
    write_time(out, b'"endTimeUnixNano":"', span.end_ns)
    fault = write_array(out, b'"attributes":[', span.attributes, SPAN_ATTRIBUTES, write_attribute)
    if fault < 0:
        return fault
    write_number(out, b'"droppedAttributesCount":', span.dropped_attributes)
    fault = write_array(out, b'"events":[', span.events, SPAN_EVENTS, write_event)
    if fault < 0:
        return fault
    write_number(out, b'"droppedEventsCount":', span.dropped_events)
    fault = write_array(out, b'"links":[', span.links, SPAN_LINKS, write_link)
    if fault < 0:
        return fault
    write_number(out, b'"droppedLinksCount":', span.dropped_links)
    if span.has_status:
        put(out, b'"status":{')
        write_text(out, b'"message":', span.status_message)
        write_number(out, b'"code":', span.status_code)
        close(out, b"},")
    close(out, b"},")
    return 0


cdef bytes finished(Output* out):
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


cdef bytes transcoded(bytes data, uint32_t tag, Writer write):
    cdef Output out
    cdef Slice whole
    cdef int fault
    memset(&out, 0, sizeof(Output))
    whole.at = <const uint8_t*> <const char*> data
    whole.end = whole.at + len(data)
    try:
        with nogil:
            # Typical spans grow to three times their size.
            reserve(&out, 3 * (whole.end - whole.at) + 256)
            fault = write_all(&out, whole, tag, write)
            close(&out, b"")
        if fault < 0:
            raise DecodeError(f"damaged OTLP protobuf: {describe(fault)}")
        if out.failed:
            raise MemoryError
        return finished(&out)
    finally:
        free(out.data)
        free(out.doubles)


def spans_to_json(bytes spans not None):
    """Concatenated ScopeSpans.spans fields as the elements of an OTLP/JSON "spans" array.

    Returns: the elements, comma-separated, without the brackets, in UTF-8, without newlines.
    Raises: DecodeError.
    Thread: any; the GIL is released.
    """
    return transcoded(spans, SPANS, write_span)


def attributes_to_json(bytes attributes not None):
    """Concatenated KeyValue fields of number 1 (Resource.attributes) as the elements of an "attributes" array.

    Returns, Raises, Thread: as `spans_to_json`.
    """
    return transcoded(attributes, RESOURCE_ATTRIBUTES, write_attribute)
