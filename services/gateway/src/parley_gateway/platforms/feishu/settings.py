"""What a Feishu bot can be told: the `feishu` section of a bot."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from parley_common.settings import Section
from pydantic import Field, FilePath, SecretStr, field_validator

Secret = Annotated[SecretStr, Field(min_length=1)]


class FeishuSettings(Section):
    """Credentials and addresses of one self-built Feishu or Lark app."""

    app_id: Annotated[str, Field(min_length=1)] = Field(
        description="App ID, `cli_…`, from Credentials & Basic Info in the developer console."
    )
    app_secret: Secret = Field(description="App Secret, from the same page.")
    encrypt_key: Secret = Field(
        description="Encrypt Key, from Events & Callbacks > Encryption Strategy. Without one Feishu signs nothing."
    )
    verification_token: Secret = Field(description="Verification Token, from the same page.")
    mode: Literal["webhook", "long_connection"] = Field(
        "webhook", description="How events arrive. Only `webhook` works so far."
    )
    base_url: str = Field(
        "https://open.feishu.cn",
        description="Where Feishu's API is. Lark: https://open.larksuite.com. Apps of one don't exist on the other.",
    )
    proxy: str = Field(
        "",
        description="HTTP proxy for calls to Feishu; empty means HTTPS_PROXY and NO_PROXY. Loopback needs none.",
        repr=False,
    )
    ca_file: FilePath | None = Field(
        None, description="PEM file with the certificate authorities to trust besides the system's."
    )
    foreign_tenants: Literal["refuse", "accept"] = Field(
        "refuse", description="Whether people of other tenants (external groups) are answered."
    )

    @field_validator("app_secret", "encrypt_key", "verification_token")
    @classmethod
    def _not_blank(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() != value.get_secret_value().strip():
            raise ValueError("must not begin or end with white space")
        return value

    @field_validator("mode")
    @classmethod
    def _supported(cls, value: str) -> str:
        if value == "long_connection":
            raise ValueError("long_connection isn't supported yet; use webhook")
        return value

    @field_validator("base_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise ValueError("must be an address such as https://open.feishu.cn")
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _proxy_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an address such as http://proxy:3128")
        return value
