"""Forgets what people wrote: everything of a conversation, or of one lane of questions in it."""

from parley_gateway.store.base import StoreLimits, partition_of
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.blobs import Blobs
from parley_gateway.store.redis.board import Board
from parley_gateway.store.redis.keys import CHANNEL, conversation_keys, milliseconds, of
from parley_gateway.store.redis.lanes import queue_call
from parley_gateway.store.redis.link import Link
from parley_gateway.store.redis.news import News

MESSAGES = 1_000
"""Messages of a conversation that one step looks at."""


class Erasing:
    """Erases; what it costs doesn't depend on what other conversations hold."""

    def __init__(self, link: Link, board: Board, news: News, blobs: Blobs, limits: StoreLimits) -> None:
        self._link = link
        self._board = board
        self._news = news
        self._blobs = blobs
        self._limits = limits

    async def erase(self, conversation: str, lane: str | None, *, at: float, now: float) -> int:
        """Erase and return how many records went."""
        partition, mark_ttl = partition_of(conversation), milliseconds(self._limits.mark_ttl_s)
        keys = (*conversation_keys(conversation), of(conversation, "stops"), of(conversation, "blobs"))
        erased, more = 0, True
        while more:
            call = queue_call(
                *(scripts.ERASE, partition, now, conversation, lane or "", at, MESSAGES, mark_ttl),
                *(CHANNEL, self._news.ready(partition, now)),
                keys=keys,
            )
            count, more, blobs, state = await self._link.call(call)
            self._board.note(partition, state)
            for ref in blobs:
                await self._blobs.delete(ref.decode())
            erased += count
        return erased
