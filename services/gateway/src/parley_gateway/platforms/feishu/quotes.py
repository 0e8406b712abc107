"""The text of a message that another one replies to, and the threads that messages belong to.

Feishu documentation, "Obtain the content of the specified message" (needs the permission to read messages of the chat):
the answer has a message's content as it was sent, cards simplified. The event of a recall names message and chat but
not the thread, which is part of a conversation's key: it is remembered for messages in threads.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from lark_oapi.core.enum import HttpMethod
from lark_oapi.core.model import BaseRequest

from parley_gateway.platforms.feishu.api import FeishuAPI
from parley_gateway.platforms.feishu.content import Mention, Unreadable, read_text
from parley_gateway.store.base import Cache

THREAD_S = 2 * 86400.0
"""How long a message's thread is remembered; users may recall messages for 24 h unless the tenant says otherwise."""

_DEPTH = 12
"""How deep cards are read: Feishu's own nest less."""
_TEXT_KEYS = ("title", "content", "text")


async def fetch_text(api: FeishuAPI, message_id: str) -> str:
    """Return the text of a message, empty when it holds none that can be read. Raises DeliveryError."""
    request = BaseRequest.builder().http_method(HttpMethod.GET).uri("/open-apis/im/v1/messages/:message_id").build()
    request.paths["message_id"] = message_id
    data = (await api.call(request, api="read")).get("data")
    items = data.get("items") if isinstance(data, dict) else None
    item = items[0] if isinstance(items, list) and items else None
    if not isinstance(item, dict) or item.get("deleted") is True:
        return ""
    body = item.get("body")
    content = body.get("content") if isinstance(body, dict) else None
    if not isinstance(content, str):
        return ""
    if item.get("msg_type") == "interactive":
        return _card_text(content)
    try:
        return read_text(str(item.get("msg_type")), content, tuple(_mentions(item)), "")
    except Unreadable:
        return ""


def _mentions(item: dict[str, Any]) -> Iterator[Mention]:
    mentions = item.get("mentions")
    for each in mentions if isinstance(mentions, list) else ():
        if isinstance(each, dict):
            yield Mention(str(each.get("key", "")), str(each.get("id", "")), str(each.get("name", "")))


def _card_text(content: str) -> str:
    try:
        card = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    return "\n".join(_texts(card, _DEPTH))


def _texts(node: Any, depth: int) -> Iterator[str]:
    """Find the texts of a card, in their order, wherever they stand in it."""
    if depth == 0:
        return
    if isinstance(node, list):
        for each in node:
            yield from _texts(each, depth - 1)
    elif isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str):
                if key in _TEXT_KEYS and value.strip():
                    yield value
            else:
                yield from _texts(value, depth - 1)


class Threads:
    """Remembers the threads of messages for all replicas."""

    def __init__(self, cache: Cache, app_id: str, clock: Callable[[], float]) -> None:
        """Keep them in `cache`."""
        self._cache = cache
        self._prefix = f"feishu/thread/{app_id}/"
        self._clock = clock

    async def remember(self, message_id: str, thread_id: str) -> None:
        """Remember a message's thread. Raises StoreUnavailableError."""
        if thread_id:
            await self._cache.cache_put(self._prefix + message_id, thread_id, expires_at=self._clock() + THREAD_S)

    async def thread_of(self, message_id: str) -> str:
        """Return a message's thread, empty when it stands in none. Raises StoreUnavailableError."""
        found = await self._cache.cache_get(self._prefix + message_id, now=self._clock())
        return found[0] if found else ""
