"""What fits into one message of WeChat, and what may stand in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_gateway.platforms.base import RawResponse
from parley_gateway.platforms.wechat.passive import PassiveReply
from parley_gateway.platforms.wechat.payloads import Parties
from parley_gateway.platforms.wechat.sentences import CHINESE, ENGLISH, Sentences, part_room, sentences_for
from parley_gateway.platforms.wechat.texts import MAX_BYTES, MAX_CHARS, clean, compose, fits, quote
from parley_gateway.simulators.wechat.answers import links_in, read_answer
from parley_gateway.simulators.wechat.webhook import Webhook

LANGUAGES = [pytest.param(CHINESE, id="zh"), pytest.param(ENGLISH, id="en")]
LONGEST_ID = "9" * 20


def _reply(text: str) -> RawResponse:
    return PassiveReply(Parties("oUser_1", "gh_simulator", 0.0), lambda xml: xml, lambda: 1.9).text(text)


@given(st.text(min_size=1, max_size=300))
def test_any_text_travels_in_a_passive_reply(text: str) -> None:
    expected = clean(text).replace("\r\n", "\n").replace("\r", "\n")  # As XML has it.
    if not expected:
        return
    shown = read_answer(_reply(text).body, Webhook("http://unused", "token"), "oUser_1")
    assert shown == expected


def test_end_mark_of_a_section_is_divided() -> None:
    text = "a ]]> b ]]]]>> <![CDATA[ c"
    assert read_answer(_reply(text).body, Webhook("http://unused", "token"), "oUser_1") == text


def test_characters_that_xml_cannot_carry_are_dropped() -> None:
    assert clean("a\x00b\x08c\x1fd\ufffee\ud800f\tg\nh") == "abcdef\tg\nh"


@pytest.mark.parametrize("say", LANGUAGES)
def test_full_part_has_room_for_the_lines_around_it(say: Sentences) -> None:
    room = part_room(say)
    label = say.label("😀" * 50)
    for filling in ("字", "a", "😀"):
        count = min(room.max_chars, room.max_bytes // len(filling.encode()))
        part = filling * count
        for link in (say.link_to_part(LONGEST_ID, 99, 99), say.link_to_next(LONGEST_ID)):
            whole = compose(label, part, link)
            assert whole == f"{label}\n{part}\n\n{link}"
            assert len(whole) <= MAX_CHARS
            assert len(whole.encode()) <= MAX_BYTES
    assert room.max_chars >= 450, "most of a message is the answer's"


@pytest.mark.parametrize("say", LANGUAGES)
def test_every_sentence_fits(say: Sentences) -> None:
    for sentence in (say.welcome, say.unsupported, say.busy, say.gone, say.nothing_new):
        assert fits(sentence)
    assert fits(say.still_thinking(LONGEST_ID))
    assert fits(say.link_to(LONGEST_ID, "😀" * 1000))


def test_oversized_part_loses_the_lines_around_it_but_no_text() -> None:
    assert compose("label", "字" * 595, "link") == "字" * 595
    assert compose("label", "字" * 592, "link") == "字" * 592 + "\n\nlink"


@pytest.mark.parametrize("say", LANGUAGES)
@given(st.text())
def test_question_in_a_link_is_no_markup(say: Sentences, question: str) -> None:
    text = say.link_to(LONGEST_ID, question)
    (link,) = links_in(text)
    assert (link.sends, link.menu_id) == (say.show_word, LONGEST_ID)
    assert (
        text == f'<a href="weixin://bizmsgmenu?msgmenucontent={link.sends}&msgmenuid={link.menu_id}">{link.label}</a>'
    )
    assert not re.search("[<>&\"'\n\r]", link.label)


def test_question_is_quoted_on_one_line_and_cut() -> None:
    assert quote("  why\n is <b>it</b>? ", 30) == "why is b it /b ?"
    assert quote("一二三四五六", 5) == "一二三四…"
    assert quote("👩‍👩‍👧👩‍👩‍👧", 5) == "👩‍👩…", "no joiner is left dangling"


def test_language_follows_the_locale() -> None:
    assert sentences_for("zh-CN") is sentences_for("zh_TW") is CHINESE
    assert sentences_for("en") is sentences_for("fr-FR") is ENGLISH
