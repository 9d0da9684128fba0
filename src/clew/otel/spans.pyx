"""opentelemetry-api's Tracer, Span and runtime context, on the native core.

A span of the API is a face of a native span: it holds no data, it translates. The native span knows its face while that
is alive, so that whoever asks for the current span, in either world, gets the one object that stands for it there.

Source: the OpenTelemetry specification, "Tracing API", "Tracing SDK", "Context".
"""

cimport cython
from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from clew._hot.ids cimport PARENT_REMOTE, RANDOM, SAMPLED
from clew._hot.queue cimport Queue
from clew._hot.span cimport (
    ENDED, NO_TEXT, OK, RECORDING, SILENT, Span, current, get_current, make_valid, previous_of, still_valid,
)
from clew._hot.tracer cimport TracerCore

import logging
from contextvars import ContextVar
from inspect import iscoroutinefunction
from types import MappingProxyType
from warnings import warn

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace.propagation import _SPAN_KEY

from clew._hot import remote_span
from clew._hot.failures import stack_trace, type_name
from clew.model import SpanContext as OwnContext, SpanKind as OwnKind, Status as OwnStatus
from clew.otel.blocks import decorate
from clew.otel.resources import info_of
from clew.otel.readable import Event, Link, acceptable, format_span

cdef extern from "Python.h":
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    object PyContextVar_Set(object variable, object value)
    int PyContextVar_Reset(object variable, object token) except -1
    ctypedef struct TypeObject "PyTypeObject":
        PyObject* tp_dict
    void PyType_Modified(object kind)

cdef object log = logging.getLogger("clew.otel")

cdef object KEY = _SPAN_KEY
cdef type ApiContext = api.SpanContext
cdef object ApiStatus = api.Status
cdef object StatusCode = api.StatusCode
cdef object STATUS_OK = api.StatusCode.OK
cdef object INTERNAL = api.SpanKind.INTERNAL
# Kinds by OTLP's number; the API counts from 0.
cdef tuple KINDS = (None, *api.SpanKind)
cdef tuple CODES = (StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR, StatusCode.ERROR)
cdef tuple OWN_STATUSES = (OwnStatus.UNSET, OwnStatus.OK, OwnStatus.ERROR)
cdef tuple FLAGS = tuple(map(api.TraceFlags, range(256)))
cdef object NO_STATE = api.TraceState()
cdef object INVALID = api.INVALID_SPAN_CONTEXT


# --- identity in the API's words -------------------------------------------------------------------------------------

cdef inline object wide(uint64_t high, uint64_t low):
    return (<object> high) << 64 | (<object> low)


cdef object state_of(object text):
    return NO_STATE if text is NO_TEXT or not text else api.TraceState.from_header([text])


cdef object context_of(Span span):
    return ApiContext(
        wide(span.trace_high, span.trace_low), span.id, bool(span.remote), FLAGS[span.flags & 0xFF],
        state_of(span.trace_state),
    )


cdef Span stand_in(object context):
    """A native span that records nothing, for a SpanContext of the API; None if it is not valid."""
    if context is None or not context.is_valid:
        return None
    return plain_stand_in(context)


cdef Span plain_stand_in(object context):
    state = context.trace_state
    if not isinstance(state, str):
        state = state.to_header() if state else ""
    return remote_span(
        OwnContext(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", int(context.trace_flags), state,
            bool(context.is_remote),
        )
    )


cdef Span native_of(object span):
    """The native span for whatever a context of the API has as its span; None for none.

    Raises: TypeError, if it is a span whose context is none.
    """
    if isinstance(span, OtelSpan):
        return (<OtelSpan> span).span if is_valid((<OtelSpan> span).span) else None
    if span is None or not isinstance(span, api.Span):
        return None
    context = span.get_span_context()
    if context is not None and not isinstance(context, ApiContext):
        raise TypeError(f"the context of a span is a SpanContext, not {context!r}")
    return stand_in(context)


cdef inline bint is_valid(Span span) noexcept:
    return (span.trace_high | span.trace_low) != 0 and span.id != 0


cdef OtelSpan face_of(Span span):
    """What stands for a native span in the API: the one that is there, or a new one."""
    if span.face != NULL:
        return <OtelSpan> span.face
    return new_face(span, span.state == SILENT)


