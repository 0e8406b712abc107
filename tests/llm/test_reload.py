"""Settings that change while calls go on: what changes at once, what stays, what finishes as it began."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import yaml
from parley_common.reload import ReloadError
from parley_llm.config import LLMSettings

from tests.e2e.waiting import eventually
from tests.fakes.mounted_files import MountedFiles
from tests.fakes.openai_upstream import DONE, FINISH, ROLE, OpenAIUpstream, Peer, completion, delta, status, stream
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.fronts import ask
from tests.llm.test_process import BODY, Process, run_process

OTHER_KEY = "sk-upstream-secret-other"


@pytest_asyncio.fixture(loop_scope="session")
async def second() -> AsyncIterator[OpenAIUpstream]:
    async with OpenAIUpstream(completion("second")) as server:
        yield server


async def change(service: Running, settings: dict[str, Any]) -> None:
    await service.service.reload(LLMSettings.model_validate({"grpc_port": 0, "http_port": 0, **settings}))


def with_key(settings: dict[str, Any], key: str, name: str = "up0") -> dict[str, Any]:
    upstreams = {**settings["upstreams"], name: {**settings["upstreams"][name], "api_keys": [key]}}
    return {**settings, "upstreams": upstreams}


async def completed(running: Process, key: str) -> httpx2.Response:
    return await running.http.post("/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {key}"})


async def counted(running: Process, outcome: str) -> float:
    metrics = (await running.http.get(f"http://127.0.0.1:{running.ports['OPS']}/metrics")).text
    (line,) = [
        line for line in metrics.splitlines() if line.startswith(f'parley_config_reload_total{{outcome="{outcome}')
    ]
    return float(line.split()[-1])


async def test_secrets_are_rotated_in_a_running_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"upstream": ["sk-upstream-1", "sk-upstream-2"], "caller": ["caller-key-1", "caller-key-2"]}
    accepted = {keys["upstream"][0]}
    rotated = asyncio.Event()

    async def answer(peer: Peer) -> None:
        if peer.request.headers["authorization"].removeprefix("Bearer ") not in accepted:
            await status(401)(peer)
        elif peer.request.json.get("stream"):
            await peer.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
            await peer.chunk(ROLE + delta("Hel"))
            await rotated.wait()
            await peer.chunk(delta("lo!") + FINISH + DONE)
            await peer.send(b"0\r\n\r\n")
        else:
            await completion("Hello!")(peer)

    async with OpenAIUpstream(answer) as upstream:
        secrets = MountedFiles(tmp_path / "secrets", upstream=keys["upstream"][0], caller=keys["caller"][0])
        settings = settings_for(upstream, timeouts={"idle": "40s", "total": "50s"})
        settings = with_key(settings, f"${{file:{secrets.path('upstream')}}}")
        settings["callers"] = [{"name": "crm", "keys": [f"${{file:{secrets.path('caller')}}}"]}]
        file = tmp_path / "parley.yaml"
        file.write_text(yaml.safe_dump({"llm": settings}))
        async with run_process({}, tmp_path) as running:
            long_stream = asyncio.create_task(
                running.http.post(
                    "/v1/chat/completions",
                    json={**BODY, "stream": True},
                    headers={"authorization": f"Bearer {keys['caller'][0]}"},
                )
            )
            await eventually(lambda: upstream.requests)
            assert (await completed(running, keys["caller"][0])).status_code == 200

            # No signal: the process notices by itself that the mounted directory has changed.
            accepted.add(keys["upstream"][1])
            secrets.update(upstream=keys["upstream"][1], caller=keys["caller"][1])
            async with asyncio.timeout(30):
                while (await completed(running, keys["caller"][1])).status_code != 200:
                    await asyncio.sleep(0.1)
            accepted.discard(keys["upstream"][0])
            assert (await completed(running, keys["caller"][0])).status_code == 401
            assert (await completed(running, keys["caller"][1])).status_code == 200
            assert upstream.requests[-1].headers["authorization"] == "Bearer sk-upstream-2"
            assert not long_stream.done()
            rotated.set()
            lines = [line.removeprefix("data: ") for line in (await long_stream).text.split("\n") if line]
            assert lines[-1] == "[DONE]"
            texts = [choice["delta"].get("content") for line in lines[:-1] for choice in json.loads(line)["choices"]]
            assert "".join(text or "" for text in texts) == "Hello!"

            file.write_text(yaml.safe_dump({"llm": {**settings, "callers": [{"name": "crm", "kyes": ["x"]}]}}))
            running.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while await counted(running, "error") != 1:
                    await asyncio.sleep(0.1)
            assert await counted(running, "ok") == 1
            assert (await completed(running, keys["caller"][1])).status_code == 200
    output = capsys.readouterr().out
    (refused,) = [json.loads(line) for line in output.splitlines() if '"settings_refused"' in line]
    assert "llm.callers.0.kyes: unknown option; did you mean keys?" in refused["problems"]
    assert not [key for pair in keys.values() for key in pair if key in output]


async def test_what_did_not_change_keeps_its_connections(upstream: OpenAIUpstream, second: OpenAIUpstream) -> None:
    settings = settings_for(upstream, second)
    peers: list[Peer] = []

    async def answer(peer: Peer) -> None:
        peers.append(peer)
        await completion("Hello!")(peer)

    upstream.replies = [answer]
    async with run_service(settings) as service:
        await ask("http", service)
        await ask("http", service, {"x-parley-upstream": "up1"})
        await change(service, with_key(settings, OTHER_KEY, "up1"))
        await ask("http", service)
        await ask("http", service, {"x-parley-upstream": "up1"})
        assert (upstream.connections, second.connections) == (1, 2)
        assert second.requests[-1].headers["authorization"] == f"Bearer {OTHER_KEY}"
        await change(service, with_key(settings, OTHER_KEY))
        await eventually(lambda: peers[0].writer.is_closing())  # Idle, and nobody's any more.


async def test_a_call_in_flight_finishes_as_it_began_even_its_repetitions(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    asked = asyncio.Event()
    peers: list[Peer] = []

    async def fail_later(peer: Peer) -> None:
        asked.set()
        await asyncio.sleep(0.3)
        await status(503)(peer)

    async def answer(peer: Peer) -> None:
        peers.append(peer)
        await completion("Hello!")(peer)

    upstream.replies = [fail_later, answer]
    async with run_service(settings) as service:
        running = asyncio.create_task(ask("http", service))
        await asked.wait()
        await change(service, with_key(settings, OTHER_KEY))
        seen = await running
        assert (seen.text, seen.attempts) == ("Hello!", 2)
        assert {request.headers["authorization"] for request in upstream.requests} != {f"Bearer {OTHER_KEY}"}
        await eventually(lambda: peers[0].writer.is_closing())  # The old pool keeps no connection.


async def test_limits_and_circuits_outlive_a_change_of_something_else(
    upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    upstream.replies = [status(500)]
    settings = settings_for(upstream, circuit={"failures": 3, "open_for": 60})
    settings["callers"] = [{"name": "crm", "keys": ["caller-key-1"], "requests_per_minute": 2}]
    key = {"authorization": "Bearer caller-key-1"}
    async with run_service(settings) as service:
        assert (await ask("http", service, key)).attempts == 3
        other = {"base_url": second.base_url, "api_keys": [OTHER_KEY]}
        settings = {**settings, "upstreams": {**settings["upstreams"], "other": other}}
        await change(service, settings)
        assert (await ask("http", service, key)).reason == "CIRCUIT_OPEN"
        assert (await ask("http", service, key)).reason == "RATE_LIMITED"
        settings["callers"] = [{**settings["callers"][0], "requests_per_minute": 3}]
        await change(service, settings)
        assert (await ask("http", service, key)).reason == "CIRCUIT_OPEN"


async def test_removed_models_and_callers_are_refused(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["callers"] = [{"name": name, "keys": [f"{name}-key-1"]} for name in ("crm", "erp")]
    key = {"authorization": "Bearer crm-key-1"}
    async with run_service(settings) as service:
        assert (await ask("http", service, key)).ok
        settings["models"] = {"talk": settings["models"]["chat"]}
        settings["callers"] = settings["callers"][:1]
        await change(service, settings)
        assert (await ask("grpc", service, key)).code == "NOT_FOUND"
        assert (await ask("grpc", service, key, model="talk")).ok
        assert (await ask("http", service, {"authorization": "Bearer erp-key-1"}, model="talk")).code == "401"


async def test_an_unusable_certificate_file_changes_nothing(upstream: OpenAIUpstream, tmp_path: Path) -> None:
    settings = settings_for(upstream)
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")
    broken = with_key(settings, OTHER_KEY)
    broken["upstreams"]["tls"] = {"base_url": "https://llm.example/v1", "ca_file": str(nonsense)}
    async with run_service(settings) as service:
        before = service.service.core.routing
        with pytest.raises(ReloadError, match="ca_file"):
            await change(service, broken)
        assert service.service.core.routing is before
        assert (await ask("http", service)).ok


async def test_a_longer_time_limit_than_at_the_start_is_told(
    upstream: OpenAIUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(upstream)
    async with run_service(settings) as service:
        settings["models"]["chat"]["timeouts"] = {"total": "500s"}
        await change(service, settings)
    assert "longest_call_needs_restart" in capsys.readouterr().out


async def test_streams_go_on_over_many_changes(upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, *[item for _ in range(20) for item in (delta("x"), 0.02)], FINISH, DONE)]
    settings = settings_for(upstream)
    async with run_service(settings) as service:
        running = [asyncio.create_task(ask(front, service)) for front in ("sse", "grpc-stream") for _ in range(5)]
        for number in range(10):
            await change(service, with_key(settings, f"{OTHER_KEY}-{number}"))
            await asyncio.sleep(0.02)
        assert {seen.text for seen in await asyncio.gather(*running)} == {"x" * 20}


def test_every_option_survives_the_way_that_running_values_take(upstream_settings: dict[str, Any]) -> None:
    settings = LLMSettings.model_validate(upstream_settings)
    assert LLMSettings.model_validate(settings.model_dump()) == settings


@pytest.fixture
def upstream_settings() -> dict[str, Any]:
    return {
        "upstreams": {
            "main": {"base_url": "http://llm.example/v1", "api_keys": ["sk-1"], "media_hosts": ["a.example"]},
            "azure": {"preset": "azure", "base_url": "https://x.example", "api_version": "1", "api_keys": ["k"]},
        },
        "models": {
            "chat": {
                "targets": [{"upstream": "main", "params": {"set": {"a": [1, {"b": None}]}, "drop": ["c"]}}],
                "timeouts": {"total": "3m"},
            }
        },
        "callers": [{"name": "crm", "keys": ["key-1", {"sha256": "0" * 64, "expires": "2027-01-01"}]}],
    }
