"""The API keys of an upstream: used in turn, those that were refused set aside for a while."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

SET_ASIDE_S = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class APIKey:
    """One key and the header lines that carry it; `secret` is empty where the upstream needs no key."""

    secret: str = field(repr=False)
    headers: bytes = field(repr=False)


class KeyRing:
    """Chooses among an upstream's keys. A key set aside serves again when no better one is left."""

    def __init__(self, keys: Sequence[APIKey]) -> None:
        self._keys = tuple(keys)
        self._back_at = dict.fromkeys(self._keys, 0.0)
        self._turn = 0

    def __iter__(self) -> Iterator[APIKey]:
        return iter(self._keys)

    def choose(self, now: float, refused: Collection[APIKey] = ()) -> APIKey:
        """Return the next key in turn, keys `refused` within this call and keys set aside last."""
        if len(self._keys) == 1:
            return self._keys[0]
        self._turn = (self._turn + 1) % len(self._keys)
        in_turn = self._keys[self._turn :] + self._keys[: self._turn]
        return min(in_turn, key=lambda key: (key in refused, max(0.0, self._back_at[key] - now)))

    def set_aside(self, key: APIKey, now: float) -> None:
        """Stop preferring a key that the upstream refused."""
        self._back_at[key] = now + SET_ASIDE_S
