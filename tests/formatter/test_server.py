"""The service over a real gRPC port: answers, errors, metrics, health."""

import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parley.formatter.v1 import content_pb2, formatter_service_pb2
from parley_common.errors import RemoteError, error_from_rpc
from prometheus_client import generate_latest

from tests.formatter.conftest import RunFormatter, Running

Build = formatter_service_pb2.BuildPromptRequest
Format = formatter_service_pb2.FormatReplyRequest
Stream = formatter_service_pb2.StreamReplyRequest


async def _format_error(running: Running, request: formatter_service_pb2.FormatReplyRequest) -> RemoteError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.FormatReply(request, timeout=10)
    return error_from_rpc(caught.value)


async def _build_error(running: Running, request: formatter_service_pb2.BuildPromptRequest) -> RemoteError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.BuildPrompt(request, timeout=10)
    return error_from_rpc(caught.value)


async def test_prompt_is_built(run_formatter: RunFormatter) -> None:
    async with run_formatter() as running:
        answer = await running.stub.BuildPrompt(
            Build(
                variables={"bot_name": "小帕"},
                history=[content_pb2.Turn(question="在吗", answer="在")],
                parts=[content_pb2.InputPart(text="你好")],
                locale="zh-CN",
            ),
            timeout=10,
        )
    assert [message.role for message in answer.messages] == ["system", "user", "assistant", "user"]
    assert "小帕" in answer.messages[0].content
    assert [message.content for message in answer.messages[1:]] == ["在吗", "在", "你好"]
    assert answer.estimated_tokens > 0
    assert not answer.truncated


async def test_unknown_prompt_is_not_found_and_names_what_exists(run_formatter: RunFormatter) -> None:
    async with run_formatter() as running:
        error = await _build_error(running, Build(prompt_id="poet", parts=[content_pb2.InputPart(text="hi")]))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "PROMPT_NOT_FOUND")
    assert "assistant" in error.message
    assert not error.retryable


async def test_undeclared_variable_is_refused(run_formatter: RunFormatter) -> None:
    async with run_formatter() as running:
        error = await _build_error(running, Build(variables={"mood": "x"}, parts=[content_pb2.InputPart(text="hi")]))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VARIABLES")
    assert "mood" in error.message


async def test_broken_template_is_reported_and_the_rest_works(
    run_formatter: RunFormatter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "poet.md").write_text("---\nname: poet\n---\nline\n{% if %}\n")
    async with run_formatter(tmp_path) as running:
        error = await _build_error(running, Build(prompt_id="poet", parts=[content_pb2.InputPart(text="hi")]))
        answer = await running.stub.BuildPrompt(Build(parts=[content_pb2.InputPart(text="hi")]), timeout=10)
        errors = running.metric("parley_formatter_template_errors_total", template="poet.md")
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert answer.messages
    assert errors == 1
    logged = capsys.readouterr()
    assert "poet.md" in logged.out + logged.err
    assert "prompt_unusable" in logged.out + logged.err


async def test_reply_is_formatted_for_each_dialect(run_formatter: RunFormatter) -> None:
    async with run_formatter() as running:
        text = await running.stub.FormatReply(Format(markdown="# 标题\n\n**粗**", dialect="wechat_text"), timeout=10)
        card = await running.stub.FormatReply(Format(markdown="# 标题\n\n**粗**", dialect="feishu_card"), timeout=10)
        parts = running.metric("parley_formatter_output_parts_count", platform="wechat")
        timed = running.metric("parley_formatter_duration_seconds_count", operation="format_reply", platform="feishu")
    assert text.parts[0].WhichOneof("body") == "text"
    assert text.parts[0].text == "【标题】\n\n粗"
    assert card.parts[0].WhichOneof("body") == "payload_json"
    assert json.loads(card.parts[0].payload_json)["schema"] == "2.0"
    assert card.parts[0].fallback_text == "【标题】\n\n粗"
    assert (parts, timed) == (1, 1)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Format(markdown="x", dialect="morse"), "UNKNOWN_DIALECT"),
        (Format(markdown="x"), "UNKNOWN_DIALECT"),
        (Format(markdown="x", dialect="wechat_text", limits={"max_bytes": 4000}), "INVALID_LIMITS"),
        (Format(markdown="x", dialect="wechat_text", limits={"max_chars": 601}), "INVALID_LIMITS"),
        (Format(markdown="x", dialect="wechat_text", limits={"max_bytes": 3}), "INVALID_LIMITS"),
        (Format(markdown="x", dialect="feishu_card", limits={"max_tables": 4}), "INVALID_LIMITS"),
        (Format(markdown="x", dialect="feishu_card", max_parts=-1), "INVALID_LIMITS"),
    ],
)
async def test_wrong_request_is_an_invalid_argument(
    run_formatter: RunFormatter, request_: formatter_service_pb2.FormatReplyRequest, reason: str
) -> None:
    async with run_formatter() as running:
        error = await _format_error(running, request_)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_limits_can_be_narrowed(run_formatter: RunFormatter) -> None:
    request = Format(markdown="字" * 500, dialect="wechat_text", limits={"max_chars": 200}, max_parts=2, locale="zh-CN")
    async with run_formatter() as running:
        reply = await running.stub.FormatReply(request, timeout=10)
    assert reply.truncated
    assert reply.degraded["too_long"] == 1
    assert [len(part.text) <= 200 for part in reply.parts] == [True, True]
    assert reply.parts[1].text.endswith("（回答过长，后文已省略）")


