"""Paths and suggestions in every shape of a model: mappings, lists, unions."""

from typing import Any

import pytest
from parley_common.settings_problems import problems_from
from pydantic import ValidationError

from tests.common.sections import Settings


def mistakes(**raw: Any) -> list[str]:
    """Return what is wrong with this section."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(raw)
    return [str(problem) for problem in problems_from(caught.value, Settings, "gateway", {})]


@pytest.mark.parametrize(
    "name", ["main", "Main", "MAIN", "gpt-4 (azure)", "a[0]", "str", "Upstream", "function-after[x]"]
)
def test_a_name_that_the_operator_chose_stays_in_the_path(name: str) -> None:
    assert mistakes(upstreams={name: {"base_url": "x", "api_key": ["k"]}}) == [
        f"gateway.upstreams.{name}.api_key: unknown option; did you mean api_keys?"
    ]


def test_a_required_option() -> None:
    assert mistakes(upstreams={"main": {"api_keys": ["k"]}}) == ["gateway.upstreams.main.base_url: is required"]


@pytest.mark.parametrize("raw", [5, "words", ["a"], None])
def test_something_else_than_a_section(raw: Any) -> None:
    assert mistakes(upstreams={"main": raw}) == ["gateway.upstreams.main: must be a mapping of options"]


def test_something_else_than_a_list_or_mapping() -> None:
    assert mistakes(keys=5, upstreams=[1]) == ["gateway.upstreams: must be a mapping", "gateway.keys: must be a list"]


def test_no_name_is_similar() -> None:
    assert mistakes(upstreams={"main": {"base_url": "x", "api_keys": ["k"], "qqq": 1}}) == [
        "gateway.upstreams.main.qqq: unknown option; known here: api_keys, base_url, idle, preset"
    ]


def test_an_option_whose_name_is_no_text() -> None:
    assert mistakes(**{"shutdown": {5: 1}}) == ["gateway.shutdown.5: the option's name must be text"]
    assert mistakes(upstreams={5: {"base_url": "x", "api_keys": ["k"]}}) == [
        "gateway.upstreams.5: must be a valid string"
    ]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ({"sha": "00000000"}, ["sha256: is required", "sha: unknown option; did you mean sha256?"]),
        ({"sha256": "zz"}, ["sha256: must match the pattern ^[0-9a-f]{8}$"]),
        (
            {"sha256": "00000000", "expires": "soon"},
            ["expires: must be a valid integer, unable to parse string as an integer"],
        ),
    ],
)
def test_in_a_union_the_branch_that_was_meant_speaks(key: Any, told: list[str]) -> None:
    assert mistakes(keys=["fine", key]) == [f"gateway.keys.1.{one}" for one in told]


def test_no_branch_of_a_union_was_meant() -> None:
    assert mistakes(keys=[5]) == ["gateway.keys.0: must be a valid string or must be a mapping of options"]


def test_a_union_told_apart_by_an_option() -> None:
    assert mistakes(
        bots=[
            {"platform": "wechat", "nam": "a"},
            {"platform": "wechat", "name": "b", "wechat": {"sha256": "zz", "expire": 1}},
            {"platform": "feishu", "name": "c", "mode": "fax", "wechat": {}},
        ]
    ) == [
        "gateway.bots.0.name: is required",
        "gateway.bots.0.nam: unknown option; did you mean name?",
        "gateway.bots.1.wechat.sha256: must match the pattern ^[0-9a-f]{8}$",
        "gateway.bots.1.wechat.expire: unknown option; did you mean expires?",
        "gateway.bots.2.mode: must be 'webhook' or 'long_connection'",
        "gateway.bots.2.wechat: unknown option; known here: mode, name, platform",
    ]


def test_a_union_whose_telling_option_is_wrong() -> None:
    assert mistakes(bots=[{"platform": "fax"}, {}]) == [
        "gateway.bots.0.platform: must be one of 'wechat', 'feishu'",
        "gateway.bots.1.platform: is required",
    ]


def test_a_pair() -> None:
    assert mistakes(pair=[1, {"sha255": "x"}]) == [
        "gateway.pair.1.sha256: is required",
        "gateway.pair.1.sha255: unknown option; did you mean sha256?",
    ]


def test_the_variable_behind_a_value_is_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"http_port": "tcp://1.2.3.4"})

    (problem,) = problems_from(caught.value, Settings, "gateway", {"gateway.http_port": "THE_PORT"})

    assert str(problem).endswith("(set by THE_PORT)")
