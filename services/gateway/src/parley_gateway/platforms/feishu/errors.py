"""Feishu's error codes as the gateway's delivery errors: one table.

Codes as in Feishu's documentation, "Common error codes", "Rate limits", and the tables of "Send message" and
"Reply to a message", and of CardKit. Feishu's own message is repeated only where it can't quote what was sent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from parley_gateway.errors import (
    DeliveryError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
)

TOKEN_CODES = frozenset({99991661, 99991663, 99991668})
"""The access token is missing, invalid or not accepted: a new one may be."""

RATE_CODES = frozenset({99991400, 230020, 11232, 11233})

STREAMING_OFF_CODES = frozenset({"200850", "200510", "300309"})
"""A card's streaming ended by itself or is off: it can be switched on again."""

BUSY_CODES = frozenset({"200810"})
"""A click on the card is being answered: changes are refused for a moment."""

_MAX_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Rule:
    error: type[DeliveryError]
    advice: str


def _table(error: type[DeliveryError], advices: Mapping[int, str]) -> dict[int, _Rule]:
    return {code: _Rule(error, advice) for code, advice in advices.items()}


_RULES: Mapping[int, _Rule] = {
    **_table(
        TransientDeliveryError,
        {
            99991400: "Feishu's rate limit for this API is reached",
            230020: "more than 5 messages a second in this chat",
            11232: "the app sends too often",
            11233: "too many messages in this chat",
            230049: "Feishu is still sending this message",
            2200: "Feishu reports an internal error",
            200510: "the card's streaming has ended",
            200810: "a click on the card is being answered",
            200850: "the card's streaming has ended",
            300120: "Feishu reports an internal error",
            300309: "the card's streaming is off",
            300317: "the card was changed by somebody else meanwhile",
        },
    ),
    **_table(
        RefusedContentError,
        {
            230001: "Feishu refuses the content as invalid",
            230025: "Feishu refuses the message as too long",
            230099: "Feishu can't make a card of the content",
            11310: "the card has too many elements or tables",
            200220: "Feishu can't make a card of the content",
            200570: "the card names an image that isn't uploaded",
            200860: "the card is larger than 30 KB",
            200861: "the card has a tag that Feishu no longer knows",
            300301: "the card names two elements alike",
            300303: "the card isn't of schema 2.0",
            300305: "the card has more than 200 elements",
            300307: "the card is empty",
            300313: "Feishu refuses the text of the card",
        },
    ),
    **_table(
        PermanentDeliveryError,
        {
            10003: "App ID or App Secret are malformed: copy app_id and app_secret from Credentials & Basic Info",
            10014: "App ID or App Secret are wrong: copy app_id and app_secret from Credentials & Basic Info",
            10015: "App Secret is wrong: copy app_secret from Credentials & Basic Info",
            99991401: "this address isn't on the app's IP allow-list: add it under Security Settings",
            99991403: "the tenant's monthly quota of API calls is used up",
            99991661: "Feishu accepts no access token of this app: is app_secret current?",
            99991663: "Feishu accepts no access token of this app: is app_secret current?",
            99991668: "Feishu accepts no access token of this app: does base_url fit the app (Feishu or Lark)?",
            99991672: "the app lacks a permission: add it under Permissions & Scopes and release a version",
            230002: "the bot isn't in this chat",
            230006: "the app has no bot: enable it under Features and release a version",
            230011: "the message to reply to was recalled",
            230013: "the user is outside the app's availability range",
            230018: "the group's settings forbid the bot to speak",
            230022: "Feishu refuses the content as sensitive",
            230028: "the tenant's leak protection refuses the content",
            230035: "the bot may not send here: the group is muted or the receiver blocks it",
            230053: "the user stopped the bot",
            230110: "the message to reply to was deleted",
            200740: "there is no such card",
            200750: "the card is older than 14 days",
            300311: "the card is another app's",
            231003: "the message to reply to doesn't exist any more",
        },
    ),
}

_ERR_CODE = re.compile(r"ErrCode:\s*([0-9]{3,8})")


def api_error(api: str, status: int, code: int, platform_message: str, headers: Mapping[str, str]) -> DeliveryError:
    """Return the delivery error of an answer with a code other than 0.

    `headers` are the answer's: their `x-ogw-ratelimit-reset` says how long to wait, their `x-tt-logid` names the call
    for Feishu's support.
    """
    name = str(code)
    if code in (230001, 230099) and (cause := _ERR_CODE.search(platform_message)):
        name = f"{code}/{cause[1]}"
    rule = _RULES.get(code)
    if rule is None:
        unknown = TransientDeliveryError if status >= 500 or status == 429 else PermanentDeliveryError
        rule = _Rule(unknown, f"Feishu refuses the call: {platform_message[:200]!r}")
    advice = f"{rule.advice}: {platform_message[:200]!r}" if code == 99991672 else rule.advice
    log_id = headers.get("x-tt-logid", "")
    message = f"{api}: {advice}" + (f" (log id {log_id[:80]})" if log_id else "")
    retry_after_s = None
    if rule.error is TransientDeliveryError:
        retry_after_s = _reset_s(headers) or (1.0 if code in RATE_CODES else None)
    return rule.error(message, name, retry_after_s)


def _reset_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("x-ogw-ratelimit-reset", "")
    return min(float(value), _MAX_WAIT_S) if value.isascii() and value.isdigit() else None