async def test_degraded_features_are_counted(run_formatter: RunFormatter) -> None:
    markdown = "$x$ ![a](https://e.com/a.png) <at id=all>\n\n|a|\n|-|\n|b|\n"
    async with run_formatter() as running:
        reply = await running.stub.FormatReply(Format(markdown=markdown, dialect="wechat_text"), timeout=10)
        counted = {
            feature: running.metric("parley_formatter_degraded_total", platform="wechat", feature=feature)
            for feature in ("latex", "image", "mention", "table")
        }
    assert dict(reply.degraded) == {"latex": 1, "image": 1, "mention": 1, "table": 1}
    assert counted == {"latex": 1, "image": 1, "mention": 1, "table": 1}


async def test_metric_labels_do_not_grow_with_what_callers_send(run_formatter: RunFormatter) -> None:
    async with run_formatter() as running:
        for number in range(20):
            await _format_error(running, Format(markdown="x", dialect=f"made_up_{number}"))
            await _build_error(running, Build(prompt_id=f"made_up_{number}", parts=[content_pb2.InputPart(text="x")]))
        text = generate_latest(running.runtime.metrics.registry).decode()
    assert "made_up" not in text
    assert "grpc_server_handled_total" in text


async def test_health_answers_while_a_huge_answer_is_formatted(run_formatter: RunFormatter) -> None:
    async with run_formatter() as running:
        stub = health_pb2_grpc.HealthStub(running.channel)
        slow = asyncio.ensure_future(
            running.stub.FormatReply(Format(markdown="[" * 5_000_000, dialect="wechat_text"), timeout=50)
        )
        await asyncio.sleep(0)
        start = time.monotonic()
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        waited = time.monotonic() - start
        reply = await slow
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert waited < 5
    assert reply.truncated
    assert all(len(part.text.encode()) <= 1800 for part in reply.parts)


async def test_message_text_is_not_logged(run_formatter: RunFormatter, capsys: pytest.CaptureFixture[str]) -> None:
    async with run_formatter() as running:
        await running.stub.FormatReply(Format(markdown="geheimes Wort", dialect="wechat_text"), timeout=10)
        await _format_error(running, Format(markdown="geheimes Wort", dialect="x"))
    logged = capsys.readouterr()
    assert "geheimes" not in logged.out + logged.err


async def _stream(running: Running, *steps: formatter_service_pb2.StreamReplyRequest) -> list[Any]:
    call = running.stub.StreamReply(iter(steps), timeout=20)
    return [answer async for answer in call]


async def test_streamed_reply_answers_each_delta_and_ends_with_the_whole(run_formatter: RunFormatter) -> None:
    markdown = "# 标题\n\n这是**重点**，请注意。\n\n- one\n- two\n"
    deltas = [markdown[start : start + 5] for start in range(0, len(markdown), 5)]
    start = Stream(start=Format(dialect="feishu_card", locale="zh-CN", ai_label=True))
    async with run_formatter() as running:
        *answers, last = await _stream(running, start, *(Stream(delta=delta) for delta in deltas))
        whole = await running.stub.FormatReply(
            Format(markdown=markdown, dialect="feishu_card", locale="zh-CN", ai_label=True), timeout=10
        )
        timed = running.metric("parley_formatter_duration_seconds_count", operation="stream_reply", platform="feishu")
    assert len(answers) == len(deltas)
    assert {answer.WhichOneof("event") for answer in answers} == {"states"}
    shown = [state.element_text for answer in answers for state in answer.states.states]
    assert all(after.startswith(before) for before, after in itertools.pairwise(shown))
    assert "这是**重点**" in shown[-1]
    assert last.reply == whole
    assert timed == len(deltas) + 2


async def test_streamed_reply_out_of_order_is_refused(run_formatter: RunFormatter) -> None:
    start = Stream(start=Format(dialect="feishu_card"))
    async with run_formatter() as running:
        for steps in ((), (Stream(delta="x"),), (start, start)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _stream(running, *steps)
            assert error_from_rpc(caught.value).reason == "INVALID_STREAM"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _stream(running, Stream(start=Format(dialect="morse")))
        assert error_from_rpc(caught.value).reason == "UNKNOWN_DIALECT"
