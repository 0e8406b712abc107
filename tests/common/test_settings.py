"""Settings: where they come from, what is replaced, and that every mistake is told, once, without a value."""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from parley_common.settings import Loaded, SettingsError, load
from pydantic import SecretStr, ValidationError

from tests.common.sections import Settings

SECRET = "hunter2-hunter2"
OVERRIDES = {"PARLEY_GATEWAY_HTTP_PORT": "http_port", "PARLEY_GATEWAY_DRAIN": "shutdown.drain"}

LoadText = Callable[..., Loaded[Settings]]


@pytest.fixture
def load_text(tmp_path: Path) -> LoadText:
    """Load the section `gateway` of a file with this text."""

    def load_it(text: str, **env: str) -> Loaded[Settings]:
        file = tmp_path / "parley.yaml"
        file.write_text(text, encoding="utf-8")
        return load_env(PARLEY_CONFIG=str(file), **env)

    return load_it


def load_env(**env: str) -> Loaded[Settings]:
    """Load the section `gateway` with this environment."""
    return load(Settings, section="gateway", env=env, from_env=_from_env, overrides=OVERRIDES)


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    return {"upstreams": {"main": {"base_url": "http://x", "api_keys": [env["KEY"]]}}} if "KEY" in env else {}


def mistakes(load_it: Callable[[], object]) -> list[str]:
    """Return what loading complains about; no complaint may hold the secret, however it is printed."""
    with pytest.raises(SettingsError) as caught:
        load_it()
    printed = "".join(traceback.format_exception(caught.value))
    for text in (printed, repr(caught.value), str(caught.value)):
        assert SECRET not in text
    assert len(caught.value.problems) == len(str(caught.value).splitlines())
    return [str(problem) for problem in caught.value.problems]


# Where settings come from.


def test_no_file_means_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    loaded = load_env(KEY=SECRET)

    assert loaded.source == "environment"
    assert loaded.files == ()
    assert loaded.settings.upstreams["main"].api_keys == (SecretStr(SECRET),)


def test_the_default_file_is_used_when_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parley.yaml").write_text("gateway: {http_port: 1234}")

    loaded = load_env(KEY=SECRET)

    assert loaded.settings.http_port == 1234
    assert loaded.source == "parley.yaml"
    assert loaded.settings.upstreams == {}  # With a section in the file the environment adds nothing.


def test_the_command_line_wins_over_the_variable(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("gateway: {http_port: 1}")
    (tmp_path / "b.yaml").write_text("gateway: {http_port: 2}")

    loaded = load(
        Settings,
        section="gateway",
        env={"PARLEY_CONFIG": str(tmp_path / "a.yaml")},
        from_env=_from_env,
        config=str(tmp_path / "b.yaml"),
    )

    assert loaded.settings.http_port == 2


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.yaml"

    assert mistakes(lambda: load_env(PARLEY_CONFIG=str(missing))) == [
        f"{missing}: can't be read: No such file or directory"
    ]


def test_a_file_without_the_section_means_the_environment(load_text: LoadText) -> None:
    loaded = load_text("llm: {}\n", KEY=SECRET)

    assert loaded.source == "environment"
    assert loaded.settings.upstreams.keys() == {"main"}
    assert [file.name for file in loaded.files] == ["parley.yaml"]  # It may get the section later.


@pytest.mark.parametrize("text", ["gateway:\n", "gateway: {}\n"])
def test_an_empty_section_means_the_defaults(load_text: LoadText, text: str) -> None:
    assert load_text(text, KEY=SECRET).settings == Settings()


def test_an_empty_file_means_the_environment(load_text: LoadText) -> None:
    assert load_text("# nothing yet\n", KEY=SECRET).source == "environment"


def test_other_sections_are_none_of_our_business(load_text: LoadText) -> None:
    text = "llm: {no_such_option: '${UNSET}', key: '${file:/nowhere}'}\nformatter: 5\ngateway: {http_port: 1}\n"

    assert load_text(text).settings.http_port == 1


def test_loaded_settings_are_frozen(load_text: LoadText) -> None:
    settings = load_text("gateway: {}").settings

    with pytest.raises(ValidationError):
        settings.http_port = 1  # type: ignore[misc]


# Overrides.


def test_a_variable_overrides_the_file(load_text: LoadText) -> None:
    settings = load_text(
        "gateway: {http_port: 1, shutdown: {grace: 7}}", PARLEY_GATEWAY_HTTP_PORT="2", PARLEY_GATEWAY_DRAIN="5s"
    ).settings

    assert settings.http_port == 2
    assert (settings.shutdown.drain, settings.shutdown.grace) == (5.0, 7.0)


def test_a_wrong_override_names_its_variable(load_text: LoadText) -> None:
    assert mistakes(lambda: load_text("gateway: {}", PARLEY_GATEWAY_HTTP_PORT="tcp://1.2.3.4:80")) == [
        "gateway.http_port: must be a valid integer, unable to parse string as an integer"
        " (set by PARLEY_GATEWAY_HTTP_PORT)"
    ]


def test_a_variable_that_kubernetes_injects_is_never_read(load_text: LoadText) -> None:
    assert load_text("gateway: {}", PARLEY_GATEWAY_PORT="tcp://10.0.0.1:80").settings.http_port == 8080


def test_an_empty_override_overrides_nothing(load_text: LoadText) -> None:
    assert load_text("gateway: {http_port: 1}", PARLEY_GATEWAY_HTTP_PORT="").settings.http_port == 1


@pytest.mark.parametrize(("shutdown", "right"), [("", True), ("5", False), ("[]", False)])
def test_an_override_below_something_else_than_a_mapping(load_text: LoadText, shutdown: str, right: bool) -> None:
    text = f"gateway: {{shutdown: {shutdown}}}"
    if right:
        assert load_text(text, PARLEY_GATEWAY_DRAIN="5s").settings.shutdown.drain == 5.0
    else:
        assert mistakes(lambda: load_text(text, PARLEY_GATEWAY_DRAIN="5s")) == [
            "gateway.shutdown: must be a mapping of options"
        ]


# References.


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("${A}", "one"),
        ("x-${A}-${B}", "x-one-two"),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${NONE:-other}", "other"),
        ("${NONE:-}", ""),
        ("${NONE:-http://host:80/v1?a=b}", "http://host:80/v1?a=b"),
        ("$${A}", "${A}"),
        ("$${A} and ${A}", "${A} and one"),
        ("$A {A} $", "$A {A} $"),
        ("${REFERENCE}", "${A}"),
    ],
)
def test_references_are_replaced(load_text: LoadText, written: str, read: str) -> None:
    env = {"A": "one", "B": "two", "EMPTY": "", "REFERENCE": "${A}"}

    text = f"gateway: {{upstreams: {{main: {{base_url: '{written}', api_keys: [k]}}}}}}"

    assert load_text(text, **env).settings.upstreams["main"].base_url == read


