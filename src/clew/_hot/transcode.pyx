"""OTLP protobuf to OTLP/JSON text, without a Python object for any span.

The thread that writes a trace file shares the GIL with the program that is traced, so it is released here.

Source: OTLP specification, "JSON Protobuf Encoding"; Protocol Buffers, "ProtoJSON Format".
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from clew._hot.json_text cimport (
    Output, close, discard, finished, put, put_base64, put_double, put_hex, put_signed, put_text, put_unsigned, reserve,
)
from clew._hot.messages cimport (
    ARRAY_VALUE, BOOL_VALUE, BYTES_VALUE, DOUBLE_VALUE, EVENT_ATTRIBUTES, INT_VALUE, KVLIST_VALUE, LINK_ATTRIBUTES,
    RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES, SPAN_EVENTS, SPAN_LINKS, SPANS, STRING_VALUE, Elements, EventFields,
    LinkFields, Pair, SpanFields, Value, elements_of, next_element, read_event, read_link, read_pair, read_span,
    read_value,
)
from clew._hot.wire cimport BAD_ID, TOO_DEEP, Slice, describe, next_of

from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH

# Writes one element of a repeated field; returns a fault or 0.
ctypedef int (*Writer)(Output* out, Slice body) noexcept nogil

cdef int DEPTH = DECODED_VALUE_DEPTH

# Fields at their default are left out. A comma follows each element, see `close`. Functions return a fault or 0.


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
    if depth == 0:
        return TOO_DEEP
    memset(&nothing, 0, sizeof(Slice))
    # Also where there are none: a field that is absent means the same, but receivers in Rust refuse it.
    put(out, b'{"arrayValue":{"values":[' if value.tag == ARRAY_VALUE else b'{"kvlistValue":{"values":[')
    while True:
        found = next_element(&elements, &element)
        if found < 0:
            return found
        if found == 0:
            break
        if value.tag == KVLIST_VALUE:
            found = write_pair(out, element, depth - 1)
        else:
            memset(&inner, 0, sizeof(Value))
            found = read_value(element, &inner)
            if found == 0:
                found = write_value(out, &inner, nothing, element, depth - 1)
        if found < 0:
            return found
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


cdef inline bint is_id(Slice data, int size) noexcept nogil:
    """Whether it is an id, or absent: one of another length nobody could read."""
    return data.at == data.end or data.end - data.at == size


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
    if not (is_id(link.trace_id, 16) and is_id(link.span_id, 8)):
        return BAD_ID
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
    if not (is_id(span.trace_id, 16) and is_id(span.span_id, 8) and is_id(span.parent_id, 8)):
        return BAD_ID
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
        discard(&out)


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
