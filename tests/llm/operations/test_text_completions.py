"""Text completions: when a stream is complete, what says that it is not, what is asked of the upstream."""

import json
from typing import Any

import pytest

from tests.fakes.openai_upstream import DONE, OpenAIUpstream, plain, stream
from tests.llm.conftest import Running
from tests.llm.operations.conftest import Serve
from tests.llm.operations.endpoints import (
    COMPLETIONS,
    PIECES_END,
    PIECES_USAGE,
    attempts,
    events_of,
    piece,
    preset_settings,
    told,
)


@pytest.mark.parametrize(
    ("asked", "choices"),
    [
        ({"prompt": "x"}, 1),
        ({"prompt": "x", "n": 2}, 2),
        ({"prompt": ["x", "y", "z"]}, 3),
        ({"prompt": ["x", "y"], "n": 2}, 4),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": []}, 1),
        ({}, 1),
    ],
)
async def test_done_comes_only_when_every_choice_has_finished(
    asked: dict[str, Any], choices: int, service: Running, upstream: OpenAIUpstream
) -> None:
    body = {"prompt": None, **asked}
    finishes = [piece("x", finish="stop", index=index) for index in range(choices)]
    upstream.replies = [stream(*finishes, DONE)]
    assert (await COMPLETIONS.ask(service, streaming=True, **body)).text.endswith("data: [DONE]\n\n")
    for first in [
        piece("x", index=0),
        *([b": nothing\n\n"] if choices > 1 else []),
    ]:  # Left unfinished, or not even begun.
        upstream.replies = [stream(first, *finishes[1:], DONE)]
        answer = await COMPLETIONS.ask(service, streaming=True, **body)
        assert told(answer)["reason"] == "STREAM_BROKEN"
        assert "data: [DONE]" not in answer.text


async def test_a_finish_by_which_the_upstream_gives_up_is_none(service: Running, upstream: OpenAIUpstream) -> None:
    given_up = {**COMPLETIONS.answer, "choices": [{"index": 0, "text": "Hel", "finish_reason": "abort"}]}
    upstream.replies = [plain(200, json.dumps(given_up).encode()), COMPLETIONS.reply()]
    assert attempts(await COMPLETIONS.ask(service)) == 2
    upstream.replies = [stream(piece("Hel"), piece(finish="abort"), DONE)]
    answer = await COMPLETIONS.ask(service, streaming=True)
    assert told(answer)["reason"] == "STREAM_BROKEN"
    assert "abort" in told(answer)["message"]


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}, {"other": 1.50}])
async def test_usage_is_asked_for_and_reaches_only_who_wants_it(
    asked: dict[str, Any] | None, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [COMPLETIONS.streamed()]
    answer = await COMPLETIONS.ask(service, streaming=True, stream_options=asked)
    assert upstream.requests[0].json["stream_options"] == {**(asked or {}), "include_usage": True}
    wanted = bool(asked and asked.get("include_usage"))
    assert ('"usage"' in answer.text) is wanted
    assert events_of(answer)[-1] == ("", "[DONE]")


async def test_the_usage_chunk_alone_is_no_content(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(piece(), PIECES_USAGE), COMPLETIONS.streamed()]
    assert attempts(await COMPLETIONS.ask(service, streaming=True)) == 2


async def test_an_upstream_that_counts_unasked_is_not_asked(serve: Serve, upstream: OpenAIUpstream) -> None:
    settings = preset_settings({"openai": upstream})
    settings["models"]["chat"]["targets"][0]["features"] = {"stream_usage": False}
    upstream.replies = [stream(piece("Hi"), PIECES_END, DONE)]
    await COMPLETIONS.ask(serve(settings), streaming=True)
    assert "stream_options" not in upstream.requests[0].json


async def test_an_upstream_that_makes_up_choices_without_end_is_cut_off(
    service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*(piece("x", index=index) for index in range(200)), "stall")]
    answer = await COMPLETIONS.ask(service, streaming=True)
    assert told(answer)["reason"] == "STREAM_BROKEN"


async def test_the_operators_params_apply_and_the_presets_do_not(serve: Serve, upstream: OpenAIUpstream) -> None:
    settings = preset_settings({"zhipu": upstream})
    settings["models"]["chat"]["targets"][0]["params"] = {"drop": ["logprobs"], "default": {"max_tokens": 9}}
    upstream.replies = [COMPLETIONS.reply()]
    answer = await COMPLETIONS.ask(serve(settings), logprobs=3, max_completion_tokens=5)
    assert answer.headers["x-parley-adapted"] == "logprobs"
    sent = upstream.requests[0].json
    assert "logprobs" not in sent
    assert (sent["max_tokens"], sent["max_completion_tokens"]) == (9, 5)


async def test_deepseeks_are_behind_a_path_of_their_own(serve: Serve, upstream: OpenAIUpstream) -> None:
    settings = preset_settings({"deepseek": upstream})
    settings["upstreams"]["up0"]["base_url"] = f"http://127.0.0.1:{upstream.port}"
    upstream.replies = [COMPLETIONS.reply()]
    assert (await COMPLETIONS.ask(serve(settings))).status_code == 200
    assert upstream.requests[0].target == "/beta/completions"
