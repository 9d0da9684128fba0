"""Spans, and the context that they are current in.

A span keeps what it was given as references to immutable values, and is encoded once, when it ends. The encoding runs no
Python code, so that it is never interleaved with another (see queue.pyx).
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from clew._hot.buffer cimport (
    Buffer, close_nested, open_nested, put_text, put_varint_field, raw_byte, raw_fixed32, raw_fixed64, raw_id, reserve,
)
from clew._hot.clock cimport monotonic_ns, wall_ns
from clew._hot.ids cimport PARENT_KNOWN, PARENT_REMOTE, SAMPLED, fork_number
from clew._hot.notes cimport Note, add_note, clear_notes, forget, put_event, put_link
from clew._hot.queue cimport OpenSpan, Queue
from clew._hot.scopes cimport MARK_0, MARK_1, MARK_BYTES
from clew._hot.values cimport (
    Attributes, as_dict, clear, exact_text, put_attributes, put_pair, snapshot, store, update_plain, update_rest,
)

from operator import index

from clew._hot.failures import is_cancellation, stack_trace, type_name
from clew.model import Event, Link, SpanContext, SpanKind, Status

cdef extern from "Python.h":
    object PyContextVar_New(const char* name, PyObject* default)
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    object PyContextVar_Set(object variable, object value)
    int PyContextVar_Reset(object variable, object token) except -1
    ctypedef struct PyTypeObject:
        Py_ssize_t tp_vectorcall_offset
        unsigned long tp_flags
        void* tp_call
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    void* PyVectorcall_Call
    Py_ssize_t PyVectorcall_NARGS(size_t count) noexcept
    object PyUnicode_New(Py_ssize_t size, uint32_t maxchar)
    uint8_t* PyUnicode_1BYTE_DATA(object text) noexcept

NO_TEXT = ""
KINDS = (None, *SpanKind)
cdef tuple STATUSES = tuple(Status)

current = PyContextVar_New("clew.current_span", NULL)

# Spans alive that were left while another was current, see `still_valid`. As good as always there is none.
cdef Py_ssize_t displaced_spans = 0


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
# `with` makes a bound method of __enter__ and one of __exit__, and calls each once: a third of what an empty span would
# cost. So both give the span itself, which can be called: without arguments it is entered, with three it is left.
# (From CPython 3.14 on `with` makes no bound methods any more.)
cdef class BlockMethod:
    def __get__(self, span, owner):
        return self if span is None else span

    def __call__(self, span, *arguments):
        """As a function of the type, which is how contextlib.ExitStack calls it."""
        return span(*arguments)


cdef object call_span(object span, PyObject** arguments, size_t count, PyObject* names):
    """The span's vectorcall (CPython's C API, «The Vectorcall Protocol»)."""
    cdef Py_ssize_t given = PyVectorcall_NARGS(count)
    if names == NULL and given == 0:
        return (<Span> span).enter()
    if names == NULL and given == 3:
        return (<Span> span).leave(<object> arguments[1])
    raise TypeError("a span is entered and left by `with`: it takes no arguments, or the three of __exit__")


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

    def __init__(self):
        raise TypeError("spans are made by Tracer.start_span()")

    def __cinit__(self):
        self.vectorcall = <void*> call_span

    def __dealloc__(self):
        global displaced_spans
        displaced_spans -= self.displaced
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
            value = snapshot(value, self.queue.value_length, &self.queue.coerced)
            key = exact_text(key, &self.queue.coerced)
            if self.state == RECORDING:  # to copy the value may have run code
                store(&self.attributes_, <str> key, value, self.queue.max_attributes)

    def set_attributes(self, attributes):
        """Set all attributes of a mapping."""
        if self.state == RECORDING:
            self.set_all(attributes)

    cdef int set_all(self, object attributes) except -1:
        cdef Attributes copies
        cdef uint32_t i
        cdef uint32_t limit = self.queue.max_attributes
        cdef Py_ssize_t length = self.queue.value_length
        cdef Py_ssize_t done = update_plain(&self.attributes_, attributes, limit, length)
        if done < 0:
            return 0
        forget(&copies)
        try:
            update_rest(&copies, attributes, done, limit, length, &self.queue.coerced)
            if self.state == RECORDING:  # to copy the values may have run code
                self.attributes_.dropped += copies.dropped
                for i in range(copies.count):
                    store(&self.attributes_, <str> copies.items[i].key, <object> copies.items[i].value, limit)
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
            self.copy_attributes(attributes, &copies, self.queue.max_event_attributes)
            note = add_note(&self.events_, name, &copies, self.queue.max_events) if self.state == RECORDING else NULL
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
            self.copy_attributes(attributes, &copies, self.queue.max_link_attributes)
            note = NULL
            if self.state == RECORDING:
                note = add_note(&self.links_, target.trace_state, &copies, self.queue.max_links)
            if note != NULL:
                note.trace_high = target.trace_high
                note.trace_low = target.trace_low
                note.id = target.id
                note.flags = target.flags & 0xFF | PARENT_KNOWN | (PARENT_REMOTE if target.remote else 0)
            clear(&copies)

    cdef int copy_attributes(self, object attributes, Attributes* copies, uint32_t limit) except -1:
        """Those of an event or a link."""
        cdef Py_ssize_t done, length = self.queue.event_value_length
        forget(copies)
        if attributes is not None:
            done = update_plain(copies, attributes, limit, length)
            if done >= 0:
                try:
                    update_rest(copies, attributes, done, limit, length, &self.queue.coerced)
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
        name = type_name(error)
        message = exact_text(error, &self.queue.coerced)
        details = {"exception.type": name, "exception.message": message, "exception.stacktrace": stack_trace(error)}
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

    # `with span:` makes it current and ends it; see BlockMethod.
    __enter__ = __exit__ = BlockMethod()

    cdef Span enter(self):
        cdef Span before
        # What records nothing need not replace its like: the children see the same trace, not sampled.
        if self.state == SILENT and self.parent != 0:
            before = get_current()
            if (
                before is not None
                and before.state == SILENT
                and before.trace_low == self.trace_low
                and before.trace_high == self.trace_high
            ):
                return self
        self.make_current()
        return self

    cdef int make_current(self) except -1:
        # Only the first `with` makes it current: `use_span` is for more.
        if not self.entered:
            self.entered = True
            self.token = PyContextVar_Set(current, self)
        return 0

    cdef bint leave(self, object error) except -1:
        """Returns: False, as `__exit__` does that lets an exception go on."""
        cdef int64_t now = 0
        if self.state == RECORDING:
            now = self.now()
            # sys.exit() is how a program says that all went well.
            if error is not None and not (isinstance(error, SystemExit) and not error.code):
                self.record(error, None, now)
        if self.token is not None:
            self.restore()
        if self.state == RECORDING:
            self.finish(now)
        return False

    cdef int restore(self) except -1:
        """Make current what was so before, unless another became so meanwhile, or this is another context."""
        global displaced_spans
        token = self.token
        self.token = None  # it refers to the context, which refers to this span
        if get_current() is not self:
            self.displaced = True
            self.previous = previous_of(token)
            displaced_spans += 1
        elif displaced_spans:
            PyContextVar_Set(current, still_valid(previous_of(token)))
        else:
            try:
                PyContextVar_Reset(current, token)  # cheaper than to set
            except ValueError:  # this is a copy of the context that it was entered in
                PyContextVar_Set(current, previous_of(token))
        return 0

    cdef int64_t now(self) noexcept:
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
        if not self.flags & SAMPLED:
            return  # recorded for somebody who listens, not to be exported
        queue.check_process()
        queue.end_span(&self.node)
        buffer = queue.begin_put()
        if buffer != NULL:
            start = buffer.length
            self.encode(buffer)
            queue.commit(start)

    cdef void finish_unended(self) noexcept:
        store(&self.attributes_, UNFINISHED, True, self.queue.max_attributes + 1)
        self.finish(self.now())

    cdef void encode(self, Buffer* buffer) noexcept:
        """As an entry of `ScopeSpans.spans` (opentelemetry/proto/trace/v1/trace.proto)."""
        cdef size_t start = open_nested(buffer, 0x12), inner
        cdef uint32_t i
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
            put_event(buffer, &self.events_.items[i])
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
        if self.scope and reserve(buffer, MARK_BYTES):  # last, see scopes.pxd
            raw_byte(buffer, MARK_0)
            raw_byte(buffer, MARK_1)
            raw_byte(buffer, <uint8_t> (self.scope & 0x7F | 0x80))
            raw_byte(buffer, <uint8_t> (self.scope >> 7))
        close_nested(buffer, start)

    def __repr__(self):
        return f"<Span {self.label!r} trace_id={self.trace_id} span_id={self.span_id} {STATE_NAMES[self.state]}>"


cdef tuple STATE_NAMES = ("not recorded", "recording", "ended")
cdef str UNFINISHED = "clew.unfinished"
cdef str STATUS_KEY = "clew.status"
cdef str CANCELLED_VALUE = "cancelled"


cdef void finish_open(OpenSpan* node) noexcept:
    (<Span> node.span).finish_unended()


cdef int64_t read_given(object clock, bint wall, Queue queue) noexcept:
    """A clock that the user gave; the system's if it fails."""
    try:
        return clock.time_ns() if wall else clock.monotonic_ns()
    except Exception:
        queue.errors += 1
        return wall_ns() if wall else monotonic_ns()


# --- the context -----------------------------------------------------------------------------------------------------

cdef Span get_current():
    """The span that is current; None where there is none."""
    cdef PyObject* value = NULL
    PyContextVar_Get(current, NULL, &value)
    if value == NULL:
        return None
    found = <Span> value  # nothing else is ever put there, but None
    Py_XDECREF(value)
    return found


cdef Span previous_of(object token):
    """What was current when a token of the context variable was made."""
    found = token.old_value
    return <Span> found if isinstance(found, Span) else None


cdef Span still_valid(Span span):
    """What to make current again: what was left while another was current (two generators, interleaved) is gone."""
    while span is not None and span.displaced:
        span = span.previous
    return span


cdef void make_valid(Span span) noexcept:
    """It is to be current once more, on purpose."""
    global displaced_spans
    displaced_spans -= span.displaced
    span.displaced = False
    span.previous = None


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


cdef void make_callable():
    cdef Span span = Span.__new__(Span)
    cdef PyTypeObject* type_of = <PyTypeObject*> Span
    type_of.tp_vectorcall_offset = <char*> &span.vectorcall - <char*> <PyObject*> span
    type_of.tp_call = PyVectorcall_Call
    type_of.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL


make_callable()

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
        make_valid(self.span)
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


