"""Reasoning leaves in one form, whatever form and pieces it came in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_llm.upstream.reasoning import ThinkSplitter

from tests.fakes.openai_upstream import DONE, FINISH, ROLE, OpenAIUpstream, completion, delta, stream
from tests.llm.conftest import Running
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask

CASES = [
    ("<think>\nWhy?\n</think>\n\nBecause.", "Why?", "Because."),
    ("\n<think>a</think>b</think>", "a", "b</think>"),
    ("<think></think>x", "", "x"),
    ("<think>never closed", "never closed", ""),
    ("<b>bold</b> <think>", "", "<b>bold</b> <think>"),
    ("  plain", "", "  plain"),
    ("<thin", "", "<thin"),
    ("<", "", "<"),
    ("", "", ""),
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_leading_think_is_reasoning(text: str, reasoning: str, answer: str, size: int) -> None:
    splitter = ThinkSplitter()
    pieces = [splitter.feed(text[at : at + size], final=False) for at in range(0, len(text), size)]
    pieces.append(splitter.feed("", final=True))
    assert "".join(piece[0] for piece in pieces).strip("\n") == reasoning
    assert "".join(piece[1] for piece in pieces) == answer


@given(st.text(alphabet="<>/think ab\n"), st.integers(1, 5))
def test_pieces_do_not_matter(text: str, size: int) -> None:
    splitter, whole = ThinkSplitter(), ThinkSplitter()
    pieces = [splitter.feed(text[at : at + size], final=False) for at in range(0, len(text), size)]
    pieces.append(splitter.feed("", final=True))
    expected = whole.feed(text, final=True)
    assert "".join(piece[1] for piece in pieces) == expected[1]
    assert "".join(piece[0] for piece in pieces).rstrip("\n") == expected[0].rstrip("\n")


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize("form", ["reasoning_content", "reasoning", "think"])
async def test_every_form_leaves_as_reasoning(
    front: str, form: str, service: Running, upstream: OpenAIUpstream
) -> None:
    if front in STREAM_FRONTS:
        thinking = [delta("<thi"), delta("nk>H"), delta("m</th"), delta("ink>\n\n")]
        pieces: list[dict[str, Any]] = [{form: "H"}, {form: "m"}]
        named = [delta(**piece) for piece in pieces]
        upstream.replies = [stream(ROLE, *(thinking if form == "think" else named), delta("Yes."), FINISH, DONE)]
    elif form == "think":
        upstream.replies = [completion("<think>Hm</think>\n\nYes.")]
    else:
        upstream.replies = [completion("Yes.", message={form: "Hm"})]
    seen = await ask(front, service)
    assert (seen.reasoning, seen.text, seen.finish) == ("Hm", "Yes.", "stop")
    assert "<think>" not in seen.raw


async def test_text_held_back_is_given_out_at_the_finish(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("<th"), FINISH, DONE)]
    assert (await ask("sse", service)).text == "<th"
