"""Short ways to format and to read what came out."""

import json
from collections.abc import Mapping

from parley_formatter.render.limits import Size
from parley_formatter.render.registry import DIALECTS
from parley_formatter.render.reply import Reply, ReplyFormatter, ReplyOptions

FORMATTER = ReplyFormatter()


def format_reply(
    markdown: str,
    dialect: str = "wechat_text",
    *,
    max_parts: int = 0,
    locale: str = "zh-CN",
    ai_label: bool = False,
    limits: Mapping[str, int] | None = None,
) -> Reply:
    """Format with the dialect's own limits, but for those given."""
    chosen = DIALECTS[dialect]
    own = {name: getattr(chosen.limits, name) for name in ("bytes", "chars", "elements", "tables")}
    size = Size(**{**own, **(limits or {})})
    return FORMATTER.format(markdown, ReplyOptions(chosen, size, max_parts, locale, ai_label))


def wechat(markdown: str, locale: str = "zh-CN") -> str:
    """Return the text of an answer that fits into one message."""
    (part,) = format_reply(markdown, "wechat_text", locale=locale).parts
    return part.text


def feishu(markdown: str, locale: str = "zh-CN") -> str:
    """Return the Markdown of a card's elements, one after the other."""
    (part,) = format_reply(markdown, "feishu_card", locale=locale).parts
    elements = json.loads(part.payload_json)["body"]["elements"]
    return "\n\n".join(element.get("content", "---") for element in elements)