cdef inline OtelSpan new_face(Span span, bint silent):
    cdef OtelSpan face
    if silent:
        face = SilentSpan.__new__(SilentSpan)
    else:
        face = OtelSpan.__new__(OtelSpan)
    face.span = span
    span.face = <PyObject*> face
    face.records_exceptions = face.sets_status = True
    return face


def span_of(face):
    """The native span behind a span of the API, None if that is not ours."""
    return (<OtelSpan> face).span if isinstance(face, OtelSpan) else None


def face_for(span):
    """What `opentelemetry.trace.get_current_span()` gives where a span of clew's is current."""
    return face_of(<Span?> span)


# --- attributes ------------------------------------------------------------------------------------------------------

cdef object clean(object attributes, uint32_t* dropped):
    """Attributes as the native core takes them: those without a proper name are dropped, as the API's users expect."""
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t position = 0
    if attributes is None:
        return None
    if type(attributes) is dict:
        while PyDict_Next(attributes, &position, &key, &value):
            if type(<object> key) is not str or not <object> key or type(<object> value) not in PLAIN:
                break
        else:
            return attributes
    try:
        pairs = dict(attributes)
    except Exception:
        log.warning("Attributes are a mapping, not %s.", type(attributes).__name__)
        return None
    kept = {}
    for name, given in pairs.items():
        if isinstance(name, str) and name:
            kept[name] = given if type(given) in PLAIN else acceptable(given)
        else:
            tell_of_name(name)
            dropped[0] += 1
    return kept


# Of these types the core takes every value as it is.
cdef frozenset PLAIN = frozenset((str, bool, int, float, bytes, type(None), list, tuple, dict))


cdef int tell_of_name(object name) except -1:
    log.warning("invalid attribute key `%s`: it is a string that is not empty. It is dropped.", name)
    return 0


# --- spans -----------------------------------------------------------------------------------------------------------

