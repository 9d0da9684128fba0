"""What a span has several of: events and links, each with attributes of its own. All of it inlined."""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from clew._hot.buffer cimport (
    Buffer, close_nested, open_nested, put_text, put_varint_field, raw_byte, raw_fixed32, raw_fixed64, raw_id, reserve,
)
from clew._hot.values cimport Attributes, clear, put_attributes

cdef struct Note:
    PyObject* text  # an event's name, a link's tracestate
    int64_t time_ns
    uint64_t trace_high, trace_low, id
    uint32_t flags
    Attributes attributes


cdef struct Notes:
    Note* items
    uint32_t count
    uint32_t capacity
    uint32_t dropped


cdef inline Note* add_note(Notes* notes, object text, Attributes* attributes, uint32_t limit) noexcept:
    """Add one, which takes the attributes over; NULL if it was dropped."""
    cdef uint32_t capacity
    cdef void* items
    cdef Note* note
    if notes.count >= limit:
        notes.dropped += 1
        return NULL
    if notes.count == notes.capacity:
        capacity = 2 if notes.capacity == 0 else 2 * notes.capacity
        items = PyMem_Realloc(notes.items, capacity * sizeof(Note))
        if items == NULL:
            notes.dropped += 1
            return NULL
        notes.items = <Note*> items
        notes.capacity = capacity
    note = &notes.items[notes.count]
    notes.count += 1
    Py_INCREF(text)
    note.text = <PyObject*> text
    note.attributes = attributes[0]
    forget(attributes)
    return note


cdef inline void forget(Attributes* attributes) noexcept:
    attributes.items = NULL
    attributes.count = attributes.capacity = attributes.dropped = 0


cdef inline void clear_notes(Notes* notes) noexcept:
    cdef uint32_t i
    for i in range(notes.count):
        Py_XDECREF(notes.items[i].text)
        clear(&notes.items[i].attributes)
    PyMem_Free(notes.items)
    notes.items = NULL
    notes.count = 0


cdef inline void put_event(Buffer* buffer, Note* event) noexcept:
    """As an entry of `Span.events`."""
    cdef size_t start = open_nested(buffer, 0x5A)
    if reserve(buffer, 9):
        raw_byte(buffer, 0x09)  # Event.time_unix_nano
        raw_fixed64(buffer, event.time_ns)
    put_text(buffer, 0x12, <object> event.text)
    put_attributes(buffer, 0x1A, &event.attributes)
    if event.attributes.dropped:
        put_varint_field(buffer, 0x20, event.attributes.dropped)
    close_nested(buffer, start)


cdef inline void put_link(Buffer* buffer, Note* link) noexcept:
    """As an entry of `Span.links`."""
    cdef size_t start = open_nested(buffer, 0x6A)
    if not reserve(buffer, 28):
        return
    raw_byte(buffer, 0x0A)  # Link.trace_id
    raw_byte(buffer, 16)
    raw_id(buffer, link.trace_high)
    raw_id(buffer, link.trace_low)
    raw_byte(buffer, 0x12)  # Link.span_id
    raw_byte(buffer, 8)
    raw_id(buffer, link.id)
    if <object> link.text:
        put_text(buffer, 0x1A, <object> link.text)
    put_attributes(buffer, 0x22, &link.attributes)
    if link.attributes.dropped:
        put_varint_field(buffer, 0x28, link.attributes.dropped)
    if reserve(buffer, 5):
        raw_byte(buffer, 0x35)  # Link.flags
        raw_fixed32(buffer, link.flags)
    close_nested(buffer, start)
