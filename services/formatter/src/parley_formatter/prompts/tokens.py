"""Counting tokens without the model's own tokenizer: an estimate that rather says too much.

Nobody outside the model knows its tokenizer, and downloading one is not the formatter's business. Common tokenizers
take 0.6 to 1.5 tokens for a Chinese character, about one for four letters of English, and more for code and digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

# Tokens that a message costs beside its text: role and separators.
MESSAGE_TOKENS = 4
_CJK = "\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003fffd"
_PIECE = re.compile(rf"[{_CJK}]+|[A-Za-z]+|[0-9]+|\s+|[^\sA-Za-z0-9{_CJK}]+")
_CJK_START = re.compile(f"[{_CJK}]")

TokenCounter = Callable[[str], int]


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text: an upper bound for ordinary text, not for what is made to break tokenizers."""
    total = 0.0
    for match in _PIECE.finditer(text):
        total += _cost(match[0])
    return math.ceil(total)


def _cost(piece: str) -> float:
    first = piece[0]
    if _CJK_START.match(first):
        return 1.5 * len(piece)
    if first.isspace():
        # One space belongs to the word behind it; indentation and blank lines count.
        return 0.0 if piece == " " else math.ceil(len(piece) / 4)
    if first.isascii() and first.isalpha():
        return math.ceil(len(piece) / 4)
    if first.isascii() and first.isdigit():
        return math.ceil(len(piece) / 2)
    # Signs of code are often a token each; other scripts and emoji go by their bytes.
    return float(len(piece)) if piece.isascii() else len(piece.encode()) / 2


def cut_to_tokens(text: str, budget: int, count: TokenCounter) -> str:
    """Return the longest beginning within a budget, found by halving."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle]) <= budget:
            low = middle
        else:
            high = middle - 1
    return text[:low]
