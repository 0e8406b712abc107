"""Feishu's side of the conversation: one app, its access tokens, the messages in every chat, the limits on sending.

Everything happens at once and in memory; `api.py` puts it on HTTP. Limits and codes are those of Feishu's
documentation, "Send message", "Reply to a message", "Rate limits" and "Common error codes".
"""

import json
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from parley_gateway.simulators.feishu.cardkit import CARD_BYTES, CardKit, Entity
from parley_gateway.simulators.feishu.cards import CardError, check_card
from parley_gateway.simulators.feishu.errors import APIError

TEXT_BYTES = 150 * 1024
UUID_S = 3600.0
SAME_TOKEN_S = 1800.0
MAX_EDITS = 20
PATCH_S = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class SimulatedApp:
    """The app that the simulator knows, with its bot."""

    app_id: str = "cli_simulator"
    app_secret: str = field(default="simulator-app-secret", repr=False)
    tenant_key: str = "tenant_simulator"
    bot_open_id: str = "ou_simulated_bot"
    bot_name: str = "Parley"


@dataclass(frozen=True, slots=True)
class CloudLimits:
    """How much may be sent how fast, and how long an access token lives."""

    messages_per_chat: int = 5
    """Each second."""
    calls_per_api: int = 50
    """Each second."""
    token_lifetime_s: float = 7200.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One answer to come: an error instead of the call, or, after `lost`, a call that is done but not answered."""

    error: APIError | None = None
    lost: bool = False


@dataclass(slots=True)
class SimulatedMessage:
    """One message in a chat."""

    message_id: str
    chat_id: str
    sender: str
    """An open_id, the bot's included."""
    msg_type: str
    content: str
    created_at: float
    parent_id: str = ""
    thread_id: str = ""
    edits: int = 0
    deleted: bool = False
    card_id: str = ""
    """The entity that the message shows; empty for any other message."""
    reactions: dict[str, str] = field(default_factory=dict)


