"""The settings that the environment alone amounts to, when no file has a section `llm`.

`OPENAI_API_KEY`, `OPENAI_BASE_PATH` (or `OPENAI_BASE_URL`) and `OPENAI_CHATBOT_MODEL_ID` make one upstream to
which any model name passes through. Without a key the upstream is the built-in `demo`.
`PARLEY_GATEWAY_KEY` makes the caller `gateway`, and from then on a key is needed.
"""

from collections.abc import Mapping
from typing import Any

from parley_common.settings import Loaded, load

from parley_llm.config import LLMSettings

DEFAULT_MODEL = "gpt-4o-mini"

OVERRIDES = {
    "PARLEY_HOST": "host",
    "PARLEY_LLM_GRPC_PORT": "grpc_port",
    "PARLEY_LLM_HTTP_PORT": "http_port",
    "PARLEY_LLM_OPS_PORT": "ops_port",
}
"""Variables that win over the file."""


def load_settings(env: Mapping[str, str], config: str | None = None) -> Loaded[LLMSettings]:
    """Load the settings from the file, at `config` or where `env` says, or from the environment alone.

    Raises SettingsError with every mistake.
    """
    return load(LLMSettings, section="llm", env=env, from_env=section_from_env, overrides=OVERRIDES, config=config)


def section_from_env(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the section `llm` that the environment describes."""
    section: dict[str, Any] = {}
    if env.get("OPENAI_API_KEY"):
        upstream: dict[str, Any] = {"api_keys": [env["OPENAI_API_KEY"]]}
        base_url = env.get("OPENAI_BASE_PATH") or env.get("OPENAI_BASE_URL")
        if base_url:
            upstream["base_url"] = base_url
        section["upstreams"] = {"main": upstream}
        model = env.get("OPENAI_CHATBOT_MODEL_ID") or DEFAULT_MODEL
        section["models"] = {"*": {"targets": [{"upstream": "main", "model": model}]}}
    else:
        section["upstreams"] = {"demo": {"preset": "demo"}}
        section["models"] = {"*": {"targets": [{"upstream": "demo", "model": "demo"}]}}
    if env.get("PARLEY_GATEWAY_KEY"):
        section["callers"] = [{"name": "gateway", "keys": [env["PARLEY_GATEWAY_KEY"]]}]
    return section
