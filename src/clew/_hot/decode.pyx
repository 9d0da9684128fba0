"""OTLP protobuf to records: what readers of files and exporters written in Python see.

A record is made as the tuple that it is, without a call of Python code: a MemoryExporter or a `clew view` of a million
spans spends its time here.
"""

from cpython.dict cimport PyDict_SetItem
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from clew._hot.messages cimport (
    ARRAY_VALUE, BOOL_VALUE, BYTES_VALUE, DOUBLE_VALUE, EVENT_ATTRIBUTES, INT_VALUE, KVLIST_VALUE, LINK_ATTRIBUTES,
    RESOURCE_ATTRIBUTES, RESOURCE_SPANS, RS_RESOURCE, RS_SCOPE_SPANS, SCHEMA_URL, SCOPE, SCOPE_ATTRIBUTES, SCOPE_NAME,
    SCOPE_VERSION, SPAN_ATTRIBUTES, SPAN_EVENTS, SPAN_LINKS, SPANS, STRING_VALUE, Elements, EventFields, LinkFields,
    Pair, SpanFields, Value, elements_of, next_element, read_event, read_link, read_pair, read_span, read_value,
)
from clew._hot.wire cimport BAD_ID, TOO_DEEP, Field, Slice, describe, next_field, next_of

from clew.errors import DecodeError
from clew.limits import DECODED_VALUE_DEPTH
from clew.model import Event, Link, Resource, Scope, SpanContext, SpanKind, SpanRecord, Status

cdef int DEPTH = DECODED_VALUE_DEPTH
# OTLP's kind 0 is UNSPECIFIED, which trace.proto lets a reader take for INTERNAL.
cdef tuple KINDS = (SpanKind.INTERNAL, *SpanKind)
cdef tuple STATUSES = (Status.UNSET, Status.OK, Status.ERROR)
cdef object INTERNAL = SpanKind.INTERNAL
cdef object UNSET = Status.UNSET
cdef object ERROR = Status.ERROR
cdef object CANCELLED = Status.CANCELLED
cdef object NO_ATTRIBUTES = SpanRecord._field_defaults["attributes"]
cdef object NO_BAGGAGE = SpanContext._field_defaults["baggage"]
cdef bytes HEX = b"0123456789abcdef"
cdef const char* DIGITS = HEX


cdef int check(int found) except -1:
    """Raise for a fault; otherwise what was found."""
    if found < 0:
        raise DecodeError(f"damaged OTLP protobuf: {describe(found)}")
    return found


cdef inline str text(Slice data):
    if data.at == data.end:
        return ""
    return PyUnicode_DecodeUTF8(<const char*> data.at, data.end - data.at, "replace")


cdef inline str hex_id(Slice data, Py_ssize_t size, bint required):
    """An id as hex digits; "" for one that is absent or all zero."""
    cdef char[32] digits
    cdef uint8_t byte, seen = 0
    cdef Py_ssize_t i
    if data.end - data.at == size:
        for i in range(size):
            byte = data.at[i]
            seen |= byte
            digits[2 * i] = DIGITS[byte >> 4]
            digits[2 * i + 1] = DIGITS[byte & 15]
        if seen:
            return PyUnicode_DecodeASCII(digits, 2 * size, NULL)
    elif data.at != data.end:
        check(BAD_ID)
    if required:
        check(BAD_ID)
    return ""


cdef object value_of(const Value* value, Slice pair, Slice body, int depth):
    """What a value is in Python. Its lists are read from the KeyValue (`pair`) or the AnyValue (`body`) it is in."""
    cdef Elements elements
    cdef Slice element, nothing
    cdef Value inner
    cdef list items
    cdef dict attributes
    cdef double number
    if value.tag == STRING_VALUE:
        return text(value.data)
    if value.tag == INT_VALUE:
        return <int64_t> value.number
    if value.tag == BOOL_VALUE:
        return value.number != 0
    if value.tag == DOUBLE_VALUE:
        memcpy(&number, &value.number, 8)
        return number
    if value.tag == BYTES_VALUE:
        return (<const char*> value.data.at)[: value.data.end - value.data.at]
    if value.tag == 0:
        return None
    if depth == 0:
        check(TOO_DEEP)
    elements = elements_of(value, pair, body)
    if value.tag == KVLIST_VALUE:
        attributes = {}
        while check(next_element(&elements, &element)):
            add_pair(attributes, element, depth - 1)
        return attributes
    items = []
    memset(&nothing, 0, sizeof(Slice))
    while check(next_element(&elements, &element)):
        memset(&inner, 0, sizeof(Value))
        check(read_value(element, &inner))
        items.append(value_of(&inner, nothing, element, depth - 1))
    return tuple(items)


cdef int add_pair(dict attributes, Slice body, int depth) except -1:
    cdef Pair pair
    cdef Slice nothing
    memset(&nothing, 0, sizeof(Slice))
    check(read_pair(body, &pair))
    return PyDict_SetItem(attributes, text(pair.key), value_of(&pair.value, body, nothing, depth))


