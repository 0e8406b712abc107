"""Everything the gateway can be told: the section `gateway` of the settings file, or the environment alone."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from parley_common.settings import Duration, Loaded, Port, Section, ServiceSection, load
from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.registry import PLATFORMS
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.store.open import open_store

BotName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]

OVERRIDES = {
    "PARLEY_HOST": "host",
    "PARLEY_GATEWAY_HTTP_PORT": "http_port",
    "PARLEY_GATEWAY_OPS_PORT": "ops_port",
}

_WECHAT = {
    "WECHAT_APP_ID": "app_id",
    "WECHAT_APP_SECRET": "app_secret",
    "WECHAT_TOKEN": "token",
    "WECHAT_ENCODING_AES_KEY": "encoding_aes_key",
    "WECHAT_API_BASE_URL": "base_url",
}
_FEISHU = {
    "FEISHU_APP_ID": "app_id",
    "FEISHU_APP_SECRET": "app_secret",
    "FEISHU_ENCRYPT_KEY": "encrypt_key",
    "FEISHU_VERIFICATION_TOKEN": "verification_token",
    "FEISHU_API_BASE_URL": "base_url",
}


SHORTEST_TOKEN = 16
"""Characters of an admin token."""


class LLMPeer(Section):
    """Where the LLM service is."""

    target: str = Field("localhost:50051", description="gRPC address of the LLM service, `host:port` or `dns:///…`.")
    key: SecretStr | None = Field(None, description="Caller key that the LLM service knows the gateway by.")
    timeout: Duration = Field(
        190.0, description="How long one answer may take, all of the LLM service's tries included."
    )


class StoreWait(Section):
    """Copies of a message that must exist before it is acknowledged, where the store is Redis."""

    replicas: int = Field(
        0, ge=0, le=10, description="Replicas that must have a message: then no failover to one of them loses it."
    )
    local: int = Field(
        0, ge=0, le=1, description="1: the server's own disk must have it (Redis 7.2 or newer, or Valkey)."
    )


class FormatterPeer(Section):
    """Where the formatter is."""

    target: str = Field("localhost:50052", description="gRPC address of the formatter, `host:port` or `dns:///…`.")
    timeout: Duration = Field(10.0, description="How long one call may take.")


Id = Annotated[str, StringConstraints(pattern=r"^\S+$")]
"""An id of a platform: compared exactly, so white space in it could only be a slip."""

Name = Annotated[str, StringConstraints(pattern=r"^[^\s,]+$")]
"""A model's or prompt's name as users type it."""


class People(Section):
    """Users, chats and tenants, by the ids that the platform gives them."""

    users: tuple[Id, ...] = Field((), description="Ids of users (WeChat and Feishu: open ids).")
    chats: tuple[Id, ...] = Field((), description="Ids of chats (Feishu: `oc_…`; on WeChat the user's id).")
    tenants: tuple[Id, ...] = Field(
        (),
        description="Keys of the tenants that senders belong to (Feishu: `tenant_key`). Those of other tenants than "
        "the bot's come in only with `feishu.foreign_tenants: accept`.",
    )


class UseLimits(Section):
    """What one user may use of a bot; 0 means no limit."""

    messages_per_user_minute: int = Field(
        0, ge=0, description="Messages in a minute; the user is told once, further ones get no answer."
    )
    tokens_per_user_day: int = Field(
        0, ge=0, description="Tokens of questions and answers in a day (UTC); the user is told once a day."
    )
    admins_exempt: bool = Field(True, description="Whether the limits don't hold for the bot's admins.")


class BotSettings(Section):
    """One bot on one platform."""

    name: BotName = Field(description="Name in the webhook's path: /webhooks/{platform}/{name}.")
    platform: str = Field(description=f"One of {', '.join(PLATFORMS)}, or `package.module:object` of your own.")
    prompt: str = Field("assistant", description="Prompt of the formatter to answer with.")
    model: str = Field("", description="Model of the LLM service; empty means its default.")
    locale: str = Field("zh-CN", description="Language of what Parley itself says: zh-CN or en.")
    ai_label: bool | None = Field(None, description="Mark answers as made by AI; by default on for zh-CN.")
    history_tokens: int = Field(
        0, ge=0, description="Token budget of prompt and history; 0 is the formatter's default."
    )
    models: tuple[Name, ...] = Field(
        (), description="Models to choose from with `/model` in a conversation, besides `model`; empty: no choice."
    )
    prompts: tuple[Name, ...] = Field(
        (), description="Prompts to choose from with `/prompt` in a conversation, besides `prompt`; empty: no choice."
    )
    admins: tuple[Id, ...] = Field(
        (), description="Ids of the users who may use `/model` and `/prompt`; empty: everybody who may use the bot."
    )
    allow: People = Field(default_factory=People, description="Who may use the bot; an empty list means everyone.")
    deny: People = Field(default_factory=People, description="Who may not use the bot, whatever `allow` says.")
    refusal: Literal["notice", "silence"] = Field(
        "notice", description="What who may not use the bot hears: a notice once a day, or nothing."
    )
    limits: UseLimits = Field(default_factory=UseLimits, description="What one user may use.")
    bursts: Literal["separate", "join"] = Field(
        "separate",
        description="How several messages in a row are answered: each by itself, in order, or together as one question "
        "(join): those that wait in the conversation when an answer starts. A command between two of them parts them.",
    )
    join_within: Duration = Field(
        2.0, le=10, description="With `bursts: join`: how long a message waits for the next one before it is answered."
    )
    wechat: WeChatSettings | None = Field(None, description="WeChat Official Account credentials.")
    feishu: FeishuSettings | None = Field(None, description="Feishu app credentials.")
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of a platform of your own.")

    @field_validator("platform")
    @classmethod
    def _known_platform(cls, value: str) -> str:
        if value not in PLATFORMS and ":" not in value:
            raise ValueError(f"must be one of {', '.join(PLATFORMS)}, or package.module:object")
        return value

    @model_validator(mode="after")
    def _own_section(self) -> "BotSettings":
        for name in PLATFORMS:
            section = getattr(self, name)
            if name == self.platform and section is None:
                raise ValueError(f"a bot on {name} needs the section {name} with its credentials")
            if name != self.platform and section is not None:
                raise ValueError(f"the section {name} doesn't belong to a bot on {self.platform}")
        return self

    @model_validator(mode="after")
    def _clear_access(self) -> "BotSettings":
        problems = [
            f"{kind} {each} stands in both allow and deny; deny wins, so take it out of one"
            for kind in ("users", "chats", "tenants")
            for each in getattr(self.allow, kind)
            if each in getattr(self.deny, kind)
        ]
        problems += [f"admins: {each} is denied by deny.users" for each in self.admins if each in self.deny.users]
        if self.allow.users:
            problems += [f"admins: {each} isn't in allow.users" for each in self.admins if each not in self.allow.users]
        if self.platform == "wechat" and (self.allow.tenants or self.deny.tenants):
            problems.append("tenants: WeChat has none; only users and chats tell people apart there")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def offered(self, kind: Literal["model", "prompt"]) -> tuple[str, ...]:
        """Return what a conversation may choose from, the bot's own first; nothing when there is no choice."""
        own, others = (self.model, self.models) if kind == "model" else (self.prompt, self.prompts)
        return tuple(dict.fromkeys((own, *others))) if others else ()

    @property
    def platform_settings(self) -> Any:
        """The section of this bot's platform."""
        return getattr(self, self.platform) if self.platform in PLATFORMS else self.options

    @property
    def labels_answers(self) -> bool:
        """Whether answers carry the mark that AI made them."""
        return self.locale.startswith("zh") if self.ai_label is None else self.ai_label


