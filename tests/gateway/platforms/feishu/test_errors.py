"""Which error of Feishu means what."""

from collections.abc import Mapping

import pytest
from parley_gateway.errors import (
    DeliveryError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
)
from parley_gateway.platforms.feishu.errors import api_error


def error(code: int, msg: str = "", status: int = 400, headers: Mapping[str, str] | None = None) -> DeliveryError:
    return api_error("send", status, code, msg, headers or {})


@pytest.mark.parametrize("code", [99991400, 230020, 230049, 11232, 11233])
def test_transient(code: int) -> None:
    assert type(error(code)) is TransientDeliveryError


@pytest.mark.parametrize("code", [230001, 230025, 230099, 11310, 200570, 200861, 200860, 300305, 200220])
def test_refused_content(code: int) -> None:
    assert type(error(code)) is RefusedContentError


@pytest.mark.parametrize(
    "code",
    [
        99991401,
        99991403,
        99991672,
        230002,
        230006,
        230011,
        230013,
        230018,
        230022,
        230028,
        230035,
        230053,
        230110,
        231003,
    ],
)
def test_permanent(code: int) -> None:
    found = error(code)
    assert type(found) is PermanentDeliveryError
    assert found.code == str(code)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, TransientDeliveryError), (429, TransientDeliveryError), (400, PermanentDeliveryError)]
)
def test_unknown_code_is_judged_by_the_status(status: int, kind: type[DeliveryError]) -> None:
    found = error(424242, "something new", status)
    assert type(found) is kind
    assert "something new" in str(found)


def test_cause_of_a_refused_card_is_in_the_code() -> None:
    found = error(230099, "Failed to create card content, ext=ErrCode: 11310; ErrMsg: the user's words; ")
    assert found.code == "230099/11310"
    assert "words" not in str(found)


def test_missing_permission_is_named() -> None:
    found = error(99991672, "Access denied. One of the following scopes is required: [im:message]")
    assert "im:message" in str(found)


@pytest.mark.parametrize(
    ("value", "expected"), [("7", 7.0), ("999999", 3600.0), ("", 1.0), ("soon", 1.0), ("-1", 1.0), ("²", 1.0)]
)
def test_wait_of_a_rate_limit(value: str, expected: float) -> None:
    assert error(99991400, headers={"x-ogw-ratelimit-reset": value}).retry_after_s == expected


def test_permanent_errors_ask_for_no_wait() -> None:
    assert error(230002, headers={"x-ogw-ratelimit-reset": "7"}).retry_after_s is None


def test_log_id_for_feishus_support_is_kept() -> None:
    assert "2026ABC" in str(error(230002, headers={"x-tt-logid": "2026ABC"}))
