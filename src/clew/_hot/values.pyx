"""Attribute values: copied at the call into types that can be encoded without running Python, and encoded from them.

What is stored is exactly a str, bool, int of 64 bits, float, bytes, None, tuple of these or dict from str to these, never
a subclass. Nothing else refers to the tuples and dicts, so they do not change, and there are no cycles.

Source: OTLP's `AnyValue` and `KeyValue` (opentelemetry/proto/common/v1/common.proto).
"""

from collections.abc import Mapping, Sequence

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_Hash, Py_TYPE
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Compare, PyUnicode_FromObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from clew._hot.buffer cimport (
    Buffer, close_nested, open_nested, put_text, raw_byte, raw_bytes, raw_fixed64, raw_utf8, raw_varint, reserve,
    utf8_size, varint_size,
)
from clew.limits import VALUE_DEPTH, VALUE_ITEMS

cdef int MAX_DEPTH = VALUE_DEPTH
cdef Py_ssize_t MAX_ITEMS = VALUE_ITEMS

TOO_DEEP = "<nested too deep>"
TOO_MANY = "<too many items>"


# --- copying ---------------------------------------------------------------------------------------------------------

cdef inline bint fits(object number) noexcept:
    """Whether an int has 64 bits at the most."""
    cdef int overflow
    PyLong_AsLongLongAndOverflow(number, &overflow)
    return overflow == 0


cdef inline object snapshot(object value, Py_ssize_t length, Py_ssize_t* coerced):
    """A copy of a value that nobody else can change, its texts cut to `length` unless that is below 0.

    Raises: only what is no `Exception` (KeyboardInterrupt in a value's `__str__`).
    """
    cdef Py_ssize_t room = MAX_ITEMS
    cdef type kind = type(value)
    if length >= 0:
        return cut(copied(value, 0, &room, coerced), length, coerced)
    if kind is str or kind is bool or kind is float or kind is bytes or value is None:
        return value
    if kind is int and fits(value):
        return value
    return copied(value, 0, &room, coerced)


cdef object copied(object value, int depth, Py_ssize_t* room, Py_ssize_t* coerced):
    cdef type kind = type(value)
    cdef list items
    cdef dict pairs
    cdef int overflow
    cdef long long number
    if kind is str or kind is bool or kind is float or kind is bytes or value is None:
        return value
    if isinstance(value, int):
        # Read from the number itself: what a subclass makes of __int__ or __str__ does not matter.
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        return number if overflow == 0 else exact_text(int.__add__(value, 0), coerced)
    if isinstance(value, str):
        return PyUnicode_FromObject(value)
    if isinstance(value, float):
        return PyFloat_AS_DOUBLE(value)
    if isinstance(value, bytes):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    try:
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, Mapping):
            if depth >= MAX_DEPTH:
                coerced[0] += 1
                return TOO_DEEP
            pairs = {}
            # Copied before anything of it is looked at: looking can run code that changes it.
            for key, item in (dict.copy(value) if kind is dict else dict(value)).items():
                room[0] -= 1
                if room[0] < 0:
                    coerced[0] += 1
                    pairs[TOO_MANY] = None
                    break
                pairs[exact_text(key, coerced)] = copied(item, depth + 1, room, coerced)
            return pairs
        if isinstance(value, Sequence):
            if depth >= MAX_DEPTH:
                coerced[0] += 1
                return TOO_DEEP
            items = []
            for item in tuple(value):
                room[0] -= 1
                if room[0] < 0:
                    coerced[0] += 1
                    items.append(TOO_MANY)
                    break
                items.append(copied(item, depth + 1, room, coerced))
            return tuple(items)
    except Exception:
        pass  # a container that cannot be read is worth its text, below
    return exact_text(value, coerced)


cdef object cut(object value, Py_ssize_t length, Py_ssize_t* coerced):
    """What `copied` gave, no text or bytes in it longer than `length`."""
    if type(value) is str or type(value) is bytes:
        if len(value) > length:
            coerced[0] += 1
            return value[:length]
    elif type(value) is tuple:
        return tuple([cut(item, length, coerced) for item in <tuple> value])
    elif type(value) is dict:
        return {key: cut(item, length, coerced) for key, item in (<dict> value).items()}
    return value


cdef inline str type_name(object value):
    """Read from the type itself: a metaclass can make `__name__` raise."""
    return Py_TYPE(value).tp_name.decode("utf-8", "replace")