class GatewaySettings(ServiceSection):
    """The gateway."""

    http_port: Port = Field(8080, description="Port of the webhooks.")
    ops_port: Port = Field(9080, description="Port of metrics, probes and admin calls.")
    admin_token: SecretStr | None = Field(
        None, description="Opens the admin calls on the ops port, at least 16 characters; without one they are refused."
    )
    store: SecretStr = Field(
        SecretStr("sqlite:///./data/parley.db"),
        description="Where messages are kept: sqlite:///path for one process; for any number of them redis://, "
        "rediss:// (TLS), redis+sentinel://host,host/master or redis+cluster://host,host with the password before "
        "the host, such as redis://:${file:/secrets/redis}@redis:6379/0.",
    )
    store_wait: StoreWait = Field(
        default_factory=StoreWait, description="What a message waits for before it is acknowledged, on Redis."
    )
    llm: LLMPeer = Field(default_factory=LLMPeer, description="The LLM service.")
    formatter: FormatterPeer = Field(default_factory=FormatterPeer, description="The formatter.")
    bots: tuple[BotSettings, ...] = Field((), description="The bots.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="Largest webhook body that is read.")
    parallel_lanes: int = Field(256, ge=1, description="Conversations worked on at the same time by one process.")
    queue_messages: int = Field(10_000, ge=1, description="Messages waiting in the store before new ones are refused.")
    lane_messages: int = Field(
        50, ge=1, description="Messages waiting in one conversation before new ones are refused."
    )
    history_ttl: Duration = Field(7 * 86400.0, description="How long a conversation is remembered.")
    lease: Duration = Field(15.0, ge=1, description="How long a dead worker's conversation waits for another worker.")
    max_attempts: int = Field(5, ge=1, description="Tries of one message before it goes to the dead letters.")

    @field_validator("admin_token")
    @classmethod
    def _strong_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().strip()) < SHORTEST_TOKEN:
            raise ValueError(f"must have at least {SHORTEST_TOKEN} characters; leave it out to refuse admin calls")
        return value

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: SecretStr) -> SecretStr:
        open_store(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _waiting_store(self) -> "GatewaySettings":
        waits = self.store_wait.replicas or self.store_wait.local
        if waits and self.store.get_secret_value().startswith("sqlite"):
            raise ValueError("store_wait is for a store on Redis; a sqlite one waits for its disk by itself")
        return self

    @model_validator(mode="after")
    def _distinct_bots(self) -> "GatewaySettings":
        seen: set[tuple[str, str]] = set()
        for bot in self.bots:
            if (bot.platform, bot.name) in seen:
                raise ValueError(f"two bots on {bot.platform} are called {bot.name}; names are unique on a platform")
            seen.add((bot.platform, bot.name))
        return self


def load_settings(env: Mapping[str, str], config: str | None = None) -> Loaded[GatewaySettings]:
    """Load the gateway's settings. Raises SettingsError with every mistake."""
    return load(
        GatewaySettings,
        section="gateway",
        env=env,
        from_env=settings_from_environment,
        overrides=OVERRIDES,
        env_names=_env_names(env),
        config=config,
    )


def settings_from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Make the section from the variables alone: a bot `default` for each platform that has any of its variables."""
    bots: list[dict[str, Any]] = []
    for platform, variables in _platforms_in(env):
        section = {option: env[name] for name, option in variables.items() if env.get(name)}
        bots.append({"name": "default", "platform": platform, platform: section})
    raw: dict[str, Any] = {"bots": bots}
    if env.get("PARLEY_GATEWAY_ADMIN_TOKEN"):
        raw["admin_token"] = env["PARLEY_GATEWAY_ADMIN_TOKEN"]
    if env.get("PARLEY_GATEWAY_KEY"):
        raw["llm"] = {"key": env["PARLEY_GATEWAY_KEY"]}
    return raw


def _platforms_in(env: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    known = [("wechat", _WECHAT), ("feishu", _FEISHU)]
    return [(name, variables) for name, variables in known if any(env.get(variable) for variable in variables)]


def _env_names(env: Mapping[str, str]) -> dict[str, str]:
    return {
        f"bots.{index}.{platform}.{option}": name
        for index, (platform, variables) in enumerate(_platforms_in(env))
        for name, option in variables.items()
    }
