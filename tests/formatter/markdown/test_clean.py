"""What is removed before parsing."""

import pytest
from parley_formatter.markdown.clean import clean, drop_reasoning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>secret</think>\nanswer", "answer"),
        ("\n<THINK>a\n\nb</THINK>answer", "answer"),
        ("<thinking>a</thinking>answer", "answer"),
        ("<think>never closed", ""),
        ("answer <think>kept</think>", "answer <think>kept</think>"),
        ("<thinker>x</thinker>", "<thinker>x</thinker>"),
    ],
)
def test_only_leading_reasoning_is_dropped(text: str, expected: str) -> None:
    assert drop_reasoning(text) == expected


def test_control_characters_and_bidi_overrides_are_stripped() -> None:
    assert clean("a\x00b\x1bc\u202ed\u2066e\ufefff\ud800g\x7fh\x9fi") == "abcdefghi"


def test_line_ends_are_normalised_and_tabs_kept() -> None:
    assert clean("a\r\nb\rc\u2028d\x85e\tf") == "a\nb\nc\nd\ne\tf"


def test_joiners_of_emoji_are_kept() -> None:
    assert clean("👨\u200d👩\u200d👧") == "👨\u200d👩\u200d👧"


def test_marks_on_one_letter_are_bounded() -> None:
    assert clean("e" + "\u0301" * 500 + "!") == "e" + "\u0301" * 30 + "!"
