"""What WeChat's error codes mean for a delivery, and what the operator can do about them.

Source: WeChat documentation, "Send customer service message", "Get stable access token" and "Global error codes".
"""

from parley_gateway.errors import (
    DeliveryError,
    KeepForLaterError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
)

MAY_NOT_PUSH = 48001
"""The account isn't verified, so it has no customer-service messages at all."""

TOKEN_CODES = frozenset({40001, 40014, 42001})
"""The access token is wrong, unknown or over."""

_CREDENTIALS: dict[int, str] = {
    40001: "AppSecret is wrong: copy it from the console, Basic configuration, to app_secret",
    40002: "WeChat refuses the grant type: check base_url",
    40013: "AppID is wrong: copy it from the console, Basic configuration, to app_id",
    40125: "AppSecret is wrong: copy it from the console, Basic configuration, to app_secret",
    40164: "this machine's address is not on the IP allow-list: add it in the console, Basic configuration",
    40243: "AppSecret is frozen: unfreeze it in the console, Basic configuration",
    41002: "the request carried no AppID: set app_id",
    41004: "the request carried no AppSecret: set app_secret",
    50002: "the account is limited by WeChat: look for a notice in the console",
    61004: "this machine's address is not on the IP allow-list: add it in the console, Basic configuration",
    89503: "an administrator has to confirm this machine's address: see the account's WeChat messages and the console",
}

_DELIVERY: dict[int, tuple[type[DeliveryError], str]] = {
    -1: (TransientDeliveryError, "WeChat is busy"),
    40003: (PermanentDeliveryError, "the user is unknown: the OpenID belongs to another account, check app_id"),
    43004: (PermanentDeliveryError, "the user doesn't follow the account any more"),
    43019: (PermanentDeliveryError, "the user is on the account's blacklist: see the console's user management"),
    45002: (RefusedContentError, "the text is too long"),
    45009: (KeepForLaterError, "the account's daily quota of API calls is used up: see the console's API report"),
    45011: (TransientDeliveryError, "too many API calls within a minute"),
    45015: (KeepForLaterError, "the user hasn't written for 48 hours or doesn't follow the account any more"),
    45047: (KeepForLaterError, "all 5 messages that one message of the user allows are used up"),
    MAY_NOT_PUSH: (
        KeepForLaterError,
        "the account may not send customer-service messages: have it verified in the console, or set reply: inline",
    ),
    50005: (PermanentDeliveryError, "the user doesn't follow the account any more"),
}


def credentials_error(code: int, errmsg: str) -> DeliveryError:
    """Return the error of a failed token call."""
    if code in _CREDENTIALS:
        return PermanentDeliveryError(f"{_CREDENTIALS[code]}; WeChat says {errmsg!r}", str(code))
    if code in (-1, 45009, 45011):
        return TransientDeliveryError("WeChat gives no access token now", str(code))
    return PermanentDeliveryError(f"WeChat gives no access token: {errmsg!r}", str(code))


def delivery_error(code: int, errmsg: str) -> DeliveryError:
    """Return the error of a failed call that carried an access token."""
    if code in _DELIVERY:
        kind, meaning = _DELIVERY[code]
        return kind(meaning, str(code))
    if code in _CREDENTIALS and code not in TOKEN_CODES:
        return PermanentDeliveryError(f"{_CREDENTIALS[code]}; WeChat says {errmsg!r}", str(code))
    if code in TOKEN_CODES:
        return TransientDeliveryError("WeChat refuses the access token", str(code))
    return PermanentDeliveryError(f"WeChat refuses the message: {errmsg!r}", str(code))
