"""Settings: the file, the environment, and every mistake at once, each by its path."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from parley_common.settings import SettingsError
from parley_llm import env as env_settings
from parley_llm.config import LLMSettings
from parley_llm.presets import load_preset, preset_names

SECRET = "sk-very-secret-value-1"


def load_settings(env: dict[str, str], document: Any = None, folder: Path | None = None) -> LLMSettings:
    config = None
    if document is not None:
        assert folder is not None
        path = folder / "parley.yaml"
        path.write_text(yaml.safe_dump(document) if not isinstance(document, str) else document)
        config = str(path)
    env = {"PARLEY_CONFIG": "/nonexistent", **env} if config else env
    return env_settings.load_settings(env, config).settings


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        {
            "OPENAI_API_KEY": SECRET,
            "OPENAI_BASE_PATH": "https://proxy.example/openai/v1/",
            "OPENAI_BASE_URL": "https://ignored.example",
            "OPENAI_CHATBOT_MODEL_ID": "gpt-9",
            "PARLEY_LLM_HTTP_PORT": "1234",
            "PARLEY_LLM_PORT": "tcp://10.0.0.1:80",
        }
    )
    assert settings.upstreams["main"].base_url == "https://proxy.example/openai/v1"
    assert settings.models["*"].targets[0].model == "gpt-9"
    assert (settings.http_port, settings.grpc_port, settings.ops_port) == (1234, 50051, 9081)
    assert settings.host == "127.0.0.1"
    assert SECRET not in repr(settings)


def test_base_url_is_the_other_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://vllm:8000/v1"})
    assert settings.upstreams["main"].base_url == "http://vllm:8000/v1"


@pytest.mark.parametrize("env", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_BASE_PATH": "https://x.example/v1"}])
def test_without_a_key_the_upstream_is_demo(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(env)
    assert [upstream.preset for upstream in settings.upstreams.values()] == ["demo"]


def test_the_gateways_key_makes_a_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"PARLEY_GATEWAY_KEY": "gateway-key-1", "PARLEY_HOST": "0.0.0.0"})
    assert [caller.name for caller in settings.callers] == ["gateway"]
    assert settings.host == "0.0.0.0"


DOCUMENT = """
llm:
  upstreams:
    main:   {base_url: "${OPENAI_BASE_PATH:-https://api.openai.com/v1}", api_keys: ["${OPENAI_API_KEY}"]}
    deep:   {preset: deepseek, api_keys: ["${file:KEYFILE}"], proxy: "http://egress:3128"}
    azure:  {preset: azure, base_url: "https://x.openai.azure.com", api_version: "2024-10-21", api_keys: [k-azure]}
    vllm:   {preset: vllm, base_url: "http://vllm:8000/v1", media_hosts: [], proxy: none}
  models:
    chat:
      targets:
        - {upstream: main, model: gpt-4o-mini}
        - {upstream: deep, model: deepseek-chat, params: {drop: [logit_bias]}}
      timeouts: {connect: 5s, first_token: 20s, idle: 20s, total: 180s}
      retry: {max_attempts: 3, backoff_initial: 500ms, backoff_max: 8s, budget: 0.2}
  callers:
    - {name: gateway, keys: ["${PARLEY_GATEWAY_KEY}"]}
    - name: crm
      keys: [{sha256: "DIGEST", expires: 2027-01-01}, {sha256: "DIGEST", expires: 2027-01-01T10:00:00Z}]
      models: [chat]
      requests_per_minute: 600
      tokens_per_minute: 200000
