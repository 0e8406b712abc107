"""The store on Redis or Valkey 7 and newer: one server, Sentinel, a cluster, or a vendor's proxy in front of one.

`lua/` has the scripts, each one atomic step on one partition; `scripts.py` loads them, `keys.py` names the keys.
`address.py` reads the URL, `nodes.py` knows which server has a partition, `calls.py` runs a script on one server,
`link.py` finds the server and limits the time, `checks.py` looks at its settings. `board.py` is what this process knows
of all partitions, `news.py` hears from other processes. `lanes.py`, `dead_letters.py`, `conversations.py`, `cache.py`,
`blobs.py` and `erasing.py` are the parts of the contract; `store.py` puts them together. Nothing here is imported
unless such a store is configured.
"""

from parley_gateway.store.redis.store import RedisStore

__all__ = ["RedisStore"]