cdef str exact_text(object value, Py_ssize_t* coerced):
    """The str of anything; a placeholder, counted, if it has none."""
    if type(value) is str:
        return <str> value
    try:
        return <str> PyUnicode_FromObject(value if isinstance(value, str) else str(value))
    except Exception:
        coerced[0] += 1
        return f"<unprintable {type_name(value)}>"


# --- keeping ---------------------------------------------------------------------------------------------------------

cdef inline bint append(Attributes* attributes, object key, object value, uint32_t limit) noexcept:
    """Add a key that is known to be new; False if it was dropped."""
    cdef uint32_t capacity
    cdef void* items
    if attributes.count == attributes.capacity:
        capacity = 4 if attributes.capacity == 0 else 2 * attributes.capacity
        items = NULL
        if attributes.count < limit:
            items = PyMem_Realloc(attributes.items, capacity * sizeof(Attribute))
        if items == NULL:
            attributes.dropped += 1
            return False
        attributes.items = <Attribute*> items
        attributes.capacity = capacity
    elif attributes.count >= limit:
        attributes.dropped += 1
        return False
    Py_INCREF(key)
    Py_INCREF(value)
    attributes.items[attributes.count].key = <PyObject*> key
    attributes.items[attributes.count].value = <PyObject*> value
    attributes.count += 1
    return True


cdef bint store(Attributes* attributes, str key, object value, uint32_t limit) noexcept:
    """Set a key to a value that `snapshot` gave; the last one holds. False if it was dropped."""
    cdef uint32_t i
    cdef object known
    cdef PyObject* old
    cdef Py_hash_t hashed
    for i in range(attributes.count):
        if attributes.items[i].key == <PyObject*> key:
            break
    else:
        # Hashes of str are kept in the object, so a comparison of texts is rare.
        hashed = PyObject_Hash(key)
        for i in range(attributes.count):
            known = <object> attributes.items[i].key
            if PyObject_Hash(known) == hashed and PyUnicode_Compare(known, key) == 0:
                break
        else:
            return append(attributes, key, value, limit)
    old = attributes.items[i].value
    Py_INCREF(value)
    attributes.items[i].value = <PyObject*> value
    Py_XDECREF(old)
    return True


cdef Py_ssize_t update_plain(Attributes* attributes, object mapping, uint32_t limit, Py_ssize_t length) noexcept:
    """Set the keys of a mapping up to the first that needs Python code to be copied, or to be cut.

    Returns: how many; -1 if that was all of them, as it usually is.
    """
    cdef Py_ssize_t position = 0, done = 0
    cdef PyObject* key
    cdef PyObject* value
    if type(mapping) is not dict or length >= 0:
        return 0
    while PyDict_Next(mapping, &position, &key, &value):
        if type(<object> key) is not str or not is_plain(<object> value):
            return done
        if attributes.count == done:  # nothing but this dict's keys so far, so this one is new
            append(attributes, <object> key, <object> value, limit)
        else:
            store(attributes, <str> key, <object> value, limit)
        done += 1
    return -1


cdef int update_rest(
    Attributes* attributes, object mapping, Py_ssize_t done, uint32_t limit, Py_ssize_t length, Py_ssize_t* coerced
) except -1:
    """Set the keys of any mapping, but for the first `done`.

    To copy them may run any code, so `attributes` is the caller's own, not yet part of a span.
    """
    try:
        pairs = tuple((dict.copy(mapping) if type(mapping) is dict else dict(mapping)).items())
    except Exception:
        coerced[0] += 1
        return 0
    for name, item in pairs[done:]:
        store(attributes, exact_text(name, coerced), snapshot(item, length, coerced), limit)
    return 0


cdef inline bint is_plain(object value) noexcept:
    """Whether a value is stored as it is."""
    cdef type kind = type(value)
    return kind is str or kind is float or kind is bool or value is None or kind is bytes or (kind is int and fits(value))


cdef object thawed(object value):
    """A copy for a reader, who may change what it gets."""
    if type(value) is dict:
        return {key: thawed(item) for key, item in (<dict> value).items()}
    if type(value) is tuple:
        return tuple([thawed(item) for item in <tuple> value])
    return value


cdef dict as_dict(Attributes* attributes):
    cdef uint32_t i
    return {
        <object> attributes.items[i].key: thawed(<object> attributes.items[i].value) for i in range(attributes.count)
    }


cdef void clear(Attributes* attributes) noexcept:
    cdef uint32_t i
    for i in range(attributes.count):
        Py_XDECREF(attributes.items[i].key)
        Py_XDECREF(attributes.items[i].value)
    PyMem_Free(attributes.items)
    attributes.items = NULL
    attributes.count = attributes.capacity = 0


