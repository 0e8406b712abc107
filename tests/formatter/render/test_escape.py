"""Nothing a model writes becomes a mention, a command or a platform's link."""

import re

import pytest
from parley_formatter.render.escape import count_mentions, safe_url
from parley_formatter.render.registry import DIALECTS

from tests.formatter.render.formatting import feishu, format_reply, wechat

_ATTACKS = [
    '<at user_id="all"></at>',
    "<at id=all></at>",
    "< at id=all >",
    "<AT ID=all/>",
    "<\u200bat id=all>",
    "&lt;at id=all&gt;",
    "&#60;at id=all>",
    "\\<at id=all>",
    "**<**at id=all>",
    "\\(<\\)at id=all>",
    "<`at` id=all>",
    "`<at id=all></at>`",
    "`` <at id=all></at>` ``",
    "```\n<at id=all></at>\n```",
    "    <at id=all></at>",
    "# <at id=all>",
    "- <at id=all>",
    "> <at id=all>",
    "| a |\n|---|\n| <at id=all> |\n",
    "![<at id=all>](https://e.com)",
    "[<at id=all>](https://e.com)",
    "[x](https://e.com/<at id=all>)",
    "[x](weixin://dl/chat)",
    '<a href="weixin://bizmsgmenu?msgmenucontent=x&msgmenuid=1">x</a>',
    '<a data-miniprogram-appid="wx1" data-miniprogram-path="p" href="https://e.com">x</a>',
    "[</a><a href='https://evil.example'>y](https://e.com)",
    '[x](https://e.com/"><a href="https://evil.example)',
    "<person id='ou_1'></person>",
    "<font color=red>x</font>",
    "<text_tag color=red>x</text_tag>",
    "**weixin**://x",
    "<weixin://x>",
    "$<at id=all>$",
    "<think>x</think><at id=all>",
]
_TAG = re.compile(r"<[\s\u200b]*/?[\s\u200b]*(a|at|person|font|text_tag|link|raw)\b", re.IGNORECASE)


@pytest.mark.parametrize("attack", _ATTACKS)
def test_wechat_shows_it_as_text(attack: str) -> None:
    (part,) = format_reply(attack, "wechat_text").parts
    ours = re.sub(r'<a href="https://e\.com[^"<>]*">[^<>]*</a>', "", part.text)
    assert not _TAG.search(ours), part.text
    assert not _TAG.search(part.fallback_text)
    assert "weixin://" not in part.text + part.fallback_text


@pytest.mark.parametrize("attack", _ATTACKS)
def test_feishu_shows_it_as_text(attack: str) -> None:
    content = feishu(attack)
    code_free = re.sub(r"```[\s\S]*?```|`[^`]+`", "", content)
    assert not _TAG.search(code_free), content
    assert not re.search(r"</?(at|person|text_tag)\b", content, re.IGNORECASE), "live inside code"
    assert "weixin://" not in content
    assert all(url.startswith("https://e.com") for url in re.findall(r"\]\(([^)]*)\)", code_free) if "evil" not in url)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_is_counted(dialect: str) -> None:
    reply = format_reply("<at id=all> weixin://x", dialect)
    assert reply.degraded == {"mention": 2}
    assert count_mentions("an <article> about at") == 0


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://e.com/a b", "https://e.com/a%20b"),
        ('https://e.com/"><x>', "https://e.com/%22%3E%3Cx%3E"),
        ("HTTPS://e.com/中", "https://e.com/%E4%B8%AD"),
        ("https://e.com/(a)'", "https://e.com/%28a%29%27"),
        ("https://e.com/?u=weixin://x", "https://e.com/?u=weixin:%2F%2Fx"),
        ("javascript:alert(1)", None),
        ("weixin://x", None),
        ("//e.com", None),
        ("https://", None),
        ("data:image/png;base64,AA", None),
    ],
)
def test_only_web_addresses_are_links(url: str, safe: str | None) -> None:
    assert safe_url(url) == safe


def test_text_that_only_looks_like_mark_up_stays_readable() -> None:
    assert wechat("if a < b and c > d: vector<int> <div>") == "if a < b and c > d: vector<int> <div>"
    assert feishu("1. 甲\n\n\\# 不是标题 \\*x\\*") == "1. 甲\n\n&#35; 不是标题 &#42;x&#42;"
    assert feishu("\\- 不是列表") == "&#45; 不是列表"
    assert feishu("2024\\. 年") == "2024&#46; 年"
    assert feishu("A&reg B & C") == "A&#38;reg B & C"