@cython.freelist(64)
@cython.no_gc_clear  # a face is told of in its native span until it is gone
cdef class OtelSpan:
    """A span of the OpenTelemetry API, of clew's making.

    It is a `opentelemetry.trace.Span`, and can be read as the SDK's `ReadableSpan` can.

    Thread: any.
    """

    cdef Span span
    cdef Span above  # its parent, if that was at hand
    cdef OtelTracer tracer  # None for a span that clew's own tracer made
    cdef object context_, parent_, resource_
    cdef bint records_exceptions, sets_status
    cdef dict __dict__
    cdef object __weakref__

    def __init__(self):
        raise TypeError("spans are made by a tracer")

    def __dealloc__(self):
        if self.span is not None and self.span.face == <PyObject*> self:
            self.span.face = NULL

    # --- what the API has --------------------------------------------------------------------------------------------

    def get_span_context(self):
        """Its ids."""
        if self.context_ is None:
            self.context_ = context_of(self.span)
        return self.context_

    def is_recording(self):
        """Whether what is set on it now will be seen by anybody."""
        return self.span.state == RECORDING

    def set_attribute(self, key, value):
        """Set one attribute."""
        cdef Span span = self.span
        if span.state == RECORDING:
            if isinstance(key, str) and key:
                span.set_attribute(key, value if type(value) in PLAIN else acceptable(value))
            else:
                tell_of_name(key)
                span.attributes_.dropped += 1
        elif span.state == ENDED:
            log.warning("Setting attribute on ended span.")

    def set_attributes(self, attributes):
        """Set all attributes of a mapping."""
        cdef Span span = self.span
        if span.state == RECORDING:
            attributes = clean(attributes, &span.attributes_.dropped)
            if attributes is not None:
                span.set_attributes(attributes)
        elif span.state == ENDED:
            log.warning("Setting attribute on ended span.")

    def add_event(self, name, attributes=None, timestamp=None):
        """Record that something happened, at a time in nanoseconds, or now."""
        cdef Span span = self.span
        cdef uint32_t dropped = 0
        if span.state == RECORDING:
            attributes = clean(attributes, &dropped)
            span.add_event(name, attributes, timestamp)
            if dropped and span.events_.count:
                span.events_.items[span.events_.count - 1].attributes.dropped += dropped
        elif span.state == ENDED:
            log.warning("Tried calling %s on an ended span.", "_add_event")

    def add_link(self, context, attributes=None):
        """Point to another span by its SpanContext."""
        cdef Span span = self.span
        if span.state == RECORDING:
            self.link(context, attributes)
        elif span.state == ENDED:
            log.warning("Tried calling %s on an ended span.", "_add_link")

    cdef int link(self, object context, object attributes) except -1:
        cdef uint32_t dropped = 0
        cdef Span span = self.span
        if context and (context.is_valid or attributes or context.trace_state):
            attributes = clean(attributes, &dropped)
            span.add_link(plain_stand_in(context), attributes)
            if dropped and span.links_.count:
                span.links_.items[span.links_.count - 1].attributes.dropped += dropped
        return 0

    def update_name(self, name):
        """Give it another name."""
        if self.span.state == ENDED:
            log.warning("Tried calling %s on an ended span.", "update_name")
        else:
            self.span.update_name(name)

    def set_status(self, status, description=None):
        """Say how it went, by a Status or a StatusCode. OK is final, UNSET changes nothing."""
        cdef Span span = self.span
        if span.state != RECORDING:
            if span.state == ENDED:
                log.warning("Tried calling %s on an ended span.", "set_status")
            return
        if isinstance(status, ApiStatus):
            if description is not None and span.status_ != OK:
                log.warning("Description %s ignored. Use either `Status` or `(StatusCode, Description)`", description)
        elif status is STATUS_OK and description is None:
            span.set_status(OWN_STATUSES[1])
            return
        elif isinstance(status, StatusCode):
            status = ApiStatus(status, description)
        else:
            return
        span.set_status(OWN_STATUSES[status.status_code.value], status.description or "")

    def record_exception(self, exception, attributes=None, timestamp=None, escaped=False):
        """Record an exception as an event of the name `exception`. The status stays as it is."""
        cdef Span span = self.span
        if span.state == RECORDING:
            now = span.now() if timestamp is None else timestamp
            try:
                details = {
                    "exception.type": type_name(exception),
                    "exception.message": str(exception),
                    "exception.stacktrace": stack_trace(exception),
                    "exception.escaped": str(escaped),
                }
                if attributes:
                    details.update(attributes)
                self.add_event("exception", details, now)
            except Exception:
                span.queue.errors += 1
        elif span.state == ENDED:
            log.warning("Tried calling %s on an ended span.", "_add_event")

    def end(self, end_time=None):
        """End it, at a time in nanoseconds, or now. Never waits."""
        cdef Span span = self.span
        if span.state == RECORDING:
            span.end(end_time)
            if self.tracer is not None and self.tracer.shared.processors:
                self.tracer.shared.tell_of_end(self)
        elif span.state == ENDED:
            log.warning("Calling end() on an ended span.")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.leave(error, BaseException, True)
        self.end()

    cdef int leave(self, object error, object failures, bint escaped) except -1:
        """An exception leaves the block of this span; of those that are `failures` it keeps what it was asked to."""
        if error is not None and self.span.state == RECORDING and isinstance(error, failures):
            if self.records_exceptions:
                self.record_exception(error, None, None, escaped)
            if self.sets_status:
                try:
                    text = f"{type(error).__name__}: {error}"
                except Exception:
                    text = type(error).__name__
                self.span.set_status(OwnStatus.ERROR, text)
        return 0

    # --- what a ReadableSpan of the SDK has --------------------------------------------------------------------------

    @property
    def context(self):
        return self.get_span_context()

    @property
    def parent(self):
        """The SpanContext of the parent; None for a root."""
        cdef Span span = self.span
        if span.parent == 0:
            return None
        if self.parent_ is not None:
            return self.parent_
        if self.above is not None:
            return face_of(self.above).get_span_context()
        flags = span.flags & (SAMPLED | RANDOM)
        is_remote = (span.flags & PARENT_REMOTE) != 0
        return ApiContext(
            wide(span.trace_high, span.trace_low), span.parent, is_remote, FLAGS[flags], state_of(span.trace_state)
        )

    @property
    def name(self):
        return self.span.label

    @property
    def kind(self):
        return KINDS[self.span.kind_]

    @property
    def start_time(self):
        return self.span.start_ns or None

    @property
    def end_time(self):
        return self.span.end_time_ns

    @property
    def status(self):
        return ApiStatus(CODES[self.span.status_], self.span.description or None)

    @property
    def attributes(self):
        return MappingProxyType(self.span.attributes)

    @property
    def events(self):
        return tuple([
            Event(event.name, event.time_ns, MappingProxyType(event.attributes), event.dropped_attributes)
            for event in self.span.events
        ])

    @property
    def links(self):
        return tuple([
            Link(
                context_of(remote_span(link.context)), MappingProxyType(link.attributes), link.dropped_attributes
            )
            for link in self.span.links
        ])

    @property
    def dropped_attributes(self):
        return self.span.attributes_.dropped

    @property
    def dropped_events(self):
        return self.span.events_.dropped

    @property
    def dropped_links(self):
        return self.span.links_.dropped

    @property
    def resource(self):
        return self.resource_

    @property
    def instrumentation_scope(self):
        return None if self.tracer is None else self.tracer.instrumentation_scope

    @property
    def instrumentation_info(self):
        """The scope as it was before version 1.11.1 of the SDK."""
        warn("instrumentation_info is deprecated: use instrumentation_scope.", DeprecationWarning, 1)  # of the caller
        return None if self.tracer is None else info_of(self.tracer.instrumentation_scope)

    def to_json(self, indent=4):
        """As the SDK's console exporter shows a span."""
        return format_span(self, indent)

    def _readable_span(self):
        return self

    def __repr__(self):
        return f'{type(self).__name__}(name="{self.name}", context={self.get_span_context()})'


