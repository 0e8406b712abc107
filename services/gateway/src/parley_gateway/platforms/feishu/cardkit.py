"""Calls of Feishu's CardKit, which changes a card after it was sent.

Feishu documentation, "Create card entity", "Update text in streaming mode", "Update card entity in full" and "Update
card entity configuration". Every change carries a number that must rise from one to the next of the same card.
"""

import json
from collections.abc import Mapping
from typing import Any

from lark_oapi.core.enum import HttpMethod
from lark_oapi.core.model import BaseRequest

from parley_gateway.errors import TransientDeliveryError
from parley_gateway.platforms.feishu.api import FeishuAPI

_CARDS = "/open-apis/cardkit/v1/cards"


class CardKit:
    """Makes the calls. Each raises DeliveryError."""

    def __init__(self, api: FeishuAPI) -> None:
        """Call through `api`."""
        self._api = api

    async def create(self, card: str) -> str:
        """Make a card from its JSON and return its id. It can be sent once, and changed for 14 days."""
        answer = await self._call("card_create", HttpMethod.POST, _CARDS, {}, {"type": "card_json", "data": card})
        data = answer.get("data")
        card_id = data.get("card_id") if isinstance(data, dict) else None
        if not isinstance(card_id, str) or not card_id:
            raise TransientDeliveryError("card_create: Feishu's answer holds no card_id")
        return card_id

    async def update_text(self, card_id: str, element: str, text: str, sequence: int) -> None:
        """Show all of a text so far; Feishu types what is new."""
        path = f"{_CARDS}/:card_id/elements/:element_id/content"
        ids = {"card_id": card_id, "element_id": element}
        await self._call("card_text", HttpMethod.PUT, path, ids, {"content": text, "sequence": sequence})

    async def replace(self, card_id: str, card: str, sequence: int) -> None:
        """Put another card in the place of the whole."""
        body = {"card": {"type": "card_json", "data": card}, "sequence": sequence}
        await self._call("card_replace", HttpMethod.PUT, f"{_CARDS}/:card_id", {"card_id": card_id}, body)

    async def set_streaming(self, card_id: str, on: bool, sequence: int) -> None:
        """Switch streaming on, which lasts ten minutes, or off."""
        settings = json.dumps({"config": {"streaming_mode": on}})
        body = {"settings": settings, "sequence": sequence}
        path = f"{_CARDS}/:card_id/settings"
        await self._call("card_settings", HttpMethod.PATCH, path, {"card_id": card_id}, body)

    async def _call(
        self, api: str, method: HttpMethod, path: str, ids: Mapping[str, str], body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        request = BaseRequest.builder().http_method(method).uri(path).paths(dict(ids)).body(dict(body)).build()
        return await self._api.call(request, api=api)
