"""Spans, the tracer that makes them, and the context that they are current in.

A span keeps what it was given as references to immutable values, and is encoded once, when it ends. The encoding runs no
Python code, so that it is never interleaved with another (see queue.pyx).
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t

from clew._hot.buffer cimport (
    Buffer, close_nested, open_nested, put_text, put_varint_field, raw_byte, raw_fixed32, raw_fixed64, raw_id, reserve,
)
from clew._hot.clock cimport monotonic_ns, wall_ns
from clew._hot.ids cimport fork_number, random_id
from clew._hot.queue cimport OpenSpan, Queue
from clew._hot.samplers cimport NativeSampler
from clew._hot.values cimport (
    Attributes, as_dict, clear, exact_text, put_attributes, put_pair, snapshot, store, update_plain,
    update_rest,
)

import sys
from operator import index

from clew.limits import (
    ATTRIBUTES_PER_EVENT, ATTRIBUTES_PER_SPAN, EVENTS_PER_SPAN, LINKS_PER_SPAN, WALL_CLOCK_AGE_NS,
)
from clew.model import Event, Link, SpanContext, SpanKind, Status

cdef extern from "Python.h":
    object PyContextVar_New(const char* name, PyObject* default)
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    object PyContextVar_Set(object variable, object value)
    int PyContextVar_Reset(object variable, object token) except -1
    object PyUnicode_New(Py_ssize_t size, uint32_t maxchar)
    uint8_t* PyUnicode_1BYTE_DATA(object text) noexcept

cdef uint32_t MAX_ATTRIBUTES = ATTRIBUTES_PER_SPAN
cdef uint32_t MAX_EVENT_ATTRIBUTES = ATTRIBUTES_PER_EVENT
cdef uint32_t MAX_EVENTS = EVENTS_PER_SPAN
cdef uint32_t MAX_LINKS = LINKS_PER_SPAN

# W3C trace context level 2, section 3.2.2.5, and in OTLP's Span.flags.
cdef enum:
    SAMPLED = 0x01
    RANDOM = 0x02
    PARENT_KNOWN = 0x100
    PARENT_REMOTE = 0x200

cdef enum SpanState:
    SILENT  # records nothing: not sampled, or a stand-in for a span elsewhere
    RECORDING
    ENDED

# Status, as C numbers.
cdef enum:
    UNSET = 0
    OK = 1
    ERROR = 2
    CANCELLED = 3

cdef object INTERNAL = SpanKind.INTERNAL
cdef object NO_TEXT = ""
cdef tuple KINDS = (None, *SpanKind)
cdef tuple STATUSES = tuple(Status)

CURRENT = type("Current", (), {"__repr__": lambda self: "CURRENT", "__slots__": ()})()
cdef object _CURRENT = CURRENT

cdef object current = PyContextVar_New("clew.current_span", NULL)


# --- what a span has several of: events and links --------------------------------------------------------------------

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


cdef Note* add_note(Notes* notes, object text, Attributes* attributes, uint32_t limit) noexcept:
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


cdef void clear_notes(Notes* notes) noexcept:
    cdef uint32_t i
    for i in range(notes.count):
        Py_XDECREF(notes.items[i].text)
        clear(&notes.items[i].attributes)
    PyMem_Free(notes.items)
    notes.items = NULL
    notes.count = 0


# --- ids as text -----------------------------------------------------------------------------------------------------

cdef str hex_id(uint64_t high, uint64_t low, int digits):
    cdef object text = PyUnicode_New(digits, 127)
    cdef uint8_t* out = PyUnicode_1BYTE_DATA(text)
    cdef int i
    for i in range(digits - 1, -1, -1):
        out[i] = b"0123456789abcdef"[low & 15]
        low >>= 4
        if i == digits - 16:
            low = high
    return <str> text


# --- the span --------------------------------------------------------------------------------------------------------

# Without the garbage collector's header and visits: what a span refers to is immutable (texts, attribute values), is a
# queue, which refers to no span, or is the span that was current when this one became so, which is older. No cycle
# can be made of these.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Span:
    """An operation, from its start to its end.

    Made by `Tracer.start_span`. `with span:` makes it current and ends it; without `with`, call `end()`. A span that ended
    is read-only; the first end holds. Nothing here raises into the program: a value that cannot be recorded is
    replaced or dropped, and counted in `Tracer.stats()`.

    Thread: any, also several at once.
    """

    # First, so that the list's node is found from the span and the span from its node.
    cdef OpenSpan node
    cdef Queue queue
    cdef object clock
    cdef object label, description, trace_state
    cdef Span previous
    cdef object token  # of the context variable, while this is current
    cdef uint64_t trace_high, trace_low, id, parent
    cdef int64_t start_ns, end_ns
    cdef int64_t offset_ns  # wall clock minus monotonic clock, read where the trace began in this process
    cdef Attributes attributes_
    cdef Notes events_, links_
    cdef uint32_t flags
    cdef unsigned int process
    cdef uint8_t state, kind_, status_
    cdef bint entered
    cdef bint remote  # stands for a span of another process
    cdef bint displaced  # was left while another span was current: not to become current again

    def __init__(self):
        raise TypeError("spans are made by Tracer.start_span()")

    def __dealloc__(self):
        if self.state == RECORDING and self.process == fork_number:
            # Nobody can end it any more. It did not end, but it was: the trace shows it so.
            self.finish_unended()
        if self.attributes_.items != NULL:
            clear(&self.attributes_)
        if self.events_.items != NULL:
            clear_notes(&self.events_)
        if self.links_.items != NULL:
            clear_notes(&self.links_)

    # --- identity ----------------------------------------------------------------------------------------------------

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits."""
        return hex_id(self.trace_high, self.trace_low, 32)

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits."""
        return hex_id(0, self.id, 16)

    @property
    def parent_id(self) -> str:
        """16 lower-case hex digits, "" for a root."""
        return hex_id(0, self.parent, 16) if self.parent else ""

    @property
    def context(self) -> SpanContext:
        """What identifies this span to others."""
        return SpanContext(
            self.trace_id, self.span_id, self.flags & 0xFF, self.trace_state, self.remote
        )

    @property
    def is_recording(self) -> bool:
        """Whether what is set on it now will be exported."""
        return self.state == RECORDING

    @property
    def name(self) -> str:
        return self.label

    @property
    def kind(self):
        return KINDS[self.kind_]

    # --- what was recorded -------------------------------------------------------------------------------------------

    @property
    def start_time_ns(self) -> int:
        """Wall-clock nanoseconds; 0 if it records nothing."""
        return self.start_ns

    @property
    def end_time_ns(self):
        """Wall-clock nanoseconds; None until it ended, and if it records nothing."""
        return self.end_ns if self.state == ENDED else None

    @property
    def duration_ns(self):
        """Nanoseconds from start to end; None until it ended, and if it records nothing."""
        return self.end_ns - self.start_ns if self.state == ENDED else None

    @property
    def status(self):
        return STATUSES[self.status_]

    @property
    def status_description(self) -> str:
        return self.description

    @property
    def attributes(self) -> dict:
        """A copy."""
        return as_dict(&self.attributes_)

    @property
    def events(self) -> tuple:
        cdef uint32_t i
        return tuple([
            Event(
                <object> self.events_.items[i].text,
                self.events_.items[i].time_ns,
                as_dict(&self.events_.items[i].attributes),
                self.events_.items[i].attributes.dropped,
            )
            for i in range(self.events_.count)
        ])

    @property
    def links(self) -> tuple:
        cdef uint32_t i
        cdef Note* note
        cdef list links = []
        for i in range(self.links_.count):
            note = &self.links_.items[i]
            context = SpanContext(
                hex_id(note.trace_high, note.trace_low, 32), hex_id(0, note.id, 16), note.flags & 0xFF,
                <object> note.text, (note.flags & PARENT_REMOTE) != 0,
            )
            links.append(Link(context, as_dict(&note.attributes), note.attributes.dropped))
        return tuple(links)

    # --- recording ---------------------------------------------------------------------------------------------------

    def set_attribute(self, key, value):
        """Set one attribute; an earlier value of the key is replaced.

        Args:
            value: str, bool, int, float, bytes, None, or a sequence or mapping of these, copied now. An int of more than 64
                bits and anything else is recorded as its str().
        """
        if self.state == RECORDING:
            value = snapshot(value, &self.queue.coerced)
            key = exact_text(key, &self.queue.coerced)
            if self.state == RECORDING:  # to copy the value may have run code
                store(&self.attributes_, <str> key, value, MAX_ATTRIBUTES)

    def set_attributes(self, attributes):
        """Set all attributes of a mapping."""
        if self.state == RECORDING:
            self.set_all(attributes)

    cdef int set_all(self, object attributes) except -1:
        cdef Attributes copies
        cdef uint32_t i
        cdef Py_ssize_t done = update_plain(&self.attributes_, attributes, MAX_ATTRIBUTES)
        if done < 0:
            return 0
        forget(&copies)
        try:
            update_rest(&copies, attributes, done, MAX_ATTRIBUTES, &self.queue.coerced)
            if self.state == RECORDING:  # to copy the values may have run code
                self.attributes_.dropped += copies.dropped
                for i in range(copies.count):
                    store(
                        &self.attributes_, <str> copies.items[i].key, <object> copies.items[i].value, MAX_ATTRIBUTES
                    )
        finally:
            clear(&copies)
        return 0

    def add_event(self, name, attributes=None, time_ns=None):
        """Record that something happened.

        Args:
            time_ns: when, wall-clock nanoseconds; now by default.
        """
        cdef Attributes copies
        cdef Note* note
        cdef int64_t now
        if self.state == RECORDING:
            now = self.now() if time_ns is None else self.given_time(time_ns)
            name = exact_text(name, &self.queue.coerced)
            self.copy_attributes(attributes, &copies)
            note = add_note(&self.events_, name, &copies, MAX_EVENTS) if self.state == RECORDING else NULL
            if note != NULL:
                note.time_ns = now
            clear(&copies)

    def add_link(self, context, attributes=None):
        """Point to another span, of this trace or another.

        Args:
            context: a SpanContext or a Span.
        """
        cdef Attributes copies
        cdef Note* note
        cdef Span target
        if self.state == RECORDING:
            target = as_span(context)
            if target is None:
                self.queue.coerced += 1
                return
            self.copy_attributes(attributes, &copies)
            note = add_note(&self.links_, target.trace_state, &copies, MAX_LINKS) if self.state == RECORDING else NULL
            if note != NULL:
                note.trace_high = target.trace_high
                note.trace_low = target.trace_low
                note.id = target.id
                note.flags = target.flags & 0xFF | PARENT_KNOWN | (PARENT_REMOTE if target.remote else 0)
            clear(&copies)

    cdef int copy_attributes(self, object attributes, Attributes* copies) except -1:
        cdef Py_ssize_t done
        forget(copies)
        if attributes is not None:
            done = update_plain(copies, attributes, MAX_EVENT_ATTRIBUTES)
            if done >= 0:
                try:
                    update_rest(copies, attributes, done, MAX_EVENT_ATTRIBUTES, &self.queue.coerced)
                except:  # KeyboardInterrupt in a value's __str__
                    clear(copies)
                    raise
        return 0

    def record_error(self, error, attributes=None):
        """Record an exception as an event, and set the status to ERROR, or CANCELLED if that is what it says.

        The event is OpenTelemetry's `exception`, with `exception.type`, `exception.message`, `exception.stacktrace`.
        """
        if self.state == RECORDING:
            self.record(error, attributes, self.now())

    cdef int record(self, object error, object attributes, int64_t time_ns) except -1:
        try:
            self.describe(error, attributes, time_ns)
        except Exception:
            self.queue.errors += 1
        return 0

    cdef int describe(self, object error, object attributes, int64_t time_ns) except -1:
        cdef dict details
        cdef type kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        message = exact_text(error, &self.queue.coerced)
        details = {
            "exception.type": name,
            "exception.message": message,
            "exception.stacktrace": stack_trace(error, &self.queue.coerced),
        }
        if attributes is not None:
            details.update(attributes)
        # To format a stack trace takes its time: the event is of before, not after the end of its span.
        self.add_event("exception", details, time_ns)
        if is_cancellation(error):
            self.set_status(STATUSES[CANCELLED], name)
        else:
            self.set_status(STATUSES[ERROR], f"{name}: {message}" if message else name)
        return 0

    def set_status(self, status, description=""):
        """Say how the operation ended. OK is final; UNSET changes nothing.

        Args:
            description: why, for ERROR and CANCELLED.

        Source: OpenTelemetry's specification of the trace API, «Set Status».
        """
        cdef int number
        if self.state != RECORDING:
            return
        try:
            number = STATUSES[status]
        except Exception:
            self.queue.coerced += 1
            return
        description = exact_text(description, &self.queue.coerced)
        if self.state == RECORDING and self.status_ != OK and number != UNSET:
            self.status_ = number
            self.description = NO_TEXT if number == OK else description

    def update_name(self, name):
        """Give it another name."""
        if self.state == RECORDING:
            name = exact_text(name, &self.queue.coerced)
            if self.state == RECORDING:
                self.label = name

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self, end_time_ns=None):
        """End it, and hand it to the exporter's queue. Never waits.

        Args:
            end_time_ns: wall-clock nanoseconds; now by default. Before its start, it becomes the start.
        """
        if self.state == RECORDING:
            self.finish(self.now() if end_time_ns is None else self.given_time(end_time_ns))

    def __enter__(self):
        cdef Span before = get_current()
        # Only the first `with` makes it current: `use_span` is for more. And what records nothing need not replace its
        # like: the children see the same trace, not sampled.
        if not self.entered and not (
            self.state == SILENT
            and before is not None
            and before.state == SILENT
            and before.trace_low == self.trace_low
            and before.trace_high == self.trace_high
        ):
            self.entered = True
            self.previous = before
            self.token = PyContextVar_Set(current, self)
        return self

    def __exit__(self, kind, error, traceback):
        cdef int64_t now = 0
        if self.state == RECORDING:
            now = self.now()
            # sys.exit() is how a program says that all went well.
            if error is not None and not (isinstance(error, SystemExit) and not error.code):
                self.record(error, None, now)
        if self.token is not None:
            self.leave()
        if self.state == RECORDING:
            self.finish(now)
        return False

    cdef int leave(self) except -1:
        """Make current what was so before, unless another became so meanwhile, or this is another context."""
        token = self.token
        self.token = None  # it refers to the context, which refers to this span
        if get_current() is not self:
            self.displaced = True
        elif self.previous is None or not self.previous.displaced:
            try:
                PyContextVar_Reset(current, token)  # cheaper than to set
            except ValueError:  # this is a copy of the context that it was entered in
                PyContextVar_Set(current, self.previous)
        else:
            PyContextVar_Set(current, still_valid(self.previous))
        return 0

    cdef inline int64_t now(self) noexcept:
        if self.clock is None:
            return monotonic_ns() + self.offset_ns
        return read_given(self.clock, False, self.queue) + self.offset_ns

    cdef int64_t given_time(self, object time_ns) except? -1:
        """A time that the program gave, or now, counted, if it is none."""
        cdef int64_t value
        try:
            value = index(time_ns)  # a float is a time in seconds, most likely
            if value >= 0:
                return value
        except Exception:
            pass
        self.queue.coerced += 1
        return self.now()

    cdef void finish(self, int64_t end_ns) noexcept:
        """The end itself. Runs no Python code before the span is in the queue."""
        cdef Buffer* buffer
        cdef size_t start
        cdef Queue queue = self.queue
        self.state = ENDED
        if end_ns < self.start_ns:
            queue.coerced += 1
            end_ns = self.start_ns
        self.end_ns = end_ns
        if self.process != fork_number:
            return  # the parent process began it and will end it
        queue.check_process()
        queue.end_span(&self.node)
        buffer = queue.begin_put()
        if buffer != NULL:
            start = buffer.length
            self.encode(buffer)
            queue.commit(start)

    cdef void finish_unended(self) noexcept:
        store(&self.attributes_, UNFINISHED, True, MAX_ATTRIBUTES + 1)
        self.finish(self.now())

    cdef void encode(self, Buffer* buffer) noexcept:
        """As an entry of `ScopeSpans.spans` (opentelemetry/proto/trace/v1/trace.proto)."""
        cdef size_t start = open_nested(buffer, 0x12)
        cdef uint32_t i
        cdef size_t inner
        cdef Note* note
        if not reserve(buffer, 64):
            return
        raw_byte(buffer, 0x0A)  # 1: trace_id
        raw_byte(buffer, 16)
        raw_id(buffer, self.trace_high)
        raw_id(buffer, self.trace_low)
        raw_byte(buffer, 0x12)  # 2: span_id
        raw_byte(buffer, 8)
        raw_id(buffer, self.id)
        if self.parent:
            raw_byte(buffer, 0x22)  # 4: parent_span_id
            raw_byte(buffer, 8)
            raw_id(buffer, self.parent)
        if self.trace_state is not NO_TEXT:
            put_text(buffer, 0x1A, self.trace_state)
        put_text(buffer, 0x2A, self.label)
        if not reserve(buffer, 32):
            return
        raw_byte(buffer, 0x30)  # 6: kind
        raw_byte(buffer, self.kind_)
        raw_byte(buffer, 0x39)  # 7: start_time_unix_nano
        raw_fixed64(buffer, self.start_ns)
        raw_byte(buffer, 0x41)  # 8: end_time_unix_nano
        raw_fixed64(buffer, self.end_ns)
        if self.attributes_.count:
            put_attributes(buffer, 0x4A, &self.attributes_)
        if self.status_ == CANCELLED:
            put_pair(buffer, 0x4A, STATUS_KEY, CANCELLED_VALUE)
        if self.attributes_.dropped:
            put_varint_field(buffer, 0x50, self.attributes_.dropped)
        for i in range(self.events_.count):
            note = &self.events_.items[i]
            inner = open_nested(buffer, 0x5A)
            if reserve(buffer, 9):
                raw_byte(buffer, 0x09)  # Event.time_unix_nano
                raw_fixed64(buffer, note.time_ns)
            put_text(buffer, 0x12, <object> note.text)
            put_attributes(buffer, 0x1A, &note.attributes)
            if note.attributes.dropped:
                put_varint_field(buffer, 0x20, note.attributes.dropped)
            close_nested(buffer, inner)
        if self.events_.dropped:
            put_varint_field(buffer, 0x60, self.events_.dropped)
        for i in range(self.links_.count):
            put_link(buffer, &self.links_.items[i])
        if self.links_.dropped:
            put_varint_field(buffer, 0x70, self.links_.dropped)
        if self.status_ != UNSET:
            inner = open_nested(buffer, 0x7A)
            if self.description is not NO_TEXT:
                put_text(buffer, 0x12, self.description)
            put_varint_field(buffer, 0x18, OK if self.status_ == OK else ERROR)
            close_nested(buffer, inner)
        if reserve(buffer, 6):
            raw_byte(buffer, 0x85)  # 16: flags
            raw_byte(buffer, 0x01)
            raw_fixed32(buffer, self.flags)
        close_nested(buffer, start)

    def __repr__(self):
        return f"<Span {self.label!r} trace_id={self.trace_id} span_id={self.span_id} {STATE_NAMES[self.state]}>"


cdef tuple STATE_NAMES = ("not recorded", "recording", "ended")
cdef str UNFINISHED = "clew.unfinished"
cdef str STATUS_KEY = "clew.status"
cdef str CANCELLED_VALUE = "cancelled"


cdef void finish_open(OpenSpan* node) noexcept:
    (<Span> node.span).finish_unended()


cdef void put_link(Buffer* buffer, Note* link) noexcept:
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
    if <object> link.text is not NO_TEXT:
        put_text(buffer, 0x1A, <object> link.text)
    put_attributes(buffer, 0x22, &link.attributes)
    if link.attributes.dropped:
        put_varint_field(buffer, 0x28, link.attributes.dropped)
    if reserve(buffer, 5):
        raw_byte(buffer, 0x35)  # Link.flags
        raw_fixed32(buffer, link.flags)
    close_nested(buffer, start)


cdef str stack_trace(object error, Py_ssize_t* coerced):
    import traceback  # not at import: it costs more than all of clew

    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        coerced[0] += 1
        return "<no stack trace>"


cdef bint is_cancellation(object error):
    """Whether an exception says that somebody ended the operation, not that it failed."""
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return True
    asyncio = sys.modules.get("asyncio.exceptions")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


# The last time that both clocks were read: the monotonic one, and how far the wall clock was ahead of it.
cdef int64_t both_read_ns = INT64_MIN
cdef int64_t both_offset_ns = 0
cdef int64_t OFFSET_AGE_NS = WALL_CLOCK_AGE_NS


cdef inline int64_t anchored_now(int64_t* offset_ns) noexcept:
    """The wall clock, for a trace that begins, and its offset from the monotonic clock.

    Traces that begin within a millisecond share a reading of the wall clock, which spares most of them the call.
    """
    global both_read_ns, both_offset_ns
    cdef int64_t now = monotonic_ns()
    if now - OFFSET_AGE_NS > both_read_ns:
        both_offset_ns = wall_ns() - now
        both_read_ns = now
    offset_ns[0] = both_offset_ns
    return now + both_offset_ns


cdef int64_t read_given(object clock, bint wall, Queue queue) noexcept:
    """A clock that the user gave; the system's if it fails."""
    try:
        return clock.time_ns() if wall else clock.monotonic_ns()
    except Exception:
        queue.errors += 1
        return wall_ns() if wall else monotonic_ns()


