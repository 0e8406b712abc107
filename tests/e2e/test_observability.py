"""What an operator sees of a running stack: metrics, probes, health, reflection, logs, one trace for each message."""

import asyncio
import json
from pathlib import Path

import grpc.aio
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e import feishu_user
from tests.e2e.stack import Options, Stack, start_stack
from tests.e2e.test_messages import metrics, pushed
from tests.e2e.waiting import eventually
from tests.fakes.otlp_receiver import otlp_receiver

pytestmark = pytest.mark.e2e


async def test_one_trace_spans_services_and_queue(tmp_path: Path) -> None:
    async with otlp_receiver() as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        async with start_stack(tmp_path, Options(env=env, feishu=None)) as stack:
            await stack.wechat_pusher().say("user-1", "hi")
            await eventually(lambda: pushed(stack, "user-1"))
            await receiver.wait_for(lambda spans: any(span.name == "deliver wechat" for span in spans))
            await receiver.wait_for(lambda spans: any(span.name.startswith("chat ") for span in spans))
            await receiver.wait_for(lambda spans: sum(span.service == "parley-formatter" for span in spans) >= 2)
        (process,) = receiver.named("process inbound")
        spans = receiver.of_trace(process.trace_id)
        by_name = {span.name: span for span in spans}
        assert {span.service for span in spans} == {"parley-gateway", "parley-llm", "parley-formatter"}
        webhook = by_name["POST /webhooks/{platform}/{bot}"]
        assert webhook.parent_id == ""
        assert by_name["send inbound"].parent_id == webhook.span_id
        assert process.parent_id == by_name["send inbound"].span_id
        assert process.links == ((process.trace_id, by_name["send inbound"].span_id),)
        stream = "parley.llm.v1.LLMService/StreamChatCompletion"
        client, server = (
            next(s for s in spans if s.name == stream and s.kind == kind) for kind in ("CLIENT", "SERVER")
        )
        assert client.parent_id == process.span_id
        assert server.parent_id == client.span_id
        chat = next(span for span in spans if span.name.startswith("chat "))
        assert chat.parent_id == server.span_id
        assert chat.attributes["gen_ai.operation.name"] == "chat"
        assert by_name["deliver wechat"].parent_id == process.span_id
        (replied,) = [json.loads(line) for line in stack.gateway.log().splitlines() if '"event": "replied"' in line]
        assert replied["trace_id"] == process.trace_id
        assert "user-1" not in str([span.attributes for span in spans])


async def test_probes_metrics_health_and_reflection_of_every_service(stack: Stack) -> None:
    await stack.wechat_pusher().say("user-1", "hi")
    await feishu_user.say(stack, "hi")
    await eventually(lambda: pushed(stack, "user-1"))
    async with httpx2.AsyncClient(trust_env=False) as client:
        for process in stack.processes:
            ops = process.started["ops"]
            assert (await client.get(f"http://{ops}/livez")).status_code == 200
            assert (await client.get(f"http://{ops}/readyz")).json() == {"ready": True, "reasons": []}
            text = await metrics(ops)
            assert "parley_build_info{" in text
            assert f'service="{process.name}"' in text
    for process, service in (
        (stack.llm, "parley.llm.v1.LLMService"),
        (stack.formatter, "parley.formatter.v1.FormatterService"),
    ):
        async with grpc.aio.insecure_channel(process.started["grpc"], [("grpc.enable_http_proxy", 0)]) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", "liveness", service):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            call = reflection.ServerReflectionInfo(iter([request]))
            async for listing in call:
                assert service in {each.name for each in listing.list_services_response.service}
                break
            call.cancel()
    gateway = await metrics(stack.gateway.started["ops"])
    for name in (
        "parley_gateway_events_total", "parley_gateway_ack_duration_seconds_bucket", "parley_queue_depth",
        "parley_gateway_replies_total", "parley_gateway_delivery_attempts_total", "grpc_client_handled_total",
        "parley_gateway_stage_duration_seconds_bucket", "parley_gateway_credentials_ok",
    ):  # fmt: skip
        assert name in gateway, name
    assert 'parley_gateway_replies_total{outcome="delivered",platform="wechat"} 1.0' in gateway
    assert "gen_ai_client_operation_duration_seconds" in await metrics(stack.llm.started["ops"])
    assert "parley_formatter_duration_seconds" in await metrics(stack.formatter.started["ops"])


async def test_memory_at_rest_and_feishu_only_when_used(tmp_path: Path) -> None:
    async with start_stack(tmp_path, Options(feishu=None)) as stack:
        await asyncio.sleep(0.5)
        assert stack.llm.rss_mib() < 100
        assert stack.formatter.rss_mib() < 100
        # pycryptodome comes with lark-oapi only: its libraries would be mapped if that had been imported.
        maps = Path(f"/proc/{stack.gateway.pid}/maps").read_text(encoding="utf-8")
        assert "/Crypto/" not in maps
        assert stack.gateway.rss_mib() < 130


async def test_bad_settings_end_every_service_with_code_2(tmp_path: Path) -> None:
    from tests.e2e.processes import ServiceProcess

    config = tmp_path / "parley.yaml"
    config.write_text(
        "gateway: {http_prot: 1, bots: [{name: a, platform: wechat, wechat: {app_id: x}}]}\n"
        "llm: {upstreams: {main: {base_urll: http://x/v1}}}\n"
        "formatter: {grpc_port: many}\n"
    )
    expected = {
        "gateway": [
            "gateway.http_prot: unknown option; did you mean http_port?",
            "gateway.bots.0.wechat.token: is required",
        ],
        "llm": ["llm.upstreams.main.base_urll: unknown option; did you mean base_url?"],
        "formatter": ["formatter.grpc_port:"],
    }
    for name, lines in expected.items():
        process = ServiceProcess(name, tmp_path, {"PARLEY_CONFIG": str(config)}, ("--check",))
        with pytest.raises(AssertionError):
            await process.start()
        assert await process.stop() == 2
        for line in lines:
            assert line in process.log(), process.log()
