"""Feishu's checks of a card, written as a table: which tags there are and which attributes each may have.

Feishu documentation, "Card JSON 2.0 structure", "Rich text (Markdown) component" and "Incompatible changes in 2.0": an
unknown attribute is an error, a card holds at most 200 elements and 5 tables (pipe tables in Markdown count), and a
picture in Markdown needs an image key. `ErrCode` numbers are those that Feishu puts into the message of code 230099.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_ELEMENTS = 200
MAX_TABLES = 5
MAX_MARKDOWN_TABLES = 4
MAX_DEPTH = 5

BAD_JSON = 200621
TABLES_OR_ELEMENTS = 11310
IMAGE = 200570
OLD_TAG = 200861
DUPLICATE_ID = 300301

_OLD_TAGS = frozenset({"note", "action"})

_ANY = frozenset({"tag", "element_id", "margin"})
_ROOT = frozenset({"schema", "config", "card_link", "header", "body"})
_PARTS = {
    name: frozenset(attributes.split())
    for name, attributes in {
        "config": "streaming_mode streaming_config summary locales enable_forward update_multi width_mode "
        "use_custom_translation enable_forward_interaction style",
        "header": "title subtitle template text_tag_list i18n_text_tag_list icon padding",
        "body": "direction padding horizontal_spacing horizontal_align vertical_spacing vertical_align elements",
    }.items()
}
_TAGS = {
    tag: _ANY | frozenset(attributes.split())
    for tag, attributes in {
        "markdown": "content text_align text_size icon",
        "plain_text": "content text_size text_color text_align lines",
        "lark_md": "content text_size text_color text_align lines",
        "div": "text icon width",
        "hr": "",
        "img": "img_key alt title corner_radius scale_type size transparent preview",
        "table": "page_size row_height row_max_height freeze_first_column header_style columns rows",
        "column_set": "columns flex_mode horizontal_spacing horizontal_align background_style action",
        "column": "width weight elements vertical_align vertical_spacing background_style padding direction "
        "horizontal_spacing horizontal_align action",
        "collapsible_panel": "expanded header border elements padding vertical_spacing background_color direction "
        "horizontal_spacing vertical_align horizontal_align",
        "button": "text type size width icon hover_tips disabled disabled_tips confirm behaviors name form_action_type "
        "required",
        "form": "name elements direction padding horizontal_spacing vertical_spacing confirm",
        "input": "name placeholder default_value disabled required width max_length input_type label label_position "
        "value behaviors confirm rows auto_resize max_rows show_icon",
        "select_static": "name placeholder options initial_index initial_option type width disabled required behaviors "
        "confirm",
        "audio": "file_key audio_id show_progress show_time_down background_color style width",
        "chart": "chart_spec aspect_ratio color_theme preview height",
    }.items()
}

_ELEMENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}")
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_IMAGE = re.compile(r"!\[[^\]\n]*\]\(([^)\s]+)")


@dataclass(eq=False)
class CardError(Exception):
    """Feishu refuses the card."""

    err_code: int
    reason: str


def check_card(content: str) -> dict[str, Any]:
    """Return the parsed card of a message's content. Raises CardError with Feishu's reason to refuse it."""
    card = _object(content)
    if card.get("schema") != "2.0":
        raise CardError(BAD_JSON, "schema is not 2.0")
    _check_attributes("card", card, _ROOT)
    for name, allowed in _PARTS.items():
        part = card.get(name, {})
        if not isinstance(part, dict):
            raise CardError(BAD_JSON, f"{name} is not an object")
        _check_attributes(name, part, allowed)
    if card.get("config", {}).get("update_multi", True) is not True:
        raise CardError(BAD_JSON, "update_multi must be true")
    elements = list(_elements(card.get("body", {}).get("elements"), depth=1))
    if not elements:
        raise CardError(BAD_JSON, "the card has no elements")
    if len(elements) > MAX_ELEMENTS:
        raise CardError(TABLES_OR_ELEMENTS, "element exceeds the limit")
    _check_ids(elements)
    if sum(_tables(element) for element in elements) > MAX_TABLES:
        raise CardError(TABLES_OR_ELEMENTS, "card table number over limit")
    return card


def pipe_tables(markdown: str) -> int:
    """Count the pipe tables of a Markdown text, fenced code left out."""
    count, fence, previous = 0, "", ""
    for line in markdown.splitlines():
        text = line.strip()
        mark = text[:3]
        if mark in ("```", "~~~") and (not fence or mark == fence):
            fence = "" if fence else mark
        elif not fence and "|" in previous and "-" in text and _TABLE_RULE.fullmatch(text):
            count += 1
        previous = "" if fence else text
    return count


def _object(content: str) -> dict[str, Any]:
    try:
        card = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise CardError(BAD_JSON, "parse card json err") from exc
    if not isinstance(card, dict):
        raise CardError(BAD_JSON, "parse card json err")
    return card


def _check_attributes(where: str, found: dict[str, Any], allowed: frozenset[str]) -> None:
    if unknown := sorted(found.keys() - allowed):
        raise CardError(BAD_JSON, f"unknown property {unknown[0]!r} of {where}")


def _elements(found: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield every element below a list of elements, checking tags and attributes on the way."""
    if not isinstance(found, list):
        raise CardError(BAD_JSON, "elements is not a list")
    if depth > MAX_DEPTH:
        raise CardError(BAD_JSON, "too many levels")
    for element in found:
        _check_element(element)
        yield element
        if element["tag"] == "column_set":
            yield from _elements(element.get("columns"), depth + 1)
        elif "elements" in element:
            yield from _elements(element["elements"], depth + 1)


def _check_element(element: Any) -> None:
    if not isinstance(element, dict) or not isinstance(element.get("tag"), str):
        raise CardError(BAD_JSON, "an element has no tag")
    tag = element["tag"]
    if tag in _OLD_TAGS:
        raise CardError(OLD_TAG, f"cards of schema V2 no longer support this capability; unsupported tag {tag}")
    if tag not in _TAGS:
        raise CardError(BAD_JSON, f"unknown tag {tag!r}")
    _check_attributes(tag, element, _TAGS[tag])
    if tag == "img" and not str(element.get("img_key", "")).startswith("img_"):
        raise CardError(IMAGE, "image key is invalid")
    if tag == "markdown":
        _check_markdown(element.get("content"))


def _check_markdown(content: Any) -> None:
    if not isinstance(content, str) or not content:
        raise CardError(BAD_JSON, "markdown has no content")
    if any(not match[1].startswith("img_") for match in _IMAGE.finditer(content)):
        raise CardError(IMAGE, "image key is invalid")
    if pipe_tables(content) > MAX_MARKDOWN_TABLES:
        raise CardError(TABLES_OR_ELEMENTS, "table number over limit")


def _check_ids(elements: list[dict[str, Any]]) -> None:
    ids = [element["element_id"] for element in elements if "element_id" in element]
    if any(not isinstance(each, str) or not _ELEMENT_ID.fullmatch(each) for each in ids):
        raise CardError(BAD_JSON, "invalid element_id")
    if len(set(ids)) != len(ids):
        raise CardError(DUPLICATE_ID, "duplicate element_id")


def _tables(element: dict[str, Any]) -> int:
    if element["tag"] == "table":
        return 1
    return pipe_tables(element["content"]) if element["tag"] == "markdown" else 0
