"""The last line of a file, where somebody was killed while writing it."""

from __future__ import annotations

import json
import os

from clew.limits import LINE_BYTES

__all__ = ["mend"]

_BLOCK_BYTES = 64 * 1024


def mend(descriptor: int, *, may_cut: bool) -> bytes:
    """Deal with a last line that does not end: a piece of a JSON object is cut off.

    Args:
        descriptor: of a regular file, locked if `may_cut`.
        may_cut: whether anything may be; else the line is only ended.

    Returns: what is to be written before anything else: nothing, or the newline that is missing.
    Raises: OSError.
    """
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return b""
    begin = _last_line(descriptor, size)
    # What begins otherwise is none of ours; and what only lacks its newline is whole.
    if not may_cut or os.pread(descriptor, 2, begin) not in (b'{"', b"{"):
        return b"\n"
    if size - begin <= LINE_BYTES and _is_json(_read(descriptor, begin, size)):
        return b"\n"
    os.ftruncate(descriptor, begin)
    return b""


def _last_line(descriptor: int, size: int) -> int:
    """Where the last line begins."""
    end = size
    while end > 0:
        begin = max(end - _BLOCK_BYTES, 0)
        found = _read(descriptor, begin, end).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _read(descriptor: int, begin: int, end: int) -> bytes:
    parts: list[bytes] = []
    while begin < end and (part := os.pread(descriptor, end - begin, begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
