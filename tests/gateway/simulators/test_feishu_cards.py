"""The simulator's checks of cards: what Feishu takes and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from parley_gateway.simulators.feishu.cards import (
    BAD_JSON,
    DUPLICATE_ID,
    IMAGE,
    OLD_TAG,
    TABLES_OR_ELEMENTS,
    CardError,
    check_card,
    pipe_tables,
)

GOLDEN = Path(__file__).parents[2] / "formatter" / "render" / "feishu_card"
TABLE = "| a | b |\n| --- | :-: |\n| 1 | 2 |\n"


def card(*elements: Any, **changes: Any) -> str:
    whole = {"schema": "2.0", "config": {"update_multi": True}, "body": {"elements": list(elements)}}
    return json.dumps({**whole, **changes})


def markdown(content: Any, **attributes: Any) -> dict[str, Any]:
    return {"tag": "markdown", "content": content, **attributes}


def nested(depth: int) -> dict[str, Any]:
    return markdown("x") if depth == 0 else {"tag": "collapsible_panel", "elements": [nested(depth - 1)]}


@pytest.mark.parametrize(
    "content",
    [
        card(markdown("# Title\n\n**bold** `code` [link](https://example.com)", element_id="part_1")),
        card(markdown(TABLE * 4), markdown("text"), {"tag": "hr"}),
        card(*[markdown("x")] * 200),
        card({"tag": "column_set", "columns": [{"tag": "column", "elements": [markdown("x")]}]}),
        card(markdown("![picture](img_v2_abc)"), {"tag": "img", "img_key": "img_v2_abc"}),
        card(markdown("x"), header={"title": {"tag": "plain_text", "content": "t"}, "template": "blue"}),
        card(markdown("```\n" + "![x](https://e.com/x.png)"[1:] + "\n" + TABLE * 6 + "```")),
        card(nested(4)),
    ],
    ids=range(8),
)
def test_good_card_is_taken(content: str) -> None:
    assert check_card(content)["schema"] == "2.0"


@pytest.mark.parametrize(
    ("content", "err_code"),
    [
        ("no json", BAD_JSON),
        ("[]", BAD_JSON),
        ("[" * 100_000, BAD_JSON),
        (card(markdown("x"), schema="1.0"), BAD_JSON),
        (json.dumps({"body": {"elements": [markdown("x")]}}), BAD_JSON),
        (card(markdown("x"), elements=[]), BAD_JSON),
        (card(markdown("x"), config={"wide_screen_mode": True}), BAD_JSON),
        (card(markdown("x"), config={"update_multi": False}), BAD_JSON),
        (card(markdown("x"), header="title"), BAD_JSON),
        (card(), BAD_JSON),
        (card("text"), BAD_JSON),
        (card({"content": "x"}), BAD_JSON),
        (card({"tag": "marquee"}), BAD_JSON),
        (card(markdown("x", colour="red")), BAD_JSON),
        (card(markdown("")), BAD_JSON),
        (card(markdown(None)), BAD_JSON),
        (card(markdown("x", element_id="1st")), BAD_JSON),
        (card(markdown("x", element_id="a" * 21)), BAD_JSON),
        (card(nested(5)), BAD_JSON),
        (card({"tag": "column_set", "columns": "x"}), BAD_JSON),
        (card({"tag": "note", "elements": []}), OLD_TAG),
        (card({"tag": "action"}), OLD_TAG),
        (card(markdown("x", element_id="a"), markdown("y", element_id="a")), DUPLICATE_ID),
        (card(*[markdown("x")] * 201), TABLES_OR_ELEMENTS),
        (card(markdown(TABLE * 5)), TABLES_OR_ELEMENTS),
        (card(markdown(TABLE * 3), markdown(TABLE * 3)), TABLES_OR_ELEMENTS),
        (card(*[{"tag": "table", "columns": [], "rows": []}] * 5, markdown(TABLE)), TABLES_OR_ELEMENTS),
        (card(markdown("![x](https://example.com/x.png)")), IMAGE),
        (card({"tag": "img", "img_key": "https://example.com/x.png"}), IMAGE),
    ],
    ids=range(29),
)
def test_bad_card_is_refused(content: str, err_code: int) -> None:
    with pytest.raises(CardError) as caught:
        check_card(content)
    assert caught.value.err_code == err_code


def test_every_golden_card_of_the_formatter_is_taken() -> None:
    cards = [
        json.dumps(part["card"])
        for path in GOLDEN.glob("*.json")
        for part in json.loads(path.read_text(encoding="utf-8"))
    ]
    assert len(cards) > 10
    for content in cards:
        check_card(content)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (TABLE, 1),
        (TABLE + "\n" + TABLE, 2),
        ("a | b\n--|--\n1 | 2", 1),
        ("```\n" + TABLE + "```\n" + TABLE, 1),
        ("~~~\n```\n" + TABLE + "~~~", 0),
        ("heading\n---\n", 0),
        ("a | b\nno rule | here", 0),
        ("", 0),
    ],
)
def test_pipe_tables_are_counted(text: str, count: int) -> None:
    assert pipe_tables(text) == count


def test_long_lines_take_linear_time() -> None:
    assert pipe_tables("a|b\n" + "|-" * 100_000 + "x") == 0
    assert pipe_tables("a|b\n" + "-" * 100_000 + "x") == 0
    assert pipe_tables("a|b\n" + " \t" * 100_000 + "x-") == 0
