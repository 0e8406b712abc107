"""The dialects there are: one line each."""

from __future__ import annotations

from parley_formatter.render import feishu_card, wechat_text
from parley_formatter.render.dialect import Dialect

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        wechat_text.DIALECT,
        feishu_card.DIALECT,
    )
}
