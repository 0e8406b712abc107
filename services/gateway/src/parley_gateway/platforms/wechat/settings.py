"""What a WeChat Official Account bot can be told."""

from typing import Annotated, Literal, Self

from parley_common.settings import Section
from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator

from parley_gateway.platforms.options import ProxyURL, Secret, address_like
from parley_gateway.platforms.wechat.texts import MAX_BYTES, MAX_CHARS, fits

Encryption = Literal["safe", "compat", "plain"]
Reply = Literal["push", "inline", "auto"]


def _aes_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if len(key) != 43 or not (key.isascii() and key.isalnum()):
        raise ValueError("must be the 43 letters and digits that the console shows as EncodingAESKey")
    return value


def _short_text(value: str) -> str:
    if not fits(value):
        raise ValueError(f"must be at most {MAX_BYTES} bytes and {MAX_CHARS} characters, or WeChat refuses it")
    return value


AesKey = Annotated[SecretStr, AfterValidator(_aes_key)]


class WeChatSettings(Section):
    """The `wechat` section of a bot."""

    app_id: str = Field(min_length=1, description="AppID of the account, from the console's page of basic settings.")
    app_secret: Secret | None = Field(
        None, description="AppSecret. Without it nothing can be pushed: every answer is an inline reply."
    )
    token: Secret = Field(description="Token of the server configuration; it signs every request.")
    encoding_aes_key: AesKey | None = Field(None, description="EncodingAESKey of the server configuration.")
    previous_encoding_aes_key: AesKey | None = Field(
        None, description="The key before the last change: still accepted, while WeChat still uses it."
    )
    encryption: Encryption | None = Field(
        None,
        description=(
            "Mode of the server configuration: safe, compat (the plaintext copy is ignored) or plain. "
            "Default: safe when encoding_aes_key is set, else plain."
        ),
    )
    reply: Reply | None = Field(
        None,
        description=(
            "How answers reach the user: push (customer-service messages), inline (in the answer to WeChat's request), "
            "auto (push, and inline once WeChat says that the account may not push). "
            "Default: auto with app_secret, else inline."
        ),
    )
    base_url: Annotated[str, address_like("https://api.weixin.qq.com")] = Field(
        "https://api.weixin.qq.com", description="Where WeChat's API is."
    )
    proxy: ProxyURL = Field(
        "",
        description="HTTP proxy for calls to WeChat; empty means HTTPS_PROXY and NO_PROXY. Loopback needs none.",
        repr=False,
    )
    ca_file: FilePath | None = Field(
        None, description="PEM file with the certificate authorities to trust besides the system's."
    )
    welcome: Annotated[str, AfterValidator(_short_text)] = Field(
        "", description="Greeting for new followers. Default: a built-in sentence in the bot's language."
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        problems = []
        if self.encryption in ("safe", "compat") and self.encoding_aes_key is None:
            problems.append(f"encryption: {self.encryption} needs encoding_aes_key")
        if self.previous_encoding_aes_key is not None and self.encoding_aes_key is None:
            problems.append("previous_encoding_aes_key needs encoding_aes_key, the current one")
        if self.reply in ("push", "auto") and self.app_secret is None:
            problems.append(f"reply: {self.reply} needs app_secret; without one use reply: inline")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def encryption_mode(self) -> Encryption:
        """The mode in force."""
        return self.encryption or ("safe" if self.encoding_aes_key else "plain")

    @property
    def reply_mode(self) -> Reply:
        """The way of answering in force."""
        return self.reply or ("auto" if self.app_secret else "inline")

    @property
    def aes_keys(self) -> tuple[str, ...]:
        """The keys to try, the current one first."""
        keys = (self.encoding_aes_key, self.previous_encoding_aes_key)
        return tuple(key.get_secret_value() for key in keys if key is not None)
