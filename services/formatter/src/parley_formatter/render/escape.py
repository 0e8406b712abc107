"""Makes a model's text harmless: no tag or link of a platform survives in it.

Each dialect has its own way of showing a `<` as text; which tags and schemes matter is the same for all. Sources:
WeChat documentation "Send customer service message" (`<a href>`, `data-miniprogram-*`, `weixin://bizmsgmenu`);
Feishu documentation "Card JSON 2.0: rich text (Markdown)" (`<at>`, `<person>`, `<text_tag>`, …).
"""

from __future__ import annotations

import re

# Tags that some platform acts on; `font` and the like only change the look but are shown as text all the same.
_TAGS = "a|at|person|link|text_tag|font|raw|local_datetime|number_tag|audio|br|hr"
# In code, tags that occur in HTML are left alone: they can do no more than look different.
_CODE_TAGS = "at|person|text_tag|raw|local_datetime|number_tag"
_SCHEMES = "weixin|wechat|wxwork|wework|lark|feishu|dingtalk|alipays?|mqqapi|slack|tg|discord"
_INVISIBLE = r"[\s\u200b-\u200f\u2060]{0,4}"
_TAG = re.compile(rf"<({_INVISIBLE}/?{_INVISIBLE}(?:{_TAGS})\b)(?:([^<>]{{0,300}})>)?", re.IGNORECASE)
_TAG_BEGINNING = re.compile(rf"<{_INVISIBLE}/?{_INVISIBLE}[a-z_]{{0,20}}$", re.IGNORECASE)
_CODE_TAG = re.compile(rf"<(?=/?(?:{_CODE_TAGS})\b)", re.IGNORECASE)
_SCHEME = re.compile(rf"({_SCHEMES})://", re.IGNORECASE)
_MENTION = re.compile(rf"<(?:at|person)\b|data-miniprogram|(?:{_SCHEMES})://", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
_UNSAFE_IN_URL = re.compile(r"[^!#$&*+,\-./0-9:;=?@A-Z\[\]_a-z~%]")


def count_mentions(text: str) -> int:
    """Count what a platform could have taken for a mention or a command."""
    return sum(1 for _ in _MENTION.finditer(text))


def defuse(text: str) -> str:
    """Show platform tags and schemes as text where nothing can be escaped, by full-width signs for `<`, `>`, `:`."""
    if "<" in text:
        text = _TAG.sub(_full_width, text)
    return defuse_scheme(text)


def defuse_end(text: str) -> str:
    """Make a `<` harmless that could become a tag together with what is written behind it."""
    match = _TAG_BEGINNING.search(text, max(0, len(text) - 30))
    return text if match is None else f"{text[: match.start()]}＜{text[match.start() + 1 :]}"


def _full_width(match: re.Match[str]) -> str:
    return f"＜{match[1]}" if match[2] is None else f"＜{match[1]}{match[2]}＞"


def defuse_scheme(text: str) -> str:
    """Break platform schemes only."""
    return _SCHEME.sub("\\1：//", text) if "://" in text else text


def defuse_code(text: str) -> str:
    """Break mentions in code by an invisible word joiner, so that code still reads as written."""
    return _SCHEME.sub("\\1:\u2060//", _CODE_TAG.sub("<\u2060", text))


def safe_url(url: str) -> str | None:
    """Return an http or https URL with every character encoded that could end a link; None for any other."""
    if not _URL.match(url):
        return None
    scheme, rest = url.split(":", 1)
    rest = _SCHEME.sub("\\1:%2F%2F", rest)
    encoded = _UNSAFE_IN_URL.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), rest)
    return f"{scheme.lower()}:{encoded}"
