"""Parsing JSON that anybody may have written."""

import json


def parse_json(text: str | bytes) -> object:
    """Return the value of a JSON text, in which every string can be written as UTF-8.

    A lone surrogate, half of an emoji, has no form in UTF-8 and couldn't be stored: it becomes a question mark.

    Raises
        ValueError: the text isn't JSON, or is nested too deeply.
    """
    try:
        value = json.loads(text)
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