# --- the context -----------------------------------------------------------------------------------------------------

cdef inline Span get_current():
    """The span that is current; None where there is none."""
    cdef PyObject* value = NULL
    PyContextVar_Get(current, NULL, &value)
    if value == NULL:
        return None
    found = <Span> value  # nothing else is ever put there, but None
    Py_XDECREF(value)
    return found


cdef inline Span still_valid(Span span):
    """What to make current again: what was left while another was current (two generators, interleaved) is gone."""
    while span is not None and span.displaced:
        span = span.previous
    return span


cdef Span as_span(object parent):
    """What a parent or the target of a link is given as; None if it is nothing of the kind."""
    if isinstance(parent, Span):
        return <Span> parent
    if isinstance(parent, SpanContext):
        try:
            return remote_span(parent)
        except Exception:
            return None
    return None


def remote_span(context) -> Span:
    """A span that records nothing and stands for one elsewhere, to be made current.

    Args:
        context: a SpanContext.

    Raises: ValueError, if its ids are not hex digits.
    """
    cdef Span span = Span.__new__(Span)
    trace, id = int(context.trace_id, 16), int(context.span_id, 16)
    if trace < 0 or id < 0 or trace >> 128 or id >> 64:
        raise ValueError(f"a trace id has 32 hex digits and a span id 16: {context.trace_id!r}, {context.span_id!r}")
    span.trace_high = trace >> 64
    span.trace_low = trace & 0xFFFFFFFFFFFFFFFF
    span.id = id
    span.flags = <uint32_t> (context.trace_flags & 0xFF)
    span.label = span.description = NO_TEXT
    span.trace_state = context.trace_state if type(context.trace_state) is str else str(context.trace_state)
    if not span.trace_state:
        span.trace_state = NO_TEXT
    span.kind_ = 1
    span.remote = bool(context.is_remote)
    return span


