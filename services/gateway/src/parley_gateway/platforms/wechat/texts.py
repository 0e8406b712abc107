"""WeChat's text messages: what fits into one, what may stand in one, and the links that only Parley may write.

WeChat documents no size for text. 2048 bytes were measured for both ways of answering, failures were reported from 628
Chinese characters on; Parley stays at 1800 bytes and 600 characters, hints included. Tapping a menu link
(`weixin://bizmsgmenu`, WeChat documentation, "Send customer service message") sends its text as the user's message,
with the link's id as `bizmsgmenuid`.
"""

import re

MAX_BYTES = 1800
MAX_CHARS = 600

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MARKUP = re.compile("[<>&\"']")
_DANGLING = "\u200d\ufe0e\ufe0f"
"""Joiners and variation selectors: left at the end of a cut text they would show as boxes."""


def clean(text: str) -> str:
    """Drop the characters that XML 1.0 can't carry."""
    return _NOT_XML.sub("", text)


def fits(text: str) -> bool:
    """Tell whether WeChat takes the text as one message."""
    return len(text) <= MAX_CHARS and len(text.encode()) <= MAX_BYTES


def quote(question: str, max_chars: int) -> str:
    """Return the beginning of a question on one line, without anything that could become markup."""
    line = " ".join(_MARKUP.sub(" ", clean(question)).split())
    if len(line) <= max_chars:
        return line
    return line[: max_chars - 1].rstrip(_DANGLING + " ") + "…"


def menu_link(label: str, sends: str, menu_id: str) -> str:
    """Return a link that sends `sends` when it is tapped. The label must come from `quote` or from the catalogue."""
    return f'<a href="weixin://bizmsgmenu?msgmenucontent={sends}&msgmenuid={menu_id}">{label}</a>'


def compose(label: str, text: str, hint: str) -> str:
    """Join a part with the line above and the link below it; what doesn't fit any more is left out, the text never."""
    whole = "\n\n".join(piece for piece in (f"{label}\n{text}" if label else text, hint) if piece)
    if fits(whole):
        return whole
    without_label = f"{text}\n\n{hint}" if hint else text
    return without_label if fits(without_label) else text
