"""CardKit as a simulator: card entities, the changes made to them, and what a member of the chat sees of each.

Limits and codes are those of Feishu's documentation, "Create card entity", "Update text in streaming mode", "Update
card entity in full", "Update card entity configuration" and "Streaming card updates".
"""

import json
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from parley_gateway.simulators.feishu.cards import (
    DUPLICATE_ID,
    IMAGE,
    OLD_TAG,
    TABLES_OR_ELEMENTS,
    CardError,
    check_card,
)
from parley_gateway.simulators.feishu.errors import APIError

CARD_BYTES = 30 * 1024
ENTITY_S = 14 * 86400.0
STREAMING_S = 600.0
CHANGES_PER_S = 10
MAX_TEXT = 100_000
MAX_SEQUENCE = 2**31 - 1

_CARD_CODES = {TABLES_OR_ELEMENTS: 300305, IMAGE: IMAGE, OLD_TAG: OLD_TAG, DUPLICATE_ID: DUPLICATE_ID}


@dataclass(slots=True)
class Entity:
    """One card that can be changed."""

    card_id: str
    card: dict[str, Any]
    created_at: float
    streaming_since: float | None = None
    """None while streaming is off."""
    sequence: int = 0
    sent: bool = False
    answering_until: float = 0.0
    """A click on the card is being answered until then: changes are refused."""
    uuids: set[str] = field(default_factory=set)
    changes: deque[float] = field(default_factory=deque)
    texts: list[str] = field(default_factory=list)
    """Every text that was shown, in order."""
    jumps: int = 0
    """How often a text didn't extend the one before, so that it was replaced instead of typed."""

    def content(self) -> str:
        """Return the card as it looks now, as JSON."""
        return json.dumps(self.card, ensure_ascii=False)


class CardKit:
    """All entities of one app."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start without any."""
        self._clock = clock
        self.entities: dict[str, Entity] = {}

    def create(self, body: Mapping[str, Any]) -> str:
        """Make an entity from a card's JSON and return its id."""
        if body.get("type") != "card_json":
            raise APIError(10002, "invalid parameter: type")
        card = _checked(body.get("data"))
        card_id = str(uuid.uuid4().int)[:19]
        streaming = card.get("config", {}).get("streaming_mode") is True
        now = self._clock()
        self.entities[card_id] = Entity(card_id, card, now, now if streaming else None)
        return card_id

    def send(self, card_id: Any) -> Entity:
        """Take an entity for a message: it can be sent once."""
        entity = self._find(card_id)
        if entity.sent:
            raise APIError(230099, "Failed to create card content, ext=ErrCode: 200780; ErrMsg: card was sent; ")
        entity.sent = True
        return entity

    def update_text(self, card_id: str, element_id: str, body: Mapping[str, Any]) -> None:
        """Replace the text of one element in streaming mode."""
        entity = self._changeable(card_id, body)
        text = body.get("content")
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            raise APIError(10002, "invalid parameter: content")
        if entity.streaming_since is None:
            raise APIError(300309, "streaming mode is closed")
        if self._clock() - entity.streaming_since >= STREAMING_S:
            entity.streaming_since = None
            raise APIError(200850, "streaming timed out")
        changed = json.loads(entity.content())
        element = next((each for each in changed["body"]["elements"] if each.get("element_id") == element_id), None)
        if element is None or element["tag"] != "markdown":
            raise APIError(300313, "no such element")
        before, element["content"] = element["content"], text
        entity.card = _checked(json.dumps(changed, ensure_ascii=False))
        if entity.texts and not text.startswith(before):
            entity.jumps += 1
        entity.texts.append(text)
        self._done(entity, body)

    def replace(self, card_id: str, body: Mapping[str, Any]) -> None:
        """Replace a card as a whole; whether it is streaming stays as it is."""
        entity = self._changeable(card_id, body)
        card = body.get("card")
        if not isinstance(card, dict) or card.get("type") != "card_json":
            raise APIError(10002, "invalid parameter: card")
        entity.card = _checked(card.get("data"))
        self._done(entity, body)

    def change_settings(self, card_id: str, body: Mapping[str, Any]) -> None:
        """Change a card's configuration: streaming on or off."""
        entity = self._changeable(card_id, body)
        try:
            on = json.loads(body["settings"])["config"]["streaming_mode"]
        except (KeyError, TypeError, ValueError) as exc:
            raise APIError(10002, "invalid parameter: settings") from exc
        entity.streaming_since = self._clock() if on is True else None
        self._done(entity, body)

    def _find(self, card_id: Any) -> Entity:
        entity = self.entities.get(card_id) if isinstance(card_id, str) else None
        if entity is None:
            raise APIError(200740, "card entity does not exist")
        if self._clock() - entity.created_at > ENTITY_S:
            raise APIError(200750, "card entity has expired")
        return entity

    def _changeable(self, card_id: str, body: Mapping[str, Any]) -> Entity:
        """Return the entity that a change is for. Raises APIError unless it may be made now."""
        entity, now = self._find(card_id), self._clock()
        while entity.changes and entity.changes[0] <= now - 1.0:
            entity.changes.popleft()
        if len(entity.changes) >= CHANGES_PER_S:
            raise APIError(99991400, "request trigger frequency limit", 429, {"x-ogw-ratelimit-reset": "1"})
        entity.changes.append(now)
        key, sequence = body.get("uuid", ""), body.get("sequence")
        if not isinstance(key, str) or len(key) > 64:
            raise APIError(10002, "invalid parameter: uuid")
        if key and key in entity.uuids:
            raise APIError(200770, "uuid was used before")
        if not isinstance(sequence, int) or not 0 < sequence <= MAX_SEQUENCE:
            raise APIError(10002, "invalid parameter: sequence")
        if sequence <= entity.sequence:
            raise APIError(300317, "sequence must be strictly increasing")
        if now < entity.answering_until:
            raise APIError(200810, "the card is being interacted with")
        return entity

    @staticmethod
    def _done(entity: Entity, body: Mapping[str, Any]) -> None:
        entity.sequence = body["sequence"]
        if key := body.get("uuid"):
            entity.uuids.add(key)


def _checked(data: Any) -> dict[str, Any]:
    """Return the parsed card. Raises APIError with the code of what is wrong with it."""
    if not isinstance(data, str) or not data:
        raise APIError(300307, "card content is empty")
    if len(data.encode()) > CARD_BYTES:
        raise APIError(200860, "card content exceeds the limit")
    try:
        return check_card(data)
    except CardError as exc:
        raise APIError(_CARD_CODES.get(exc.err_code, 200220), exc.reason) from exc
