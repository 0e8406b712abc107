"""What a Feishu bot can be told, and what is refused with a clear message."""

from pathlib import Path
from typing import Any

import pytest
from parley_gateway.platforms.feishu.client import create_client
from parley_gateway.platforms.feishu.settings import FeishuSettings
from pydantic import ValidationError

from tests.gateway.platforms.feishu.conftest import make_settings

URL = "https://open.feishu.cn"


def problem(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        make_settings(**{"base_url": URL, **changes})
    return str(caught.value)


@pytest.mark.parametrize("name", ["app_id", "app_secret", "encrypt_key", "verification_token"])
@pytest.mark.parametrize("value", ["", None])
def test_empty_secrets_are_refused(name: str, value: Any) -> None:
    assert name in problem(**{name: value})


@pytest.mark.parametrize("name", ["app_secret", "encrypt_key", "verification_token"])
def test_white_space_around_secrets_is_refused(name: str) -> None:
    message = problem(**{name: "my-secret-value\n"})
    assert "white space" in message
    assert "my-secret-value" not in message


def test_long_connection_needs_no_secrets_of_webhooks() -> None:
    settings = make_settings(URL, mode="long_connection", encrypt_key=None, verification_token=None)
    assert settings.encrypt_key is settings.verification_token is None
    assert "encrypt_key" in problem(mode="long_connection", encrypt_key="")


@pytest.mark.parametrize("value", ["open.feishu.cn", "ftp://x", "https://", "https://user:pw@host", "https://x/?a=b"])
def test_base_url_must_be_an_address(value: str) -> None:
    assert "https://open.feishu.cn" in problem(base_url=value)


def test_trailing_slash_is_dropped() -> None:
    assert make_settings("http://simulator:8080/").base_url == "http://simulator:8080"


def test_missing_ca_file_is_refused(tmp_path: Path) -> None:
    assert "ca_file" in problem(ca_file=tmp_path / "missing.pem")


def test_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(OSError):
        create_client(make_settings(URL, ca_file=path), {})


def test_every_option_is_described() -> None:
    assert all(field.description for field in FeishuSettings.model_fields.values())
