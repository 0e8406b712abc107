"""An answer while it is being written: states only grow, all ends as if it had come in one piece."""

import json
import os
import random
import re
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley_formatter.markdown.clean import clean
from parley_formatter.render.limits import Size
from parley_formatter.render.registry import DIALECTS
from parley_formatter.render.reply import ReplyOptions
from parley_formatter.stream.reply_stream import ReplyStream
from parley_formatter.stream.safe import safe_end

from tests.formatter.render.formatting import FORMATTER, feishu, format_reply
from tests.formatter.render.test_properties import _TEXT

ANSWERS = sorted((Path(__file__).parent.parent / "render" / "answers").glob("*.md"))
_EXAMPLES = settings(max_examples=int(os.environ.get("PARLEY_FUZZ_EXAMPLES", "60")), deadline=None)
_WORD = re.compile(r"[A-Za-z0-9\u4e00-\u9fff]+")


def new_stream(dialect: str, *, max_parts: int = 0, limits: dict[str, int] | None = None) -> ReplyStream:
    chosen = DIALECTS[dialect]
    own = {name: getattr(chosen.limits, name) for name in ("bytes", "chars", "elements", "tables")}
    return ReplyStream(FORMATTER, ReplyOptions(chosen, Size(**{**own, **(limits or {})}), max_parts, "zh-CN"))


def states_of(stream: ReplyStream, pieces: Iterable[str]) -> list[list[str]]:
    """Feed everything; return the states of each part, checked to grow and to come in order."""
    parts: list[list[str]] = []
    for piece in pieces:
        for state in stream.feed(piece):
            assert state.part_index >= len(parts) - 1, "a part changed after a later one had begun"
            while len(parts) <= state.part_index:
                parts.append([])
            states = parts[state.part_index]
            assert state.text
            assert not states or (state.text.startswith(states[-1]) and state.text != states[-1])
            states.append(state.text)
    return parts


def cut(text: str, seed: int, longest: int = 12) -> list[str]:
    """Cut a text into pieces as a model would send it."""
    chance = random.Random(seed)
    pieces = []
    while text:
        size = chance.randint(1, longest)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@_EXAMPLES
@given(
    text=_TEXT, seed=st.integers(0, 2**16), dialect=st.sampled_from(["feishu_card", "wechat_text"]), small=st.booleans()
)
def test_any_cutting_gives_growing_states_and_the_same_parts(text: str, seed: int, dialect: str, small: bool) -> None:
    limits = ({"bytes": 2000} if dialect == "feishu_card" else {"bytes": 300, "chars": 100}) if small else None
    stream = new_stream(dialect, limits=limits)
    parts = states_of(stream, cut(text, seed))
    assert stream.finish() == format_reply(text, dialect, limits=limits)
    for states in parts:
        for state in states:
            assert not re.search(r"<\s*at\b", state) or dialect == "feishu_card"
            assert len(state.encode()) <= DIALECTS[dialect].limits.bytes + 300


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", [1, 2])
def test_real_answers_grow_to_nearly_the_whole_text(answer: Path, seed: int) -> None:
    text = answer.read_text(encoding="utf-8")
    stream = new_stream("feishu_card")
    # Two blank lines close the last chunk, so that the last state holds everything.
    parts = states_of(stream, cut(text + "\n\n\n\nEnd of it.\n\n", seed))
    shown = _WORD.findall("\n".join(states[-1] for states in parts))
    final = format_reply(text, "feishu_card")
    elements = [element for part in final.parts for element in json.loads(part.payload_json)["body"]["elements"]]
    expected = set(_WORD.findall("\n".join(element.get("content", "") for element in elements)))
    assert len(expected - set(shown)) <= len(expected) * 0.05, sorted(expected - set(shown))[:20]


def test_words_appear_while_the_paragraph_is_written() -> None:
    stream = new_stream("feishu_card")
    text = "The first words of an answer can be read long before its paragraph is complete, and so on. " * 3
    (states,) = states_of(stream, cut(text, 3, longest=5))
    assert len(states) > 15
    assert len(states[0]) < 30


