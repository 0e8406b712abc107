"""The Responses API: when a stream is committed, how it ends, and requests that only one upstream can serve."""

import json
from typing import Any

import openai
import pytest

from tests.fakes.openai_upstream import OpenAIUpstream, plain, status, stream
from tests.llm.conftest import Running, settings_for
from tests.llm.operations.conftest import Serve
from tests.llm.operations.endpoints import (
    PRELUDE,
    RESPONSES,
    attempts,
    ended,
    events_of,
    preset_settings,
    response,
    said,
    told,
    typed,
)

BUSY = {"code": "server_error", "message": "The model is overloaded."}
LASTING = {"code": "invalid_prompt", "message": "The prompt is odd."}
FILTERED = {"code": "image_content_policy_violation", "message": "No."}
SLOW_DOWN = {"code": "rate_limit_exceeded", "message": "Slow down."}


async def test_the_prelude_commits_to_nothing(serve: Serve, upstream: OpenAIUpstream) -> None:
    prelude = [*PRELUDE, typed("response.reasoning_summary_part.added"), typed("keepalive"), typed("response.queued")]
    async with OpenAIUpstream(RESPONSES.streamed()) as second:
        upstream.replies = [stream(*prelude, "cut")]
        answer = await RESPONSES.ask(serve(settings_for(upstream, second)), streaming=True)
        assert (answer.headers["x-parley-upstream"], attempts(answer)) == ("up1", 2)
        assert answer.text.count("response.created") == 2, "its name and type, of the second attempt only"


@pytest.mark.parametrize(
    "first",
    [
        typed("response.function_call_arguments.delta", delta="{"),
        typed("response.reasoning_text.delta", delta="Hm"),
        typed("response.refusal.delta", delta="No"),
        typed("response.web_search_call.searching"),
        typed("response.unheard_of"),
    ],
)
async def test_anything_else_does(first: bytes, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(*PRELUDE, first, "cut"), RESPONSES.streamed()]
    answer = await RESPONSES.ask(service, streaming=True)
    assert told(answer)["reason"] == "STREAM_BROKEN"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("error", [BUSY, SLOW_DOWN, None])
async def test_a_response_that_fails_before_its_content_is_tried_again(
    error: dict[str, str] | None, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*PRELUDE, ended("failed", error=error)), RESPONSES.streamed()]
    assert attempts(await RESPONSES.ask(service, streaming=True)) == 2
    upstream.replies = [plain(200, json.dumps(response("failed", error=error)).encode()), RESPONSES.reply()]
    assert attempts(await RESPONSES.ask(service)) == 2


@pytest.mark.parametrize("streaming", [False, True])
async def test_one_that_fails_for_good_is_given_up(streaming: bool, service: Running, upstream: OpenAIUpstream) -> None:
    for error, reason in ((LASTING, "INVALID_REQUEST"), (FILTERED, "CONTENT_FILTERED")):
        failed = response("failed", error=error)
        upstream.replies = [
            stream(*PRELUDE, typed("response.failed", response=failed))
            if streaming
            else plain(200, json.dumps(failed).encode())
        ]
        answer = await RESPONSES.ask(service, streaming=streaming)
        assert (answer.status_code, told(answer)["reason"], attempts(answer)) == (400, reason, 1)
        assert error["message"] in told(answer)["message"]


async def test_one_that_fails_later_ends_with_the_upstreams_own_event(
    service: Running, upstream: OpenAIUpstream
) -> None:
    events = [*PRELUDE, said("Hel"), ended("failed", error=BUSY)]
    upstream.replies = [stream(*events)]
    answer = await RESPONSES.ask(service, streaming=True)
    assert answer.content == b"".join(events)
    assert len(upstream.requests) == 1


async def test_one_that_fails_later_is_counted_as_an_error(service: Running, upstream: OpenAIUpstream) -> None:
    labels = {"caller": "anonymous", "operation": "responses", "model": "chat", "outcome": "error"}
    before = service.metric("parley_llm_requests_total", **labels)
    upstream.replies = [stream(*PRELUDE, said("Hel"), ended("failed", error=BUSY))]
    await RESPONSES.ask(service, streaming=True)
    assert service.metric("parley_llm_requests_total", **labels) == before + 1


async def test_an_incomplete_response_is_a_regular_end(service: Running, upstream: OpenAIUpstream) -> None:
    events = [*PRELUDE, ended("incomplete", incomplete_details={"reason": "max_output_tokens"})]
    upstream.replies = [stream(*events)]
    assert (await RESPONSES.ask(service, streaming=True)).content == b"".join(events)


