-- Adds to a total. KEYS: 1 total. ARGV: 1 amount, 2 now, 3 expires at, 4 milliseconds. Returns the total.
local ends = redis.call('HGET', KEYS[1], 'expires_at')
if ends and tonumber(ends) > tonumber(ARGV[2]) then return redis.call('HINCRBY', KEYS[1], 'total', ARGV[1]) end
redis.call('HSET', KEYS[1], 'total', ARGV[1], 'expires_at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return tonumber(ARGV[1])
