"""Removes from a model's text what no reader should get: reasoning, control characters, runaway combining marks."""

from __future__ import annotations

import re

import regex

_THINK = re.compile(r"\s*<(think|thinking)>", re.IGNORECASE)
# C0 and C1 controls except tab and newline, the bidirectional overrides and isolates that can make a text read
# differently from what it says, non-characters, lone surrogates, and the byte order mark.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff]"
)
_NEWLINES = re.compile("\r\n?|[\x85\u2028\u2029]")
# Unicode Standard Annex 15 calls a text "stream-safe" with at most 30 combining marks in a row.
_MARKS = regex.compile(r"(\p{M}{30})\p{M}+")


def drop_reasoning(text: str) -> str:
    """Drop a leading `<think>…</think>`; one that is never closed is reasoning to the end."""
    opening = _THINK.match(text)
    if opening is None:
        return text
    closing = re.compile(rf"</{opening[1]}>", re.IGNORECASE).search(text, opening.end())
    return text[closing.end() :].lstrip() if closing else ""


def clean(text: str) -> str:
    """Normalise line ends, strip control characters and bound the marks on one letter."""
    cleaned: str = _MARKS.sub(r"\1", _UNWANTED.sub("", _NEWLINES.sub("\n", text)))
    return cleaned
