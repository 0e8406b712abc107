"""Everything the LLM service can be told: the section `llm` of the settings file.

Only the shape and its rules stand here; `routing` and `server` make the running objects from it.
"""

from pathlib import Path
from typing import Annotated, Self

from parley_common.redis_address import parse_store
from parley_common.settings import Duration, Port, Section, ServiceSection, Shutdown
from pydantic import Field, SecretStr, field_validator, model_validator

from parley_llm.config.callers import CallerSettings, key_digest
from parley_llm.config.models import ModelSettings
from parley_llm.config.upstreams import UpstreamSettings
from parley_llm.config.values import PASS_THROUGH, Alias, UpstreamName
from parley_llm.upstream.proxy import is_loopback


class IdempotencySettings(Section):
    """What becomes of calls that name an idempotency key."""

    linger: Duration = Field(
        10.0, description="How long a call whose caller has left goes on, and its answer is kept, for a repeat."
    )


class LLMSettings(ServiceSection):
    """The section `llm`."""

    shutdown: Shutdown = Field(default_factory=lambda: Shutdown(grace=185.0), description="How the service stops.")
    grpc_port: Port = Field(50051, description="Port of the gRPC API.")
    http_port: Port = Field(8081, description="Port of the API in OpenAI's format.")
    ops_port: Port = Field(9081, description="Port of metrics and health.")
    http_prefix: str = Field("", pattern="^(/[A-Za-z0-9._~-]+)*$", description="Path before `/v1`, such as /llm.")
    keep_alive: Annotated[Duration, Field(gt=0)] = Field(
        15.0, description="Interval of the comments that a waiting event stream gets."
    )
    max_body: int = Field(32 * 1024 * 1024, ge=1024, description="Longest request body in bytes.")
    max_upload: int = Field(100 * 1024 * 1024, ge=1024, description="Longest upload (multipart/form-data) in bytes.")
    upload_dir: Path | None = Field(
        None, description="Where uploads of more than 1 MiB wait on disk; empty means the system's place."
    )
    idempotency: IdempotencySettings = Field(
        default_factory=IdempotencySettings, description="Calls that name an idempotency key."
    )
    upstreams: dict[UpstreamName, UpstreamSettings] = Field(min_length=1, description="The endpoints, by name.")
    models: dict[Alias, ModelSettings] = Field(min_length=1, description='The names callers use; "*" takes any name.')
    callers: tuple[CallerSettings, ...] = Field((), description="Who may call; none means: this machine only.")
    store: SecretStr = Field(
        SecretStr(""),
        description="Redis in which replicas count limits and use together; empty: each process for itself.",
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="What prices are in; only for show.")

    @field_validator("store")
    @classmethod
    def _usable_store(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            parse_store(value.get_secret_value(), optional=True)
        return value

    @field_validator("upload_dir")
    @classmethod
    def _existing(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("must name an existing directory")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = [*self._unknown_names(), *self._doubtful_fallbacks(), *self._doubtful_callers()]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _unknown_names(self) -> list[str]:
        mistakes = []
        for alias, model in self.models.items():
            for number, target in enumerate(model.targets):
                if target.upstream not in self.upstreams:
                    known = ", ".join(sorted(self.upstreams))
                    mistakes.append(
                        f"models.{alias}.targets.{number}.upstream: {target.upstream!r} is not configured;"
                        f" the upstreams are {known}"
                    )
        for number, caller in enumerate(self.callers):
            for alias in caller.models:
                if alias not in self.models:
                    known = ", ".join(sorted(self.models))
                    mistakes.append(f"callers.{number}.models: {alias!r} is not configured; the models are {known}")
        return mistakes

    def _doubtful_fallbacks(self) -> list[str]:
        mistakes = []
        for alias, model in self.models.items():
            path, fallback = f"models.{alias}.context_fallback", model.context_fallback
            passed = self._fallbacks(alias)
            if fallback == PASS_THROUGH:
                mistakes.append(f'{path}: must be a model with a name of its own, not "*"')
            elif fallback and not passed:
                known = ", ".join(sorted(self.models))
                mistakes.append(f"{path}: {fallback!r} is not configured; the models are {known}")
            elif alias in passed:
                mistakes.append(f"{path}: leads back to itself by way of {', '.join(passed)}")
        return mistakes

    def _fallbacks(self, alias: str) -> list[str]:
        """Return the aliases that `context_fallback` leads to, one after the other, the last one maybe for ever."""
        passed: list[str] = []
        while (alias := self.models[alias].context_fallback) in self.models and alias not in passed:
            passed.append(alias)
        return passed

    def _doubtful_callers(self) -> list[str]:
        names = [caller.name for caller in self.callers]
        mistakes = [
            f"callers: the name {name!r} is used twice; names must differ"
            for name in sorted(set(names))
            if names.count(name) > 1
        ]
        owners: dict[bytes, str] = {}
        for caller in self.callers:
            for key in caller.keys:
                owner = owners.setdefault(key_digest(key), caller.name)
                if owner != caller.name:
                    mistakes.append(f"callers: {owner!r} and {caller.name!r} have the same key; keys must differ")
        if not self.callers and not is_loopback(self.host):
            mistakes.append(
                "callers: must name at least one caller when host is not a loopback address;"
                " without callers the service answers anyone who reaches it"
            )
        return mistakes
