-- Leases the lane whose head has been due longest. ARGV: 1 now, 2 the lease's end, 3 owner, 4 leases that ran out to
-- look at.
-- Returns the state alone, or with lane, conversation, generation, record.
local now = tonumber(ARGV[1])
local free = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, 1)
local best, since = free[1], tonumber(free[2])
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', ARGV[1], 'LIMIT', 0, ARGV[4])
local due = {}
for n, lane in ipairs(lapsed) do
  local first = head(lane)
  due[n] = first and item(first)[8]
  local at = due[n] and tonumber(due[n]) or math.huge
  if at <= now and (not best or at < since) then best, since = lane, at end
end
local id, generation
if best then
  id = head(best)
  local last = redis.call('HGET', KEYS[8], best) or redis.call('HGET', KEYS[1], 'floor') or '0'
  generation = tonumber(last) + 1
end
for n, lane in ipairs(lapsed) do
  redis.call('ZREM', KEYS[6], lane)
  if due[n] then redis.call('ZADD', KEYS[5], due[n], lane) end
end
if not best then return {state()} end
redis.call('ZREM', KEYS[5], best)
redis.call('ZADD', KEYS[6], ARGV[2], best)
redis.call('HSET', KEYS[7], best, ARGV[3])
redis.call('HSET', KEYS[8], best, generation)
return {state(), best, item(id)[2], generation, redis.call('HGET', KEYS[2], id)}
