"""Cutting a run of text without cutting what must stay whole.

A run is seen as a string in which a text stands for itself and everything that can't be cut (a link, a formula,
code, a picture) for one object-replacement character; emphasis around a cut is closed and reopened.
"""

from __future__ import annotations

from collections.abc import Callable

from parley_formatter.markdown.nodes import (
    Break,
    Code,
    Emphasis,
    Image,
    Inline,
    Inlines,
    Link,
    Math,
    Strike,
    Strong,
    Text,
)
from parley_formatter.render.text import cut_position, largest

Fits = Callable[[Inlines], bool]


def flatten(children: Inlines) -> str:
    """Return the string on which cut positions are chosen."""
    out: list[str] = []
    for child in children:
        match child:
            case Text(text):
                out.append(text)
            case Break():
                out.append("\n")
            case Strong(inner) | Emphasis(inner) | Strike(inner):
                out.append(flatten(inner))
            case _:
                out.append("\ufffc")
    return "".join(out)


def plain(children: Inlines) -> str:
    """Return the characters a reader reads: labels of links, code, formulas as LaTeX, descriptions of pictures."""
    out: list[str] = []
    for child in children:
        match child:
            case Text(text) | Code(text):
                out.append(text)
            case Break():
                out.append("\n")
            case Strong(inner) | Emphasis(inner) | Strike(inner) | Link(_, inner):
                out.append(plain(inner))
            case Math(source):
                out.append(source)
            case Image(_, alt):
                out.append(alt)
    return "".join(out)


def weigh(children: Inlines, left: int) -> int:
    """Return what is left of a weight in characters after a run, negative when the run is heavier."""
    for child in children:
        match child:
            case Text(text) | Code(text) | Math(text) | Image(text, _):
                left -= len(text)
            case Strong(inner) | Emphasis(inner) | Strike(inner) | Link(_, inner):
                left = weigh(inner, left - 1)
            case _:
                left -= 1
        if left < 0:
            break
    return left


def split_at(children: Inlines, position: int) -> tuple[Inlines, Inlines]:
    """Split a run at a position of its flattened string."""
    head: list[Inline] = []
    for index, child in enumerate(children):
        length = len(flatten((child,)))
        if position >= length:
            head.append(child)
            position -= length
            continue
        rest = children[index + 1 :]
        if position == 0:
            return tuple(head), (child, *rest)
        if isinstance(child, Text):
            return (*head, Text(child.text[:position])), (Text(child.text[position:]), *rest)
        if isinstance(child, (Strong, Emphasis, Strike)):
            first, second = split_at(child.children, position)
            return (*head, type(child)(first)), (type(child)(second), *rest)
    return tuple(head), ()


def take(children: Inlines, fits: Fits) -> tuple[Inlines, Inlines]:
    """Split off the longest well-ended beginning that fits; the first result is empty when nothing does.

    Work is in proportion to what is taken, not to what is left: the search gallops from the front.
    """
    whole = largest(len(children), lambda count: fits(children[:count]))
    if whole == len(children):
        return children, ()
    window = children[: whole + 1]
    text = flatten(window)
    base = len(flatten(children[:whole]))
    limit = base + largest(len(text) - base, lambda more: fits(split_at(window, base + more)[0]))
    position = cut_position(text, limit) if limit else 0
    head, tail = split_at(window, position)
    return _trim_end(head), _trim_start(tail + children[whole + 1 :])


def _trim_end(children: Inlines) -> Inlines:
    while children and (isinstance(children[-1], Break) or _blank(children[-1])):
        children = children[:-1]
    return children


def _trim_start(children: Inlines) -> Inlines:
    while children and (isinstance(children[0], Break) or _blank(children[0])):
        children = children[1:]
    return children


def _blank(child: Inline) -> bool:
    match child:
        case Text(text):
            return not text.strip()
        case Strong(inner) | Emphasis(inner) | Strike(inner):
            return all(isinstance(part, Break) or _blank(part) for part in inner)
    return False


def loosen(child: Inline) -> Inline | None:
    """Return a form of an uncuttable piece that can be cut, for one that fits into no part; None for cuttable ones."""
    match child:
        case Link(url, inner):
            label = plain(inner).replace("\n", " ")
            return Text(label if label == url else f"{label} ({url})")
        case Code(text):
            return Text(text)
        case Math(source):
            return Text(source.replace("\n", " "))
        case Image(url, alt):
            return Text(f"{alt} ({url})")
    return None
