-- What every script on a partition's queue begins with.
--
-- KEYS: 1 state (hash: seq, floor), 2 records (hash: id, JSON), 3 items (hash: id, what is looked at of a message),
-- 4 order (sorted by name: lane NUL id), 5 ready (lane by the time since which its head is due), 6 leased (lane by the
-- lease's end), 7 holders (hash: lane, owner), 8 generations (hash: lane, generation), 9 idle (lane by the time since
-- which it is empty), 10 expiry (id by time), 11 arrived (id by time), 12 dead letters (hash: reference, packed),
-- 13 failed (reference by time).
--
-- A lane with messages is in `ready` when it can be leased and in `leased` when not. When a lease ran out the lane
-- moves to `ready`, and its holder stays its holder until somebody else takes it. A lane that is held has a head.
-- Numbers are passed and kept as texts: Lua's own way to write them would lose digits.
local ID = 16

local function head(lane)
  local found = redis.call('ZRANGEBYLEX', KEYS[4], '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', 0, 1)
  return found[1] and string.sub(found[1], -ID)
end

-- lane, conversation, delivery key, question's id, sent at, received at, queued at, due since
local function item(id)
  return cmsgpack.unpack(redis.call('HGET', KEYS[3], id))
end

local function later(one, other)
  return tonumber(one) > tonumber(other) and one or other
end

-- How many messages there are, when a lane is ready next ('' if never).
local function state()
  local ready = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
  local leased = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')[2]
  local at = ready or leased or ''
  if ready and leased and tonumber(leased) < tonumber(ready) then at = leased end
  return {redis.call('ZCARD', KEYS[11]), at}
end

local function held(lane, owner, generation)
  return redis.call('HGET', KEYS[7], lane) == owner and redis.call('HGET', KEYS[8], lane) == generation
end

local function in_work(lane, id, now)
  local ends = redis.call('ZSCORE', KEYS[6], lane)
  return ends and tonumber(ends) > tonumber(now) and head(lane) == id
end

-- Tell other processes; who doesn't hear it finds out by looking, so that a refusal does no harm.
local function tell(channel, text)
  redis.pcall('PUBLISH', channel, text)
end

local function append(fields, due_since, queued_at, expires_at, record)
  local id = string.format('%016d', redis.call('HINCRBY', KEYS[1], 'seq', 1))
  local lane = fields[1]
  if not head(lane) then
    redis.call('ZADD', KEYS[5], due_since, lane)
    redis.call('ZREM', KEYS[9], lane)
  end
  fields[7], fields[8] = queued_at, due_since
  redis.call('ZADD', KEYS[4], 0, lane .. '\0' .. id)
  redis.call('HSET', KEYS[2], id, record)
  redis.call('HSET', KEYS[3], id, cmsgpack.pack(fields))
  redis.call('ZADD', KEYS[10], expires_at, id)
  redis.call('ZADD', KEYS[11], queued_at, id)
end

local function remove(lane, id)
  redis.call('ZREM', KEYS[4], lane .. '\0' .. id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  redis.call('ZREM', KEYS[10], id)
  redis.call('ZREM', KEYS[11], id)
end

-- End the lease of a lane, if there is one, and offer the lane with the head that it has now.
local function offer(lane, now)
  redis.call('HDEL', KEYS[7], lane)
  redis.call('ZREM', KEYS[6], lane)
  local id = head(lane)
  if id then
    redis.call('ZADD', KEYS[5], item(id)[8], lane)
  else
    redis.call('ZREM', KEYS[5], lane)
    redis.call('ZADD', KEYS[9], now, lane)
  end
end

-- Take any message out of its lane. The holder of a lane whose head it was must not keep the lane from the next one.
local function take_out(lane, id, now)
  local first = head(lane) == id
  remove(lane, id)
  if first then offer(lane, now) end
end

local function bury(reference, letter, failed_at)
  redis.call('HSET', KEYS[12], reference, cmsgpack.pack(letter))
  redis.call('ZADD', KEYS[13], failed_at, reference)
end