cdef Span NOTHING = remote_span(SpanContext("0" * 32, "0" * 16))


def current_span() -> Span:
    """The span that is current here; one that records nothing (all ids zero) where there is none.

    Thread: any. What is current follows contextvars: each thread, task and `contextvars.Context` has its own.
    """
    cdef Span span = get_current()
    return NOTHING if span is None else span


@cython.final
cdef class ContextScope:
    """Makes a span current for the length of a `with` block, without ending it."""

    cdef Span span, previous

    def __init__(self, Span span not None):
        self.span = span

    def __enter__(self):
        self.previous = get_current()
        PyContextVar_Set(current, self.span)
        return self.span

    def __exit__(self, kind, error, traceback):
        if get_current() is self.span:
            PyContextVar_Set(current, still_valid(self.previous))
        return False


def use_span(Span span not None) -> ContextScope:
    """A context manager that makes a span current, and does not end it.

    Thread: any; the block must be left in the context that it was entered in, or it changes nothing.
    """
    return ContextScope(span)


# --- the tracer ------------------------------------------------------------------------------------------------------

cdef class TracerCore:
    """Makes spans, and puts those that ended into a queue. `clew.Tracer` is built on it."""

    cdef Queue queue
    cdef object sampler, clock
    cdef NativeSampler native  # the sampler, if it decides without Python
    cdef bint decides_remote

    def __init__(self, Queue queue not None, sampler, clock=None):
        self.queue = queue
        self.sampler = sampler
        self.clock = clock
        self.native = sampler if isinstance(sampler, NativeSampler) else None
        self.decides_remote = bool(getattr(sampler, "decides_remote", False))

    def start_span(
        self, name, kind=INTERNAL, *, attributes=None, links=(), parent=_CURRENT, start_time_ns=None
    ):
        """Begin a span.

        Args:
            name: what the operation is called; few different names, with what differs in the attributes.
            kind: its role.
            attributes: a mapping, copied.
            links: Link, SpanContext or Span, each pointing to another span.
            parent: a Span, a SpanContext, or None for a new trace; by default whatever span is current.
            start_time_ns: wall-clock nanoseconds; now by default.

        Returns: a span that is not current yet: `with` makes it so and ends it; else the caller calls `end()`.
        Thread: any. Never blocks.
        """
        cdef Span span = Span.__new__(Span)
        cdef Span above
        cdef Queue queue = self.queue
        cdef bint sampled, begins_here
        queue.check_process()
        if parent is _CURRENT:
            above = get_current()
        elif parent is None:
            above = None
        else:
            above = as_span(parent)
            if above is None:
                queue.coerced += 1
                above = get_current()
        if kind is INTERNAL:
            span.kind_ = 1
        else:
            span.kind_ = kind_number(kind, queue)
        span.label = name if type(name) is str else exact_text(name, &queue.coerced)
        span.description = NO_TEXT
        span.id = random_id()
        if above is not None and (above.trace_low | above.trace_high) != 0:
            begins_here = above.remote or above.state == SILENT
            span.trace_high = above.trace_high
            span.trace_low = above.trace_low
            span.parent = above.id
            span.trace_state = above.trace_state
            sampled = above.flags & SAMPLED
            if above.remote and self.decides_remote:
                sampled = self.ask(span, kind, attributes, above.context)
            span.flags = above.flags & RANDOM | PARENT_KNOWN | (PARENT_REMOTE if above.remote else 0)
        else:
            begins_here = True
            span.trace_high = random_id()
            span.trace_low = random_id()
            span.trace_state = NO_TEXT
            if self.native is not None:
                sampled = self.native.decide(span.trace_low)
            else:
                sampled = self.ask(span, kind, attributes, None)
            span.flags = RANDOM | PARENT_KNOWN
        if not sampled:
            queue.not_sampled += 1
            return span
        span.flags |= SAMPLED
        span.process = queue.process
        span.queue = queue
        span.clock = self.clock
        span.state = RECORDING
        span.node.span = <PyObject*> span
        span.node.finish = finish_open
        queue.begin_span(&span.node)
        if attributes is not None:
            span.set_all(attributes)
        if not (type(links) is tuple and len(<tuple> links) == 0):
            add_links(span, links, queue)
        # The clocks last: the span measures the program, not its own making.
        if not begins_here:
            span.offset_ns = above.offset_ns
            span.start_ns = span.now() if start_time_ns is None else span.given_time(start_time_ns)
        else:
            if self.clock is None:
                span.start_ns = anchored_now(&span.offset_ns)
            else:
                span.start_ns = read_given(self.clock, True, queue)
                span.offset_ns = span.start_ns - read_given(self.clock, False, queue)
            if start_time_ns is not None:
                span.start_ns = span.given_time(start_time_ns)
        return span

    cdef bint ask(self, Span span, object kind, object attributes, object parent):
        """The decision of a sampler written in Python; False, counted, if it fails."""
        try:
            return bool(
                self.sampler.should_sample(
                    span.trace_id, span.label, KINDS[span.kind_], {} if attributes is None else attributes, parent
                )
            )
        except Exception:
            self.queue.errors += 1
            return False


cdef uint8_t kind_number(object kind, Queue queue):
    cdef long number
    try:
        number = kind
        if 1 <= number <= 5:
            return <uint8_t> number
    except Exception:
        pass
    queue.coerced += 1
    return 1


cdef int add_links(Span span, object links, Queue queue) except -1:
    try:
        for link in links:
            if isinstance(link, Link):
                span.add_link(link.context, link.attributes)
            else:
                span.add_link(link)
    except Exception:
        queue.coerced += 1
    return 0
