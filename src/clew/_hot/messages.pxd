"""Reads OTLP spans in place, for `transcode` (to JSON) and `decode` (to records).

What protobuf allows is accepted: fields in any order, repeated fields with others between them, a message field given
in pieces (the pieces are merged), unknown fields. As in `wire`, nothing allocates, raises or needs the GIL.

Source: opentelemetry/proto/trace/v1/trace.proto, opentelemetry/proto/common/v1/common.proto.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from clew._hot.wire cimport BYTES, FIXED32, FIXED64, VARINT, Field, Slice, extend, next_field, next_of

# --- values (common.proto) ------------------------------------------------------------------------------------------

cdef enum:
    # AnyValue, a oneof: the last field counts
    STRING_VALUE = 1 << 3 | BYTES
    BOOL_VALUE = 2 << 3 | VARINT
    INT_VALUE = 3 << 3 | VARINT
    DOUBLE_VALUE = 4 << 3 | FIXED64
    ARRAY_VALUE = 5 << 3 | BYTES
    KVLIST_VALUE = 6 << 3 | BYTES
    BYTES_VALUE = 7 << 3 | BYTES
    # ArrayValue, KeyValueList
    LIST_VALUES = 1 << 3 | BYTES
    # KeyValue
    PAIR_KEY = 1 << 3 | BYTES
    PAIR_VALUE = 2 << 3 | BYTES


cdef struct Value:
    uint32_t tag  # of the field that is set, 0 for none
    uint64_t number
    Slice data  # of a string or bytes
    const uint8_t* list_begin  # lists: earlier pieces do not count, another field came between


cdef struct Pair:
    Slice key
    Value value
    bint has_value


# The elements of a list value. It may come in pieces on two levels: KeyValue.value more than once in its KeyValue, and
# AnyValue.array_value (or kvlist_value) more than once in its AnyValue.
cdef struct Elements:
    uint32_t tag
    const uint8_t* begin
    Slice pair  # a KeyValue, or empty
    Slice value  # an AnyValue
    Slice items  # an ArrayValue or KeyValueList


cdef inline int read_value(Slice body, Value* value) noexcept nogil:
    """Merge an AnyValue into `value`."""
    cdef Field field
    cdef int found
    while True:
        found = next_field(&body, &field)
        if found <= 0:
            return found
        if field.tag == STRING_VALUE or field.tag == BYTES_VALUE:
            value.tag = field.tag
            value.data = field.data
        elif field.tag == BOOL_VALUE or field.tag == INT_VALUE or field.tag == DOUBLE_VALUE:
            value.tag = field.tag
            value.number = field.number
        elif field.tag == ARRAY_VALUE or field.tag == KVLIST_VALUE:
            if value.tag != field.tag:
                value.list_begin = field.begin
            value.tag = field.tag


cdef inline int read_pair(Slice body, Pair* pair) noexcept nogil:
    cdef Field field
    cdef int found
    memset(pair, 0, sizeof(Pair))
    while True:
        found = next_field(&body, &field)
        if found <= 0:
            return found
        if field.tag == PAIR_KEY:
            pair.key = field.data
        elif field.tag == PAIR_VALUE:
            pair.has_value = True
            found = read_value(field.data, &pair.value)
            if found < 0:
                return found


cdef inline Elements elements_of(const Value* value, Slice pair, Slice body) noexcept nogil:
    """The elements of a list: of the values of a KeyValue (`pair`), or of one AnyValue (`body`); the other is empty."""
    cdef Elements elements
    memset(&elements, 0, sizeof(Elements))
    elements.tag = value.tag
    elements.begin = value.list_begin
    elements.pair = pair
    elements.value = body
    return elements


cdef inline int next_element(Elements* elements, Slice* element) noexcept nogil:
    cdef Field field
    cdef int found
    while True:
        found = next_of(&elements.items, LIST_VALUES, element)
        if found != 0:
            return found
        found = next_field(&elements.value, &field)
        if found < 0:
            return found
        if found > 0:
            if field.tag == elements.tag and field.begin >= elements.begin:
                elements.items = field.data
            continue
        found = next_of(&elements.pair, PAIR_VALUE, &elements.value)
        if found <= 0:
            return found


# --- spans (trace.proto) --------------------------------------------------------------------------------------------

cdef enum:
    # TracesData, ResourceSpans, Resource
    RESOURCE_SPANS = 1 << 3 | BYTES
    RS_RESOURCE = 1 << 3 | BYTES
    RS_SCOPE_SPANS = 2 << 3 | BYTES
    RESOURCE_ATTRIBUTES = 1 << 3 | BYTES
    # ScopeSpans, InstrumentationScope
    SCOPE = 1 << 3 | BYTES
    SPANS = 2 << 3 | BYTES
    SCHEMA_URL = 3 << 3 | BYTES
    SCOPE_NAME = 1 << 3 | BYTES
    SCOPE_VERSION = 2 << 3 | BYTES
    SCOPE_ATTRIBUTES = 3 << 3 | BYTES
    # Span
    SPAN_TRACE_ID = 1 << 3 | BYTES
    SPAN_ID = 2 << 3 | BYTES
    SPAN_TRACE_STATE = 3 << 3 | BYTES
    SPAN_PARENT_ID = 4 << 3 | BYTES
    SPAN_NAME = 5 << 3 | BYTES
    SPAN_KIND = 6 << 3 | VARINT
    SPAN_START = 7 << 3 | FIXED64
    SPAN_END = 8 << 3 | FIXED64
    SPAN_ATTRIBUTES = 9 << 3 | BYTES
    SPAN_DROPPED_ATTRIBUTES = 10 << 3 | VARINT
    SPAN_EVENTS = 11 << 3 | BYTES
    SPAN_DROPPED_EVENTS = 12 << 3 | VARINT
    SPAN_LINKS = 13 << 3 | BYTES
    SPAN_DROPPED_LINKS = 14 << 3 | VARINT
    SPAN_STATUS = 15 << 3 | BYTES
    SPAN_FLAGS = 16 << 3 | FIXED32
    # Span.Event
    EVENT_TIME = 1 << 3 | FIXED64
    EVENT_NAME = 2 << 3 | BYTES
    EVENT_ATTRIBUTES = 3 << 3 | BYTES
    EVENT_DROPPED_ATTRIBUTES = 4 << 3 | VARINT
    # Span.Link
    LINK_TRACE_ID = 1 << 3 | BYTES
    LINK_SPAN_ID = 2 << 3 | BYTES
    LINK_TRACE_STATE = 3 << 3 | BYTES
    LINK_ATTRIBUTES = 4 << 3 | BYTES
    LINK_DROPPED_ATTRIBUTES = 5 << 3 | VARINT
    LINK_FLAGS = 6 << 3 | FIXED32
    # Status
    STATUS_MESSAGE = 2 << 3 | BYTES
    STATUS_CODE = 3 << 3 | VARINT


# Runs (`extend`, `next_of`) stand for the repeated fields. Numbers of 32 bits are cut to them, as protobuf does.
cdef struct SpanFields:
    Slice trace_id
    Slice span_id
    Slice parent_id
    Slice trace_state
    Slice name
    int32_t kind
    uint32_t flags
    uint64_t start_ns
    uint64_t end_ns
    uint32_t dropped_attributes
    uint32_t dropped_events
    uint32_t dropped_links
    Slice attributes
    Slice events
    Slice links
    bint has_status
    int32_t status_code
    Slice status_message


cdef struct EventFields:
    uint64_t time_ns
    Slice name
    Slice attributes
    uint32_t dropped_attributes


cdef struct LinkFields:
    Slice trace_id
    Slice span_id
    Slice trace_state
    Slice attributes
    uint32_t dropped_attributes
    uint32_t flags


cdef inline int read_status(Slice body, SpanFields* span) noexcept nogil:
    cdef Field field
    cdef int found
    span.has_status = True
    while True:
        found = next_field(&body, &field)
        if found <= 0:
            return found
        if field.tag == STATUS_CODE:
            span.status_code = <int32_t> <uint32_t> field.number
        elif field.tag == STATUS_MESSAGE:
            span.status_message = field.data


cdef inline int read_span(Slice body, SpanFields* span) noexcept nogil:
    cdef Field field
    cdef int found
    memset(span, 0, sizeof(SpanFields))
    while True:
        found = next_field(&body, &field)
        if found <= 0:
            return found
        if field.tag == SPAN_TRACE_ID:
            span.trace_id = field.data
        elif field.tag == SPAN_ID:
            span.span_id = field.data
        elif field.tag == SPAN_TRACE_STATE:
            span.trace_state = field.data
        elif field.tag == SPAN_PARENT_ID:
            span.parent_id = field.data
        elif field.tag == SPAN_NAME:
            span.name = field.data
        elif field.tag == SPAN_KIND:
            span.kind = <int32_t> <uint32_t> field.number
        elif field.tag == SPAN_START:
            span.start_ns = field.number
        elif field.tag == SPAN_END:
            span.end_ns = field.number
        elif field.tag == SPAN_ATTRIBUTES:
            extend(&span.attributes, body, &field)
        elif field.tag == SPAN_DROPPED_ATTRIBUTES:
            span.dropped_attributes = <uint32_t> field.number
        elif field.tag == SPAN_EVENTS:
            extend(&span.events, body, &field)
        elif field.tag == SPAN_DROPPED_EVENTS:
            span.dropped_events = <uint32_t> field.number
        elif field.tag == SPAN_LINKS:
            extend(&span.links, body, &field)
        elif field.tag == SPAN_DROPPED_LINKS:
            span.dropped_links = <uint32_t> field.number
        elif field.tag == SPAN_STATUS:
            found = read_status(field.data, span)
            if found < 0:
                return found
        elif field.tag == SPAN_FLAGS:
            span.flags = <uint32_t> field.number


cdef inline int read_event(Slice body, EventFields* event) noexcept nogil:
    cdef Field field
    cdef int found
    memset(event, 0, sizeof(EventFields))
    while True:
        found = next_field(&body, &field)
        if found <= 0:
            return found
        if field.tag == EVENT_TIME:
            event.time_ns = field.number
        elif field.tag == EVENT_NAME:
            event.name = field.data
        elif field.tag == EVENT_ATTRIBUTES:
            extend(&event.attributes, body, &field)
        elif field.tag == EVENT_DROPPED_ATTRIBUTES:
            event.dropped_attributes = <uint32_t> field.number


cdef inline int read_link(Slice body, LinkFields* link) noexcept nogil:
    cdef Field field
    cdef int found
    memset(link, 0, sizeof(LinkFields))
    while True:
        found = next_field(&body, &field)
        if found <= 0:
            return found
        if field.tag == LINK_TRACE_ID:
            link.trace_id = field.data
        elif field.tag == LINK_SPAN_ID:
            link.span_id = field.data
        elif field.tag == LINK_TRACE_STATE:
            link.trace_state = field.data
        elif field.tag == LINK_ATTRIBUTES:
            extend(&link.attributes, body, &field)
        elif field.tag == LINK_DROPPED_ATTRIBUTES:
            link.dropped_attributes = <uint32_t> field.number
        elif field.tag == LINK_FLAGS:
            link.flags = <uint32_t> field.number
