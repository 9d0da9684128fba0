"""HTML and SVG put together so that data is never markup: text is escaped by whoever puts it in, always.

`tag` takes children and values of attributes; only what `tag` itself has made (`Markup`) is put in as it is.
"""

from __future__ import annotations

from html import escape as escape_html
from typing import TYPE_CHECKING, Final

from clew.pretty import escape as escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Markup", "join", "tag", "text"]

# Elements that may be written without an end: those of HTML that must, and those of SVG that mostly are.
_EMPTY_ELEMENTS: Final = frozenset(("circle", "line", "link", "meta", "path", "rect"))


class Markup(str):
    """Finished HTML."""

    __slots__ = ()


def text(content: str) -> Markup:
    """Text, with nothing in it that HTML, a terminal or the order of writing could take for more than text."""
    return content if isinstance(content, Markup) else Markup(_escape(content))


def join(children: Iterable[str]) -> Markup:
    """One after the other."""
    return Markup("".join(map(text, children)))


def tag(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: text, which is escaped, and elements.
        attributes: with "_" for "-", and one at the end of a word of Python's: `class_`. True stands for an attribute
            without a value, False and None for none. Numbers are written as short as a hundredth of them allows.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(word if value is True else f'{word}="{_escape(_write(value))}"')
    opening = " ".join(words)
    if name in _EMPTY_ELEMENTS and not children:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{join(children)}</{name}>")


def _escape(content: str) -> str:
    return escape_html(escape_controls(content))


def _write(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
