"""The sections `llm.upstreams`: where models are, and how to get there."""

import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from parley_common.settings import Section
from pydantic import Field, field_validator, model_validator

from parley_llm.config.values import Secret
from parley_llm.presets import load_preset, preset_names
from parley_llm.upstream.proxy import parse_proxy

_OBJECT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class UpstreamSettings(Section):
    """An OpenAI-compatible endpoint, or a LangChain object in this process."""

    kind: Literal["openai", "langchain"] = Field("openai", description="What serves the calls.")
    runnable: str = Field(
        "", description="`package.module:object` of the Runnable or Embeddings that serves (`kind: langchain`)."
    )
    input: Literal["auto", "messages", "prompt", "text", "dict"] = Field(
        "auto", description="What the Runnable takes; `auto` asks its input schema (`kind: langchain`)."
    )
    preset: str = Field("openai", description=f"Vendor whose peculiarities apply: {', '.join(preset_names())}.")
    base_url: str = Field("", description="Where the API lives, with any path prefix; empty means the preset's.")
    api_version: str = Field("", description="Value of `api-version` (azure).")
    api_keys: tuple[Secret, ...] = Field((), description="Keys, used in turn; a refused one is set aside 10 minutes.")
    proxy: str = Field("", description="HTTP proxy URL; empty means the environment's, `none` means no proxy.")
    ca_file: Path | None = Field(None, description="PEM file with the certificates to trust instead of the system's.")
    media_hosts: tuple[str, ...] = Field(
        (), description="Hosts that `image_url` and the like may name; `data:` URLs are always allowed."
    )
    max_connections: int = Field(
        1000, ge=1, description="Connections open at a time; with `kind: langchain` calls in work at a time."
    )

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        load_preset(value)
        return value

    @field_validator("base_url")
    @classmethod
    def _usable_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http:// or https:// URL without query, such as https://api.openai.com/v1")
        if parts.username is not None:
            raise ValueError("must not hold credentials; use api_keys")
        if not value.isascii() or any(character.isspace() for character in value):
            raise ValueError("must be ASCII without spaces; escape other characters with %")
        _ = parts.port  # Raises ValueError for a port that isn't one.
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _usable_proxy(cls, value: str) -> str:
        if value and value != "none":
            parse_proxy(value)
        return value

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("must name an existing PEM file")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "langchain":
            return self._complete_langchain()
        if others := self._changed({"runnable", "input"}):
            raise ValueError(f"{' and '.join(others)} can only be set with kind: langchain")
        preset = load_preset(self.preset)
        if self.preset == "demo":
            return self
        if not self.base_url and not preset.base_url:
            raise ValueError(f"base_url is required with the preset {self.preset}")
        if not self.base_url and preset.needs_key and not self.api_keys:
            raise ValueError("api_keys is required: the vendor takes no calls without a key")
        if "{api_version}" in preset.query and not self.api_version:
            raise ValueError(f"api_version is required with the preset {self.preset}, such as 2024-10-21")
        return self

    def _changed(self, options: AbstractSet[str]) -> list[str]:
        """Return those of the options that differ from their defaults."""
        return sorted(name for name in options if getattr(self, name) != type(self).model_fields[name].default)

    def _complete_langchain(self) -> Self:
        known = {"kind", "runnable", "input", "media_hosts", "max_connections"}
        if others := self._changed(type(self).model_fields.keys() - known):
            raise ValueError(
                f"{', '.join(others)} can't be set with kind: langchain, which calls no endpoint by itself"
            )
        if not _OBJECT_PATH.fullmatch(self.runnable):
            raise ValueError("runnable is required with kind: langchain, such as my_package.agents:support")
        return self
