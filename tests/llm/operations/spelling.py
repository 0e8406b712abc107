"""Strategies for JSON as text: what matters is how it is spelled, so nothing here is decoded and encoded again."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Text = st.SearchStrategy[str]

_spaces = st.sampled_from(["", "", "", " ", "  "])
_odd_numbers = [
    "1e400", "-0", "-0.0", "1.10", "1E-7", "1.0", "123456789012345678901234567890", "0.1234567890123456789012345",
    "9007199254740993", "18446744073709551616", "-1e-400",
]  # fmt: skip
_odd_strings = [r'"\ud83d"', r'"\ud83d\ude00"', r'"\u00e9\/\b"', '"\u2028\u200d"', '"\U0001f469\u200d\U0001f52c"', '""']


def quoted(text: str, *, escaped: bool) -> str:
    """Spell a string, with or without escapes for what is not ASCII."""
    return json.dumps(text, ensure_ascii=escaped)


strings: Text = st.one_of(st.builds(quoted, st.text(max_size=12), escaped=st.booleans()), st.sampled_from(_odd_strings))
numbers: Text = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    st.sampled_from(_odd_numbers),
)


def array_text(texts: list[str], space: str) -> str:
    """Spell an array."""
    return f"[{space}" + f"{space},{space}".join(texts) + f"{space}]"


def object_text(members: Mapping[str, str], space: str) -> str:
    """Spell an object."""
    spelled = [f"{json.dumps(name)}{space}:{space}{text}" for name, text in members.items()]
    return f"{{{space}" + f"{space},{space}".join(spelled) + f"{space}}}"


def arrays(of: Text, *, least: int = 0) -> Text:
    """Return arrays of texts."""
    return st.builds(array_text, st.lists(of, min_size=least, max_size=4), _spaces)


values: Text = st.recursive(
    st.one_of(strings, numbers, st.sampled_from(["true", "false", "null", "[]", "{}", "[" * 60 + "]" * 60])),
    lambda inner: st.one_of(
        arrays(inner), st.builds(object_text, st.dictionaries(st.text(max_size=8), inner, max_size=4), _spaces)
    ),
    max_leaves=8,
)
# These mean something wherever they stand in a request or an answer.
_KNOWN = frozenset({"error", "usage", "index", "reasoning", "reasoning_content", "tool_calls", "finish_reason", "text"})


def members(
    known: Mapping[str, Text], optional: Mapping[str, Text], *not_named: str
) -> st.SearchStrategy[dict[str, str]]:
    """Return members with the known ones, some of the optional ones, and ones nobody has heard of, before or behind."""
    taken = {*known, *optional, *not_named} | _KNOWN
    unheard = st.dictionaries(st.text(max_size=8).filter(lambda name: name not in taken), values, max_size=3)
    named = st.fixed_dictionaries(dict(known), optional=dict(optional))

    def together(one: dict[str, str], other: dict[str, str], *, first: bool) -> dict[str, str]:
        return {**one, **other} if first else {**other, **one}

    return st.builds(together, named, unheard, first=st.booleans())


def objects(known: Mapping[str, Text], optional: Mapping[str, Text] | None = None, *not_named: str) -> Text:
    """Return objects with such members."""
    return st.builds(object_text, members(known, optional or {}, *not_named), _spaces)


def word(value: Any) -> Text:
    """Return the one spelling of a plain value."""
    return st.just(json.dumps(value))
