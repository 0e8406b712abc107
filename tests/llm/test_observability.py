"""Metrics and spans: what an operator sees of a call, without its content and with bounded labels."""

from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import generate_latest

from tests.fakes.openai_upstream import OpenAIUpstream, completion, status, stream, words
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, ask

GEN_AI = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "fake-model"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_call_leaves_its_metrics(upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503), stream(*words("Hel", "lo!"))]
    async with run_service(settings_for(upstream)) as service:
        await ask("sse", service)
        assert service.metric("parley_llm_attempts_total", upstream="up0", outcome="ok", error_type="") == 1
        failed = {"upstream": "up0", "outcome": "error", "error_type": "upstream_5xx"}
        assert service.metric("parley_llm_attempts_total", **failed) == 1
        assert service.metric("parley_llm_retries_total", upstream="up0", reason="upstream_5xx") == 1
        assert service.metric("gen_ai_client_operation_duration_seconds_count", **GEN_AI, error_type="") == 1
        assert service.metric("gen_ai_client_operation_time_to_first_chunk_seconds_count", **GEN_AI) == 1
        assert service.metric("gen_ai_client_operation_time_per_output_chunk_seconds_count", **GEN_AI) == 1
        assert service.metric("gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type="input") == 7
        assert service.metric("gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type="output") == 5
        requests = {"caller": "anonymous", "operation": "chat", "model": "chat", "outcome": "ok"}
        assert service.metric("parley_llm_requests_total", **requests) == 1


async def test_metrics_name_the_model_that_answered(upstream: OpenAIUpstream) -> None:
    async with OpenAIUpstream(completion()) as second:
        settings = settings_for(upstream, second)
        settings["models"]["chat"]["targets"][1]["model"] = "other-model"
        upstream.replies = [status(503)]
        async with run_service(settings) as service:
            assert (await ask("http", service)).headers["x-parley-model"] == "other-model"
            labels = {**GEN_AI, "gen_ai_request_model": "other-model"}
            assert service.metric("gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="input") == 7
            assert service.metric("gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type="input") == 0


async def test_missing_usage_is_estimated_and_labelled_so(upstream: OpenAIUpstream) -> None:
    upstream.replies = [completion("x" * 400, usage=None)]
    async with run_service(settings_for(upstream)) as service:
        seen = await ask("http", service)
        assert seen.usage is None, "an estimate is never told to the caller"
        labels = {"caller": "anonymous", "model": "chat", "type": "output"}
        assert service.metric("parley_llm_tokens_total", **labels, source="estimated") >= 100
        assert service.metric("gen_ai_client_token_usage_count", **GEN_AI, gen_ai_token_type="output") == 0


async def test_hostile_names_do_not_become_labels(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["models"] = {"*": {"targets": [{"upstream": "up0", "model": "m"}]}}
    upstream.replies = [completion(model="evil-model-of-the-upstream")]
    async with run_service(settings) as service:
        for number in range(20):
            assert (await ask("http", service, {"x-parley-app": f"evil{number}"}, model=f"evil-{number}\n")).ok
        exposition = generate_latest(service.runtime.metrics.registry).decode()
    assert "evil" not in exposition
    assert exposition.count("\n") < 3000


async def test_every_front_makes_one_tree_of_spans(upstream: OpenAIUpstream) -> None:
    for front in ALL_FRONTS:
        good = stream(*words("Hello!")) if front in ("sse", "grpc-stream") else completion("Hello!")
        upstream.replies = [status(503), good]
        async with run_service(settings_for(upstream)) as service:
            await ask(front, service, {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
            spans = {span.name: span for span in service.spans.get_finished_spans()}
            attempts = [span for span in service.spans.get_finished_spans() if span.name == "POST"]
        chat = spans["chat chat"]
        assert {f"{span.context.trace_id:032x}" for span in [chat, *attempts]} == {TRACE}, front
        assert chat.kind is SpanKind.CLIENT
        assert chat.attributes is not None
        expected = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "chat",
            "gen_ai.request.stream": front in ("sse", "grpc-stream"),
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.response.model": "fake-model",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.finish_reasons": ("stop",),
            "parley.attempts": 2,
        }
        assert {key: chat.attributes.get(key) for key in expected} == expected
        assert all(span.parent is not None and span.parent.span_id == chat.context.span_id for span in attempts)
        assert [span.attributes["http.request.resend_count"] for span in attempts if span.attributes] == [0, 1]
        assert [span.attributes["http.response.status_code"] for span in attempts if span.attributes] == [503, 200]
        assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.UNSET]
        everything = str([span.to_json() for span in [chat, *attempts]])
        assert "Hello" not in everything, "content stays out of traces"
        assert "sk-upstream" not in everything
