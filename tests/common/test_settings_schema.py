"""The exported schema takes what a file may hold, references and durations as text included, and nothing misspelt."""

from typing import Any

import pytest
from parley_common.settings_schema import settings_schema

from tests.common.schema_check import fits
from tests.common.sections import Settings

SCHEMA = settings_schema(Settings)


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"http_port": 80, "enabled": True, "ratio": 0.1},
        {"http_port": "${PORT:-80}", "enabled": "${ENABLED}", "ratio": "${RATIO}", "log_level": "${LEVEL:-info}"},
        {"shutdown": {"grace": 5}},
        {"shutdown": {"grace": "500ms"}},
        {"shutdown": {"grace": "${GRACE}"}},
        {"upstreams": {"Main": {"base_url": "${URL}", "api_keys": ["${KEY}"], "preset": "azure", "idle": "1h"}}},
        {"upstreams": {"Main": {"base_url": "x", "preset": "${PRESET}"}}},
        {"keys": ["a", {"sha256": "00000000", "expires": "${WHEN}"}]},
        {"bots": [{"platform": "wechat", "name": "a"}, {"platform": "${PLATFORM}", "name": "b"}]},
    ],
)
def test_what_a_file_may_hold(section: dict[str, Any]) -> None:
    assert fits(section, SCHEMA, SCHEMA)


@pytest.mark.parametrize(
    "section",
    [
        {"http_prot": 80},
        {"http_port": 70000},
        {"http_port": "eighty"},
        {"enabled": "perhaps"},
        {"ratio": 2},
        {"log_level": "loud"},
        {"shutdown": {"grace": -1}},
        {"shutdown": {"grace": "5 parsecs"}},
        {"upstreams": {"Main": {"base_url": "x", "idle": 0}}},
        {"upstreams": {"Main": {}}},
        {"upstreams": {"Main": {"base_url": "x", "preset": "other"}}},
        {"keys": [{"sha256": "zz"}]},
        {"bots": [{"platform": "fax", "name": "a"}]},
    ],
)
def test_what_a_file_may_not_hold(section: dict[str, Any]) -> None:
    assert not fits(section, SCHEMA, SCHEMA)


def test_descriptions_and_defaults_stay_beside_the_option() -> None:
    option = SCHEMA["properties"]["log_level"]

    assert option["description"].startswith("Least severity")
    assert option["default"] == "info"
