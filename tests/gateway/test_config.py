"""The gateway's settings: the file, the environment of old, and what is said about mistakes."""

from pathlib import Path

import pytest
from parley_common.settings import SettingsError
from parley_gateway.config import GatewaySettings, load_settings

WECHAT = {
    "WECHAT_APP_ID": "wx1",
    "WECHAT_APP_SECRET": "wechat-app-secret",
    "WECHAT_TOKEN": "wechat-token",
    "WECHAT_ENCODING_AES_KEY": "a" * 43,
}
FEISHU = {
    "FEISHU_APP_ID": "cli_1",
    "FEISHU_APP_SECRET": "feishu-app-secret",
    "FEISHU_ENCRYPT_KEY": "feishu-encrypt-key",
    "FEISHU_VERIFICATION_TOKEN": "feishu-verification-token",
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(env: dict[str, str], file: str | None = None, folder: Path | None = None) -> list[str]:
    """Return what is said about wrong settings."""
    if file is not None:
        Path("parley.yaml").write_text(file, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(env)
    return [str(problem) for problem in caught.value.problems]


def load(env: dict[str, str]) -> GatewaySettings:
    return load_settings(env).settings


def test_nothing_set_is_a_gateway_without_bots() -> None:
    settings = load({})
    assert settings.bots == ()
    assert (settings.http_port, settings.ops_port, settings.store.get_secret_value()) == (
        8080,
        9080,
        "sqlite:///./data/parley.db",
    )


def test_environment_alone_makes_a_bot_for_each_platform() -> None:
    settings = load({**WECHAT, **FEISHU, "WECHAT_API_BASE_URL": "http://127.0.0.1:9100"})
    wechat, feishu = settings.bots
    assert (wechat.name, wechat.platform, feishu.name, feishu.platform) == ("default", "wechat", "default", "feishu")
    assert wechat.wechat is not None
    assert wechat.wechat.base_url == "http://127.0.0.1:9100"
    assert (wechat.wechat.encryption_mode, wechat.wechat.reply_mode) == ("safe", "auto")


def test_half_a_platform_in_the_environment_names_the_missing_variables() -> None:
    assert problems({"WECHAT_APP_ID": "wx1", "FEISHU_APP_ID": "cli_1", "FEISHU_APP_SECRET": "x"}) == [
        "gateway.bots.0.wechat.token: is required (set by WECHAT_TOKEN)",
        "gateway.bots.1.feishu.encrypt_key: is required (set by FEISHU_ENCRYPT_KEY)",
        "gateway.bots.1.feishu.verification_token: is required (set by FEISHU_VERIFICATION_TOKEN)",
    ]


def test_kubernetes_service_variables_are_not_ours() -> None:
    settings = load({"PARLEY_GATEWAY_PORT": "tcp://10.0.0.1:8080", "PARLEY_GATEWAY_SERVICE_HOST": "10.0.0.1"})
    assert settings.http_port == 8080
    assert load({"PARLEY_GATEWAY_HTTP_PORT": "8888"}).http_port == 8888


def test_port_that_is_none_names_its_variable() -> None:
    (problem,) = problems({"PARLEY_GATEWAY_OPS_PORT": "tcp://10.0.0.1:9080"})
    assert problem.startswith("gateway.ops_port: ")
    assert "PARLEY_GATEWAY_OPS_PORT" in problem


def test_all_mistakes_of_a_file_are_told_at_once_and_without_values() -> None:
    found = problems(
        {},
        """
gateway:
  stor: redis://secret-password@host
  bots:
    - {name: Bad Name, platform: wechat, wechat: {app_id: x, token: "${NO_SUCH}", encoding_aes_key: short-secret-key}}
    - {name: b, platform: telegramm}
    - {name: c, platform: feishu}
    - {name: d, platform: wechat, wechat: {app_id: x, token: t, reply: push}}
""",
    )
    text = "\n".join(found)
    for path in (
        "gateway.stor: unknown option; did you mean store?",
        "gateway.bots.0.name:",
        "gateway.bots.0.wechat.token: the environment variable NO_SUCH is not set",
        "gateway.bots.0.wechat.encoding_aes_key: must be the 43",
        "gateway.bots.1.platform: must be one of wechat, feishu",
        "gateway.bots.2: a bot on feishu needs the section feishu",
        "reply: push needs app_secret",
    ):
        assert path in text, text
    assert "secret" not in text.replace("app_secret", "")


def test_contradictions_of_a_bot_are_told_with_its_path() -> None:
    bot = "name: a, platform: wechat, wechat: {app_id: x, token: long-token}"
    found = problems(
        {},
        f"gateway: {{bots: [{{{bot}, allow: {{users: [u1]}}, deny: {{users: [u1], tenants: [t1]}}, admins: [u2],"
        " join_within: 1m, limits: {token_per_user_day: 5}}]}",
    )
    text = "\n".join(found)
    for told in (
        "gateway.bots.0.join_within:",
        "gateway.bots.0.limits.token_per_user_day: unknown option; did you mean tokens_per_user_day?",
    ):
        assert told in text, text
    (problem,) = problems(
        {},
        f"gateway: {{bots: [{{{bot}, allow: {{users: [u1]}}, deny: {{users: [u1], tenants: [t1]}}, admins: [u2]}}]}}",
    )
    assert problem.startswith("gateway.bots.0: users u1 stands in both allow and deny")
    assert "admins: u2 isn't in allow.users" in problem
    assert "tenants: WeChat has none" in problem


def test_names_are_unique_on_a_platform() -> None:
    bot = "{name: a, platform: wechat, wechat: {app_id: x, token: long-token}}"
    (problem,) = problems({}, f"gateway: {{bots: [{bot}, {bot}]}}")
    assert problem == "gateway: two bots on wechat are called a; names are unique on a platform"


def test_other_sections_variables_are_not_looked_up() -> None:
    Path("parley.yaml").write_text("gateway: {}\nllm: {key: '${ONLY_THE_LLM_KNOWS}'}\n", encoding="utf-8")
    assert load({}).bots == ()


def test_own_platform_is_accepted_by_module_and_object() -> None:
    Path("parley.yaml").write_text(
        "gateway: {bots: [{name: own, platform: 'my.module:create', options: {a: 1}}]}\n", encoding="utf-8"
    )
    (bot,) = load({}).bots
    assert bot.platform_settings == {"a": 1}


def test_secrets_are_not_in_the_representation() -> None:
    text = repr(load({**WECHAT, **FEISHU}))
    assert not [value for value in (*WECHAT.values(), *FEISHU.values()) if len(value) > 5 and value in text]


@pytest.mark.parametrize(
    ("locale", "label", "expected"), [("zh-CN", None, True), ("en", None, False), ("en", True, True)]
)
def test_ai_label_is_on_for_chinese_unless_told(locale: str, label: bool | None, expected: bool) -> None:
    (bot,) = load(WECHAT).bots
    assert bot.model_copy(update={"locale": locale, "ai_label": label}).labels_answers is expected


def test_admin_token_comes_from_the_environment_and_is_no_short_word() -> None:
    settings = load_settings({"PARLEY_GATEWAY_ADMIN_TOKEN": "0123456789abcdef"}).settings
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(settings)
    assert load_settings({}).settings.admin_token is None
    with pytest.raises(SettingsError, match=r"gateway\.admin_token: .*at least 16 characters"):
        load_settings({"PARLEY_GATEWAY_ADMIN_TOKEN": "x" * 15})


def test_stores_password_is_read_from_a_file_and_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("p@ss:/w\n", encoding="utf-8")
    (tmp_path / "parley.yaml").write_text(
        f"gateway: {{store: 'redis://:${{file:{tmp_path}/password}}@redis/2', store_wait: {{replicas: 1}}}}\n",
        encoding="utf-8",
    )
    settings = load({})
    assert settings.store.get_secret_value() == "redis://:p@ss:/w@redis/2"
    assert settings.store_wait.replicas == 1
    assert "p@ss" not in repr(settings)


def test_waiting_for_copies_is_for_redis_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parley.yaml").write_text("gateway: {store_wait: {local: 1}}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="store_wait is for a store on Redis"):
        load({})
