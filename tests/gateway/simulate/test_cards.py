"""Feishu's messages as readable text."""

import json
from typing import Any

import pytest
from parley_gateway.simulate.cards import readable

CARD = {
    "schema": "2.0",
    "header": {"title": {"tag": "plain_text", "content": "Weather"}},
    "body": {
        "elements": [
            {"tag": "markdown", "content": "**Sunny**<br>&#60;25 °C"},
            {"tag": "hr"},
            {"tag": "div", "text": {"tag": "plain_text", "content": "until five"}},
            {
                "tag": "table",
                "columns": [{"name": "a", "display_name": "City"}, {"name": "b", "display_name": "°C"}],
                "rows": [{"a": "Beijing", "b": 21}],
            },
            {"tag": "column_set", "columns": [{"tag": "column", "elements": [{"tag": "markdown", "content": "left"}]}]},
            {"tag": "img", "img_key": "img_1", "alt": {"tag": "plain_text", "content": "map"}},
            {"tag": "button", "text": {"tag": "plain_text", "content": "Stop"}},
        ]
    },
}

CARD_TEXT = """[Weather]
**Sunny**
<25 °C
────────
until five
City | °C
Beijing | 21
left
[image map]
[ Stop ]"""


@pytest.mark.parametrize(
    ("msg_type", "content", "expected"),
    [
        ("interactive", CARD, CARD_TEXT),
        ("interactive", {"type": "card", "data": {"card_id": "1"}}, ""),
        ("interactive", {"body": {"elements": ["x", {"tag": "new_thing"}]}}, ""),
        ("text", {"text": "plain\ntext"}, "plain\ntext"),
        ("post", {"zh_cn": {"title": "T", "content": [[{"tag": "text", "text": "a"}, {"text": "b"}], []]}}, "T\nab\n"),
    ],
)
def test_content_is_readable(msg_type: str, content: Any, expected: str) -> None:
    assert readable(msg_type, json.dumps(content)) == expected


@pytest.mark.parametrize("content", ["no json", "[1]"])
def test_content_that_cannot_be_read_is_shown_as_it_is(content: str) -> None:
    assert readable("interactive", content) == content
