-- Takes room for a blob. KEYS: 1 expiry (reference by time), 2 sizes (hash), 3 total. ARGV: 1 reference, 2 bytes,
-- 3 expires at, 4 now, 5 bytes of all together at most, 6 milliseconds, 7 blobs that ended to look at.
-- Returns the bytes in use before, and 1 if there was room.
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[4], 'LIMIT', 0, ARGV[7])
local used = tonumber(redis.call('GET', KEYS[3]) or '0')
for _, ref in ipairs(ended) do used = used - tonumber(redis.call('HGET', KEYS[2], ref)) end
local fits = used + tonumber(ARGV[2]) <= tonumber(ARGV[5])
for _, ref in ipairs(ended) do
  redis.call('ZREM', KEYS[1], ref)
  redis.call('HDEL', KEYS[2], ref)
end
if fits then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
redis.call('SET', KEYS[3], fits and used + ARGV[2] or used)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
return {used, fits and 1 or 0}
