"""What a Feishu bot can be told: the `feishu` section of a bot."""

from typing import Annotated, Literal

from parley_common.settings import Section
from pydantic import Field, FilePath, field_validator

from parley_gateway.platforms.options import ProxyURL, Secret, address_like


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
    foreign_tenants: Literal["refuse", "accept"] = Field(
        "refuse", description="Whether people of other tenants (external groups) are answered."
    )

    @field_validator("mode")
    @classmethod
    def _supported(cls, value: str) -> str:
        if value == "long_connection":
            raise ValueError("long_connection isn't supported yet; use webhook")
        return value
