"""The built-in demo model."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from markdown_it import MarkdownIt
from parley_llm.upstream.demo import LABEL, answer

from tests.llm.conftest import DEMO_MODELS, Running, run_service
from tests.llm.fronts import ALL_FRONTS, ask


@pytest_asyncio.fixture(loop_scope="session")
async def demo() -> AsyncIterator[Running]:
    async with run_service({"upstreams": {"demo": {"preset": "demo"}}, "models": DEMO_MODELS}) as running:
        yield running


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_every_front_gets_the_same_labelled_answer(front: str, demo: Running) -> None:
    seen = await ask(front, demo)
    assert seen.text == answer([{"role": "user", "content": "Hello?"}])
    assert seen.text.endswith(LABEL)
    assert "Hello?" in seen.text
    assert (seen.finish, seen.attempts, seen.headers["x-parley-upstream"]) == ("stop", 1, "demo")


def test_markdown_shows_every_feature() -> None:
    text = answer([{"role": "user", "content": "Show me Markdown"}])
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    kinds = {token.type for token in parser.parse(text)}
    kinds |= {child.type for token in parser.parse(text) for child in token.children or []}
    assert kinds >= {
        "heading_open", "strong_open", "em_open", "s_open", "code_inline", "link_open", "bullet_list_open",
        "ordered_list_open", "blockquote_open", "table_open", "fence", "image", "hr",
    }  # fmt: skip
    assert "- [x]" in text
    assert "$$" in text
    assert text.endswith(LABEL)


@pytest.mark.parametrize(
    "messages", [None, [], [{"role": "user"}], [{"role": "user", "content": [{"type": "x"}]}], [7]]
)
def test_odd_conversations_are_answered(messages: object) -> None:
    assert "no text" in answer(messages)


def test_long_questions_are_shortened_and_parts_joined() -> None:
    parts = [{"type": "text", "text": "a" * 100}, {"type": "text", "text": "b" * 100}]
    text = answer([{"role": "user", "content": parts}, {"role": "assistant", "content": "no"}])
    assert "a" * 100 + " bbb" in text
    assert "…" in text
