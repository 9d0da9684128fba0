"""clew.render.bars: a span's bar in eighths of a column, and the axis above the bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.render.bars import ASCII_GLYPHS, UNICODE_GLYPHS, Scale, State


def bar(
    span: tuple[int, int],
    *,
    waiting: tuple[tuple[int, int], ...] = (),
    path: tuple[tuple[int, int], ...] = (),
    width: int = 10,
) -> str:
    parts = Scale(0, width * 8, width).bar(span, waiting, path, UNICODE_GLYPHS)
    return "".join(part.text for part in parts)


@pytest.mark.parametrize(
    ("span", "drawn"),
    [
        ((0, 80), "██████████"),
        ((0, 4), "▌         "),
        ((0, 33), "████▏     "),
        ((16, 39), "  ██▉     "),
        ((20, 40), "  ▐██     "),
        ((22, 40), "  ▕██     "),
        ((17, 40), "  ███     "),
        ((79, 80), "         ▕"),
        ((80, 80), "         ▕"),
        ((30, 30), "   ▏      "),
        ((30, 10), "   ▏      "),
        ((-50, 200), "██████████"),
    ],
)
def test_the_path_is_drawn_in_eighths(span: tuple[int, int], drawn: str) -> None:
    """A bar ends at its eighth of a column; whatever is too short to be seen is seen nevertheless."""
    start, end = max(span[0], 0), min(span[1], 80)
    assert bar(span, path=((start, end),)) == drawn


def test_what_a_span_does_is_told_apart() -> None:
    """Own time beside the path, waiting for children, and the path have glyphs of their own: no colour is needed."""
    assert bar((0, 80), waiting=((16, 64),), path=((0, 16),)) == "██──────▒▒"


def test_states_are_told_with_the_text() -> None:
    """Each part comes with its state, from which the colour is chosen."""
    parts = Scale(0, 80, 10).bar((16, 80), [(32, 80)], [(16, 32)], UNICODE_GLYPHS)
    assert [(part.text, part.state) for part in parts] == [
        ("  ", State.ABSENT),
        ("██", State.PATH),
        ("──────", State.WAITING),
    ]


@given(
    st.tuples(st.integers(-5, 105), st.integers(-5, 105)),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100))),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100))),
    st.integers(1, 30),
    st.sampled_from([UNICODE_GLYPHS, ASCII_GLYPHS]),
)
def test_a_bar_has_the_width_of_its_column(
    span: tuple[int, int],
    waiting: list[tuple[int, int]],
    path: list[tuple[int, int]],
    width: int,
    glyphs: object,
) -> None:
    """Whatever the times, a bar is as wide as its column, and not empty."""
    assert glyphs is UNICODE_GLYPHS or glyphs is ASCII_GLYPHS
    parts = Scale(0, 100, width).bar(span, waiting, path, UNICODE_GLYPHS if glyphs is UNICODE_GLYPHS else ASCII_GLYPHS)
    text = "".join(part.text for part in parts)
    assert len(text) == width
    assert text.strip()
    assert glyphs is UNICODE_GLYPHS or text.isascii()


@pytest.mark.parametrize(
    ("length_ns", "width", "axis"),
    [
        (1_500_000_000, 40, "0            500 ms       1 s"),
        (1_520, 30, "0        500 ns    1 µs"),
        (7_200_000_000_000, 40, "0         30m 00s   1h 00m    1h 30m"),
        (3, 40, "0            1 ns         2 ns"),
        (0, 20, "0"),
        (100 * 86_400_000_000_000, 40, "0                   50d 00h"),
    ],
)
def test_axis(length_ns: int, width: int, axis: str) -> None:
    """The labels are round times at their columns, apart from each other, within the width."""
    assert Scale(10**18, 10**18 + length_ns, width).axis() == axis


@given(st.integers(0, 10**20), st.integers(10, 200))
def test_any_axis(length_ns: int, width: int) -> None:
    """An axis fits, and begins with 0."""
    axis = Scale(0, length_ns, width).axis()
    assert len(axis) <= width
    assert axis.startswith("0")