# --- encoding: no Python code runs from here on ----------------------------------------------------------------------

cdef void put_attributes(Buffer* buffer, uint8_t tag, Attributes* attributes) noexcept:
    """All of them, each as a KeyValue in the repeated field `tag`."""
    cdef uint32_t i
    for i in range(attributes.count):
        put_pair(buffer, tag, <object> attributes.items[i].key, <object> attributes.items[i].value)


cdef void put_pair(Buffer* buffer, uint8_t tag, object key, object value) noexcept:
    """A KeyValue. The lengths of plain values are known beforehand, so they take no padding."""
    cdef size_t key_size = utf8_size(key), key_field = 1 + varint_size(key_size) + key_size
    cdef size_t start, size = 0, any_size
    cdef uint64_t number = 0
    cdef double real
    cdef int overflow
    cdef type kind = type(value)
    if kind is str:
        size = utf8_size(value)
        any_size = 1 + varint_size(size) + size
    elif kind is int:
        number = <uint64_t> PyLong_AsLongLongAndOverflow(value, &overflow)
        any_size = 1 + varint_size(number)
    elif kind is bool:
        any_size = 2
    elif kind is float:
        any_size = 9
    elif value is None:
        any_size = 0
    else:
        start = open_nested(buffer, tag)
        put_text(buffer, 0x0A, key)
        put_value(buffer, 0x12, value)
        close_nested(buffer, start)
        return
    start = key_field + 1 + varint_size(any_size) + any_size
    if not reserve(buffer, 11 + start):
        return
    raw_byte(buffer, tag)
    raw_varint(buffer, start)
    raw_byte(buffer, 0x0A)  # KeyValue.key
    raw_varint(buffer, key_size)
    raw_utf8(buffer, key, key_size)
    raw_byte(buffer, 0x12)  # KeyValue.value
    raw_varint(buffer, any_size)
    if kind is str:
        raw_byte(buffer, 0x0A)  # AnyValue.string_value
        raw_varint(buffer, size)
        raw_utf8(buffer, value, size)
    elif kind is int:
        raw_byte(buffer, 0x18)  # AnyValue.int_value
        raw_varint(buffer, number)
    elif kind is bool:
        raw_byte(buffer, 0x10)  # AnyValue.bool_value
        raw_byte(buffer, value is True)
    elif kind is float:
        real = PyFloat_AS_DOUBLE(value)
        memcpy(&number, &real, 8)
        raw_byte(buffer, 0x21)  # AnyValue.double_value
        raw_fixed64(buffer, number)


cdef void put_value(Buffer* buffer, uint8_t tag, object value) noexcept:
    """An AnyValue of any kind, in the field `tag`. As deep as `snapshot` lets a value be, so the stack is bounded."""
    cdef size_t start = open_nested(buffer, tag), inner
    cdef Py_ssize_t i, position = 0
    cdef uint64_t number
    cdef double real
    cdef int overflow
    cdef PyObject* key
    cdef PyObject* item
    cdef type kind = type(value)
    if kind is str:
        put_text(buffer, 0x0A, value)
    elif kind is bytes:
        if reserve(buffer, 11 + PyBytes_GET_SIZE(value)):
            raw_byte(buffer, 0x3A)  # AnyValue.bytes_value
            raw_varint(buffer, PyBytes_GET_SIZE(value))
            raw_bytes(buffer, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    elif kind is tuple:
        inner = open_nested(buffer, 0x2A)  # AnyValue.array_value
        for i in range(PyTuple_GET_SIZE(value)):
            put_value(buffer, 0x0A, <object> PyTuple_GET_ITEM(value, i))
        close_nested(buffer, inner)
    elif kind is dict:
        inner = open_nested(buffer, 0x32)  # AnyValue.kvlist_value
        while PyDict_Next(value, &position, &key, &item):
            put_pair(buffer, 0x0A, <object> key, <object> item)
        close_nested(buffer, inner)
    elif reserve(buffer, 11):
        if kind is int:
            raw_byte(buffer, 0x18)
            raw_varint(buffer, <uint64_t> PyLong_AsLongLongAndOverflow(value, &overflow))
        elif kind is bool:
            raw_byte(buffer, 0x10)
            raw_byte(buffer, value is True)
        elif kind is float:
            real = PyFloat_AS_DOUBLE(value)
            memcpy(&number, &real, 8)
            raw_byte(buffer, 0x21)
            raw_fixed64(buffer, number)
    close_nested(buffer, start)
