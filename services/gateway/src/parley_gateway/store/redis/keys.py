"""The names of the keys. What stands in braces is hashed by a cluster: all keys of a partition lie together."""

from parley_gateway.store.base import PARTITIONS, partition_of

PREFIX = "parley:gateway"
CHANNEL = f"{PREFIX}:news"
"""Where processes tell each other what changed."""

_QUEUE = (
    *("state", "records", "items", "order", "ready", "leased", "holders", "generations", "idle", "expiry", "arrived"),
    *("dead", "failed"),
)


def key(partition: int, name: str) -> str:
    """Return the name of one of a partition's keys."""
    return f"{PREFIX}:{{p{partition:02d}}}:{name}"


def of(text: str, name: str) -> str:
    """Return a key of a conversation, or of anything else that chooses its partition."""
    return key(partition_of(text), f"{name}:{text}")


QUEUE_KEYS = tuple(tuple(key(partition, name) for name in _QUEUE) for partition in range(PARTITIONS))
"""For each partition the keys that every script on its queue takes, in the scripts' order."""


def conversation_keys(conversation: str) -> tuple[str, ...]:
    """Return turns, reset mark, kept answers, their records, their requests, and references of dead letters."""
    names = ("turns", "reset", "kept", "answers", "given", "letters")
    return tuple(of(conversation, name) for name in names)


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis takes it."""
    return max(1, int(seconds * 1000))