class FeishuCloud:
    """The state of the simulated Feishu. `calls` counts the calls of each API that arrived, refused ones included."""

    def __init__(
        self,
        app: SimulatedApp | None = None,
        *,
        limits: CloudLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start with empty chats."""
        self.app = app or SimulatedApp()
        self.limits = limits or CloudLimits()
        self.messages: dict[str, SimulatedMessage] = {}
        self.calls: dict[str, int] = defaultdict(int)
        self.cardkit = CardKit(clock)
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._uuids: dict[str, tuple[str, float]] = {}
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._recent_calls: dict[str, deque[float]] = defaultdict(deque)
        self._recent_sends: dict[str, deque[float]] = defaultdict(deque)

    # What users do.

    def user_says(
        self,
        content: str,
        *,
        chat_id: str,
        sender: str,
        msg_type: str = "text",
        parent_id: str = "",
        thread_id: str = "",
    ) -> SimulatedMessage:
        """Put a user's message into a chat, so that it can be replied to. `content` is a JSON string."""
        return self._add(chat_id, sender, msg_type, content, parent_id, thread_id)

    def recall(self, message_id: str) -> None:
        """Let a user recall a message."""
        self.messages[message_id].deleted = True

    def seen_in(self, chat_id: str) -> list[SimulatedMessage]:
        """Return what the bot's messages in a chat look like to its members, oldest first."""
        bot = self.app.bot_open_id
        seen = [each for each in self.messages.values() if each.chat_id == chat_id and each.sender == bot]
        return [self._as_seen(each) for each in seen if not each.deleted]

    def card_of(self, message: SimulatedMessage) -> Entity:
        """Return the card entity that a message shows."""
        return self.cardkit.entities[message.card_id]

    def is_streaming(self, message: SimulatedMessage) -> bool:
        """Tell whether a message looks as if it were still being written."""
        return bool(message.card_id) and self.card_of(message).streaming_since is not None

    def _as_seen(self, message: SimulatedMessage) -> SimulatedMessage:
        return replace(message, content=self.card_of(message).content()) if message.card_id else message

    # What tests arrange.

    def fail_next(self, api: str, error: APIError, times: int = 1) -> None:
        """Answer the next calls of an API (`token`, `info`, `send`, `reply`, `patch`, …) with an error."""
        self._faults[api].extend([Fault(error=error)] * times)

    def lose_next_answer(self, api: str) -> None:
        """Do the next call of an API, but answer it with an error of the HTTP server."""
        self._faults[api].append(Fault(lost=True))

    def expire_tokens(self) -> None:
        """Make every access token invalid."""
        self._tokens.clear()

    # What the API does.

    def begin(self, api: str) -> Fault | None:
        """Count a call; return the fault arranged for it. Raises APIError when it comes too fast or shall fail."""
        self.calls[api] += 1
        if not self._room(self._recent_calls[api], self.limits.calls_per_api):
            raise APIError(99991400, "request trigger frequency limit", 429, {"x-ogw-ratelimit-reset": "1"})
        fault = self._faults[api].popleft() if self._faults[api] else None
        if fault and fault.error:
            raise fault.error
        return fault

    def issue_token(self, app_id: Any, app_secret: Any) -> tuple[str, int]:
        """Return the token, the same one while half an hour of it is left, and the seconds it has left."""
        if not isinstance(app_id, str) or not isinstance(app_secret, str) or not app_id or not app_secret:
            raise APIError(10003, "invalid param", 200)
        if app_id != self.app.app_id:
            raise APIError(10014, "app id not exists", 200)
        if app_secret != self.app.app_secret:
            raise APIError(10014, "app secret invalid", 200)
        now = self._clock()
        for token, expires_at in self._tokens.items():
            if expires_at - now >= SAME_TOKEN_S:
                return token, int(expires_at - now)
        token = f"t-{uuid.uuid4().hex}"
        self._tokens[token] = now + self.limits.token_lifetime_s
        return token, int(self.limits.token_lifetime_s)

    def check_token(self, authorization: str) -> None:
        """Raise APIError unless the header carries a valid token."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token:
            raise APIError(99991661, "Missing access token for authorization")
        if self._tokens.get(token, 0.0) <= self._clock():
            raise APIError(99991663, "Invalid access token for authorization")

    def reply(self, message_id: str, body: Mapping[str, Any]) -> SimulatedMessage:
        """Reply to a message; the same uuid within an hour gives the first reply again."""
        parent = self._existing(message_id)
        if parent.deleted:
            raise APIError(230110, "Action unavailable as the message has been deleted")
        thread_id = parent.thread_id or (f"omt_{uuid.uuid4().hex}" if body.get("reply_in_thread") is True else "")
        return self._send(parent.chat_id, body, parent_id=message_id, thread_id=thread_id)

    def send(self, receive_id_type: str, body: Mapping[str, Any]) -> SimulatedMessage:
        """Send into a chat by its id, or to a user by open_id."""
        receive_id = body.get("receive_id")
        if receive_id_type not in ("chat_id", "open_id") or not isinstance(receive_id, str) or not receive_id:
            raise APIError(230001, "Your request contains an invalid request parameter, ext=invalid receive_id")
        chat_id = receive_id if receive_id_type == "chat_id" else single_chat(receive_id)
        return self._send(chat_id, body)

    def read(self, message_id: str) -> SimulatedMessage:
        """Return any message of a chat that the bot is in."""
        return self._existing(message_id)

    def patch_card(self, message_id: str, body: Mapping[str, Any]) -> None:
        """Replace the card of the bot's own message, within 14 days."""
        message = self._own(message_id)
        if self._clock() - message.created_at > PATCH_S:
            raise APIError(230031, "The message is too old to be updated")
        if message.msg_type != "interactive":
            raise APIError(230001, "Your request contains an invalid request parameter, ext=not a card")
        message.content = self._checked_content("interactive", body.get("content"))

    def edit(self, message_id: str, body: Mapping[str, Any]) -> SimulatedMessage:
        """Replace the text of the bot's own message, 20 times at most."""
        message = self._own(message_id)
        if message.msg_type not in ("text", "post") or body.get("msg_type") != message.msg_type:
            raise APIError(230001, "Your request contains an invalid request parameter, ext=msg_type")
        if message.edits >= MAX_EDITS:
            raise APIError(230072, "The message has reached the number of times it can be edited")
        message.content = self._checked_content(message.msg_type, body.get("content"))
        message.edits += 1
        return message

    def delete(self, message_id: str) -> None:
        """Recall the bot's own message."""
        self._own(message_id).deleted = True

    def react(self, message_id: str, emoji_type: Any) -> str:
        """Add a reaction and return its id."""
        message = self._existing(message_id)
        if not isinstance(emoji_type, str) or not emoji_type:
            raise APIError(231001, "reaction type is invalid")
        reaction_id = uuid.uuid4().hex
        message.reactions[reaction_id] = emoji_type
        return reaction_id

    def unreact(self, message_id: str, reaction_id: str) -> None:
        """Remove a reaction."""
        if self._existing(message_id).reactions.pop(reaction_id, None) is None:
            raise APIError(231007, "no such reaction")

    def _send(
        self, chat_id: str, body: Mapping[str, Any], parent_id: str = "", thread_id: str = ""
    ) -> SimulatedMessage:
        key = body.get("uuid") or ""
        if not isinstance(key, str) or len(key) > 50:
            raise APIError(99992402, "field validation failed: uuid: the max len is 50")
        msg_type = body.get("msg_type")
        if msg_type not in ("text", "post", "interactive"):
            raise APIError(230001, "Your request contains an invalid request parameter, ext=invalid msg_type")
        content = body.get("content")
        card_id = _card_id(content) if msg_type == "interactive" else ""
        content = str(content) if card_id else self._checked_content(msg_type, content)
        now = self._clock()
        if key and key in self._uuids and now - self._uuids[key][1] < UUID_S:
            return self.messages[self._uuids[key][0]]
        if not self._room(self._recent_sends[chat_id], self.limits.messages_per_chat):
            raise APIError(230020, "This operation triggers the frequency limit")
        if card_id:
            self.cardkit.send(card_id)
        message = self._add(chat_id, self.app.bot_open_id, msg_type, content, parent_id, thread_id)
        message.card_id = card_id
        if key:
            self._uuids[key] = (message.message_id, now)
        return message

    def _add(
        self, chat_id: str, sender: str, msg_type: str, content: str, parent_id: str, thread_id: str
    ) -> SimulatedMessage:
        message_id = f"om_{uuid.uuid4().hex}"
        message = SimulatedMessage(message_id, chat_id, sender, msg_type, content, self._clock(), parent_id, thread_id)
        self.messages[message_id] = message
        return message

    def _existing(self, message_id: str) -> SimulatedMessage:
        if message_id not in self.messages:
            raise APIError(231003, "The message is not found")
        return self.messages[message_id]

    def _own(self, message_id: str) -> SimulatedMessage:
        message = self._existing(message_id)
        if message.sender != self.app.bot_open_id:
            raise APIError(230001, "Your request contains an invalid request parameter, ext=not the sender")
        if message.deleted:
            raise APIError(230110, "Action unavailable as the message has been deleted")
        return message

    def _room(self, recent: deque[float], limit: int) -> bool:
        """Count an event if fewer than `limit` happened within the last second."""
        now = self._clock()
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        if len(recent) >= limit:
            return False
        recent.append(now)
        return True

    @staticmethod
    def _checked_content(msg_type: str, content: Any) -> str:
        if not isinstance(content, str):
            raise APIError(230001, "Your request contains an invalid request parameter, ext=content is not a string")
        if len(content.encode()) > (TEXT_BYTES if msg_type == "text" else CARD_BYTES):
            raise APIError(230025, "The length of the message content reaches its limit")
        if msg_type == "interactive":
            try:
                check_card(content)
            except CardError as exc:
                cause = f"ext=ErrCode: {exc.err_code}; ErrMsg: {exc.reason}; "
                raise APIError(230099, f"Failed to create card content, {cause}") from exc
            return content
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or (
            msg_type == "text" and not (isinstance(data.get("text"), str) and data["text"])
        ):
            raise APIError(230001, "Your request contains an invalid request parameter, ext=invalid content")
        return content


def single_chat(open_id: str) -> str:
    """Return the id of a user's chat with the bot."""
    return f"oc_p2p_{open_id.removeprefix('ou_')}"


def _card_id(content: Any) -> str:
    """Return the id of the entity that a message's content names, empty when it is a card itself."""
    try:
        data = json.loads(content) if isinstance(content, str) else None
    except (ValueError, RecursionError):
        return ""
    if not isinstance(data, dict) or data.get("type") != "card" or not isinstance(data.get("data"), dict):
        return ""
    return str(data["data"].get("card_id", ""))
