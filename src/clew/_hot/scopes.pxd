# How a span in the queue says whose it is, if not clew's own: as its last field, in a number that OTLP does not have, so
# that no exporter ever sees it. 4 bytes: the tag of a varint with the number 1000, and a varint of two bytes.
cdef enum:
    MARK_0 = 0xC0
    MARK_1 = 0x3E
    MARK_BYTES = 4
    MAX_SCOPE = 0x3FFF
    # The field before it: Span.flags, always there (tag of two bytes, four bytes of value).
    FLAGS_0 = 0x85
    FLAGS_1 = 0x01
    FLAGS_BYTES = 6
