"""Feishu's events as typed data, and a message event as an `InboundMessage`.

Fields as in Feishu's documentation, "Receive message" (im.message.receive_v1). What a message's content says is read in
`content.py`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from parley_gateway.errors import MalformedRequestError
from parley_gateway.messages import Conversation, InboundMessage, MessageKind
from parley_gateway.platforms.base import BotContext
from parley_gateway.platforms.feishu.content import Mention, Unreadable, read_text

MESSAGE_EVENT = "im.message.receive_v1"
RECALL_EVENT = "im.message.recalled_v1"
TIME_TO_LIVE_S = 1800.0

_EVENT_LABELS = {
    "im.chat.access_event.bot_p2p_chat_entered_v1": "chat_entered",
}


_TYPE_LABELS = {"text": "text", "post": "text", "image": "image", "audio": "voice", "file": "file"}


class _Model(BaseModel):
    """Unknown fields are ignored, and a field that is null counts as absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Header(_Model):
    """The envelope of an event of schema 2.0."""

    event_type: str
    tenant_key: str = ""


class MentionId(_Model):
    """Ids of somebody mentioned."""

    open_id: str = ""


class MentionData(_Model):
    """Somebody mentioned; `key` stands for them in the text."""

    key: str
    id: MentionId = Field(default_factory=MentionId)
    name: str = ""


class SenderId(_Model):
    """Ids of the sender."""

    open_id: str = ""


class Sender(_Model):
    """Who sent a message."""

    sender_id: SenderId = Field(default_factory=SenderId)
    sender_type: str = "user"
    tenant_key: str = ""


class Message(_Model):
    """The message itself; times are milliseconds since 1970 as text."""

    message_id: str = Field(min_length=1, max_length=200)
    create_time: str = Field(pattern=r"^[0-9]{1,16}$")
    chat_id: str = Field(min_length=1)
    chat_type: str = "p2p"
    thread_id: str = ""
    parent_id: str = ""
    message_type: str
    content: str = ""
    mentions: tuple[MentionData, ...] = ()


class MessageEvent(_Model):
    """The `event` of im.message.receive_v1."""

    sender: Sender
    message: Message

    @property
    def group(self) -> bool:
        """True unless the chat is one person's chat with the bot."""
        return self.message.chat_type != "p2p"

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """Everybody mentioned."""
        return tuple(Mention(each.key, each.id.open_id, each.name) for each in self.message.mentions)


class RecallEvent(_Model):
    """The `event` of im.message.recalled_v1 (Feishu documentation, "Message recalled")."""

    message_id: str = Field(min_length=1, max_length=200)
    chat_id: str = Field(min_length=1)


def event_label(event_type: str) -> str:
    """Return the metric label of an event that isn't a message: one of a few words."""
    return _EVENT_LABELS.get(event_type, "other")


def read_header(event: dict[str, Any]) -> Header:
    """Return the envelope's header.

    Events of the older schema have none; they get one with their type, since they are acknowledged and ignored.

    Raises
        MalformedRequestError: the event has neither schema.
    """
    inner = event.get("event")
    if "header" not in event and event.get("type") == "event_callback" and isinstance(inner, dict):
        return Header(event_type=f"v1:{inner.get('type')}")
    try:
        return Header.model_validate(event.get("header"))
    except ValidationError as exc:
        raise MalformedRequestError("the event has no usable header") from exc


def read_message(event: dict[str, Any]) -> MessageEvent:
    """Return the message of an im.message.receive_v1. Raises MalformedRequestError."""
    try:
        return MessageEvent.model_validate(event.get("event"))
    except ValidationError as exc:
        fields = sorted({".".join(str(piece) for piece in error["loc"]) for error in exc.errors()})
        raise MalformedRequestError(f"the message event can't be read: {', '.join(fields)[:200]}") from exc


def read_recall(event: dict[str, Any]) -> RecallEvent:
    """Return the content of an im.message.recalled_v1. Raises MalformedRequestError."""
    try:
        return RecallEvent.model_validate(event.get("event"))
    except ValidationError as exc:
        raise MalformedRequestError("the recall event can't be read") from exc


def inbound(event: MessageEvent, context: BotContext, *, tenant: str, bot_open_id: str) -> InboundMessage:
    """Return the gateway's form of a message, `bot_open_id` being the bot's own id, empty when nobody is mentioned.

    Something the bot can't read becomes the notice `unsupported`. A mention without words asks for help.
    """
    source = event.message
    try:
        kind, text = _kind_and_text(
            read_text(source.message_type, source.content, event.mentions, bot_open_id), context
        )
    except Unreadable:
        kind, text = MessageKind.NOTICE, "unsupported"
    target = {"message_id": source.message_id, "chat_id": source.chat_id}
    if source.thread_id:
        target["thread_id"] = source.thread_id
    return InboundMessage(
        conversation=Conversation("feishu", context.bot, tenant, source.chat_id, source.thread_id),
        message_id=source.message_id,
        sender=event.sender.sender_id.open_id,
        kind=kind,
        text=text,
        sent_at=int(source.create_time) / 1000,
        time_to_live_s=TIME_TO_LIVE_S,
        group=event.group,
        sender_tenant=event.sender.tenant_key,
        quotes=source.parent_id,
        target=target,
    )


def message_label(message: InboundMessage, message_type: str) -> str:
    """Return the metric label of a message: one of a few words."""
    if message.kind is MessageKind.COMMAND:
        return "command"
    return _TYPE_LABELS.get(message_type, "other")


def _kind_and_text(text: str, context: BotContext) -> tuple[MessageKind, str]:
    if not text:
        return MessageKind.COMMAND, "/help"
    word, _, arguments = text.partition(" ")
    if "\n" not in word and word.lower() in context.commands:
        return MessageKind.COMMAND, f"{word.lower()} {arguments.strip()}".strip()
    return MessageKind.QUESTION, text
