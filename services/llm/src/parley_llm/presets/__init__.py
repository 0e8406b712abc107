"""Vendors' peculiarities as data: one YAML file per preset, named like the preset."""

from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Preset(BaseModel):
    """What differs between vendors of the same API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str = Field(description="Value of `gen_ai.provider.name` in metrics and traces.")
    base_url: str | None = Field(None, description="Where the vendor serves the API, if that is one address.")
    chat_path: str = Field("/chat/completions", description="Path behind the base URL; `{model}` is the model.")
    models_path: str | None = Field("/models", description="Path of the list of models, if there is one.")
    query: str = Field("", description="Query of every request; `{api_version}` is the upstream's setting.")
    key_header: str = Field("authorization", description="Header that carries the API key.")
    key_prefix: str = Field("Bearer ", description="What stands before the API key in that header.")
    stream_usage: bool = Field(True, description="Whether `stream_options.include_usage` is understood.")


def preset_names() -> list[str]:
    """Return the names of the built-in presets, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """Read a preset. Raises ValueError for an unknown name."""
    names = preset_names()
    if name not in names:
        raise ValueError(f"{name!r} is no preset; the presets are {', '.join(names)}")
    return Preset.model_validate(yaml.safe_load(resources.files(__name__).joinpath(f"{name}.yaml").read_text()))