@pytest.mark.parametrize("named", [True, False])
async def test_an_error_event_ends_a_stream(named: bool, client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    event = typed("error", code="server_error", message="out of memory", param=None)
    event = event if named else event.removeprefix(b"event: error\n")
    upstream.replies = [stream(*PRELUDE, event), stream(*PRELUDE, said("Hel"), event)]
    events = await client.responses.create(model="chat", input="x", stream=True)
    with pytest.raises(openai.APIError, match="out of memory"):
        assert [one async for one in events]
    assert len(upstream.requests) == 2, "before the content it was only another failed attempt"


async def test_what_follows_the_end_is_not_passed_on(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(*PRELUDE, said("Hel"), ended(), said("lo"), b"data: [DONE]\n\n")]
    answer = await RESPONSES.ask(service, streaming=True)
    assert events_of(answer)[-1][0] == "response.completed"


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_0"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
)
async def test_what_refers_to_an_earlier_response_has_one_target(
    more: dict[str, Any], serve: Serve, upstream: OpenAIUpstream
) -> None:
    async with OpenAIUpstream(RESPONSES.reply()) as second:
        upstream.replies = [status(503), RESPONSES.reply()]
        answer = await RESPONSES.ask(serve(settings_for(upstream, second)), **more)
        assert (answer.headers["x-parley-upstream"], attempts(answer)) == ("up0", 2)
        assert not second.requests
        upstream.replies = [status(503)]
        answer = await RESPONSES.ask(serve(settings_for(upstream, second)), **more)
        assert answer.status_code == 503
        assert not second.requests
        answer = await RESPONSES.ask(serve(settings_for(upstream, second)), {"x-parley-upstream": "up1"}, **more)
        assert answer.headers["x-parley-upstream"] == "up1", "who knows better may say where it is kept"


@pytest.mark.parametrize("nothing", [{"previous_response_id": ""}, {"conversation": {}}, {"prompt": {}}])
async def test_what_refers_to_nothing_has_all(nothing: dict[str, Any], serve: Serve, upstream: OpenAIUpstream) -> None:
    async with OpenAIUpstream(RESPONSES.reply()) as second:
        upstream.replies = [status(503)]
        answer = await RESPONSES.ask(serve(settings_for(upstream, second)), **nothing)
        assert answer.headers["x-parley-upstream"] == "up1"


FUNCTION = {"type": "function", "name": "f", "parameters": {}}
PICTURE = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]
SHOWN = [{"type": "function_call_output", "call_id": "c", "output": PICTURE[0]["content"]}]


@pytest.mark.parametrize(
    ("feature", "more", "param"),
    [
        ("tools", {"tools": [FUNCTION]}, "tools"),
        ("tools", {"tools": [{"type": "custom", "name": "f"}]}, "tools"),
        ("forced_tool", {"tool_choice": "required"}, "tool_choice"),
        ("forced_tool", {"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ("forced_tool", {"tool_choice": {"type": "allowed_tools", "mode": "required"}}, "tool_choice"),
        ("json_schema", {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text"),
        ("json_object", {"text": {"format": {"type": "json_object"}}}, "text"),
        ("vision", {"input": PICTURE}, "input"),
        ("vision", {"input": SHOWN}, "input"),
        ("thinking", {"reasoning": {"effort": "high"}}, "reasoning"),
    ],
)
async def test_a_target_that_lacks_a_used_feature_is_passed_over(
    feature: str, more: dict[str, Any], param: str, serve: Serve, upstream: OpenAIUpstream
) -> None:
    async with OpenAIUpstream(RESPONSES.reply()) as second:
        settings = settings_for(upstream, second)
        settings["models"]["chat"]["targets"][0]["features"] = {feature: False}
        upstream.replies = [RESPONSES.reply()]
        assert (await RESPONSES.ask(serve(settings))).headers["x-parley-upstream"] == "up0"
        assert (await RESPONSES.ask(serve(settings), **more)).headers["x-parley-upstream"] == "up1"
        settings["models"]["chat"]["targets"].pop()
        answer = await RESPONSES.ask(serve(settings), **more)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert feature in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "web_search"}]},
        {"tool_choice": "auto"},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
        {"text": {"format": {"type": "text"}}},
        {"text": {"verbosity": "low"}},
        {"reasoning": {"effort": "none"}},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]},
    ],
)
async def test_what_uses_no_feature_passes(more: dict[str, Any], serve: Serve, upstream: OpenAIUpstream) -> None:
    settings = preset_settings({"openai": upstream})
    lacking = ("tools", "forced_tool", "json_schema", "json_object", "vision", "thinking")
    settings["models"]["chat"]["targets"][0]["features"] = dict.fromkeys(lacking, False)
    upstream.replies = [RESPONSES.reply()]
    assert (await RESPONSES.ask(serve(settings), **more)).status_code == 200