"""


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "deepseek").write_text(SECRET + "\n")
    document = DOCUMENT.replace("KEYFILE", str(tmp_path / "deepseek")).replace("DIGEST", "ab" * 32)
    settings = load_settings({"OPENAI_API_KEY": SECRET, "PARLEY_GATEWAY_KEY": "gateway-key"}, document, tmp_path)
    assert settings.upstreams["deep"].api_keys[0].get_secret_value() == SECRET
    model = settings.models["chat"]
    assert (model.timeouts.first_token, model.retry.backoff_initial) == (20.0, 0.5)
    first, second = settings.callers[1].keys
    assert not isinstance(first, str)
    expiries = [key.expiry().isoformat() for key in (first, second)]  # type: ignore[union-attr]
    assert expiries == ["2027-01-01T00:00:00+00:00", "2027-01-01T10:00:00+00:00"]


def mistakes(tmp_path: Path, section: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {"llm": section}, tmp_path)
    assert SECRET not in str(caught.value)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        {
            "upstreams": {
                "a": {"base_url": "ftp://x", "api_keys": [SECRET]},
                "b": {"preset": "openia", "base_url": "http://x"},
                "c": {"api_keys": [""]},
                "d": {"base_url": f"https://user:{SECRET}@x"},
                "e": {"base_url": "http://x", "proxy": "socks5://x"},
                "f": {"base_url": "http://x", "ca_file": "/nonexistent"},
                "g": {"base_url": "http://x", "api_key": SECRET},
                "h": {"base_url": "http://x", "api_keys": [f"{SECRET}\nx: y"]},
            },
            "models": {
                "chat": {
                    "targets": [{"upstream": "a", "params": {"set": {"model": "x"}}}],
                    "timeouts": {"total": "soon", "idle": 0},
                    "retry": {"max_attempts": 0, "budget": 2},
                },
                "empty": {"targets": []},
            },
            "callers": [{"name": "Bad Name", "keys": []}],
            "http_prefix": "llm/",
            "grpc_port": 99999,
        },
    )
    expected = {
        "llm.upstreams.a.base_url": "http://",
        "llm.upstreams.b.preset": "azure",
        "llm.upstreams.c.api_keys.0": "empty",
        "llm.upstreams.d.base_url": "credentials",
        "llm.upstreams.e.proxy": "http://",
        "llm.upstreams.f.ca_file": "existing",
        "llm.upstreams.g.api_key": "api_keys",
        "llm.upstreams.h.api_keys.0": "single line",
        "llm.models.chat.targets.0.params": "alone",
        "llm.models.chat.timeouts.total": "500ms",
        "llm.models.chat.timeouts.idle": "greater than 0",
        "llm.models.chat.retry.max_attempts": "greater",
        "llm.models.chat.retry.budget": "less",
        "llm.models.empty.targets": "1",
        "llm.callers.0.name": "",
        "llm.callers.0.keys": "1",
        "llm.http_prefix": "",
        "llm.grpc_port": "65535",
    }
    assert found.keys() == expected.keys()
    for path, hint in expected.items():
        assert hint in found[path], (path, found[path])


def test_names_must_exist_and_keys_be_there(tmp_path: Path) -> None:
    target = {"upstream": "nope"}
    found = mistakes(
        tmp_path,
        {
            "upstreams": {"demo": {"preset": "demo"}},
            "models": {"chat": {"targets": [target]}},
            "callers": [{"name": "a", "keys": ["k1"], "models": ["gpt"]}, {"name": "a", "keys": ["k2"]}],
        },
    )
    text = " ".join(found.values())
    assert "models.chat.targets.0.upstream: 'nope'" in text
    assert "callers.0.models: 'gpt'" in text
    assert "'a' is used twice" in text


@pytest.mark.parametrize(
    ("upstream", "hint"),
    [
        ({}, "api_keys is required"),
        ({"preset": "azure", "base_url": "http://x"}, "api_version is required"),
        ({"preset": "vllm"}, "base_url is required"),
    ],
)
def test_upstreams_must_be_complete(upstream: dict[str, str], hint: str, tmp_path: Path) -> None:
    section = {"upstreams": {"up": upstream}, "models": {"chat": {"targets": [{"upstream": "up"}]}}}
    assert hint in mistakes(tmp_path, section)["llm.upstreams.up"]


def test_names_must_fit_into_headers(tmp_path: Path) -> None:
    section = {
        "upstreams": {"演示": {"preset": "demo"}},
        "models": {"my chat": {"targets": [{"upstream": "演示"}]}},
    }
    found = " ".join(mistakes(tmp_path, section))
    assert "演示" in found
    assert "my chat" in found


def test_two_callers_can_not_share_a_key(tmp_path: Path) -> None:
    section = {
        "upstreams": {"demo": {"preset": "demo"}},
        "models": {"chat": {"targets": [{"upstream": "demo"}]}},
        "callers": [{"name": "a", "keys": [SECRET]}, {"name": "b", "keys": [SECRET]}],
    }
    assert "same key" in " ".join(mistakes(tmp_path, section).values())


def test_an_open_service_must_stay_on_loopback(tmp_path: Path) -> None:
    section = {
        "host": "0.0.0.0",
        "upstreams": {"demo": {"preset": "demo"}},
        "models": {"chat": {"targets": [{"upstream": "demo"}]}},
    }
    assert "at least one caller" in " ".join(mistakes(tmp_path, section).values())


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_usable(name: str) -> None:
    preset = load_preset(name)
    assert preset.provider
    assert all(path is None or path.startswith("/") for path in preset.paths.values())


def run_command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "parley_llm", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**(env or {}), "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin"},
        check=False,
    )


def test_the_command_checks_and_describes_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "parley.yaml"
    path.write_text("llm: {upstreams: {up: {preset: nope}}}")
    checked = run_command("--check", "--config", str(path))
    assert checked.returncode == 2
    assert "llm.upstreams.up.preset" in checked.stderr
    assert "llm.models" in checked.stderr
    schema = json.loads(run_command("--schema").stdout)
    assert set(LLMSettings.model_fields) == set(schema["properties"])
    assert all("description" in definition for definition in schema["properties"].values())
