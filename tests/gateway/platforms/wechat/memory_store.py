"""The parts of the store that the platform uses, in memory, for tests of one function at a time."""

from parley_gateway.store.base import ClaimedPart
from parley_gateway.store.records import KeptAnswer


class MemoryStore:
    """Keeps values, locks and answers; counts nothing, forgets nothing."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[str, float]] = {}
        self.locks: dict[str, tuple[str, float]] = {}
        self.answers: list[KeptAnswer] = []
        self.waiting: list[str] = []
        """Ids of questions that are worked on."""

    async def cache_get(self, key: str, *, now: float) -> tuple[str, float] | None:
        found = self.values.get(key)
        return found if found and found[1] > now else None

    async def cache_put(self, key: str, value: str, *, expires_at: float) -> None:
        self.values[key] = (value, expires_at)

    async def cache_delete(self, key: str, value: str) -> None:
        if key in self.values and self.values[key][0] == value:
            del self.values[key]

    async def try_lock(self, key: str, owner: str, *, now: float, ttl_s: float) -> bool:
        holder, expires_at = self.locks.get(key, (owner, 0.0))
        if holder != owner and expires_at > now:
            return False
        self.locks[key] = (owner, now + ttl_s)
        return True

    async def unlock(self, key: str, owner: str) -> None:
        if self.locks.get(key, ("", 0.0))[0] == owner:
            del self.locks[key]

    async def wait_answer(self, conversation: str, answer_id: str, *, timeout_s: float) -> KeptAnswer | None:
        return next((answer for answer in self.answers if answer.answer_id == answer_id), None)

    async def claim_part(
        self, conversation: str, *, request_key: str, answer_id: str | None, now: float
    ) -> ClaimedPart | None:
        return None

    async def unread(self, conversation: str, *, now: float) -> int:
        return 0

    async def pending(self, conversation: str) -> tuple[str, ...]:
        return tuple(self.waiting)
