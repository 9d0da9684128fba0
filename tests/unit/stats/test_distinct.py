"""clew.stats.distinct: different words, counted or estimated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clew.stats.distinct import Distinct


@given(st.lists(st.text(max_size=4), max_size=60))
def test_few_words_are_counted(words: list[str]) -> None:
    """As long as there is room for all, the number is that of a set."""
    distinct = Distinct(60)
    for at in range(0, len(words), 7):
        distinct.add(words[at : at + 7])
    assert (distinct.number, distinct.is_exact) == (len(set(words)), True)


def test_many_words_are_estimated() -> None:
    """With 1,000 places the number of 20,000 words is right to a tenth, whatever their order, and says what it is."""
    words = [f"{number:032x}" for number in range(20_000)]
    distinct, other = Distinct(1000), Distinct(1000)
    distinct.add(words + words)
    other.add(reversed(words))
    assert not distinct.is_exact
    assert distinct.number == other.number
    assert 18_000 < distinct.number < 22_000


def test_at_the_edge() -> None:
    """As many words as there are places are counted exactly; lone surrogates are words too."""
    distinct = Distinct(2)
    distinct.add(["a", "\ud800", "a"])
    assert (distinct.number, distinct.is_exact) == (2, True)
