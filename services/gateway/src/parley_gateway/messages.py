"""The gateway's own words for a message on its way: conversation, inbound message, outbound part, turn.

Plain frozen data, standard library only. How they are stored is in `store/records.py`, how a platform fills them in
`platforms/<name>/payloads.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

ASKED_AGAIN = "~"
"""Stands between the id of a question and the number that it gets when it is asked again."""


class MessageKind(StrEnum):
    """What a message asks of the gateway."""

    QUESTION = "question"
    """Goes to the model, in the order of its lane."""
    COMMAND = "command"
    """`/help`, `/reset`, `/stop`, …: answered by the gateway itself, past the lane."""
    NOTICE = "notice"
    """Something the gateway has to tell the user (an unsupported message, an expired question), past the lane.

    Its text names the sentence; an empty one says nothing and only claims the message.
    """


@dataclass(frozen=True, slots=True)
class Conversation:
    """The thread of messages that shares one history."""

    platform: str
    bot: str
    tenant: str
    """The platform's name for the customer (Feishu `tenant_key`); empty where a platform has none."""
    chat: str
    """The chat or, on platforms with single chats only, the user."""
    thread: str = ""

    @property
    def key(self) -> str:
        """The history key: `platform/bot/tenant/chat[/thread]`, each piece percent-encoded."""
        pieces = [self.platform, self.bot, self.tenant, self.chat]
        if self.thread:
            pieces.append(self.thread)
        return "/".join(quote(piece, safe="") for piece in pieces)


def delivery_key(platform: str, bot: str, message_id: str) -> str:
    """Return the delivery key of a message of which nothing else need be known."""
    return "/".join(quote(piece, safe="") for piece in (platform, bot, message_id))


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One message or event that a user caused and that deserves an answer."""

    conversation: Conversation
    message_id: str
    """The platform's id of the message: the same on every redelivery."""
    sender: str
    """The platform's id of who sent it."""
    kind: MessageKind
    text: str
    """What the user wrote, mentions of the bot removed; for a command its name and arguments; for a notice its name."""
    sent_at: float
    """When the user sent it by the platform's clock, seconds since 1970."""
    time_to_live_s: float
    """How long after `sent_at` an answer still makes sense."""
    group: bool = False
    """True in chats of several people."""
    sender_tenant: str = ""
    """The sender's own customer, which in a shared group needn't be the conversation's; empty where there is none."""
    quotes: str = ""
    """The platform's id of the message that this one replies to; empty when it replies to none."""
    replaces: str = ""
    """The message that is asked again by this one: the new turn takes the place of its turn."""
    target: Mapping[str, str] = field(default_factory=dict)
    """What the platform needs to answer: passed unread to `Platform.open_reply`."""

    @property
    def delivery_key(self) -> str:
        """Names the message for deduplication: platform, bot and the platform's message id."""
        return delivery_key(self.conversation.platform, self.conversation.bot, self.message_id)

    @property
    def lane(self) -> str:
        """The queue this message waits in: the conversation's, per sender in groups; commands pass questions by."""
        lane = self.conversation.key
        if self.group:
            lane += "#" + quote(self.sender, safe="")
        return lane if self.kind is MessageKind.QUESTION else lane + "!"

    @property
    def question_lane(self) -> str:
        """The lane of the questions of the same conversation and sender: what `/stop` acts on."""
        return self.lane.removesuffix("!")


@dataclass(frozen=True, slots=True)
class OutboundPart:
    """One message to send to the platform, as the formatter rendered it."""

    text: str = ""
    """Text in the platform's dialect; empty when `payload` is set."""
    payload: str = ""
    """The platform's structured message as JSON; empty when `text` is set."""
    fallback_text: str = ""
    """Plain text to send instead when the platform refuses the payload."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer: they enter and leave a history together."""

    question: str
    answer: str
    """The model's Markdown, not what a platform showed of it."""
    asked_at: float
    """When the question was sent, seconds since 1970."""
    message_ids: tuple[str, ...] = ()
    """The messages that made up the question: recalling any of them takes the turn back."""
