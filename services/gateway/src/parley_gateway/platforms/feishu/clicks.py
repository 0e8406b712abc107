"""A click on a card of ours, from the event card.action.trigger (Feishu documentation, "Card callback").

The button's value is what `cards.button_value` put there; users can't change it. It comes as an object, or as a string
that holds one.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from parley_gateway.messages import ASKED_AGAIN, Conversation, InboundMessage, MessageKind
from parley_gateway.platforms.base import BotContext, Click, Clicked, ClickOutcome, RawResponse
from parley_gateway.platforms.feishu.payloads import TIME_TO_LIVE_S
from parley_gateway.platforms.feishu.sentences import Sentences
from parley_gateway.platforms.feishu.untrusted_json import parse_json

CLICK_EVENT = "card.action.trigger"

_JSON = "application/json; charset=utf-8"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class _Value(_Model):
    parley: Click
    message: str = Field(min_length=1, max_length=200)
    chat: str = Field(min_length=1)
    thread: str = ""
    asker: str = Field(min_length=1)
    group: str = ""


class _Operator(_Model):
    open_id: str = Field(min_length=1)
    tenant_key: str = ""


class _Action(_Model):
    value: _Value

    @field_validator("value", mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        return parse_json(value) if isinstance(value, str) else value


class _Context(_Model):
    open_chat_id: str = ""


class _Event(_Model):
    operator: _Operator
    action: _Action
    context: _Context = Field(default_factory=_Context)


def read_click(
    event: dict[str, Any], context: BotContext, words: Sentences, *, tenant: str, now: float
) -> Clicked | None:
    """Return the click, None when it isn't one on a card of ours in the chat that the card was made for."""
    try:
        data = _Event.model_validate(event.get("event"))
    except ValidationError:
        return None
    value, operator = data.action.value, data.operator
    if data.context.open_chat_id not in ("", value.chat):
        return None
    target = {"message_id": value.message.partition(ASKED_AGAIN)[0], "chat_id": value.chat}
    if value.thread:
        target["thread_id"] = value.thread
    message = InboundMessage(
        conversation=Conversation("feishu", context.bot, tenant, value.chat, value.thread),
        message_id=value.message,
        sender=value.asker,
        kind=MessageKind.QUESTION,
        text="",
        sent_at=now,
        time_to_live_s=TIME_TO_LIVE_S,
        group=bool(value.group),
        sender_tenant=operator.tenant_key,
        target=target,
    )
    return Clicked(
        value.parley,
        message,
        operator.open_id,
        operator.tenant_key,
        lambda outcome: toast(words.toast(value.parley, outcome), outcome),
    )


def toast(text: str, outcome: ClickOutcome) -> RawResponse:
    """Return the answer that shows a line of text to who clicked."""
    kind = {ClickOutcome.DONE: "success", ClickOutcome.ALREADY: "info"}.get(outcome, "warning")
    body = json.dumps({"toast": {"type": kind, "content": text}}, ensure_ascii=False)
    return RawResponse(200, body.encode(), _JSON)
