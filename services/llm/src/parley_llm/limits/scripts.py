"""The Lua scripts that Redis runs: each sees all keys of one caller, reads and checks first, and writes last.

A limit per minute is one number: the moment, in microseconds of Redis's own clock, at which it is unused again (the
generic cell rate algorithm). Keys are written as literal `KEYS[n]`: managed Redis services refuse other spellings, and
route by them. Redis documentation, "Scripting with Lua"; scripts are replicated by their effects, so `TIME` is allowed.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """A script with the name under which Redis keeps it."""

    source: str
    sha: str


def _script(source: str) -> Script:
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


ADMIT = _script("""
-- KEYS: requests, tokens, running calls. ARGV: requests and tokens a minute, calls at a time (0: no limit), the call's
-- id, microseconds after which it can't run any more.
-- Returns the limit that refuses (or ''), its wait, then how long requests and tokens need to be unused, and the calls.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local minute = 60000000
local requests, tokens, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local requests_at, tokens_at, running = now, now, 0
if requests > 0 then requests_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now)) end
if tokens > 0 then tokens_at = math.max(now, tonumber(redis.call('GET', KEYS[2]) or now)) end
local lasts = 0
if most > 0 then
  running = redis.call('ZCOUNT', KEYS[3], string.format('(%.0f', now), '+inf')
  lasts = math.max(math.ceil(ARGV[5] / 1000), redis.call('PTTL', KEYS[3]))
end
local requests_wait = requests > 0 and requests_at - now + minute / requests - minute or 0
local tokens_wait = tokens > 0 and tokens_at - now + minute / tokens - minute or 0
local refused, wait = '', 0
if most > 0 and running >= most then
  refused = 'concurrency'
elseif requests_wait > 1 then
  refused, wait = 'requests_per_minute', requests_wait
elseif tokens_wait > 1 then
  refused, wait = 'tokens_per_minute', tokens_wait
else
  if requests > 0 then
    requests_at = requests_at + minute / requests
    redis.call('SET', KEYS[1], string.format('%.17g', requests_at), 'PX', math.ceil((requests_at - now) / 1000) + 1000)
  end
  if most > 0 then
    running = running + 1
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now))
    redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[5]), ARGV[4])
    redis.call('PEXPIRE', KEYS[3], lasts)
  end
end
return {refused, math.ceil(wait), math.ceil(requests_at - now), math.ceil(tokens_at - now), running}
""")

CHARGE = _script("""
-- KEYS: tokens. ARGV: tokens a minute, tokens used.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now)) + ARGV[2] * 60000000 / ARGV[1]
redis.call('SET', KEYS[1], string.format('%.17g', at), 'PX', math.ceil((at - now) / 1000) + 1000)
return 1
""")

COUNT = _script("""
-- KEYS: use in all, use of a day, the last batch of a process. ARGV: the batch's number, now, the seconds that each key
-- is kept, then fields and what to add to them. A batch that has arrived before is not counted again.
local seen = redis.call('GET', KEYS[3])
if seen and tonumber(seen) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[5])
redis.call('HSETNX', KEYS[1], 'since', ARGV[2])
for n = 6, #ARGV, 2 do
  redis.call('HINCRBYFLOAT', KEYS[1], ARGV[n], ARGV[n + 1])
  redis.call('HINCRBYFLOAT', KEYS[2], ARGV[n], ARGV[n + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
""")

LOOK = _script("""
-- KEYS: requests, tokens, running calls, use in all, use of a day.
-- Returns the microseconds until requests and tokens are unused, the running calls, and the fields of both uses.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local requests_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
local tokens_at = math.max(now, tonumber(redis.call('GET', KEYS[2]) or now))
local running = redis.call('ZCOUNT', KEYS[3], string.format('(%.0f', now), '+inf')
local ever, day = redis.call('HGETALL', KEYS[4]), redis.call('HGETALL', KEYS[5])
return {math.ceil(requests_at - now), math.ceil(tokens_at - now), running, ever, day}
""")

SCRIPTS = {script.sha: script for script in (ADMIT, CHARGE, COUNT, LOOK)}
