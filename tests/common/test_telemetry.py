"""Traces leave the process when there is somewhere to send them, and never hold up its end."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from parley_common.telemetry import FLUSH_LIMIT_S, create_telemetry

from tests.fakes.otlp_receiver import dead_port, otlp_receiver

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


async def test_spans_arrive_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async with otlp_receiver() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.endpoint)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        telemetry = create_telemetry("llm", "1.2.3", os.environ)
        with telemetry.tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            link = Link(outer.get_span_context())
            inner = telemetry.tracer.start_span("inner", attributes={"n": 3, "of": ["a", "b"]}, links=[link])
            inner.add_event("first_chunk")
            inner.set_status(Status(StatusCode.ERROR))
            inner.end()
        await asyncio.to_thread(telemetry.close)

        assert len(receiver.spans) == 2
        (first,), (second,) = receiver.named("outer"), receiver.named("inner")

    assert (first.service, first.kind, first.parent_id, first.failed) == ("parley-llm", "SERVER", "", False)
    assert first.resource["service.version"] == "1.2.3"
    assert first.resource["deployment.environment.name"] == "test"
    assert (second.trace_id, second.parent_id) == (first.trace_id, first.span_id)
    assert second.attributes == {"n": 3, "of": ["a", "b"]}
    assert second.links == ((first.trace_id, first.span_id),)
    assert second.events == ("first_chunk",)
    assert second.failed
    assert receiver.of_trace(first.trace_id) == receiver.spans


async def test_a_proxy_variable_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with dead_port() as port:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        async with otlp_receiver() as receiver:
            monkeypatch.setenv(ENDPOINT, receiver.endpoint)
            telemetry = create_telemetry("llm", "1", os.environ)
            telemetry.tracer.start_span("one").end()
            await asyncio.to_thread(telemetry.close)

            assert [span.name for span in receiver.spans] == ["one"]


async def test_the_operator_may_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    async with otlp_receiver() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.endpoint)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-llm")
        telemetry = create_telemetry("llm", "1", os.environ)
        telemetry.tracer.start_span("one").end()
        await asyncio.to_thread(telemetry.close)

        assert [span.service for span in receiver.spans] == ["shop-llm"]


async def test_the_standard_sampler_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    telemetry = create_telemetry("llm", "1", os.environ)

    context = telemetry.tracer.start_span("one").get_span_context()

    assert not context.trace_flags.sampled
    assert context.is_valid  # Logs carry ids all the same.
    telemetry.close()


async def test_sampling_is_decided_before_a_span_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    async with otlp_receiver() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.endpoint)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
        telemetry = create_telemetry("llm", "1", os.environ)
        tracers = [telemetry.tracer_for("chat", None, SpanKind.CLIENT) for _ in range(200)]
        spans = [tracer.start_span("chat") for tracer in tracers if tracer is not None]
        assert 50 < len(spans) < 150
        # What was decided isn't decided again.
        assert all(span.get_span_context().trace_flags.sampled for span in spans)

        for flag in ("00", "01"):
            parent = extract({"traceparent": f"00-{'a' * 32}-{'b' * 16}-{flag}"})
            wanted = [telemetry.tracer_for("chat", parent, SpanKind.CLIENT) for _ in range(20)]
            assert all((tracer is not None) == (flag == "01") for tracer in wanted)
        assert wanted[0] is not None
        child = wanted[0].start_span("child", parent)
        for span in (*spans, child):
            span.end()
        await asyncio.to_thread(telemetry.close)

        assert len(receiver.named("chat")) == len(spans)
        (received,) = receiver.named("child")
        assert (received.trace_id, received.parent_id) == ("a" * 32, "b" * 16)


def test_without_an_endpoint_nothing_is_exported() -> None:
    before = set(threading.enumerate())
    telemetry = create_telemetry("llm", "1", {})
    span = telemetry.tracer.start_span("one")
    span.end()

    # An exporter would work in a thread of its own.
    assert set(threading.enumerate()) == before
    assert span.get_span_context().is_valid
    assert not telemetry.records
    telemetry.close()


_DYING = """
import os, time
from parley_common.telemetry import create_telemetry
telemetry = create_telemetry("llm", "1", os.environ)
for _ in range(2000):
    telemetry.tracer.start_span("lost").end()
began = time.monotonic()
telemetry.close()
print(time.monotonic() - began)
"""


def test_a_dead_collector_does_not_hold_up_the_end() -> None:
    with dead_port() as port:
        env = {**os.environ, ENDPOINT: f"http://127.0.0.1:{port}"}
        began = time.monotonic()
        command = [sys.executable, "-c", _DYING]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50, check=False)
        took = time.monotonic() - began

    assert done.returncode == 0, done.stderr
    closing = float(done.stdout)
    # It did have something to wait for, and gave up on it.
    assert FLUSH_LIMIT_S * 0.9 < closing < FLUSH_LIMIT_S + 3
    # The process ended then, and did not wait for the exporter's thread; unbounded it took 27 s.
    assert took < 20
