"""What a bot's section may say, and what each mistake is answered with."""

from typing import Any

import pytest
from parley_gateway.platforms.wechat.settings import WeChatSettings
from pydantic import ValidationError

from tests.gateway.platforms.wechat.vectors import AES_KEY

BASE = {"app_id": "wx1", "app_secret": "the-app-secret", "token": "the-token", "encoding_aes_key": AES_KEY}


def settings(**changes: Any) -> WeChatSettings:
    section = {**BASE, **changes}
    return WeChatSettings.model_validate({name: value for name, value in section.items() if value is not None})


def test_defaults_follow_from_the_credentials() -> None:
    assert (settings().encryption_mode, settings().reply_mode) == ("safe", "auto")
    bare = settings(app_secret=None, encoding_aes_key=None)
    assert (bare.encryption_mode, bare.reply_mode) == ("plain", "inline")
    assert bare.aes_keys == ()
    assert bare.base_url == "https://api.weixin.qq.com"


def test_what_is_set_wins() -> None:
    chosen = settings(encryption="compat", reply="push", previous_encoding_aes_key="B" * 43)
    assert (chosen.encryption_mode, chosen.reply_mode) == ("compat", "push")
    assert chosen.aes_keys == (AES_KEY, "B" * 43)


@pytest.mark.parametrize(
    ("changes", "option", "advice"),
    [
        ({"token": ""}, "token", "must not be empty"),
        ({"token": "  "}, "token", "must not be empty"),
        ({"app_secret": ""}, "app_secret", "must not be empty"),
        ({"token": None}, "token", "required"),
        ({"app_id": ""}, "app_id", "at least 1"),
        ({"encoding_aes_key": "short"}, "encoding_aes_key", "43 letters and digits"),
        ({"encoding_aes_key": ""}, "encoding_aes_key", "43 letters and digits"),
        ({"encoding_aes_key": "=" * 43}, "encoding_aes_key", "43 letters and digits"),
        ({"previous_encoding_aes_key": "x" * 44}, "previous_encoding_aes_key", "43 letters and digits"),
        ({"encryption": "tls"}, "encryption", "'safe', 'compat' or 'plain'"),
        ({"encoding_aes_key": None, "encryption": "safe"}, "", "encryption: safe needs encoding_aes_key"),
        ({"encoding_aes_key": None, "previous_encoding_aes_key": AES_KEY}, "", "needs encoding_aes_key"),
        ({"app_secret": None, "reply": "push"}, "", "reply: push needs app_secret"),
        ({"app_secret": None, "reply": "auto"}, "", "reply: auto needs app_secret"),
        ({"base_url": "api.weixin.qq.com"}, "base_url", "https://api.weixin.qq.com"),
        ({"proxy": "egress:3128"}, "proxy", "http://proxy:3128"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file", "file"),
        ({"welcome": "欢迎" * 400}, "welcome", "1800 bytes"),
        ({"appid": "wx1"}, "appid", "not permitted"),
    ],
)
def test_mistakes_are_explained(changes: dict[str, Any], option: str, advice: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**changes)
    (error,) = caught.value.errors()
    assert error["loc"] == ((option,) if option else ())
    assert advice.lower() in error["msg"].lower()
    assert "the-app-secret" not in str(caught.value)


def test_several_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        settings(token="", encoding_aes_key="short", reply="maybe")
    assert len(caught.value.errors()) == 3


def test_nothing_secret_is_shown() -> None:
    shown = repr(settings(proxy="http://user:proxy-password@egress:3128", previous_encoding_aes_key="B" * 43))
    for secret in ("the-app-secret", "the-token", AES_KEY, "B" * 43, "proxy-password"):
        assert secret not in shown
