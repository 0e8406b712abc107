-- Forgets empty lanes and old dead letters, and lets a queue that nobody uses any more end. ARGV: 1 lanes empty since
-- before, 2 dead letters failed up to, 3 items at most, 4 milliseconds after which an unused queue ends.
-- Generations never fall: new lanes begin above the highest of those forgotten. Returns how many items went.
local lanes = redis.call('ZRANGEBYSCORE', KEYS[9], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
local letters = redis.call('ZRANGEBYSCORE', KEYS[13], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor') or '0')
for _, lane in ipairs(lanes) do
  floor = math.max(floor, tonumber(redis.call('HGET', KEYS[8], lane) or '0'))
end
if #lanes > 0 then redis.call('HSET', KEYS[1], 'floor', floor) end
for _, lane in ipairs(lanes) do
  redis.call('HDEL', KEYS[8], lane)
  redis.call('ZREM', KEYS[9], lane)
end
for _, reference in ipairs(letters) do
  redis.call('HDEL', KEYS[12], reference)
  redis.call('ZREM', KEYS[13], reference)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
redis.call('PEXPIRE', KEYS[5], ARGV[4])
redis.call('PEXPIRE', KEYS[6], ARGV[4])
redis.call('PEXPIRE', KEYS[7], ARGV[4])
redis.call('PEXPIRE', KEYS[8], ARGV[4])
redis.call('PEXPIRE', KEYS[9], ARGV[4])
redis.call('PEXPIRE', KEYS[10], ARGV[4])
redis.call('PEXPIRE', KEYS[11], ARGV[4])
redis.call('PEXPIRE', KEYS[12], ARGV[4])
redis.call('PEXPIRE', KEYS[13], ARGV[4])
return #lanes + #letters