cdef void lend_private_names():
    """What exporters and tests read of the SDK's spans although it is private there is the same here.

    Not by `__getattr__`: with it, each call of a method would make a bound method first.
    """
    cdef dict own = <dict> (<TypeObject*> OtelSpan).tp_dict
    for name in (
        "attributes", "context", "end_time", "events", "instrumentation_scope", "kind", "links", "name", "parent",
        "resource", "start_time", "status",
    ):
        own["_" + name] = own[name]
    PyType_Modified(OtelSpan)


lend_private_names()


@cython.final
@cython.freelist(64)
@cython.no_gc_clear
cdef class SilentSpan(OtelSpan):
    """One that records nothing: not sampled, or for a span elsewhere."""


api.Span.register(OtelSpan)
api.NonRecordingSpan.register(SilentSpan)


# --- tracers ---------------------------------------------------------------------------------------------------------

cdef class Shared:
    """What all tracers of a provider have in common.

    Args:
        core: the clew.Tracer whose queue and sampler they use.
        resource: shown by their spans.
        sampler: of the SDK's interface, asked for every span instead of clew's; or None.
        ids: an id generator of the SDK's interface, or None.
    """

    cdef TracerCore core
    cdef public object resource
    cdef readonly object sampler, ids
    cdef public tuple processors  # told when spans start and end
    cdef public bint enabled

    def __init__(self, TracerCore core not None, resource, sampler=None, ids=None):
        self.core = core
        self.resource = resource
        self.sampler = sampler
        self.ids = ids
        self.processors = ()
        self.enabled = True

    cdef int tell_of_start(self, OtelSpan span, object context) except -1:
        for processor in self.processors:
            try:
                processor.on_start(span, parent_context=context)
            except Exception:
                self.failed("on_start", processor)
        return 0

    cdef int tell_of_end(self, OtelSpan span) except -1:
        for processor in self.processors:
            try:
                ending = getattr(processor, "_on_ending", None)
                if ending is not None:
                    ending(span)
            except Exception:
                self.failed("_on_ending", processor)
        for processor in self.processors:
            try:
                processor.on_end(span)
            except Exception:
                self.failed("on_end", processor)
        return 0

    cdef int failed(self, str call, object processor) except -1:
        self.core.queue.errors += 1
        log.warning("%s of %r failed", call, processor, exc_info=True)
        return 0

    def count_error(self):
        """A fault that was kept away from the program."""
        self.core.queue.errors += 1


