"""clew.formats.writing: the table of formats, and losses."""

from __future__ import annotations

import pytest

from clew.formats.reading import Reader
from clew.formats.writing import FORMATS, Losses, Writer, format_of_name


def test_losses_are_counted_in_sentences() -> None:
    """Each loss is told once, with how often it happened; nothing lost is not told."""
    losses = Losses()
    losses.add("link (the format has none)", 2)
    losses.add("event")
    losses.add("name", 0)
    losses.add("link (the format has none)", 1000)
    assert list(losses.sentences()) == ["1,002 links (the format has none)", "1 event"]
    assert losses.counts == {"link (the format has none)": 1002, "event": 1}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_there(name: str) -> None:
    """Whatever the table names can be made; a writer that gets nothing has lost nothing."""
    form = FORMATS[name]
    writer = form.make_writer()
    assert isinstance(writer, Writer)
    assert isinstance(writer.finish(), bytes)
    assert writer.losses.counts == {}
    if form.reader:
        assert isinstance(form.reader_maker()(None), Reader)


@pytest.mark.parametrize("name", FORMATS)
def test_names_of_files_tell_the_format(name: str) -> None:
    """Each suffix, compressed or not, in capitals or not, is of one format."""
    for suffix in FORMATS[name].suffixes:
        assert format_of_name("a" + suffix) == format_of_name(f"A.b{suffix}.gz".upper()) == name


def test_other_names_tell_nothing() -> None:
    """A name without a suffix of the table is not guessed at."""
    assert format_of_name("traces.txt") is None
    assert format_of_name("jsonl") is None
