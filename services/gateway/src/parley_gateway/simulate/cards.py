"""A Feishu message as readable text: what stands on a card, without its looks."""

import html
import json
from collections.abc import Iterator
from typing import Any


def readable(msg_type: str, content: str) -> str:
    """Return the text of a message's content; the content itself when it can't be read."""
    try:
        data = json.loads(content)
    except ValueError:
        return content
    if not isinstance(data, dict):
        return content
    if msg_type == "text":
        return str(data.get("text", ""))
    if msg_type == "interactive":
        return "\n".join(_card_lines(data))
    return "\n".join(_post_lines(data))


def first_text(content: str) -> str:
    """Return the text of a card's first element, empty when there is none."""
    try:
        element = json.loads(content)["body"]["elements"][0]
    except (KeyError, IndexError, TypeError, ValueError):
        return ""
    return _text(element.get("text")) or _text(element)


def _card_lines(card: dict[str, Any]) -> Iterator[str]:
    header = card.get("header")
    if isinstance(header, dict):
        yield f"[{_text(header.get('title'))}]"
    body = card.get("body")
    yield from _element_lines(body.get("elements") if isinstance(body, dict) else None)


def _element_lines(elements: Any) -> Iterator[str]:
    for element in elements if isinstance(elements, list) else ():
        if not isinstance(element, dict):
            continue
        tag = element.get("tag")
        if tag == "hr":
            yield "────────"
        elif tag == "table":
            yield from _table_lines(element)
        elif tag == "button":
            yield f"[ {_text(element.get('text'))} ]"
        elif tag == "img":
            yield f"[image {_text(element.get('alt'))}]"
        else:
            own = _text(element.get("text")) or _text(element)
            if own:
                yield html.unescape(own.replace("<br>", "\n"))
            yield from _element_lines(element.get("columns"))
            yield from _element_lines(element.get("elements"))


def _table_lines(table: dict[str, Any]) -> Iterator[str]:
    columns = [column for column in table.get("columns", ()) if isinstance(column, dict)]
    yield " | ".join(str(column.get("display_name", "")) for column in columns)
    for row in table.get("rows", ()):
        if isinstance(row, dict):
            yield " | ".join(str(row.get(str(column.get("name")), "")) for column in columns)


def _post_lines(post: dict[str, Any]) -> Iterator[str]:
    for language in post.values():
        if not isinstance(language, dict):
            continue
        if language.get("title"):
            yield str(language["title"])
        for paragraph in language.get("content", ()):
            yield "".join(str(node.get("text", "")) for node in paragraph if isinstance(node, dict))


def _text(element: Any) -> str:
    return str(element.get("content", "")) if isinstance(element, dict) else ""