def test_references_stand_for_other_kinds_too(load_text: LoadText) -> None:
    settings = load_text(
        "gateway: {http_port: '${P}', enabled: '${E}', ratio: '${R:-0.25}', shutdown: {grace: '${G}'}}",
        P="17",
        E="false",
        G="2m",
    ).settings

    assert (settings.http_port, settings.enabled, settings.ratio, settings.shutdown.grace) == (17, False, 0.25, 120.0)


def test_what_a_variable_holds_can_not_change_the_files_structure(load_text: LoadText) -> None:
    text = "gateway: {upstreams: {main: {base_url: '${A}', api_keys: [k]}}}"

    assert load_text(text, A="x'}, http_port: 1").settings.upstreams["main"].base_url == "x'}, http_port: 1"


def test_a_secret_file_is_read_and_watched(load_text: LoadText, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text(f"{SECRET}\n")

    loaded = load_text(f"gateway: {{upstreams: {{main: {{base_url: x, api_keys: ['${{file:{secret}}}']}}}}}}")

    assert loaded.settings.upstreams["main"].api_keys == (SecretStr(SECRET),)
    assert loaded.files == (tmp_path / "parley.yaml", secret)
    assert SECRET not in repr(loaded)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("${NONE}", "the environment variable NONE is not set; set it or write ${NONE:-default}"),
        ("${file:/nowhere/key}", "the file /nowhere/key can't be read as text"),
        ("${not a name}", "a reference must be ${VAR}, ${VAR:-default} or ${file:/path}"),
        ("${}", "a reference must be ${VAR}, ${VAR:-default} or ${file:/path}"),
        ("${A", "a reference has no end, or holds another; a plain ${ is written $${"),
        ("${NONE:-${A}}", "a reference has no end, or holds another; a plain ${ is written $${"),
    ],
)
def test_wrong_references_are_told_once(load_text: LoadText, written: str, problem: str) -> None:
    text = f"gateway: {{upstreams: {{Main: {{base_url: x, api_keys: ['{written}']}}}}}}"

    assert mistakes(lambda: load_text(text, A=SECRET)) == [f"gateway.upstreams.Main.api_keys.0: {problem}"]


def test_a_failed_reference_does_not_make_its_section_wrong_too(load_text: LoadText) -> None:
    # The empty text in its place would fail `api_keys is required`, a rule of the section around it.
    text = "gateway: {upstreams: {main: {base_url: x, idle: '${NONE}'}, other: {base_url: x}}}"

    assert mistakes(lambda: load_text(text)) == [
        "gateway.upstreams.main.idle: the environment variable NONE is not set; set it or write ${NONE:-default}",
        "gateway.upstreams.other: api_keys is required",
    ]