@pytest.mark.parametrize(
    ("pieces", "last"),
    [
        (["It is **bo"], "It is"),
        (["It is **bold** and"], "It is"),
        (["It is **bold** and so"], "It is **bold** and"),
        (["See [the pa"], "See"),
        (["See [the page](https://e.com/a) now "], "See [the page](https://e.com/a) now"),
        (["Use `co", "de` here "], "Use `code` here"),
        (["这是**重"], "这是"),
        (["这是**重点**，请注意"], "这是**重点**，请注意"),
        (["snake_case is fine "], "snake_case is fine"),
        (["2 * 3 is six "], "2 * 3 is six"),
        (["| a | b |\n"], ""),
        (["Text.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"], "Text."),
        (["- one\n- two\n- thr"], "- one\n- two"),
        (["# Title\n\nText and "], "# Title\n\nText and"),
        (["```py\nprint(1)\nprint("], "```py\nprint(1)"),
        (["```py\nprint(1)\n```\nDone now "], "```py\nprint(1)\n```\n\nDone now"),
        (["<think>let me see</think>Well then "], "Well then"),
        (["<thi", "nk>secret"], ""),
        (["Costs $5 or "], "Costs"),
    ],
)  # fmt: skip
def test_what_may_still_change_is_held_back(pieces: list[str], last: str) -> None:
    parts = states_of(new_stream("feishu_card"), pieces)
    assert (parts[-1][-1] if parts else "") == last


def test_closed_marks_look_as_in_the_final_card() -> None:
    text = "# Title\n\nSome **bold** and *thin* text.\n\n1. one\n2. two\n\n> quoted\n\n```py\nx = 1\n```\n\nEnd.\n\n"
    (states,) = states_of(new_stream("feishu_card"), cut(text, 5))
    assert states[-1] == feishu(text)


def test_long_answers_go_on_in_further_parts() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 60 for number in range(40))
    parts = states_of(new_stream("feishu_card", limits={"bytes": 2000}), cut(text + "\n\n", 1))
    numbers = [int(number) for states in parts for number in re.findall(r"Paragraph (\d+)", states[-1])]
    assert len(parts) > 5
    assert list(dict.fromkeys(numbers)) == list(range(40))


def test_parts_beyond_the_limit_have_no_states() -> None:
    text = "\n\n".join("word " * 60 for _ in range(40))
    stream = new_stream("feishu_card", limits={"bytes": 2000}, max_parts=2)
    assert len(states_of(stream, cut(text, 1))) == 2
    assert len(stream.finish().parts) == 2


@pytest.mark.parametrize("unit", ["[", "**a ", "`", "word ", "- item\n", "字", "|", "> ", "$x", "a\n", "<a "])
def test_cost_is_linear(unit: str) -> None:
    def seconds(size: int) -> float:
        stream = new_stream("feishu_card")
        pieces = cut((unit * size)[:size], 7)
        begun = time.process_time()
        states_of(stream, pieces)
        return time.process_time() - begun

    seconds(2_000)
    small, large = min(seconds(2_000) for _ in range(2)), seconds(16_000)
    # Eight times the text; quadratic cost would be 64 times.
    assert large < 30 * small + 0.5


def test_text_is_never_shown_beyond_a_word_that_may_grow() -> None:
    for text in ("weixin", "weixin://x", "<at id=all", "see https://e.com/a"):
        assert safe_end(text) in (0, len("see"))


def test_hidden_marks_of_mentions_stay_defused_in_states() -> None:
    text = "Hello <at id=all></at> and weixin://bizmsgmenu there, friends of mine.\n\n"
    for seed in range(20):
        (states,) = states_of(new_stream("feishu_card"), cut(text, seed, longest=3))
        assert all("<at" not in state and "weixin://" not in state for state in states)
    assert clean(text) == text
