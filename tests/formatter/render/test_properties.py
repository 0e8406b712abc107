"""Whatever the text: valid parts come out, inside the limits, with every word.

`PARLEY_FUZZ_EXAMPLES=5000 pytest …` searches longer than the everyday run.
"""

import os
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from parley_formatter.markdown.clean import clean
from parley_formatter.render.dialect import Feature
from parley_formatter.render.text import graphemes

from tests.formatter.render.card_schema import check_card
from tests.formatter.render.formatting import format_reply

_MARKUP = st.sampled_from([
    "# ", "## ", "**", "*", "_", "~~", "`", "```\n", "```python\n", "\n", "\n\n", "- ", "1. ", "10) ", "> ", "    ",
    "\t", "[", "](", ")", "![", "](https://e.com/a)", "https://e.com/b", "<", "</a>", "<at id=all></at>",
    '<a href="weixin://x">', "weixin", "://", "a", "at", "&amp;", "&#60;", "\\", "$", "$$", "\\(", "\\)", "\\[",
    "\\]", "\\frac{", "}{", "}", "]]>", "| a | b |\n|---|---|\n| 1 | 2 |\n", "|", "---", "- [ ] ", "- [x] ", "<br>",
    "👨\u200d👩\u200d👧", "é", "中文。", "“引号”", "word ", "x^2", "\u202e", "\u0301", "!",
    "&reg", "C:\\", "  \n", "=====\n", "<think>", "\u200b",
])  # fmt: skip
_WORDS = st.sampled_from(["alpha", "beta", "中文", "测试", "gamma", "42", "delta。", "end."])
_TEXT = st.one_of(
    st.text(max_size=400),
    st.lists(st.one_of(_MARKUP, st.text(max_size=12)), max_size=60).map("".join),
    st.lists(_MARKUP, min_size=30, max_size=300).map("".join),
)
_WORD = re.compile(r"[A-Za-z0-9\u4e00-\u9fff]+")
_EXAMPLES = settings(max_examples=int(os.environ.get("PARLEY_FUZZ_EXAMPLES", "100")), deadline=None)


@_EXAMPLES
@given(text=_TEXT, max_parts=st.sampled_from([0, 1, 3]), ai_label=st.booleans(), small=st.booleans())
def test_wechat_parts_are_within_limits(text: str, max_parts: int, ai_label: bool, small: bool) -> None:
    limits: dict[str, int] = {"bytes": 300, "chars": 100} if small else {}
    reply = format_reply(text, "wechat_text", max_parts=max_parts, ai_label=ai_label, limits=limits)
    assert reply.parts
    assert Feature.UNPARSED not in reply.degraded, "the parser or the renderer failed"
    assert not max_parts or len(reply.parts) <= max_parts
    for part in reply.parts:
        for body in (part.text, part.fallback_text):
            assert body.strip()
            assert len(body.encode()) <= limits.get("bytes", 1800)
            assert len(body) <= limits.get("chars", 600)
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", body)
        _check_anchors(part.text)
        assert not re.search(r"<a\b", part.fallback_text, re.IGNORECASE)


def _check_anchors(text: str) -> None:
    """Only whole anchors of our own, to http or https."""
    left = re.sub(r'<a href="https?://[^"<>\s]*">[^<>]*</a>', "", text, flags=re.IGNORECASE)
    assert not re.search(r"<\s*/?\s*a\b|weixin://", left, re.IGNORECASE)


@_EXAMPLES
@given(text=_TEXT, max_parts=st.sampled_from([0, 2]), ai_label=st.booleans(), small=st.booleans())
def test_feishu_cards_are_valid(text: str, max_parts: int, ai_label: bool, small: bool) -> None:
    limits: dict[str, int] = {"bytes": 2000, "elements": 10} if small else {}
    reply = format_reply(text, "feishu_card", max_parts=max_parts, ai_label=ai_label, limits=limits)
    assert reply.parts
    assert Feature.UNPARSED not in reply.degraded, "the parser or the renderer failed"
    assert not max_parts or len(reply.parts) <= max_parts
    for part in reply.parts:
        card = check_card(part.payload_json)
        assert len(part.payload_json) <= limits.get("bytes", 28_000)
        assert len(card["body"]["elements"]) <= limits.get("elements", 190)
        assert part.fallback_text.strip()
        assert not re.search(r"<\s*at\b", part.fallback_text, re.IGNORECASE)


@_EXAMPLES
@given(
    words=st.lists(
        st.sampled_from(["alpha", "beta", "中文", "测试", "gamma", "42", "delta。", "end."]), min_size=1, max_size=800
    )
)
def test_wechat_keeps_every_word_in_order(words: list[str]) -> None:
    reply = format_reply(" ".join(words), "wechat_text")
    assert not reply.truncated
    shown = " ".join(part.text for part in reply.parts)
    assert _WORD.findall(shown) == _WORD.findall(" ".join(words))


@_EXAMPLES
@given(
    blocks=st.lists(
        st.sampled_from(
            [
                "para zw{} one\ntwo",
                "- item zw{}\n- more",
                "1. num zw{}\n   ```\n   code\n   ```",
                "> quoted zw{}",
                "```\ncode zw{}\n```",
                "**bold zw{}** x",
                "# head zw{}",
                "| a | zw{} |\n|---|---|\n| 1 | 2 |",
                "see [link zw{}](https://example.com/long/path)",
            ]
        ),
        min_size=1,
        max_size=60,
    )
)
def test_every_word_of_marked_up_text_is_kept_in_order(blocks: list[str]) -> None:
    text = "\n\n".join(block.format(number) for number, block in enumerate(blocks))
    for dialect, limits in (("wechat_text", {"bytes": 300, "chars": 100}), ("feishu_card", {"bytes": 2000})):
        reply = format_reply(text, dialect, limits=limits)
        bodies = "\n".join(part.text or part.payload_json.decode() for part in reply.parts)
        fallbacks = "\n".join(part.fallback_text for part in reply.parts)
        expected = [str(number) for number in range(len(blocks))]
        assert re.findall(r"zw(\d+)", fallbacks) == expected
        assert list(dict.fromkeys(re.findall(r"zw(\d+)", bodies))) == expected


@_EXAMPLES
@given(text=st.text(alphabet="中文，。abc 12!？\n👨‍👩‍👧é", max_size=1500))
def test_plain_text_is_formatted_as_itself(text: str) -> None:
    once = "\n\n".join(part.text for part in format_reply(text, "wechat_text").parts)
    again = "\n\n".join(part.text for part in format_reply(once, "wechat_text").parts)
    assert once.split() == again.split()


@_EXAMPLES
@given(text=st.text(alphabet="👨‍👩‍👧🇨🇳é한e\u0301", min_size=200, max_size=900))
def test_no_grapheme_is_cut(text: str) -> None:
    reply = format_reply(text, "wechat_text", limits={"bytes": 300, "chars": 100})
    shown = [cluster for part in reply.parts for cluster in graphemes(part.text)]
    expected = graphemes(clean(text))
    # A cluster that no part could hold is the one case in which a cut inside is right.
    if all(len(cluster) <= 40 for cluster in expected):
        assert shown == expected