@cython.final
cdef class OtelTracer:
    """A tracer of the OpenTelemetry API, of clew's making. `TracerProvider.get_tracer` gives it.

    Thread: any.
    """

    cdef readonly Shared shared
    cdef readonly object instrumentation_scope
    cdef uint16_t scope
    cdef object __weakref__

    def __init__(self, Shared shared not None, scope, int number):
        self.shared = shared
        self.instrumentation_scope = scope
        self.scope = number

    @property
    def resource(self):
        return self.shared.resource

    @property
    def instrumentation_info(self):
        """The scope as it was before version 1.11.1 of the SDK."""
        return info_of(self.instrumentation_scope)

    @property
    def _instrumentation_scope(self):  # read by tools although it is private to the SDK
        return self.instrumentation_scope

    def start_span(
        self, name, context=None, kind=INTERNAL, attributes=None, links=(), start_time=None, record_exception=True,
        set_status_on_exception=True,
    ):
        """Begin a span, which is not made current.

        Args: see opentelemetry.trace.Tracer.start_span.
        """
        return self.start(name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception)

    def start_as_current_span(
        self, name, context=None, kind=INTERNAL, attributes=None, links=(), start_time=None, record_exception=True,
        set_status_on_exception=True, end_on_exit=True,
    ):
        """Begin a span for a block, or for each call of a function.

        Args: see opentelemetry.trace.Tracer.start_as_current_span.
        Returns: a context manager, which is a decorator as well, also of coroutine functions.
        """
        cdef Block block = Block.__new__(Block)
        block.tracer = self
        block.name = name
        block.context = context
        block.kind = kind
        block.attributes = attributes
        block.links = links
        block.start_time = start_time
        block.record_exception = record_exception
        block.set_status = set_status_on_exception
        block.end_on_exit = end_on_exit
        return block

    cdef object start(
        self, object name, object context, object kind, object attributes, object links, object start_time,
        bint record_exception, bint set_status,
    ):
        cdef Shared shared = self.shared
        cdef TracerCore core = shared.core
        cdef Queue queue = core.queue
        cdef OtelSpan face
        cdef Span span, above
        cdef bint sampled, recording
        queue.check_process()
        given = None
        if context is None:
            above = get_current()
        else:
            given = context.get(KEY)
            above = native_of(given)
        if not shared.enabled:
            return api.NonRecordingSpan(INVALID if above is None else context_of(above))
        span = core.identify(above, name, 1 if kind is INTERNAL else number_of(kind))
        if shared.ids is not None:
            self.take_ids(span)
        if shared.sampler is None:
            recording = sampled = core.decide(span, above, attributes)
        else:
            result = self.ask(span, context, name, kind, attributes, links)
            recording = sampled = result is not None and result.decision.is_recording()
            if result is not None:
                sampled = result.decision.is_sampled()
                attributes = result.attributes
                span.trace_state = (result.trace_state.to_header() if result.trace_state else NO_TEXT) or NO_TEXT
        face = new_face(span, not recording)
        face.tracer = self
        face.resource_ = shared.resource
        face.above = above
        if above is not None and given is not None and not isinstance(given, OtelSpan):
            face.parent_ = given.get_span_context()
        face.records_exceptions = record_exception
        face.sets_status = set_status
        if sampled:
            span.flags |= SAMPLED
        else:
            queue.not_sampled += 1
        if recording:
            self.begin(face, attributes, links, start_time)
            if shared.processors:
                shared.tell_of_start(face, context)
        return face

    cdef int begin(self, OtelSpan face, object attributes, object links, object start_time) except -1:
        cdef uint32_t dropped = 0
        cdef Span span = face.span
        attributes = clean(attributes, &dropped)
        span.scope = self.scope
        self.shared.core.begin(span, face.above, attributes, (), start_time)
        span.attributes_.dropped += dropped
        if links:
            try:
                for link in links:
                    if link is not None:
                        face.link(link.context, link.attributes)
            except Exception:
                span.queue.coerced += 1
        return 0

    cdef int take_ids(self, Span span) except -1:
        """Have the provider's own generator make them."""
        ids = self.shared.ids
        try:
            if span.parent == 0:
                trace = ids.generate_trace_id()
                span.trace_high = trace >> 64
                span.trace_low = trace & 0xFFFFFFFFFFFFFFFF
                if not getattr(ids, "is_trace_id_random", bool)():
                    span.flags &= ~<uint32_t> RANDOM
            span.id = ids.generate_span_id()
        except Exception:
            self.shared.core.queue.errors += 1
        return 0

    cdef object ask(self, Span span, object context, object name, object kind, object attributes, object links):
        """The decision of a sampler of the SDK's interface; None, counted, if it fails."""
        try:
            return self.shared.sampler.should_sample(
                context, wide(span.trace_high, span.trace_low), name, kind, attributes, links or ()
            )
        except Exception:
            self.shared.failed("should_sample", self.shared.sampler)
            return None


