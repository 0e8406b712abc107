"""The Lua scripts that Redis runs.

Each is one atomic step on the keys of one partition. It names its keys by literal `KEYS[n]` only, since managed
services route by them and refuse other spellings; and it reads and checks everything before its first write, since
Redis takes nothing back when a script fails ("Scripting with Lua" in the Redis documentation).
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script with the name under which Redis keeps it."""

    source: str
    sha: str


def _load(name: str, *, begins_with: str = "") -> Script:
    folder = files(__package__) / "lua"
    names = (begins_with, name) if begins_with else (name,)
    source = "\n".join((folder / f"{each}.lua").read_text(encoding="utf-8") for each in names)
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _queue(name: str) -> Script:
    return _load(name, begins_with="queue")


def _kept(name: str) -> Script:
    return _load(name, begins_with="kept")


ACCEPT = _queue("accept")
LEASE = _queue("lease")
RENEW = _queue("renew")
UPDATE = _queue("update")
COMPLETE = _queue("complete")
RELEASE = _queue("release")
RELEASE_OWNER = _queue("release_owner")
LOOK = _queue("look")
PROBE = _load("probe")
STATS = _queue("stats")
PENDING = _queue("pending")
BEHIND = _queue("behind")
FIND_EXPIRED = _queue("find_expired")
FIND_OLDER = _queue("find_older")
EXPIRE = _queue("expire")
REPLAY = _queue("replay")
NEWEST_DEAD = _queue("newest_dead")
FIND_DEAD = _queue("find_dead")
DISCARD = _queue("discard")
FAILED_AT = _queue("failed_at")
CLEAN = _queue("clean")
ERASE = _queue("erase")
FIND_KEPT = _kept("find_kept")
CLAIM_PART = _kept("claim_part")
SKIP_KEPT = _kept("skip_kept")
UNREAD = _kept("unread")
RESET = _load("reset")
STOP = _load("stop")
CACHE_PUT = _load("cache_put")
CACHE_DELETE = _load("cache_delete")
TRY_LOCK = _load("try_lock")
UNLOCK = _load("unlock")
COUNT = _load("count")
ADD_TRAIL = _load("add_trail")
TRAIL = _load("trail")
RESERVE_BLOB = _load("reserve_blob")
FREE_BLOB = _load("free_blob")
PUT_BLOB = _load("put_blob")
OWN_BLOB = _load("own_blob")
GET_BLOB = _load("get_blob")