cdef dict add_attributes(dict attributes, Slice run, uint32_t tag):
    cdef Slice pair
    while check(next_of(&run, tag, &pair)):
        add_pair(attributes, pair, DEPTH)
    return attributes


cdef inline object attributes_of(Slice run, uint32_t tag):
    return NO_ATTRIBUTES if run.at == NULL else add_attributes({}, run, tag)


cdef object event_of(Slice body):
    cdef EventFields event
    check(read_event(body, &event))
    return tuple.__new__(Event, (
        text(event.name), event.time_ns, attributes_of(event.attributes, EVENT_ATTRIBUTES), event.dropped_attributes,
    ))


cdef object link_of(Slice body):
    cdef LinkFields link
    check(read_link(body, &link))
    # An invalid context is legal in a link (the tracing API's specification, "Link"): zeros stand for what is absent.
    context = tuple.__new__(SpanContext, (
        hex_id(link.trace_id, 16, False) or "0" * 32,
        hex_id(link.span_id, 8, False) or "0" * 16,
        link.flags & 0xFF,
        text(link.trace_state),
        link.flags & 0x300 == 0x300,
        NO_BAGGAGE,
    ))
    return tuple.__new__(Link, (context, attributes_of(link.attributes, LINK_ATTRIBUTES), link.dropped_attributes))


cdef tuple events_of(Slice run):
    cdef Slice body
    cdef list events = []
    while check(next_of(&run, SPAN_EVENTS, &body)):
        events.append(event_of(body))
    return tuple(events)


cdef tuple links_of(Slice run):
    cdef Slice body
    cdef list links = []
    while check(next_of(&run, SPAN_LINKS, &body)):
        links.append(link_of(body))
    return tuple(links)


cdef object record_of(Slice body, object resource, object scope):
    cdef SpanFields span
    cdef object attributes, status = UNSET
    check(read_span(body, &span))
    attributes = attributes_of(span.attributes, SPAN_ATTRIBUTES)
    if 0 <= span.status_code < 3:
        status = STATUSES[span.status_code]
        if status is ERROR and attributes.get("clew.status") == "cancelled":
            del attributes["clew.status"]
            status = CANCELLED
    return tuple.__new__(SpanRecord, (
        hex_id(span.trace_id, 16, True),
        hex_id(span.span_id, 8, True),
        hex_id(span.parent_id, 8, False),
        text(span.name),
        KINDS[span.kind] if 0 <= span.kind < 6 else INTERNAL,
        span.start_ns,
        span.end_ns,
        status,
        text(span.status_message),
        attributes,
        () if span.events.at == NULL else events_of(span.events),
        () if span.links.at == NULL else links_of(span.links),
        text(span.trace_state),
        span.flags,
        span.dropped_attributes,
        span.dropped_events,
        span.dropped_links,
        resource,
        scope,
    ))


cdef int add_records(list records, Slice spans, object resource, object scope) except -1:
    cdef Slice body
    while check(next_of(&spans, SPANS, &body)):
        records.append(record_of(body, resource, scope))
    return 0


cdef object resource_of(Slice resource_spans):
    cdef Slice body
    cdef dict attributes = {}
    while check(next_of(&resource_spans, RS_RESOURCE, &body)):
        add_attributes(attributes, body, RESOURCE_ATTRIBUTES)
    return Resource(attributes)


cdef object scope_of(Slice scope_spans):
    cdef Slice body, fields, rest = scope_spans
    cdef Field field
    cdef str name = "", version = "", schema_url = ""
    cdef dict attributes = {}
    while check(next_of(&scope_spans, SCOPE, &body)):
        fields = body
        while check(next_field(&fields, &field)):
            if field.tag == SCOPE_NAME:
                name = text(field.data)
            elif field.tag == SCOPE_VERSION:
                version = text(field.data)
        add_attributes(attributes, body, SCOPE_ATTRIBUTES)
    while check(next_of(&rest, SCHEMA_URL, &body)):
        schema_url = text(body)
    return Scope(name, version, attributes, schema_url)


cdef inline Slice slice_of(bytes data):
    cdef Slice whole
    whole.at = <const uint8_t*> <const char*> data
    whole.end = whole.at + len(data)
    return whole


def spans_to_records(bytes spans not None, resource, scope):
    """Concatenated ScopeSpans.spans fields as a list of SpanRecord. Raises DecodeError."""
    cdef list records = []
    add_records(records, slice_of(spans), resource, scope)
    return records


def traces_to_records(bytes data not None):
    """A TracesData message as a list of SpanRecord. Raises DecodeError."""
    cdef Slice traces = slice_of(data)
    cdef Slice resource_spans, scope_spans
    cdef list records = []
    while check(next_of(&traces, RESOURCE_SPANS, &resource_spans)):
        resource = resource_of(resource_spans)
        while check(next_of(&resource_spans, RS_SCOPE_SPANS, &scope_spans)):
            add_records(records, scope_spans, resource, scope_of(scope_spans))
    return records