api.Tracer.register(OtelTracer)


cdef uint8_t number_of(object kind):
    """OTLP's number of a kind. By identity: an Enum's `value` costs as much as the rest of a span."""
    cdef Py_ssize_t number
    for number in range(1, 6):
        if KINDS[number] is kind:
            return <uint8_t> number
    try:
        return <uint8_t> (kind if isinstance(kind, OwnKind) else kind.value + 1)
    except Exception:
        return 1


@cython.final
@cython.freelist(32)
cdef class Block:
    """A span for a block: begun when it is entered, current within it."""

    cdef OtelTracer tracer
    cdef object name, context, kind, attributes, links, start_time
    cdef bint record_exception, set_status, end_on_exit
    cdef object span

    def __enter__(self):
        self.span = self.tracer.start(
            self.name, self.context, self.kind, self.attributes, self.links, self.start_time, self.record_exception,
            self.set_status,
        )
        if isinstance(self.span, OtelSpan):
            (<OtelSpan> self.span).span.make_current()
        return self.span

    def __exit__(self, kind, error, traceback):
        cdef OtelSpan face
        span, self.span = self.span, None
        if isinstance(span, OtelSpan):
            face = <OtelSpan> span
            if face.span.token is not None:
                face.span.restore()
            face.leave(error, Exception, False)
            if self.end_on_exit:
                face.end()
        return False

    def __call__(self, function):
        """A function each of whose calls is a span."""
        return decorate(self, function, iscoroutinefunction(function))

    def again(self):
        """Another for the same."""
        cdef Block block = Block.__new__(Block)
        block.tracer = self.tracer
        block.name = self.name
        block.context = self.context
        block.kind = self.kind
        block.attributes = self.attributes
        block.links = self.links
        block.start_time = self.start_time
        block.record_exception = self.record_exception
        block.set_status = self.set_status
        block.end_on_exit = self.end_on_exit
        return block


# --- what is current -------------------------------------------------------------------------------------------------

# The span that is current is clew's to know, whoever made it so. The rest of a context of the API, and which span it came
# with, is in a Frame.

cdef object frames = ContextVar("clew.otel.frame")


@cython.final
cdef class Frame:
    """A context that was attached."""

    cdef object context
    cdef Span span  # the native one for the span in it


@cython.final
cdef class Token:
    """What detaches a context again."""

    cdef object frame, span


cdef class RuntimeContext:
    """What is current for the OpenTelemetry API, in one with what is current for clew.

    Args:
        before: what kept the API's contexts until now; its contexts go on to be current where nothing was attached since.

    Thread: any. A context that is detached where it was not attached, as by an async generator that another task closes,
        changes nothing.
    """

    cdef readonly object before
    cdef dict __dict__  # there are tests that put a method of theirs in the place of one

    def __init__(self, before):
        self.before = before

    def attach(self, context):
        """Make a context current, and the span in it."""
        cdef Frame frame = Frame.__new__(Frame)
        cdef Token token = Token.__new__(Token)
        frame.context = context
        frame.span = native_of(context.get(KEY))
        if frame.span is not None:
            make_valid(frame.span)
        token.frame = PyContextVar_Set(frames, frame)
        token.span = PyContextVar_Set(current, frame.span)
        return token

    def detach(self, token):
        """Make current again what was so before."""
        if type(token) is not Token:
            self.before.detach(token)
            return
        try:
            PyContextVar_Reset(frames, (<Token> token).frame)
        except ValueError:
            return
        PyContextVar_Set(current, still_valid(previous_of((<Token> token).span)))

    def get_current(self):
        """The context that is current, with the span that is current."""
        cdef PyObject* found = NULL
        cdef Frame frame
        cdef Span known = None, span = get_current()
        PyContextVar_Get(frames, NULL, &found)
        if found == NULL:
            context = self.before.get_current()
        else:
            frame = <Frame> found
            Py_XDECREF(found)
            context = frame.context
            known = frame.span
        if span is known:
            return context
        values = dict(context)
        if span is None:
            values.pop(KEY, None)
        else:
            values[KEY] = face_of(span)
        return Context(values)
