"""Everything the LLM service can be told: the section `llm` of the settings file.

Only the shape and its rules stand here; `routing` and `server` make the running objects from it.
"""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Self, TypeVar
from urllib.parse import urlsplit

from parley_common.settings import Duration, Port, Section, ServiceSection, Shutdown
from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from parley_llm.parameters import ParamsSettings
from parley_llm.presets import load_preset, preset_names
from parley_llm.presets.schema import Feature
from parley_llm.upstream.proxy import is_loopback, parse_proxy

PASS_THROUGH = "*"  # noqa: S105 - an alias, not a password
DEFAULT_ALIAS = "default"
Entry = TypeVar("Entry")


def _not_empty(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("must not be empty: set the variable or file it comes from, or remove the entry")
    if any(character in secret.get_secret_value() for character in "\r\n\0"):
        raise ValueError("must be a single line")
    return secret


def _some(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    # Unlike `min_length`, this does not complain a second time when an entry itself is wrong.
    if not entries:
        raise ValueError("must have at least 1 entry")
    return entries


UpstreamName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Alias = Annotated[str, Field(pattern="^[!-~]{1,128}$")]  # It goes into headers; models have names like org/model:8b.
Secret = Annotated[SecretStr, AfterValidator(_not_empty)]


class UpstreamSettings(Section):
    """An OpenAI-compatible endpoint."""

    preset: str = Field("openai", description=f"Vendor whose peculiarities apply: {', '.join(preset_names())}.")
    base_url: str = Field("", description="Where the API lives, with any path prefix; empty means the preset's.")
    api_version: str = Field("", description="Value of `api-version` (azure).")
    api_keys: tuple[Secret, ...] = Field((), description="Keys, used in turn; a refused one is set aside 10 minutes.")
    proxy: str = Field("", description="HTTP proxy URL; empty means the environment's, `none` means no proxy.")
    ca_file: Path | None = Field(None, description="PEM file with the certificates to trust instead of the system's.")
    media_hosts: tuple[str, ...] = Field(
        (), description="Hosts that `image_url` and the like may name; `data:` URLs are always allowed."
    )
    max_connections: int = Field(1000, ge=1, description="Connections open at a time.")

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


class TargetSettings(Section):
    """One place a model's calls may go to."""

    upstream: str = Field(description="Name of the upstream.")
    model: str = Field("", description="Name of the model there; empty means the alias.")
    params: ParamsSettings = Field(
        default_factory=ParamsSettings, description="Changes to the caller's parameters, after the preset's."
    )
    features: dict[Feature, bool] = Field(
        default_factory=dict, description="Features the model has or lacks, where that differs from the preset."
    )
    emulate: bool = Field(
        False, description="Whether `response_format` may be put into the prompt where the model lacks it."
    )


class TimeoutsSettings(Section):
    """Time limits of a call. All are clipped to what the caller's deadline leaves."""

    connect: Annotated[Duration, Field(gt=0)] = Field(5.0, description="To open a connection, TLS included.")
    first_token: Annotated[Duration, Field(gt=0)] = Field(
        60.0, description="From sending a streamed request to its first content; comments are no content."
    )
    idle: Annotated[Duration, Field(gt=0)] = Field(60.0, description="Between two chunks, or pieces of a plain answer.")
    total: Annotated[Duration, Field(gt=0)] = Field(180.0, description="The whole call with all attempts and waits.")


class RetrySettings(Section):
    """How a failed attempt is repeated."""

    max_attempts: int = Field(3, ge=1, le=20, description="Attempts in all, the first included.")
    backoff_initial: Duration = Field(0.5, description="Longest first wait; the wait is random below it (full jitter).")
    backoff_max: Duration = Field(8.0, description="Longest wait that doubling leads to.")
    retry_after_max: Duration = Field(30.0, description="Longest `Retry-After` that is waited for; beyond it give up.")
    budget: float = Field(0.2, ge=0, le=1, description="Share of an upstream's calls that may be repetitions.")


class CircuitSettings(Section):
    """When a target that keeps failing is left alone."""

    failures: int = Field(10, ge=1, description="Failures in a row that open the circuit.")
    open_for: Annotated[Duration, Field(gt=0)] = Field(10.0, description="How long it stays open between trial calls.")


class ModelSettings(Section):
    """What stands behind a name that callers use."""

    targets: Annotated[tuple[TargetSettings, ...], AfterValidator(_some)] = Field(
        description="Where calls go, in order of preference."
    )
    timeouts: TimeoutsSettings = Field(default_factory=TimeoutsSettings, description="Time limits.")
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Repetition of failed attempts.")
    circuit: CircuitSettings = Field(default_factory=CircuitSettings, description="Circuit breaker of each target.")


class HashedKey(Section):
    """A caller's key known by its hash only."""

    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the key, in hexadecimal.")
    expires: datetime | date | None = Field(None, description="When the key stops to work; a date: its start in UTC.")

    def expiry(self) -> datetime | None:
        """Return the moment of expiry with a time zone."""
        if self.expires is None:
            return None
        if not isinstance(self.expires, datetime):
            return datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC)
        return self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)


def key_digest(key: SecretStr | HashedKey) -> bytes:
    """Return the SHA-256 by which a caller's key is known."""
    if isinstance(key, HashedKey):
        return bytes.fromhex(key.sha256)
    return hashlib.sha256(key.get_secret_value().strip().encode()).digest()


class CallerSettings(Section):
    """An application that may call."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9_.-]{0,62}$", description="Name in logs and metrics.")
    keys: Annotated[tuple[Secret | HashedKey, ...], AfterValidator(_some)] = Field(
        description="Keys: plain, or {sha256, expires}."
    )
    models: tuple[str, ...] = Field((), description="Aliases the caller may use; empty means all.")
    requests_per_minute: int | None = Field(None, ge=1, description="Calls a minute, counted by this process.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens a minute, counted by this process.")
    concurrency: int | None = Field(None, ge=1, description="Calls at a time, counted by this process.")


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
    upstreams: dict[UpstreamName, UpstreamSettings] = Field(min_length=1, description="The endpoints, by name.")
    models: dict[Alias, ModelSettings] = Field(min_length=1, description='The names callers use; "*" takes any name.')
    callers: tuple[CallerSettings, ...] = Field((), description="Who may call; none means: this machine only.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = [*self._unknown_names(), *self._doubtful_callers()]
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