# The file itself.


def test_broken_yaml_is_told_with_its_line_and_without_its_text(load_text: LoadText, tmp_path: Path) -> None:
    text = f"gateway:\n  http_port: 1\n  key: '{SECRET}\n"

    (mistake,) = mistakes(lambda: load_text(text))

    assert mistake.startswith(f"{tmp_path / 'parley.yaml'}: isn't valid YAML at line ")


def test_a_key_that_stands_twice_is_told_with_its_line(load_text: LoadText, tmp_path: Path) -> None:
    text = "gateway:\n  http_port: 1\n  enabled: true\n  http_port: 2\n"

    assert mistakes(lambda: load_text(text)) == [
        f"{tmp_path / 'parley.yaml'}: isn't valid at line 4, column 3: http_port stands twice"
    ]


def test_merged_mappings_may_repeat_a_key(load_text: LoadText) -> None:
    text = """
gateway:
  upstreams:
    a: &a {base_url: x, api_keys: [k]}
    b: {<<: *a, base_url: y}
"""
    settings = load_text(text).settings

    assert (settings.upstreams["b"].base_url, settings.upstreams["b"].api_keys) == ("y", (SecretStr("k"),))


def test_a_date_that_does_not_exist_is_a_mistake_of_the_file(load_text: LoadText) -> None:
    (mistake,) = mistakes(lambda: load_text("gateway: {name: 2027-13-45}"))

    assert "holds a date that doesn't exist" in mistake


def test_a_file_that_is_no_text_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "parley.yaml"
    file.write_bytes(b"\xff\xfe" + SECRET.encode())

    assert mistakes(lambda: load_env(PARLEY_CONFIG=str(file))) == [f"{file}: isn't text in UTF-8"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "5\n"])
def test_a_file_must_have_sections(load_text: LoadText, text: str) -> None:
    (mistake,) = mistakes(lambda: load_text(text))

    assert mistake.endswith("must be a mapping with the sections gateway, llm, formatter")


@pytest.mark.parametrize("section", ["[]", "5", "words"])
def test_a_section_must_hold_options(load_text: LoadText, section: str) -> None:
    assert mistakes(lambda: load_text(f"gateway: {section}")) == ["gateway: must be a mapping of options"]


def test_an_unknown_section_is_told_with_a_suggestion(load_text: LoadText) -> None:
    assert mistakes(lambda: load_text("gatewai: {}\ngateway: {}\nzzz: {}\n")) == [
        "gatewai: unknown section; did you mean gateway?",
        "zzz: unknown section; known here: formatter, gateway, llm",
    ]


def test_all_mistakes_are_told_at_once(load_text: LoadText) -> None:
    text = f"""
gatway: {{}}
gateway:
  http_prot: 1
  ratio: 2
  enabled: {SECRET}
  shutdown: {{grace: {SECRET}}}
  upstreams:
    Main: {{base_url: '${{NONE}}', api_key: [{SECRET}]}}
    other: {{preset: {SECRET}, base_url: [{SECRET}]}}
  keys: ["", {{sha256: {SECRET}}}]
"""
    assert mistakes(lambda: load_text(text)) == [
        "gateway.enabled: must be a valid boolean, unable to interpret input",
        "gateway.http_prot: unknown option; did you mean http_port?",
        "gateway.keys.0: must not be empty",
        "gateway.keys.1.sha256: must match the pattern ^[0-9a-f]{8}$",
        "gateway.ratio: must be less than or equal to 1",
        "gateway.shutdown.grace: must be a duration such as 500ms, 5s, 3m or 1h",
        "gateway.upstreams.Main.api_key: unknown option; did you mean api_keys?",
        "gateway.upstreams.Main.base_url: the environment variable NONE is not set; set it or write ${NONE:-default}",
        "gateway.upstreams.other.base_url: must be a valid string",
        "gateway.upstreams.other.preset: must be 'openai' or 'azure'",
        "gatway: unknown section; did you mean gateway?",
    ]


# Durations.


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("3m", 180), ("1h", 3600), ("2d", 172800), ("1.5s", 1.5), ("7", 7), ("' 5 s '", 5)],
)
def test_durations(load_text: LoadText, written: str, seconds: float) -> None:
    assert load_text(f"gateway: {{shutdown: {{grace: {written}}}}}").settings.shutdown.grace == seconds


@pytest.mark.parametrize("written", ["5 parsecs", "-5s", "-1", ".inf", ".nan", "true", "[5]", "''", "1s 5m"])
def test_wrong_durations(load_text: LoadText, written: str) -> None:
    (mistake,) = mistakes(lambda: load_text(f"gateway: {{shutdown: {{grace: {written}}}}}"))

    assert mistake.startswith("gateway.shutdown.grace: must be ")
