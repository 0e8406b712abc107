"""Hears from other processes that a lane is ready or an answer kept. What isn't heard is found by looking, later."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store.base import PARTITIONS
from parley_gateway.store.redis.keys import CHANNEL
from parley_gateway.store.redis.link import Link

logger = logging.getLogger(__name__)

START_S = 1.0
RETRY_S = 1.0
LISTEN_S = 30.0
"""After so long without news the connection is tried."""


class News:
    """Tells other processes and listens to them."""

    def __init__(
        self,
        link: Link,
        process: str,
        *,
        lane_ready: Callable[[int, float], None],
        answer_kept: Callable[[str, str], None],
        missed: Callable[[], None],
    ) -> None:
        """`process` names this one; `missed` is called when news may have been missed."""
        self._link = link
        self._process = process
        self._lane_ready = lane_ready
        self._answer_kept = answer_kept
        self._missed = missed
        self._task: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    def ready(self, partition: int, at: float) -> str:
        """Return the news that a lane of a partition is ready at a time."""
        return json.dumps([self._process, "ready", partition, at])

    def kept(self, conversation: str, answer_id: str) -> str:
        """Return the news that an answer is kept."""
        return json.dumps([self._process, "kept", conversation, answer_id])

    async def start(self) -> None:
        """Begin to listen; returns when this process hears of everything, or soon in any case."""
        self._task = asyncio.create_task(self._listen(), name="store-news")
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._heard.wait()

    async def stop(self) -> None:
        """Stop listening."""
        # While it connects, the client may take a cancellation for a lost connection: one isn't always enough.
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.05)

    async def _listen(self) -> None:
        turn = 0
        while True:
            try:
                await self._listen_on(turn)
            except (RedisError, OSError, TimeoutError, StoreUnavailableError) as error:
                logger.debug("news of the store isn't heard: %s", type(error).__name__)
            # In a cluster every node hears everything: another one may be in better health.
            turn += 1
            await asyncio.sleep(RETRY_S)

    async def _listen_on(self, turn: int) -> None:
        nodes = list(await self._link.places())
        pubsub: Any = nodes[turn % len(nodes)].client.pubsub()  # redis-py left some methods without annotations
        try:
            await pubsub.subscribe(CHANNEL)
            if self._heard.is_set():
                self._missed()
            self._heard.set()
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=LISTEN_S)
                if message is None:
                    await pubsub.ping()
                else:
                    self._take(message["data"])
        finally:
            await pubsub.aclose()

    def _take(self, data: bytes) -> None:
        process, *news = _read(data)
        if process == self._process:
            return
        match news:
            case ["ready", int(partition), int(at) | float(at)] if 0 <= partition < PARTITIONS:
                self._lane_ready(partition, at)
            case ["kept", str(conversation), str(answer_id)]:
                self._answer_kept(conversation, answer_id)
            case _:
                # Another release may know more kinds of news.
                logger.debug("news of an unknown kind")


def _read(data: bytes) -> list[Any]:
    try:
        news = json.loads(data)
    except ValueError:
        return [None]
    return news if isinstance(news, list) and news else [None]
