-- Keeps a lane for longer. ARGV: 1 lane, 2 owner, 3 generation, 4 the lease's end. Returns the state, false when lost.
if not held(ARGV[1], ARGV[2], ARGV[3]) then return false end
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZADD', KEYS[6], ARGV[4], ARGV[1])
return state()
