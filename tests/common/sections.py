"""A section of settings with every shape that options come in."""

from typing import Annotated, Literal

from parley_common.settings import Duration, Port, Section, ServiceSection
from pydantic import AfterValidator, Field, SecretStr, model_validator


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("must not be empty")
    return value


Secret = Annotated[SecretStr, AfterValidator(_not_empty)]


class Hashed(Section):
    """A branch of a union."""

    sha256: str = Field(pattern="^[0-9a-f]{8}$")
    expires: int | None = None


class Upstream(Section):
    """What stands in a mapping."""

    base_url: str
    api_keys: tuple[Secret, ...] = ()
    idle: Annotated[Duration, Field(gt=0)] = 60.0
    preset: Literal["openai", "azure"] = "openai"

    @model_validator(mode="after")
    def _has_keys(self) -> "Upstream":
        if not self.api_keys:
            raise ValueError("api_keys is required")
        return self


class WechatBot(Section):
    """A branch of a discriminated union; its option has the name of its discriminator's value."""

    platform: Literal["wechat"]
    name: str
    wechat: Hashed | None = None


class FeishuBot(Section):
    """The other branch."""

    platform: Literal["feishu"]
    name: str
    mode: Literal["webhook", "long_connection"] = "webhook"


class Settings(ServiceSection):
    """The section."""

    http_port: Port = 8080
    enabled: bool = True
    ratio: float = Field(0.5, ge=0, le=1)
    upstreams: dict[str, Upstream] = Field(default_factory=dict)
    keys: tuple[Secret | Hashed, ...] = ()
    bots: tuple[Annotated[WechatBot | FeishuBot, Field(discriminator="platform")], ...] = ()
    pair: tuple[int, Hashed] | None = None
