"""What a Feishu bot can be told: the `feishu` section of a bot."""

from typing import Annotated, Literal

from parley_common.settings import Section
from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from parley_gateway.platforms.options import ProxyURL, Secret, address_like


class FeishuSettings(Section):
    """Credentials and addresses of one self-built Feishu or Lark app."""

    app_id: Annotated[str, Field(min_length=1)] = Field(
        description="App ID, `cli_…`, from Credentials & Basic Info in the developer console."
    )
    app_secret: Secret = Field(description="App Secret, from the same page.")
    mode: Literal["webhook", "long_connection"] = Field(
        "webhook",
        description="How events arrive: `webhook`, Feishu calls the gateway; `long_connection`, the gateway connects "
        "to Feishu and needs no address on the internet.",
    )
    encrypt_key: Secret | None = Field(
        None,
        validate_default=True,
        description="Encrypt Key, from Events & Callbacks > Encryption Strategy. Without one Feishu signs nothing. "
        "Needed for webhooks only.",
    )
    verification_token: Secret | None = Field(
        None,
        validate_default=True,
        description="Verification Token, from the same page. Needed for webhooks only.",
    )
    base_url: Annotated[str, address_like("https://open.feishu.cn")] = Field(
        "https://open.feishu.cn",
        description="Where Feishu's API is. Lark: https://open.larksuite.com. Apps of one don't exist on the other.",
    )
    proxy: ProxyURL = Field(
        "",
        description="HTTP proxy for calls to Feishu; empty means HTTPS_PROXY and NO_PROXY. Loopback needs none.",
        repr=False,
    )
    ca_file: FilePath | None = Field(
        None, description="PEM file with the certificate authorities to trust besides the system's."
    )
    streaming: bool = Field(
        True,
        description="Whether an answer is shown while the model writes it, on a card with a button to stop it. Needs "
        "the permission `cardkit:card:write`; without it answers appear when they are complete.",
    )
    foreign_tenants: Literal["refuse", "accept"] = Field(
        "refuse", description="Whether people of other tenants (external groups) are answered."
    )

    @field_validator("encrypt_key", "verification_token")
    @classmethod
    def _proves_webhooks(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("mode") == "webhook":
            raise PydanticCustomError("missing", "Field required")
        return value
