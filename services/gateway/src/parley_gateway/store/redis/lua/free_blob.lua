-- Gives a blob's room back. KEYS: 1 expiry (reference by time), 2 sizes (hash), 3 total. ARGV: 1 reference.
local size = redis.call('HGET', KEYS[2], ARGV[1])
if not size then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DECRBY', KEYS[3], size)
return 1
