"""The formatter's settings: the section `formatter` of the settings file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parley_common.settings import Loaded, Port, ServiceSection, load
from pydantic import Field

SECTION = "formatter"
_OVERRIDES = {
    "PARLEY_HOST": "host",
    "PARLEY_FORMATTER_GRPC_PORT": "grpc_port",
    "PARLEY_FORMATTER_OPS_PORT": "ops_port",
}


class FormatterSettings(ServiceSection):
    """What the formatter can be told."""

    grpc_port: Port = Field(50052, description="Port of the gRPC service.")
    ops_port: Port = Field(9082, description="Port of metrics and health checks.")
    prompts_dir: Path | None = Field(
        None, description="Directory of own prompt files; a file with a built-in one's name replaces it."
    )
    max_prompt_tokens: int = Field(
        8192, ge=256, description="Estimated tokens of a prompt when the caller sets no budget."
    )


def load_settings(env: Mapping[str, str], config: str | None = None) -> Loaded[FormatterSettings]:
    """Load the settings from the file and the environment.

    Raises SettingsError with every mistake.
    """
    return load(FormatterSettings, section=SECTION, env=env, from_env=_from_env, overrides=_OVERRIDES, config=config)


def _from_env(_env: Mapping[str, str]) -> dict[str, Any]:
    """Without a file nothing but the ports comes from the environment."""
    return {}
