"""Inputs for hypothesis: files of a target's corpus, changed the way a fuzzer changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, corpus_of

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["inputs"]

_INTERESTING = (b"", b"\0", b"\xff", b"\n", b"\r\n", b" ", b'"', b"\\", b"\x80", b"\xed\xa0\x80", b"0", b"9" * 20)


def inputs(name: str) -> SearchStrategy[bytes]:
    """Bytes for a target."""
    files = [path.read_bytes() for path in corpus_of(name)]
    words = [word.encode() for word in TARGETS[name].words] + list(_INTERESTING)
    return _changed(files, words) | st.binary(max_size=200)


@st.composite
def _changed(draw: DrawFn, files: list[bytes], words: list[bytes]) -> bytes:
    data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(at + draw(st.integers(0, 16)), len(data))
        kind = draw(st.integers(0, 5))
        if kind == 0:  # cut out
            data = data[:at] + data[end:]
        elif kind == 1:  # twice
            data = data[:end] + data[at:]
        elif kind == 2:  # a word
            data = data[:at] + draw(st.sampled_from(words)) + data[end:]
        elif kind == 3:  # other bytes
            data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[end:]
        elif kind == 4:  # torn
            data = data[:at]
        else:  # glued to another
            data = data[:at] + draw(st.sampled_from(files))[at:]
    return data
