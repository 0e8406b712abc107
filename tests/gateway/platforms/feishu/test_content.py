"""What messages say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_gateway.platforms.feishu.content import Mention, Unreadable, read_text

BOT = Mention("@_user_1", "ou_bot", "Parley")
LI = Mention("@_user_2", "ou_2", "Li Lei")
MANY = Mention("@_user_12", "ou_12", "Han Meimei")


def text(content: str, *mentions: Mention) -> str:
    return read_text("text", json.dumps({"text": content}), mentions, "ou_bot")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("@_user_1 hello", "hello"),
        ("hello @_user_1", "hello"),
        ("hey @_user_1 you", "hey you"),
        ("@_user_1你好", "你好"),
        ("@_user_2 @_user_12 @_user_1", "@Li Lei @Han Meimei"),
        ("keep   these    spaces @_user_1", "keep   these    spaces"),
        ("@_user_1\n    indented", "indented"),
        ("a\n@_user_1\nb", "a\n\nb"),
        ("@_user_3 unknown", "@_user_3 unknown"),
        ("@_all hi", "@all hi"),
        ("@_user_1", ""),
    ],
)
def test_mentions_are_replaced(content: str, expected: str) -> None:
    assert text(content, BOT, LI, MANY) == expected


def test_mention_without_name_stays_a_mention() -> None:
    assert text("@_user_2 hi", Mention("@_user_2", "ou_2", "")) == "@user hi"


def test_without_own_id_no_mention_is_removed() -> None:
    assert read_text("text", '{"text": "@_user_1 hi"}', [BOT], "") == "@Parley hi"


def test_half_an_emoji_becomes_storable() -> None:
    assert read_text("text", '{"text": "a\\ud83d"}', [], "").encode() == b"a?"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text", ""),
        ("text", "{"),
        ("text", "[]"),
        ("text", '{"text": 5}'),
        ("text", "[" * 100_000),
        ("post", '{"content": "x"}'),
        ("post", '{"content": [[{"tag": 5}]]}'),
        ("post", '{"title": " ", "content": [[{"tag": "img"}, {"tag": "text", "text": " "}]]}'),
        ("image", '{"image_key": "img_1"}'),
        ("something_new", "{}"),
    ],
)
def test_content_without_words_is_unreadable(kind: str, content: str) -> None:
    with pytest.raises(Unreadable):
        read_text(kind, content, [], "ou_bot")


def test_rich_text_mentions_by_open_id() -> None:
    content = {
        "content": [[{"tag": "at", "user_id": "ou_bot"}, {"tag": "at", "user_id": "all"}, {"tag": "a", "href": "x"}]]
    }
    assert read_text("post", json.dumps(content), [], "ou_bot") == "@all[x](x)"


@given(st.text())
def test_text_without_mentions_is_kept(content: str) -> None:
    expected = content.encode("utf-8", "replace").decode().replace("@_all", "@all").strip()
    assert text(content, BOT) == expected or "@_user_" in content


def test_mentions_in_a_long_text_take_linear_time() -> None:
    assert text(" " * 500_000 + "@_user_" * 20_000 + "@_user_1", BOT).count("@_user_") == 20_000
