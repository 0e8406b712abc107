"""Who may use a bot, by its settings alone, and what is said about settings that contradict themselves."""

from dataclasses import replace
from typing import Any

import pytest
from parley_gateway.access import has_limits, may_choose, may_use
from parley_gateway.config import BotSettings
from parley_gateway.messages import Conversation, InboundMessage, MessageKind
from pydantic import ValidationError


def settings(platform: str = "my.module:create", **options: Any) -> BotSettings:
    return BotSettings.model_validate({"name": "default", "platform": platform, **options})


def message(sender: str = "ann", chat: str = "room", sender_tenant: str = "home") -> InboundMessage:
    conversation = Conversation("fake", "default", "home", chat)
    one = InboundMessage(conversation, "m1", sender, MessageKind.QUESTION, "hi", 0.0, 60.0)
    return replace(one, sender_tenant=sender_tenant)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, True),
        ({"allow": {"users": ["ann"]}}, True),
        ({"allow": {"users": ["bob"]}}, False),
        ({"allow": {"users": ["an"]}}, False),
        ({"allow": {"users": ["ANN"]}}, False),
        ({"allow": {"chats": ["room"]}}, True),
        ({"allow": {"chats": ["other"]}}, False),
        ({"allow": {"users": ["ann"], "chats": ["other"]}}, False),
        ({"allow": {"tenants": ["home"]}}, True),
        ({"allow": {"tenants": ["abroad"]}}, False),
        ({"deny": {"users": ["ann"]}}, False),
        ({"deny": {"users": ["bob"]}}, True),
        ({"deny": {"chats": ["room"]}}, False),
        ({"deny": {"tenants": ["home"]}}, False),
        ({"allow": {"users": ["ann"]}, "deny": {"chats": ["room"]}}, False),
        ({"allow": {"chats": ["room"]}, "deny": {"users": ["ann"]}}, False),
    ],
)
def test_allow_and_deny(options: dict[str, Any], allowed: bool) -> None:
    assert may_use(settings(**options), message()) is allowed


def test_tenant_is_the_senders_own() -> None:
    bot = settings(allow={"tenants": ["partner"]})
    assert may_use(bot, message(sender_tenant="partner"))
    assert not may_use(bot, message(sender_tenant="home"))
    # A platform that doesn't tell it has only the conversation's.
    assert may_use(settings(allow={"tenants": ["home"]}), message(sender_tenant=""))


def test_choosing_is_for_admins_where_there_are_any() -> None:
    assert may_choose(settings(), "ann")
    assert may_choose(settings(admins=["ann"]), "ann")
    assert not may_choose(settings(admins=["ann"]), "bob")


def test_admins_are_exempt_from_limits_unless_told_otherwise() -> None:
    assert not has_limits(settings(admins=["ann"]), "ann")
    assert has_limits(settings(admins=["ann"]), "bob")
    assert has_limits(settings(admins=["ann"], limits={"admins_exempt": False}), "ann")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"allow": {"users": ["ann"]}, "deny": {"users": ["ann"]}}, "users ann stands in both allow and deny"),
        ({"allow": {"chats": ["c"]}, "deny": {"chats": ["c"]}}, "chats c stands in both allow and deny"),
        ({"admins": ["ann"], "deny": {"users": ["ann"]}}, "admins: ann is denied"),
        ({"admins": ["ann"], "allow": {"users": ["bob"]}}, "admins: ann isn't in allow.users"),
        ({"allow": {"users": [""]}}, "allow.users.0"),
        ({"deny": {"users": ["ou_1 "]}}, "deny.users.0"),
        ({"models": ["two words"]}, "models.0"),
        ({"limits": {"tokens_per_user_day": -1}}, "tokens_per_user_day"),
        ({"bursts": "merge"}, "bursts"),
        ({"join_within": "1m"}, "join_within"),
        ({"refusal": "shout"}, "refusal"),
    ],
)
def test_contradictions_and_slips_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**options)
    found = "; ".join(".".join(map(str, each["loc"])) + ": " + each["msg"] for each in caught.value.errors())
    assert says in found


def test_tenants_of_a_wechat_bot_are_a_mistake() -> None:
    wechat = {"app_id": "wx1", "token": "a-token"}
    with pytest.raises(ValidationError, match="WeChat has none"):
        settings("wechat", wechat=wechat, deny={"tenants": ["t1"]})


def test_choice_begins_with_the_bots_own() -> None:
    assert settings().offered("model") == ()
    assert settings(model="chat", models=["big", "chat"]).offered("model") == ("chat", "big")
    assert settings(models=["big"]).offered("model") == ("", "big")
    assert settings(prompts=["translate"]).offered("prompt") == ("assistant", "translate")
